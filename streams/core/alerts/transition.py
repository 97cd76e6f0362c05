"""A change of an alert, its deterministic identity and its texts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ....schemas.alerts.rules import AlertRule, Change, Threshold
from ....schemas.alerts.templates import render
from ..gates.canonical import canonical_json, sha256
from ..gates.verdict import iso
from ..tiles import SECOND_US
from .signals import Reading

Kind = Literal["pending", "firing", "resolved", "cancelled", "amended"]
Reason = Literal[
    "condition", "cleared", "no_data", "forgotten", "rule_changed", "rule_removed", "late_data"
]

REASONS: dict[Reason, str] = {
    "condition": "the condition holds, for as long as the rule asks",
    "cleared": "the condition no longer holds, by the hysteresis",
    "no_data": "the slice has no data, and the rule says what that means",
    "forgotten": "the slice had no data for forget_after_s",
    "rule_changed": "the rule was changed",
    "rule_removed": "the rule was removed",
    "late_data": "rows came after the alert and changed its numbers",
}
"""Every reason code and what it means: a closed list."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of one alert: what is stored, logged and told.

    Attributes:
        id: the same whenever the same transition is computed again.
        alert_id: of the episode, from the first breach to its end.
        sequence: position in the episode, from 0; of an amendment, that of what it amends.
        kind: `pending`, `firing`, `resolved`, `cancelled` (pending that never fired), `amended`.
        reason: see `REASONS`.
        rule_id, rule_hash: of the rule that was evaluated.
        at_s, started_s: event time of the change and of the first breach.
        labels: of the alert: alertname, group, severity, those of its slice and of its rule.
        value, limit, n: as in `Reading`; None where they cannot be told or are infinite.
        text: value and limit for people.
        annotations, runbook: of the rule, filled in.
    """

    id: str
    alert_id: str
    sequence: int
    kind: Kind
    reason: Reason
    rule_id: str
    rule_hash: str
    at_s: int
    started_s: int
    labels: dict[str, str]
    value: float | None = None
    limit: float | None = None
    n: int = 0
    text: str = ""
    annotations: dict[str, str] = field(default_factory=dict)
    runbook: str | None = None

    def to_json(self) -> str:
        """Canonical JSON."""
        return canonical_json(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Transition:
        """The transition that `to_json` wrote.

        Raises:
            ValueError: if the text is no transition.
        """
        try:
            return cls(**json.loads(text))
        except TypeError as error:
            raise ValueError(f"not a transition of an alert: {error}") from error


def alert_id(rule_id: str, rule_hash: str, labels: Mapping[str, str], started_s: int) -> str:
    """Identity of an episode, as 32 hexadecimal digits."""
    return sha256([rule_id, rule_hash, dict(labels), started_s])[:32]


def transition_id(alert: str, sequence: int, kind: Kind) -> str:
    """Identity of a transition, as 32 hexadecimal digits."""
    return sha256([alert, sequence, kind])[:32]


def told(
    rule: AlertRule | None, labels: Mapping[str, str], started_s: int, reading: Reading
) -> dict[str, Any]:
    """The fields of a transition that follow from a reading, texts included."""
    value, limit = _finite(reading.value), _finite(reading.limit)
    values = {
        **{f"labels.{name}": text for name, text in labels.items()},
        "value": shown(reading.value, reading.unit, reading.note),
        "limit": shown(reading.limit, reading.unit),
        "value | number": "" if value is None else f"{value:.6g}",
        "limit | number": "" if limit is None else f"{limit:.6g}",
        "n": f"{reading.n:,}",
        "started": iso(started_s * SECOND_US),
        "rule": labels["alertname"],
        "group": labels["group"],
        "severity": labels["severity"],
    }  # fmt: skip
    if rule is not None and isinstance(rule.condition, Threshold | Change):
        values |= {"metric": rule.condition.metric, "window": rule.condition.window}
    if rule is not None and rule.runbook:
        values["runbook"] = rule.runbook
    annotations = {} if rule is None else rule.annotations
    return {
        "value": value,
        "limit": limit,
        "n": reading.n,
        "text": f"{values['value']} (limit {values['limit']})"
        if values["limit"]
        else values["value"],
        "annotations": {name: render(text, values) for name, text in annotations.items()},
        "runbook": None if rule is None else rule.runbook,
    }


def shown(value: float | None, unit: str, note: str = "") -> str:
    """A value with its unit, for people.

    >>> shown(0.0831, "ratio", "of requests above 1200 ms"), shown(85000, "ms"), shown(7, "count")
    ('8.31 % of requests above 1200 ms', '85,000 ms', '7')
    >>> shown(16.8, "ratio", "of errors before")
    '1,680 % of errors before'
    """
    if value is None or math.isnan(value):
        return note if value is None else ""
    if math.isinf(value):
        number = "longer than anything"
    elif unit == "ratio":
        percent = value * 100
        number = (f"{percent:,.0f}" if abs(percent) >= 1000 else f"{percent:.3g}") + " %"
    else:
        digits = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
        suffix = {"count": "", "number": "", "usd": " USD"}.get(unit, f" {unit}")
        number = digits + suffix
    return f"{number} {note}".rstrip()


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
