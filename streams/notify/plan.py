"""What is planned while the lease is held, and the one row that says how far it has come.

Each plan is one row of `signal_states`: what everybody was told *after* it, and the messages that tell
them. The module `notifier` says why.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace

import pyarrow as pa

from ...schemas.alerts.section import Alerts
from ...schemas.gates import LiveGate
from ..core.alerts.awaited import Awaited
from ..core.alerts.log import Alert, AlertLog, follow, with_note
from ..core.alerts.notify import Notification, NotifyState, plan_notifications
from ..core.alerts.suppress import quiet_reasons
from ..core.alerts.transition import Transition
from ..core.gates.canonical import canonical_json, sha256
from ..core.tiles import SECOND_US
from ..delivery.compose import compose, compose_acknowledgement
from ..delivery.message import Message
from ..delivery.outbox import Outbox
from ..storage.store import Store
from .feed import AlertFeed
from .gates import Last, VerdictDesk, last_from_json, last_to_json
from .lease import StoreLease

QUEUE = "alerts"
NOTE = "explanation"  # annotation of messages that tells what changed
AGAIN_US = 60 * SECOND_US  # between two looks at everything that is open
AT_ONCE = 1000  # messages put in by one request, whose address holds their keys
# The outbox knows for 90 days what it was given; what is older must not be put in again.
PUT_AGAIN_US = 30 * 86400 * SECOND_US


@dataclass(frozen=True, slots=True)
class Desk:
    """What a plan works with.

    Attributes:
        store: migrated.
        section: `alerts:` of the configuration.
        lease: held.
        outbox: takes the messages.
        log: told of every change.
        totals: counters of the process, added to: alert_changes, notifications.
        clock: integer microseconds UTC.
        gates: those that tell somebody of their verdicts.
    """

    store: Store
    section: Alerts
    lease: StoreLease
    outbox: Outbox
    log: AlertLog
    totals: Counter[str]
    clock: Callable[[], int]
    gates: Sequence[LiveGate] = ()


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """The row of the store.

    Attributes:
        told: what everybody was told of alerts.
        messages: that told it last.
        planned_us: when, integer microseconds UTC.
        verdicts: the last change of each gate that tells.
    """

    told: NotifyState = field(default_factory=NotifyState)
    messages: Sequence[Message] = ()
    planned_us: int = 0
    verdicts: Last = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """What a look led to: what is stored of it, and the alerts whose taking the messages tell."""

    stored: StoredPlan
    notifications: int
    taken: set[str]


class Plan:
    """Goes on from the row of the store; make a new one when anything fails.

    Args:
        desk: what it works with.

    Attributes:
        awaits: whether messages wait for what explains their alerts, so that another look is soon due.

    Raises:
        StoreError: the store is away or not migrated.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.awaits = False
        self._feed = AlertFeed(desk.store)
        self._receivers = {receiver.name: receiver for receiver in desk.section.receivers}
        self._alerts: dict[str, Alert] = {}
        self._taken: set[str] = set()
        self._seen_us: dict[str, int] = {}
        self._started_us = now_us = desk.clock()
        stored = stored_plan(desk.store)
        self._state = stored.told
        self._verdicts = VerdictDesk(desk.store, desk.section, desk.gates, stored.verdicts)
        if now_us - stored.planned_us < PUT_AGAIN_US:
            self._put(stored.messages, now_us)
        self._start(desk.section.log_size)

    def step(self) -> int:
        """Look once, plan, and put what is to be told into the outbox.

        Returns:
            How many messages were put in.

        Raises:
            LeaseLost: somebody else plans.
            StoreError: it is unknown how far it came.
        """
        now_us, self.awaits = self._desk.clock(), False
        self._take(self._feed.news())
        if abs(now_us - self._started_us) >= AGAIN_US:  # the clock may be set back
            self._started_us = now_us
            self._start(0)
        if not self._alerts and not self._desk.gates:
            return 0
        planned = self._planned(now_us)
        stored = planned.stored
        if stored.messages or (stored.told, stored.verdicts) != (self._state, self._verdicts.last):
            self._commit(planned)
        self._prune()
        return len(stored.messages)

    def _planned(self, now_us: int) -> Step:
        state, notifications, messages, taken = self._planned_alerts(now_us)
        verdicts, more, told = self._verdicts.look()
        stored = StoredPlan(state, [*messages, *told], now_us, verdicts)
        return Step(stored, notifications + more, taken)

    def _planned_alerts(self, now_us: int) -> tuple[NotifyState, int, list[Message], set[str]]:
        section, alerts, now_s = self._desk.section, [*self._alerts.values()], now_us // SECOND_US
        firing = [alert.id for alert in alerts if alert.state == "firing"]
        silences = [*section.silences, *self._feed.silences(now_s)] if firing else []
        quiet = quiet_reasons(alerts, silences, section.maintenance, section.inhibitions, now_s)
        acknowledged = self._feed.acknowledged(firing, now_s)
        awaited = self._awaited(firing, now_us)
        state, due = plan_notifications(
            section.route,
            section.receivers,
            alerts,
            quiet,
            acknowledged,
            self._state,
            now_s,
            awaited,
        )
        messages = [
            message
            for item in self._explained(due)
            for message in compose(item, self._receivers[item.receiver], section.alert_url)
        ]
        taken = (acknowledged & _told(state)) - self._taken
        for alert_id in sorted(taken):
            names = {n for g in state.groups.values() if alert_id in g.told for n in g.receivers}
            told = [self._receivers[name] for name in sorted(names & self._receivers.keys())]
            messages += compose_acknowledgement(self._alerts[alert_id], told)
        return state, len(due), messages, taken

    def _awaited(self, firing: Sequence[str], now_us: int) -> Awaited:
        """What messages wait for. Only of alerts that are new here is asked what explains them."""
        wait_us = round(self._desk.section.explanation_wait_s * SECOND_US)
        self._seen_us = seen_us = {name: self._seen_us.get(name, now_us) for name in firing}
        new = {name for name, at_us in seen_us.items() if 0 <= now_us - at_us < wait_us}
        unexplained = new - self._feed.explanations(new).keys()
        self.awaits = bool(unexplained)
        return Awaited(now_us, wait_us, seen_us, unexplained)

    def _explained(self, due: Sequence[Notification]) -> list[Notification]:
        """The notifications with what is known of why their alerts fired."""
        ids = {alert.id for item in due for alert in item.firing}
        known = self._feed.explanations(ids) if ids else {}
        return [
            replace(item, firing=tuple(with_note(a, NOTE, known.get(a.id)) for a in item.firing))
            for item in due
        ]

    def _commit(self, planned: Step) -> None:
        stored = planned.stored
        # 1. The plan as a whole: from here on a new start puts in the same messages.
        self._desk.store.insert(*_plan_row(stored, self._desk.lease.term))
        # 2. Nobody took over before it was stored: whoever does later goes on from it.
        self._desk.lease.renew()
        self._state, self._verdicts.last = stored.told, stored.verdicts
        # 3. Into the outbox, which knows messages that it was given before.
        self._put(stored.messages, stored.planned_us)
        self._taken |= planned.taken
        self._desk.totals["notifications"] += planned.notifications

    def _put(self, messages: Sequence[Message], now_us: int) -> None:
        for at in range(0, len(messages), AT_ONCE):
            self._desk.outbox.put(messages[at : at + AT_ONCE], now_us)

    def _start(self, newest: int) -> None:
        believed = {alert.id for alert in self._alerts.values() if alert.is_open}
        self._follow(self._feed.start(believed | _told(self._state), newest))
        self._prune()

    def _take(self, items: Sequence[Transition]) -> None:
        # An alert that ended was forgotten; alone, a note about it would be taken for the alert.
        first = {item.alert_id: item for item in reversed(items)}
        lost = [
            item.alert_id
            for item in first.values()
            if item.alert_id not in self._alerts and (item.sequence or item.kind == "amended")
        ]
        self._follow([*self._feed.history(lost), *items])

    def _follow(self, items: Iterable[Transition]) -> None:
        items = [*items]
        for item in items:
            self._alerts[item.alert_id] = follow(self._alerts.get(item.alert_id), item)
        self._desk.totals["alert_changes"] += len(self._desk.log.record(items))

    def _prune(self) -> None:
        """Forget what has ended and nobody is to be told of."""
        told = _told(self._state)
        self._alerts = {k: a for k, a in self._alerts.items() if a.is_open or k in told}
        self._taken &= self._alerts.keys()


