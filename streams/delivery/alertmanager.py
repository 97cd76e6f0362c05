"""Prometheus' Alertmanager: the body of `POST /api/v2/alerts`.

Alertmanager knows an alert by its labels, and takes one as ended when `endsAt` has passed. So what fires
is given an end a day after the message; a repetition moves it on.
"""

from __future__ import annotations

import re
from typing import Any

from ...schemas.alerts.routing import AlertmanagerReceiver
from ..core.alerts.log import Alert
from ..core.alerts.notify import Notification
from ..core.gates.canonical import canonical_json, sha256
from .message import Message
from .words import is_url, link, one_line, when

FIRES_FOR_S = 86400
MAX_ALERTS = 100  # of one request; more are sent as several
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def alertmanager_messages(
    notification: Notification, receiver: AlertmanagerReceiver, alert_url: str = ""
) -> list[Message]:
    """The requests of a notification: one for every hundred alerts, what ended before what fires.

    Args:
        notification: planned.
        receiver: told.
        alert_url: where alerts are shown, with `{id}`; empty for nowhere.
    """
    until_s = notification.slot_s + FIRES_FOR_S
    alerts = [*notification.resolved, *notification.firing]
    messages = []
    for at in range(0, len(alerts), MAX_ALERTS):
        part = alerts[at : at + MAX_ALERTS]
        body = [_alert(alert, until_s, alert_url) for alert in part]
        # Two episodes of one slice are one alert there: they must keep their order too.
        lanes = tuple(sorted({sha256(item["labels"])[:32] for item in body}))
        key = sha256([notification.key, at])[:32]
        messages.append(Message(key, receiver.name, lanes, canonical_json(body)))
    return messages


def _alert(alert: Alert, until_s: int, alert_url: str) -> dict[str, Any]:
    last = alert.last
    texts = {**last.annotations, "alert_id": alert.id, "value": last.text}
    if last.runbook:
        texts["runbook_url" if is_url(last.runbook) else "runbook"] = last.runbook
    if alert.amended is not None:
        texts["amended"] = alert.amended.text
    body: dict[str, Any] = {
        "labels": _named({name: one_line(text) for name, text in alert.labels.items()}),
        "annotations": _named(texts),
        "startsAt": when(last.started_s),
        "endsAt": when(until_s if alert.ended_s is None else alert.ended_s),
    }
    if is_url(link(alert, alert_url)):
        body["generatorURL"] = link(alert, alert_url)
    return body


def _named(texts: dict[str, str]) -> dict[str, str]:
    """What Alertmanager takes: names of Prometheus, no empty values."""
    return {name: text for name, text in texts.items() if text and _NAME.fullmatch(name)}
