"""Alerts made by hand, as the state machine would tell of them."""

from __future__ import annotations

from penstock.streams.core.alerts.log import Alert, follow
from penstock.streams.core.alerts.transition import Kind, Transition, transition_id


def item(name: str, kind: Kind, at_s: int, sequence: int = 0, **labels: str) -> Transition:
    own = {"alertname": name, "group": "g", "severity": "warning"} | labels
    identity = transition_id(name, sequence, kind)
    return Transition(identity, name, sequence, kind, "condition", name, "h", at_s, at_s, own)


def firing(name: str, at_s: int, **labels: str) -> Alert:
    return follow(None, item(name, "firing", at_s, 0, **labels))


def ended(alert: Alert, at_s: int) -> Alert:
    last = alert.last
    own = {name: value for name, value in last.labels.items() if name != "alertname"}
    return follow(alert, item(last.alert_id, "resolved", at_s, last.sequence + 1, **own))
