"""`notify` of a live gate: who is told of changes of its verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..alerts.section import Alerts
from . import Gate, LiveGate, OfflineGate

KINDS = ("webhook", "slack", "email")
"""Receivers that take a verdict; the others know only what begins and ends."""


def telling(gates: Sequence[LiveGate]) -> tuple[LiveGate, ...]:
    """The gates that tell somebody."""
    return tuple(gate for gate in gates if gate.notify)


def notify_problems(
    section: Alerts, gates: Sequence[Gate]
) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """Names that are no receivers, and receivers that cannot be told of a verdict.

    Yields:
        Where in the configuration, and what is wrong.
    """
    kinds = {receiver.name: receiver.kind for receiver in section.receivers}
    there = ", ".join(sorted(kinds)) or "none: add them to alerts.receivers"
    for at, gate in enumerate(gates):
        for name in () if isinstance(gate, OfflineGate) else gate.notify:
            where = ("gates", at, "notify")
            if name not in kinds:
                yield where, f"{gate.id}: notify names {name}, and the receivers are {there}"
            elif kinds[name] not in KINDS:
                yield (
                    where,
                    f"{gate.id}: {name} is of kind {kinds[name]}, which cannot be told of a "
                    f"verdict: name receivers of kind {', '.join(KINDS)}, or page by an alert rule",
                )
