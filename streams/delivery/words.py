"""The words that messages to people share."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..core.alerts.log import Alert
from ..core.alerts.notify import Notification
from ..core.gates.verdict import iso
from ..core.tiles import SECOND_US

SEVERITIES = ("info", "warning", "critical", "emergency")
_OWN = ("alertname", "group", "severity")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def clip(text: str, limit: int) -> str:
    """The text, cut to so many characters with an ellipsis at its end.

    >>> clip("latency", 4)
    'lat…'
    """
    return text if len(text) <= limit else text[: limit - 1] + "…"


def one_line(text: str) -> str:
    """The text without line ends and other control characters."""
    return _CONTROL.sub(" ", text).strip()


def when(at_s: int) -> str:
    """ISO 8601 in UTC."""
    return iso(at_s * SECOND_US)


def severity(alert: Alert) -> str:
    """The alert's severity; `info` where it has none that is known."""
    found = alert.labels.get("severity", "")
    return found if found in SEVERITIES else "info"


def worst(alerts: Iterable[Alert]) -> str:
    """The highest severity among alerts."""
    return max((severity(alert) for alert in alerts), key=SEVERITIES.index, default="info")


def headline(alert: Alert) -> str:
    """An alert in one line: its summary, or name and value."""
    summary = one_line(alert.last.annotations.get("summary", ""))
    name = alert.labels.get("alertname", alert.last.rule_id)
    return summary or one_line(f"{name}: {alert.last.text}").rstrip(": ") or alert.last.rule_id


def slice_of(alert: Alert) -> str:
    """What the alert is about: its labels but name, group and severity.

    Returns:
        `model=chat, route=/v1`, or `fleet` without any.
    """
    pairs = (f"{k}={v}" for k, v in sorted(alert.labels.items()) if k not in _OWN)
    return one_line(", ".join(pairs)) or "fleet"


def title(notification: Notification) -> str:
    """A notification in one line: `FIRING 2, RESOLVED 1: latency-p95-high (model=chat)`."""
    firing, resolved = notification.firing, notification.resolved
    counts = [f"FIRING {len(firing)}"] * bool(firing) + [f"RESOLVED {len(resolved)}"] * bool(
        resolved
    )
    names = sorted({alert.labels.get("alertname", "") for alert in (*firing, *resolved)})
    about = ", ".join(f"{k}={v}" for k, v in notification.group.items() if k != "alertname" and v)
    text = f"{', '.join(counts)}: {', '.join(names)}" + (f" ({about})" if about else "")
    return one_line(f"Escalation {notification.stage}: {text}" if notification.stage else text)


def times(alert: Alert) -> str:
    """When it began and ended."""
    began = f"since {when(alert.last.started_s)}"
    return began if alert.ended_s is None else f"{began} until {when(alert.ended_s)}"


def link(alert: Alert, alert_url: str) -> str:
    """Where the alert is shown; empty where nobody said.

    Args:
        alert: to be shown.
        alert_url: such as `https://penstock.example.org/alerts/{id}`.
    """
    return alert_url.replace("{id}", alert.id)


def is_url(text: str | None) -> bool:
    """Whether a runbook is a link, and not the path of a file."""
    return text is not None and re.fullmatch(r"https?://[^\s<>|\"]+", text) is not None
