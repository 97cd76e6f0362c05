"""Why an alert is kept quiet: silences, maintenance windows, inhibitions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ....schemas.alerts.base import all_match
from ....schemas.alerts.quiet import Inhibition, MaintenanceWindow, Silence
from .log import Alert


def quiet_reasons(
    alerts: Iterable[Alert],
    silences: Sequence[Silence],
    maintenance: Sequence[MaintenanceWindow],
    inhibitions: Sequence[Inhibition],
    at_s: int,
) -> dict[str, str]:
    """The firing alerts that nobody is told of now.

    Args:
        alerts: all that are open.
        silences, maintenance, inhibitions: of the configuration and of the API.
        at_s: the time, seconds since 1970 UTC.

    Returns:
        Alert id -> `silence:ID`, `maintenance:ID` or `inhibited:ALERT`, the first that holds.
    """
    firing = [alert for alert in alerts if alert.state == "firing"]
    reasons: dict[str, str] = {}
    for inhibition in inhibitions:
        _inhibit(firing, inhibition, reasons)
    quiet: list[tuple[str, Silence | MaintenanceWindow]] = [
        *(("maintenance", window) for window in maintenance if window.active(at_s)),
        *(("silence", silence) for silence in silences if silence.active(at_s)),
    ]
    for kind, item in quiet:
        for alert in firing:
            if all_match(item.matchers, alert.labels):
                reasons[alert.id] = f"{kind}:{item.id}"
    return reasons


def _inhibit(firing: Sequence[Alert], inhibition: Inhibition, reasons: dict[str, str]) -> None:
    def shared(labels: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(labels.get(name, "") for name in inhibition.equal)

    # For each value of the equal labels: a source that is no target itself, and one that may be.
    sources: dict[tuple[str, ...], str] = {}
    both: dict[tuple[str, ...], str] = {}
    for alert in firing:
        if all_match(inhibition.source, alert.labels):
            is_target = all_match(inhibition.target, alert.labels)
            (both if is_target else sources).setdefault(shared(alert.labels), alert.id)
    for alert in firing:
        if not all_match(inhibition.target, alert.labels):
            continue
        by = sources.get(shared(alert.labels))
        if by is None and not all_match(inhibition.source, alert.labels):
            by = both.get(shared(alert.labels))
        if by is not None:
            reasons.setdefault(alert.id, f"inhibited:{by}")
