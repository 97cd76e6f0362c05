"""`notify` of gates: whom it may name, and that a gate stays the same gate with and without it."""

from __future__ import annotations

import pytest
from penstock.schemas.config import parse
from penstock.schemas.errors import InvalidConfiguration
from penstock.schemas.gates.notify import telling
from penstock.streams.core.gates.canonical import sha256, spec_hash

RECEIVERS = """
alerts:
  receivers:
    - {kind: webhook, name: hook, url: "http://a"}
    - {kind: slack, name: chat, url_secret: CHAT}
    - {kind: pagerduty, name: pager, routing_key_secret: KEY}
    - {kind: alertmanager, name: am, url: "http://am"}
"""
GATES = """
slos: [{id: answers, sli: {kind: availability}, target: 0.9, window: 7d}]
gates:
  - {id: limits, metrics: [{metric: error_rate, max_ratio: 0.01}]NOTIFY}
  - {id: budget, kind: budget, slo: answers, min_left_ratio: 0.2NOTIFY}
  - id: back
    kind: rollback
    treatment: {variant: canary}
    limits: [{metric: error_rate, max_ratio: 0.01}]
  - id: canary
    kind: canary
    control: {variant: control}
    treatment: {variant: canary}
    metrics: [{metric: error_rate, margin_ratio: 1.5}]
"""


def gates(notify: str) -> str:
    return RECEIVERS + GATES.replace("NOTIFY", notify)


def test_the_hash_of_a_gate_does_not_depend_on_whom_it_tells() -> None:
    without, told = parse(gates("")), parse(gates(", notify: [hook, chat, hook]"))
    assert [spec_hash(gate) for gate in told.gates] == [spec_hash(gate) for gate in without.gates]
    for gate in without.gates:  # as before gates could tell anybody: stored verdicts carry it
        fields = gate.model_dump(mode="json")
        del fields["notify"]
        assert spec_hash(gate) == sha256(fields)
    assert telling(without.live_gates) == ()
    assert [gate.id for gate in telling(told.live_gates)] == ["limits", "budget"]


@pytest.mark.parametrize(
    ("notify", "error"),
    [
        ("boss", r"penstock.yaml:\d+: gates.0.notify: limits: notify names boss, and the receivers are am, chat,"),
        ("pager", "pager is of kind pagerduty, .* name receivers of kind webhook, slack, email, or page by an alert"),
        ("am", "limits: am is of kind alertmanager"),
    ],
)  # fmt: skip
def test_whom_a_gate_cannot_tell(notify: str, error: str) -> None:
    with pytest.raises(InvalidConfiguration, match=error):
        parse(gates(f", notify: [{notify}]"))


def test_without_any_receivers() -> None:
    with pytest.raises(InvalidConfiguration, match="receivers are none: add them to alerts"):
        parse(GATES.replace("NOTIFY", ", notify: [hook]"))


def test_gates_on_files_tell_by_their_exit_code() -> None:
    spec = "gates: [{id: p, kind: parity, metrics: [{metric: a, margin: 1}], notify: [hook]}]"
    with pytest.raises(InvalidConfiguration, match=r"gates.0.parity.notify: Extra inputs"):
        parse(RECEIVERS + spec)
