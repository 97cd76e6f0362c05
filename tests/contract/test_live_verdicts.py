"""The live stream says when a gate of any kind changes its mind, and is silent while it does not."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from penstock.api.gates_verdicts import Verdicts
from penstock.api.live import LiveReader
from penstock.schemas.config import parse
from penstock.schemas.gates import LiveGate
from penstock.streams.core.gates.canonical import spec_hash
from penstock.streams.storage.store import Store
from penstock.tests.support.api import STATUS, Ingest
from penstock.tests.support.rows import at, iso
from penstock.tests.support.store import insert

GATES = parse("""
slos: [{id: answers, sli: {kind: availability}, target: 0.9, window: 7d}]
gates:
  - {id: live-absolute, metrics: [{metric: error_rate, max_ratio: 0.01}]}
  - {id: live-budget, kind: budget, slo: answers, min_left_ratio: 0.2}
  - id: live-rollback
    kind: rollback
    treatment: {variant: none-other}
    limits: [{metric: error_rate, max_ratio: 0.01}]
  - id: live-canary
    kind: canary
    control: {variant: no-control}
    treatment: {variant: none-other}
    metrics: [{metric: error_rate, margin_ratio: 1.5}]
""").live_gates


def judged(store: Store, gate: LiveGate, second: int, verdict: str, epoch: int = 0) -> None:
    said = {"verdict": verdict, "epoch": epoch, "as_of": iso(second), "action": "wait"}
    row = {"gate_id": gate.id, "epoch": epoch, "as_of": at(second), "version": 1}
    row |= {"kind": gate.kind, "verdict": verdict, "spec_hash": spec_hash(gate)}
    insert(store, "verdicts_rows", [row | {"evidence": json.dumps(said)}])


def test_every_kind_is_here() -> None:
    assert {type(gate) for gate in GATES} == {*get_args(LiveGate)}


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.kind)
def test_a_change_of_a_verdict_is_told(store: Store, api_store: Store, gate: LiveGate) -> None:
    verdicts = Verdicts(api_store, GATES, lambda: STATUS.watermark_us, lambda: 0)
    reader = LiveReader(api_store, verdicts, Ingest(), lambda: 0)

    def tells() -> bool:
        return "gates" in reader.read()["changed"]

    reader.read()
    assert not tells()
    judged(store, gate, 10, "UNDECIDED")
    assert tells()
    judged(store, gate, 20, "UNDECIDED")
    assert not tells()
    judged(store, gate, 30, "FAIL")
    assert tells()
    judged(store, gate, 40, "FAIL", 1)  # of another release
    assert tells()
    assert not tells()
