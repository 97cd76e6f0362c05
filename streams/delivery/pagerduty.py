"""PagerDuty Events API v2: one event per alert, with the alert's id as its deduplication key.

Limits of PagerDuty: 1,024 characters of summary, 255 of the key, 512 KB in all. The routing key is a
secret and is added when the event is sent.
"""

from __future__ import annotations

from typing import Any

from ...schemas.alerts.routing import PagerDutyReceiver
from ..core.alerts.log import Alert
from ..core.alerts.notify import Notification
from ..core.gates.canonical import canonical_json, sha256
from .message import Message
from .words import clip, headline, is_url, link, severity, slice_of, when

_SUMMARY, _KEY, _TEXT, _ENTRIES = 1024, 255, 2000, 64
# PagerDuty knows critical, error, warning, info. The details keep the severity by its own name.
_SEVERITY = {"emergency": "critical"}


def pagerduty_messages(
    notification: Notification, receiver: PagerDutyReceiver, alert_url: str = ""
) -> list[Message]:
    """An event for each alert of a notification: what ended is resolved, what fires is triggered.

    Args:
        notification: planned.
        receiver: told.
        alert_url: where alerts are shown, with `{id}`; empty for nowhere.
    """
    events = [
        *((alert, _event(alert, "resolve")) for alert in notification.resolved),
        *((alert, _trigger(alert, alert_url)) for alert in notification.firing),
    ]
    return [
        Message(
            sha256([notification.key, alert.id, event["event_action"]])[:32],
            receiver.name,
            (alert.id,),
            canonical_json(event),
        )
        for alert, event in events
    ]


def acknowledgement(alert: Alert, receiver: PagerDutyReceiver) -> Message:
    """The event that tells that somebody has taken an alert that was triggered before."""
    event = _event(alert, "acknowledge")
    key = sha256([receiver.name, alert.id, "acknowledge"])[:32]
    return Message(key, receiver.name, (alert.id,), canonical_json(event))


def _event(alert: Alert, action: str) -> dict[str, Any]:
    return {"event_action": action, "dedup_key": clip(alert.id, _KEY)}


def _trigger(alert: Alert, alert_url: str) -> dict[str, Any]:
    last, shown, level = alert.last, link(alert, alert_url), severity(alert)
    event = _event(alert, "trigger") | {
        "client": "Penstock",
        "payload": {
            "summary": clip(headline(alert), _SUMMARY),
            "source": clip(slice_of(alert), _KEY),
            "severity": _SEVERITY.get(level, level),
            "timestamp": when(last.started_s),
            "component": clip(alert.labels.get("model", "fleet"), _KEY),
            "group": clip(alert.labels.get("group", ""), _KEY),
            "class": clip(alert.labels.get("alertname", last.rule_id), _KEY),
            "custom_details": _details(alert),
        },
    }
    if shown:
        event["client_url"] = shown
    links = ((shown, "Alert"), (last.runbook, "Runbook"))
    event["links"] = [{"href": href, "text": text} for href, text in links if is_url(href)]
    return event


def _details(alert: Alert) -> dict[str, Any]:
    last = alert.last
    details: dict[str, Any] = {
        "severity": severity(alert),
        "value": last.value,
        "limit": last.limit,
        "n": last.n,
        "text": clip(last.text, _TEXT),
        "labels": _bounded(alert.labels),
        "annotations": _bounded(last.annotations),
    }
    if last.runbook:
        details["runbook"] = clip(last.runbook, _TEXT)
    if alert.amended is not None:
        details["amended"] = clip(alert.amended.text, _TEXT)
    return details


def _bounded(texts: dict[str, str]) -> dict[str, str]:
    return {name: clip(text, _TEXT) for name, text in sorted(texts.items())[:_ENTRIES]}
