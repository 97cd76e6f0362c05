"""Any HTTP endpoint: one JSON document, described in docs/delivery.md. `signing` adds who sent it."""

from __future__ import annotations

from typing import Any

from ...schemas.alerts.routing import WebhookReceiver
from ..core.alerts.log import Alert
from ..core.alerts.notify import Notification
from ..core.gates.canonical import canonical_json, sha256
from .message import Message
from .words import link, severity, title, when, worst

VERSION = 1
MAX_ALERTS = 100  # of one document; more are sent as several


def webhook_messages(
    notification: Notification, receiver: WebhookReceiver, alert_url: str = ""
) -> list[Message]:
    """The documents of a notification: one for every hundred alerts.

    Args:
        notification: planned.
        receiver: told.
        alert_url: where alerts are shown, with `{id}`; empty for nowhere.
    """
    alerts = [*notification.resolved, *notification.firing]
    parts = [alerts[i : i + MAX_ALERTS] for i in range(0, len(alerts), MAX_ALERTS)]
    messages = []
    for number, part in enumerate(parts):
        key = sha256([notification.key, number])[:32] if number else notification.key
        body = {
            "version": VERSION,
            "key": key,
            "receiver": receiver.name,
            "status": notification.status,
            "severity": worst(alerts),
            "title": title(notification),
            "group": notification.group,
            "group_key": notification.group_key,
            "stage": notification.stage,
            "planned_at": when(notification.slot_s),
            "part": number + 1,
            "parts": len(parts),
            "alerts": [_alert(alert, alert_url) for alert in part],
        }
        lanes = tuple(alert.id for alert in part)
        messages.append(Message(key, receiver.name, lanes, canonical_json(body)))
    return messages


def _alert(alert: Alert, alert_url: str) -> dict[str, Any]:
    last = alert.last
    return {
        "id": alert.id,
        "status": alert.state,
        "reason": last.reason,
        "severity": severity(alert),
        "labels": alert.labels,
        "annotations": last.annotations,
        "started_at": when(last.started_s),
        "fired_at": None if alert.fired_s is None else when(alert.fired_s),
        "ended_at": None if alert.ended_s is None else when(alert.ended_s),
        "value": last.value,
        "limit": last.limit,
        "n": last.n,
        "text": last.text,
        "amended": None if alert.amended is None else alert.amended.text,
        "runbook": last.runbook,
        "url": link(alert, alert_url) or None,
    }
