"""The notifier: takes stored changes of alerts and verdicts to people. One per installation, in a thread.

**Nobody is paged twice and nothing is lost, whenever it ends.** What is planned depends on what was told
before, and planning again a moment later may give other messages. So a plan is stored as a whole before
anything follows from it. One step is, in this order:

1. read what is new: changes, silences, acknowledgements, verdicts; plan, in memory only;
2. store the plan as one row: what everybody was told after it, and the messages that tell it;
3. renew the lease;
4. put the messages into the outbox, from which the dispatcher delivers them.

An end before 2 leaves the former plan: nobody was told, and what is still true then is planned then. An
end between 2 and 4 leaves messages that are not in the outbox: whoever goes on puts those of the row in
first, before it plans anything. They are the same bytes with the same keys, and the outbox takes a key
once; so an end after 4 changes nothing either. No later plan takes the row's place before they are in.
From the outbox on, delivery is at least once with an idempotency key (docs/delivery.md).

Reading needs no memory: open alerts and whoever was told of one are found in the store, changes after
that by their position in the audit log. Once a minute all that is open is read again, so that whatever
went wrong with positions ends by itself.

Two notifiers, one of them paused and not aware that it lost the lease: the one that wakes up may store a
plan, but fails at 3 and puts nothing in; its row has a lower version than any that its successor stores.
If it was paused after 3, its successor read the row, and both put the same messages in.

An alert that fires and ends while no notifier runs is not told: there is nothing left to do about it.
Of a gate every change since the last one that the plan knows is told, in order.
While the store is away nothing new is known and nothing is planned; the dispatcher delivers what it has.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ...schemas.alerts.routing import secrets_of
from ...schemas.alerts.section import Alerts
from ...schemas.config import Configuration
from ...schemas.errors import InvalidConfiguration, PenstockError
from ...schemas.gates import LiveGate
from ...schemas.gates.notify import telling
from ...schemas.slo.notify import notified
from ..core.alerts.log import Alert, AlertLog
from ..delivery.carrier import Send, Ways
from ..delivery.dispatcher import Dispatcher
from ..delivery.schedule import Policy
from ..delivery.secret import MissingSecret, Secrets
from ..delivery.sender import Sender
from ..delivery.stored_outbox import StoredOutbox
from ..storage.store import Store
from .lease import TTL_S, LeaseLost, StoreLease, holder_of_this_process
from .plan import QUEUE, Desk, Plan

log = logging.getLogger("penstock")

POLL_S = 0.3
AWAITED_S = 0.1
JOIN_S = 60.0
UNSEEN = "it has not looked yet"


@dataclass(frozen=True, slots=True)
class Timing:
    """How often and how long.

    Attributes:
        poll_s: between two looks at the store.
        ttl_s: how long the lease may go without being renewed.
        deliver_s: between two looks for deliveries that became due.
        policy: when failed deliveries are tried again.
    """

    poll_s: float = POLL_S
    ttl_s: float = TTL_S
    deliver_s: float = 1.0
    policy: Policy = field(default_factory=Policy)


def notifier_of(
    store: Store, configuration: Configuration, environment: Mapping[str, str]
) -> Notifier | None:
    """The notifier that a configuration asks for; None where nobody is to be told.

    Args:
        store: migrated; it may be away.
        configuration: with receivers.
        environment: of the process, for secrets.

    Raises:
        InvalidConfiguration: secrets are missing; names each of them.
    """
    section = notified(configuration.alerts, configuration.objectives)
    secrets = Secrets(environment)
    if not section.receivers:
        return None
    check_secrets(section, secrets)
    gates = telling(configuration.live_gates)
    return Notifier(store, section, Sender(secrets), gates=gates)


def check_secrets(section: Alerts, secrets: Secrets) -> None:
    """Return if every secret that receivers name is there.

    Raises:
        InvalidConfiguration: names each that is not, and who needs it.
    """
    missing = []
    for receiver in section.receivers:
        for reference in secrets_of(receiver):
            try:
                secrets.get(reference)
            except MissingSecret as error:
                missing.append(f"alerts.receivers: {receiver.name}: {error}")
    if missing:
        raise InvalidConfiguration(
            "\n".join(
                [*missing, "set the variable, or write the file; docs/delivery.md says where"]
            )
        )


class Notifier:
    """Runs from `start` to `stop`.

    Args:
        store: migrated; it may be away.
        section: `alerts:` of the configuration, with receivers.
        send: takes messages to receivers.
        timing: how often and how long.
        clock: integer microseconds UTC.
        gates: those that tell somebody of their verdicts.

    Attributes:
        log: the live log of alerts; register exporters before `start`. They hear of alerts that are
            open at the start, and of every change from then on. A change may come once more, with
            the same id, where more alerts ended than the log remembers.
        totals: alert_changes, notifications, deliveries, deliveries_retried, deliveries_dead.
        failure: why nobody is told of anything new; empty while it works.
        turned_s: when it last looked, by `time.monotonic`.
        left: messages that waited when it was stopped.
    """

    def __init__(
        self,
        store: Store,
        section: Alerts,
        send: Send,
        timing: Timing | None = None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
        gates: Sequence[LiveGate] = (),
    ) -> None:
        self._store = store
        self._section = section
        self._send = send
        self._timing = timing = timing or Timing()
        self._clock = clock
        self._gates = gates
        # A folder is open in one process at a time, so whoever had the lease before has ended.
        self._lease = StoreLease(
            store,
            QUEUE,
            holder_of_this_process(),
            ttl_s=timing.ttl_s,
            alone=store.folder is not None,
        )
        self._outbox: StoredOutbox | None = None
        self._dispatcher: Dispatcher | None = None
        self._plan: Plan | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="penstock-notify", daemon=True)
        self.log = AlertLog(section.log_size)
        self.totals: Counter[str] = Counter()
        self.failure = UNSEEN
        self.turned_s = time.monotonic()
        self.left = 0

    @property
    def waiting(self) -> int:
        """Messages that wait to be delivered."""
        return 0 if self._outbox is None else len(self._outbox.waiting())

    def latest_alerts(self, limit: int = 100) -> list[Alert]:
        """The alerts that changed last, the newest first."""
        return self.log.latest_alerts(limit)

    def start(self) -> None:
        """Begin; a store that is away is waited for."""
        self._thread.start()

    def stop(self) -> None:
        """End after the attempts under way, and let another one begin at once."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(JOIN_S)
        self._put_down()
        with contextlib.suppress(PenstockError):
            self._lease.give_back()

    def once(self, patience_s: float = 30.0) -> None:
        """Look once, deliver what is due, and end. What fails is left for the next time.

        Args:
            patience_s: for the deliveries together.

        Raises:
            PenstockError: the store is away, or another notifier works.
        """
        self._lease.wait(self._timing.poll_s)
        # There is no second look that could tell what is found out meanwhile.
        self._section = self._section.model_copy(update={"explanation_wait_s": 0})
        try:
            self.turn()
            until_s = time.monotonic() + patience_s
            while self._outbox and self._outbox.due(self._clock()) and time.monotonic() < until_s:
                self._lease.keep()
                time.sleep(0.02)
        finally:
            self.stop()

    def turn(self) -> None:
        """Look once, where no other notifier works.

        Raises:
            LeaseLost: another one took over.
            StoreError: it is unknown how far it came.
        """
        if self._lease.held:
            self._lease.keep()
        elif not self._lease.take():
            raise LeaseLost(f"{self._lease.other} works already")
        outbox, dispatcher = self._courier()
        if self._plan is None:
            self._plan = Plan(
                Desk(
                    self._store,
                    self._section,
                    self._lease,
                    outbox,
                    self.log,
                    self.totals,
                    self._clock,
                    self._gates,
                )
            )
            dispatcher.wake()
        if self._plan.step():
            dispatcher.wake()

    def _run(self) -> None:
        while not self._stopping.is_set():
            failure = ""
            try:
                self.turn()
            except LeaseLost as error:
                self._put_down()
                failure = str(error)
            except PenstockError as error:
                self._plan = None
                failure = str(error)
            except Exception as error:
                # A defect must not end it in silence: say so, and begin anew from the store.
                if self.failure in ("", UNSEEN):
                    log.exception("the notifier failed")
                self._plan = None
                failure = repr(error)
            self._tell(failure)
            self.turned_s = time.monotonic()
            awaits = self._plan is not None and self._plan.awaits
            poll_s = self._timing.poll_s
            self._stopping.wait(min(poll_s, AWAITED_S) if awaits else poll_s)

    def _tell(self, failure: str) -> None:
        """One line when it stops working, and one when it works again."""
        if failure and self.failure in ("", UNSEEN):
            log.warning("nobody is told of alerts until this has ended: %s", failure)
        elif self.failure and not failure:
            log.info("people are told of alerts, by %d receivers", len(self._section.receivers))
        self.failure = failure

    def _courier(self) -> tuple[StoredOutbox, Dispatcher]:
        """Outbox and dispatcher: they go on while the store is away, and end with the lease."""
        if self._outbox is None or self._dispatcher is None:
            self._outbox = StoredOutbox(self._store, QUEUE)
            ways = Ways(self._outbox, self._send, self.totals, self._clock, self._timing.policy)
            self._dispatcher = Dispatcher(self._section.receivers, ways, self._timing.deliver_s)
            self._dispatcher.start()
        return self._outbox, self._dispatcher

    def _put_down(self) -> None:
        if self._dispatcher is not None:
            self._dispatcher.stop()
        self.left = self.waiting
        self._outbox = self._dispatcher = self._plan = None
