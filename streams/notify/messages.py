"""Messages of `penstock.alerts`: one JSON object for each change of an alert or of a verdict (docs/kafka.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ...schemas.topics import ALERTS
from ..core.alerts.transition import Transition
from ..core.gates.canonical import canonical_json
from ..core.gates.changes import VerdictChange
from ..core.gates.verdict import iso
from ..core.tiles import SECOND_US
from ..kafka.messages import Outgoing

VERSION = 1
_SAME = (
    "id", "alert_id", "sequence", "reason", "rule_id", "labels", "value", "limit", "n", "text",
    "annotations", "runbook",
)  # fmt: skip
# Evidence may be long; the API has it.
_OF_VERDICTS = ("gate_kind", "action", "reasons", "text", "n", "n_needed", "spec_hash", "engine", "digest")  # fmt: skip


def alert_message(change: Transition) -> Outgoing:
    """A change of an alert, keyed by the alert's id."""
    fields = asdict(change)
    body = {
        "kind": "alert",
        "status": change.kind,
        "at": iso(change.at_s * SECOND_US),
        "started_at": iso(change.started_s * SECOND_US),
        **{name: fields[name] for name in _SAME},
    }
    return _message(change.alert_id, body)


def verdict_message(change: VerdictChange, document: Mapping[str, Any]) -> Outgoing:
    """A change of a verdict, keyed by the gate's id.

    Args:
        change: read from the store.
        document: what the verdict says: `Verdict.to_dict` and `gate_kind`.
    """
    body = {
        "kind": "verdict",
        "id": change.id,
        "gate": change.gate_id,
        "epoch": change.epoch,
        "verdict": change.verdict,
        "before": change.before or None,
        "as_of": iso(change.as_of_us),
        **{name: document[name] for name in _OF_VERDICTS},
    }
    return _message(change.gate_id, body)


def _message(key: str, body: Mapping[str, Any]) -> Outgoing:
    text = canonical_json({"version": VERSION, **body})
    return Outgoing(ALERTS, None, key.encode(), text.encode())
