"""Notifications as the planner makes them, and hostile ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from penstock.schemas.alerts.section import Alerts
from penstock.streams.core.alerts.log import Alert, follow
from penstock.streams.core.alerts.notify import Notification
from penstock.streams.core.alerts.transition import Transition

BEGAN_S = 1_767_225_600  # 2026-01-01T00:00:00Z
ALERT_URL = "https://penstock.example.org/alerts/{id}"
SECTION = Alerts.model_validate(
    {
        "receivers": [
            {"kind": "slack", "name": "slack", "url_secret": "SLACK_URL"},
            {"kind": "pagerduty", "name": "pagerduty", "routing_key_secret": "PAGERDUTY_KEY"},
            {
                "kind": "webhook",
                "name": "hook",
                "url": "https://example.org/hook",
                "signing_secret": "HOOK_SECRET",
            },
            {
                "kind": "email",
                "name": "email",
                "to": ["Ann <ann@example.org>", "bob@example.org"],
                "sender": "Penstock <penstock@example.org>",
                "host": "mail.example.org",
            },
            {"kind": "alertmanager", "name": "am", "url": "http://alertmanager.example.org:9093"},
        ]
    }
)
RECEIVERS: dict[str, Any] = {receiver.name: receiver for receiver in SECTION.receivers}


def firing(number: int = 1, **more: Any) -> Alert:
    """An alert that fires, its id a digit 32 times."""
    labels = {
        "alertname": "latency-p95-high",
        "group": "latency",
        "severity": "critical",
        "model": "chat-8b",
        "team": "serving",
    }
    fields: dict[str, Any] = {
        "labels": labels,
        "value": 0.0831,
        "limit": 0.05,
        "n": 12345,
        "text": "8.31 % of requests above 1200 ms (limit 5 %)",
        "annotations": {
            "summary": "p95 of chat-8b: 8.31 % of requests above 1200 ms",
            "description": "Users wait.",
        },
        "runbook": "https://example.org/runbooks/latency",
    } | more
    began_s = BEGAN_S + 60 * (number - 1)
    item = Transition(
        f"t{number}",
        str(number) * 32,
        1,
        "firing",
        "condition",
        "latency-p95-high",
        "h",
        began_s + 300,
        began_s,
        **fields,
    )
    return follow(None, item)


def ended(alert: Alert) -> Alert:
    """The alert, ten minutes after it began."""
    last = alert.last
    after = replace(
        last,
        id=last.id + "e",
        sequence=2,
        kind="resolved",
        reason="cleared",
        at_s=last.started_s + 600,
    )
    return follow(alert, after)


def amended(alert: Alert, text: str) -> Alert:
    """The alert, with a note that late rows changed its numbers."""
    return follow(alert, replace(alert.last, id="a", kind="amended", reason="late_data", text=text))


def notification(
    *alerts: Alert, receiver: str = "slack", key: str = "ab" * 16, stage: int = 0
) -> Notification:
    """A notification of these alerts."""
    open_, closed = [a for a in alerts if a.is_open], [a for a in alerts if not a.is_open]
    return Notification(
        key,
        receiver,
        {"alertname": "latency-p95-high", "model": "chat-8b"},
        "cd" * 16,
        stage,
        "firing" if open_ else "resolved",
        BEGAN_S + 300,
        tuple(open_),
        tuple(closed),
    )


hostile = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]), st.sampled_from("<>&`*\r\n\x00\u2028,=\"'")
    ),
    max_size=60,
).flatmap(lambda text: st.sampled_from([text, text * 100]))


@st.composite
def hostile_notifications(draw: st.DrawFn) -> Notification:
    """Up to 130 alerts with texts that are long, or mean something to somebody."""
    text = draw(hostile)
    alert = firing(
        1,
        labels={"alertname": text or "a", "group": text, "severity": draw(hostile), "model": text},
        text=draw(hostile),
        annotations={"summary": draw(hostile), "more": text},
        runbook=draw(st.sampled_from([None, text, "https://example.org/" + text])),
    )
    if draw(st.booleans()):
        alert = amended(alert, draw(hostile))
    count = draw(st.sampled_from([1, 2, 60, 130]))
    alerts = [replace(alert, last=replace(alert.last, alert_id=f"{i:032x}")) for i in range(count)]
    resolved = draw(st.integers(0, count))
    return notification(*map(ended, alerts[:resolved]), *alerts[resolved:])
