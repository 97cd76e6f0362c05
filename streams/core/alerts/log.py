"""Alerts as they stand: a fold over transitions, and the bounded live log of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from .transition import Transition

State = Literal["pending", "firing", "resolved", "cancelled"]


@dataclass(frozen=True, slots=True)
class Alert:
    """One episode as its transitions tell it.

    Attributes:
        state: `cancelled` is pending that never fired.
        last: the newest transition but amendments: labels, value, texts.
        fired_s, ended_s: event time; None where it has not.
        amended: the newest amendment; None without one.
    """

    state: State
    last: Transition
    fired_s: int | None = None
    ended_s: int | None = None
    amended: Transition | None = None

    @property
    def id(self) -> str:
        """Identity of the episode."""
        return self.last.alert_id

    @property
    def labels(self) -> dict[str, str]:
        """Labels of the alert."""
        return self.last.labels

    @property
    def is_open(self) -> bool:
        """Whether it is pending or firing."""
        return self.state in ("pending", "firing")


def follow(alert: Alert | None, item: Transition) -> Alert:
    """The alert after a further transition; one that it went through already changes nothing."""
    if item.kind == "amended":
        # What is amended may be unknown here: then the amendment tells of the alert.
        base = Alert("firing", item, item.at_s) if alert is None else alert
        return replace(base, amended=item)
    if alert is not None and item.sequence <= alert.last.sequence:
        return alert
    fired_s = alert.fired_s if alert is not None else None
    amended = alert.amended if alert is not None else None
    ended = item.kind in ("resolved", "cancelled")
    return Alert(
        item.kind,
        item,
        item.at_s if item.kind == "firing" else fired_s,
        item.at_s if ended else None,
        amended,
    )


def with_note(alert: Alert, name: str, text: str | None) -> Alert:
    """The alert with a further annotation, unless there is no text or its rule has one of that name."""
    last = alert.last
    if not text or name in last.annotations:
        return alert
    return replace(alert, last=replace(last, annotations={**last.annotations, name: text}))


class Exporter(Protocol):
    """Whoever wants to hear of alerts: metrics, a message bus, a test."""

    def export(self, transition: Transition, alert: Alert) -> None:
        """Called once for each new transition, with the alert after it. It must not raise."""
        ...


class AlertLog:
    """Every open alert, and the newest of those that ended.

    Args:
        size: ended alerts that are remembered; open ones are bounded by rules and slices.
    """

    def __init__(self, size: int = 1000) -> None:
        self._size = size
        self._open: dict[str, Alert] = {}
        self._ended: dict[str, Alert] = {}
        self._exporters: list[Exporter] = []

    def register_exporter(self, exporter: Exporter) -> None:
        """Tell an exporter of every new transition from now on."""
        self._exporters.append(exporter)

    def record(self, transitions: Iterable[Transition]) -> list[Transition]:
        """Take transitions in, in their order; those known already are passed over.

        Returns:
            The new ones.
        """
        new = []
        for item in transitions:
            before = self.get(item.alert_id)
            after = follow(before, item)
            if after == before:
                continue
            self._open.pop(after.id, None)
            self._ended.pop(after.id, None)
            (self._open if after.is_open else self._ended)[after.id] = after
            new.append(item)
            for exporter in self._exporters:
                exporter.export(item, after)
        while len(self._ended) > self._size:
            del self._ended[next(iter(self._ended))]
        return new

    def get(self, alert_id: str) -> Alert | None:
        """An alert that is remembered."""
        return self._open.get(alert_id) or self._ended.get(alert_id)

    def alerts(self) -> list[Alert]:
        """All that is remembered, the newest change first."""
        every = [*self._open.values(), *self._ended.values()]
        return sorted(every, key=lambda alert: (-alert.last.at_s, alert.id))

    def latest_alerts(self, limit: int = 100) -> list[Alert]:
        """The alerts that changed last, the newest first."""
        return self.alerts()[:limit]
