"""Sends changes of alerts and verdicts to `penstock.alerts`. One per installation, in a thread of its own.

What is sent is read from the store, from where the last round ended: changes of alerts by their position
in the audit log, those of verdicts by gate, epoch and event time. A round is, in this order:

1. read what is new, all of it stored;
2. renew the lease;
3. send it, and wait until every replica in sync has it;
4. store how far that came, as one row.

So nothing is lost, whenever it ends; an end between 3 and 4 sends the messages of a round once more, with
the same ids. Two senders, one of them paused for longer than the lease lasts, repeat a round at most.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from ...schemas.errors import PenstockError
from ...schemas.topics import ALERTS
from ..core.gates.canonical import canonical_json, sha256
from ..kafka.messages import Outlet
from ..storage.store import Store
from .feed import AlertFeed
from .gates import Last, last_from_json, last_to_json
from .lease import LeaseLost, StoreLease, holder_of_this_process
from .messages import alert_message, verdict_message
from .verdicts import VerdictFeed

log = logging.getLogger("penstock")

POLL_S = 1.0
AGAIN_S = (
    60.0  # between two looks at the stored row: whatever went wrong with positions ends by itself
)
JOIN_S = 30.0
UNSEEN = "it has not looked yet"


@dataclass(frozen=True, slots=True)
class Sent:
    """How far it came.

    Attributes:
        positions: chain of the audit log -> its next position.
        verdicts: gate -> its last change.
    """

    positions: Mapping[str, int] = field(default_factory=dict)
    verdicts: Last = field(default_factory=dict)


class AlertsTopic:
    """Runs from `start` to `stop`.

    Args:
        store: migrated; it may be away.
        outlet: to the broker, which may be away.
        poll_s: between two looks.

    Attributes:
        totals: topic_messages.
        failure: why nothing is sent; empty while it works.
    """

    def __init__(self, store: Store, outlet: Outlet, poll_s: float = POLL_S) -> None:
        self._store = store
        self._outlet = outlet
        self._poll_s = poll_s
        alone = store.folder is not None  # a folder is open in one process at a time
        self._lease = StoreLease(store, ALERTS, holder_of_this_process(), alone=alone)
        self._sent: Sent | None = None
        self._alerts, self._verdicts = AlertFeed(store), VerdictFeed(store)
        self._began_s = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="penstock-topic", daemon=True)
        self.totals: Counter[str] = Counter()
        self.failure = UNSEEN

    def start(self) -> None:
        """Begin; a store or broker that is away is waited for."""
        self._thread.start()

    def stop(self) -> None:
        """End after the round under way, and let another process begin at once."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(JOIN_S)
        with contextlib.suppress(PenstockError):
            self._lease.give_back()

    def once(self) -> None:
        """Send what there is, and end.

        Raises:
            PenstockError: store or broker are away, or another process sends.
        """
        self._lease.wait(self._poll_s)
        try:
            while self.turn():
                pass
        finally:
            self.stop()

    def turn(self) -> int:
        """One round, where no other process sends.

        Returns:
            How many messages were sent.

        Raises:
            PenstockError: store or broker are away, or another process sends; it begins anew.
        """
        try:
            return self._turn()
        except BaseException:
            self._sent = None
            raise

    def _turn(self) -> int:
        if self._lease.held:
            self._lease.keep()
        elif not self._lease.take():
            raise LeaseLost(f"{self._lease.other} sends to {ALERTS} already")
        sent = self._sent
        if sent is None or time.monotonic() - self._began_s >= AGAIN_S:
            sent = self._begin()
        # 1. What is new.
        messages = [alert_message(change) for change in self._alerts.news()]
        verdicts = dict(sent.verdicts)
        changes = self._verdicts.changes(verdicts, others=True)
        for change, document in self._verdicts.documents(changes):
            messages.append(verdict_message(change, document))
            verdicts[change.gate_id] = change
        after = Sent(self._alerts.positions, verdicts)
        if after == sent:
            return 0
        # 2. Nobody took over: two that send at once would only repeat each other.
        self._lease.renew()
        # 3. Sent, and acknowledged.
        if messages:
            self._outlet.deliver(messages)
            self.totals["topic_messages"] += len(messages)
        # 4. From here on it is not sent again.
        self._store.insert(*_row(after, self._lease.term))
        self._sent = after
        return len(messages)

    def _begin(self) -> Sent:
        self._sent = sent = stored_sent(self._store)
        self._alerts.resume(sent.positions)
        self._verdicts = VerdictFeed(self._store)
        self._began_s = time.monotonic()
        return sent

    def _run(self) -> None:
        while not self._stopping.is_set():
            failure = ""
            try:
                self.turn()
            except PenstockError as error:
                failure = str(error)
            except Exception as error:
                # A defect must not end it in silence: say so, and begin anew from the store.
                if self.failure in ("", UNSEEN):
                    log.exception("sending to %s failed", ALERTS)
                failure = repr(error)
            self._tell(failure)
            self._stopping.wait(self._poll_s)

    def _tell(self, failure: str) -> None:
        """One line when it stops working, and one when it works again."""
        if failure and self.failure in ("", UNSEEN):
            log.warning("nothing is sent to %s until this has ended: %s", ALERTS, failure)
        elif self.failure and not failure:
            log.info("changes of alerts and verdicts are sent to %s", ALERTS)
        self.failure = failure


def stored_sent(store: Store) -> Sent:
    """How far all senders came.

    Raises:
        StoreError: the store is away or not migrated.
    """
    rows = store.query(
        "SELECT state FROM penstock.signal_states WHERE kind = 'topic' AND id = {id:String}",
        {"id": ALERTS},
    )
    if not rows:
        return Sent()
    found = json.loads(rows[0]["state"])
    return Sent(found["positions"], last_from_json(found["verdicts"]))


def _row(sent: Sent, version: int) -> tuple[str, pa.Table, str]:
    """Table, row and token of how far it came."""
    state = {"positions": dict(sent.positions), "verdicts": last_to_json(sent.verdicts)}
    text = canonical_json(state)
    row = {"kind": ["topic"], "id": [ALERTS], "state": [text]}
    table = pa.table(row | {"version": pa.array([version], pa.uint64())})
    return "signal_states_rows", table, sha256([ALERTS, version, text])