def _told(state: NotifyState) -> set[str]:
    return {alert_id for group in state.groups.values() for alert_id in group.told}


def stored_plan(store: Store) -> StoredPlan:
    """The plan in force; an empty one where there never was any.

    Raises:
        StoreError: the store is away or not migrated.
    """
    rows = store.query(
        "SELECT state FROM penstock.signal_states WHERE kind = 'notify' AND id = {id:String}",
        {"id": QUEUE},
    )
    if not rows:
        return StoredPlan()
    found = json.loads(rows[0]["state"])
    return StoredPlan(
        NotifyState.from_json(canonical_json(found["told"])),
        [Message(**{**item, "lanes": tuple(item["lanes"])}) for item in found["messages"]],
        found["planned_us"],
        last_from_json(found.get("verdicts", [])),  # plans of before gates told anybody have none
    )


def _plan_row(plan: StoredPlan, version: int) -> tuple[str, pa.Table, str]:
    """Table, row and token of a plan."""
    text = canonical_json(
        {
            "told": asdict(plan.told),
            "messages": [asdict(message) for message in plan.messages],
            "planned_us": plan.planned_us,
            "verdicts": last_to_json(plan.verdicts),
        }
    )
    row = {"kind": ["notify"], "id": [QUEUE], "state": [text]}
    table = pa.table(row | {"version": pa.array([version], pa.uint64())})
    return "signal_states_rows", table, sha256([QUEUE, version, text])
