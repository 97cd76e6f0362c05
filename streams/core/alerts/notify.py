"""Which notifications are due, to whom. The time is an argument, so it plans the same twice."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ....schemas.alerts.routing import Receiver, RootRoute
from ..gates.canonical import canonical_json, sha256
from .awaited import NOTHING, Awaited
from .log import Alert
from .routes import Destination, destinations


@dataclass(frozen=True, slots=True)
class Notification:
    """One message to one receiver.

    Attributes:
        key: idempotency key: the same for the same group, receiver and slot, whenever it is planned.
        receiver: its name.
        group: what the alerts share, and the stable name of their thread: `group_key`.
        stage: 0 for the route's receivers, n for its n-th escalation.
        status: `resolved` where nothing of the group fires any more.
        slot_s: when it was due.
        firing, resolved: the alerts, by start.
    """

    key: str
    receiver: str
    group: dict[str, str]
    group_key: str
    stage: int
    status: Literal["firing", "resolved"]
    slot_s: int
    firing: tuple[Alert, ...]
    resolved: tuple[Alert, ...]


@dataclass(frozen=True, slots=True)
class GroupState:
    """What the receivers of one group at one stage were told.

    Attributes:
        last_s: when the last message was planned.
        told: ids of the alerts that they believe to fire, ascending.
        receivers: who.
    """

    last_s: int
    told: tuple[str, ...]
    receivers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotifyState:
    """What everybody was told, by the key of group and stage: one JSON value."""

    groups: dict[str, GroupState] = field(default_factory=dict)

    def to_json(self) -> str:
        """Canonical JSON; equal states give equal text."""
        return canonical_json(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> NotifyState:
        """The state that `to_json` wrote.

        Raises:
            ValueError: if the text is not such a state.
        """
        try:
            groups: dict[str, Any] = json.loads(text)["groups"]
            return cls(
                {
                    key: GroupState(item["last_s"], tuple(item["told"]), tuple(item["receivers"]))
                    for key, item in groups.items()
                }
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the state of notifications: {error}") from error


@dataclass(slots=True)
class _Group:
    """Alerts that share a destination, a stage and the labels that are grouped by."""

    destination: Destination
    stage: int
    members: list[Alert] = field(default_factory=list)

    @property
    def receivers(self) -> tuple[str, ...]:
        if self.stage:
            return self.destination.escalate[self.stage - 1].receivers
        return self.destination.receivers

    def counts_from_s(self, alert: Alert) -> int:
        """When a fired alert begins to count here."""
        delay_s = self.destination.escalate[self.stage - 1].after_s if self.stage else 0
        return (alert.fired_s or 0) + delay_s


def plan_notifications(
    route: RootRoute,
    receivers: Iterable[Receiver],
    alerts: Sequence[Alert],
    quiet: Mapping[str, str],
    acknowledged: Collection[str],
    state: NotifyState,
    now_s: int,
    awaited: Awaited = NOTHING,
) -> tuple[NotifyState, list[Notification]]:
    """What is to be told now.

    The first message of a group waits `group_wait_s` for more, the next ones keep `group_interval_s`
    apart, and what still fires is told again after `repeat_interval_s`. An alert that fires for
    `after_s` and is not acknowledged also goes to the receivers of an escalation, at once. What tells
    of an alert for the first time waits for its explanation, as long as `awaited` allows. Quiet
    alerts are not told; acknowledged ones are neither repeated nor escalated further. Whoever was
    told that an alert fires is told that it ended, whatever was changed in between.

    Args:
        route: the top of the tree.
        receivers: all there are.
        alerts: every open alert, and those ended that receivers may believe to fire.
        quiet: ids of alerts that are kept quiet, as `quiet_reasons` gives them.
        acknowledged: ids of alerts that somebody has taken.
        state: what was told.
        now_s: the time, seconds since 1970 UTC.
        awaited: explanations that are being looked for.

    Returns:
        The state after the messages, to be stored with them, and the messages.
    """
    sends_resolved = {receiver.name: receiver.send_resolved for receiver in receivers}
    by_id = {alert.id: alert for alert in alerts}
    groups = _groups(route, alerts)
    after: dict[str, GroupState] = {}
    due: list[Notification] = []
    for key in sorted({*groups, *state.groups}):
        before = state.groups.get(key)
        message = _message(groups.get(key), before, by_id, quiet, acknowledged, now_s, awaited)
        now = before if message is None else message.after
        if now is not None and now.told:
            after[key] = now
        if message is not None:
            for name in message.after.receivers:
                if name in sends_resolved:
                    due += _notification(key, name, message, sends_resolved[name])
    return NotifyState(after), due


def _groups(route: RootRoute, alerts: Iterable[Alert]) -> dict[str, _Group]:
    groups: dict[str, _Group] = {}
    for alert in alerts:
        if alert.fired_s is None:
            continue
        for destination in destinations(route, alert.labels):
            labels = {name: alert.labels.get(name, "") for name in destination.group_by}
            for stage in range(len(destination.escalate) + 1):
                key = canonical_json([destination.path, stage, labels])
                groups.setdefault(key, _Group(destination, stage)).members.append(alert)
    return groups


@dataclass(frozen=True, slots=True)
class _Message:
    """The state after a message, when it was due, and what it tells."""

    after: GroupState
    slot_s: int
    firing: tuple[Alert, ...]
    resolved: tuple[Alert, ...]


def _message(
    group: _Group | None,
    before: GroupState | None,
    by_id: Mapping[str, Alert],
    quiet: Mapping[str, str],
    acknowledged: Collection[str],
    now_s: int,
    awaited: Awaited,
) -> _Message | None:
    """The message of a group, None where none is due."""
    told = [by_id[name] for name in before.told if name in by_id] if before else []
    ended = [alert for alert in told if not alert.is_open]
    if group is None:
        # The tree was changed: who was told is still told of the end.
        assert before is not None
        slot_s = max((alert.ended_s or 0 for alert in ended), default=before.last_s)
        left = tuple(alert.id for alert in told if alert.is_open)
        after = GroupState(before.last_s, left, before.receivers)
        return _Message(after, slot_s, (), _by_start(ended))
    known = {alert.id for alert in told}
    firing = [
        alert
        for alert in group.members
        if alert.state == "firing"
        and alert.id not in quiet
        and (alert.id in known or alert.id not in acknowledged)
        and now_s >= group.counts_from_s(alert)
    ]
    fresh = [alert for alert in firing if alert.id not in known]
    waiting = any(alert.id in known and alert.id not in acknowledged for alert in firing)
    due_s = _slot(group, before, fresh, ended, waiting, now_s)
    if due_s is None or now_s < due_s or awaited.holds([alert.id for alert in fresh]):
        return None
    left = tuple(sorted((known | {alert.id for alert in fresh}) - {alert.id for alert in ended}))
    after = GroupState(now_s, left, group.receivers)
    return _Message(after, due_s, _by_start(firing), _by_start(ended))


def _slot(
    group: _Group,
    before: GroupState | None,
    fresh: Sequence[Alert],
    ended: Sequence[Alert],
    waiting: bool,
    now_s: int,
) -> int | None:
    """When the next message is due, None where nothing asks for one."""
    changes = [group.counts_from_s(alert) for alert in fresh]
    changes += [alert.ended_s or 0 for alert in ended]
    timing = group.destination
    if before is None:
        # An escalation has waited long enough.
        return min(changes) + (0 if group.stage else timing.group_wait_s) if changes else None
    if changes:
        return max(before.last_s + timing.group_interval_s, min(changes))
    if waiting:
        repeats = max((now_s - before.last_s) // timing.repeat_interval_s, 1)
        return before.last_s + repeats * timing.repeat_interval_s
    return None


def _notification(
    key: str, receiver: str, message: _Message, send_resolved: bool
) -> list[Notification]:
    resolved = message.resolved if send_resolved else ()
    if not message.firing and not resolved:
        return []
    # What it says is part of the key: a message with other alerts must not be taken for the same.
    told = [[alert.id for alert in alerts] for alerts in (message.firing, resolved)]
    _, stage, labels = json.loads(key)
    return [
        Notification(
            sha256([key, receiver, message.slot_s, told])[:32],
            receiver,
            labels,
            sha256([key, receiver])[:32],
            stage,
            "firing" if message.firing or message.after.told else "resolved",
            message.slot_s,
            message.firing,
            resolved,
        )
    ]


def _by_start(alerts: Iterable[Alert]) -> tuple[Alert, ...]:
    return tuple(sorted(alerts, key=lambda alert: (alert.last.started_s, alert.id)))
