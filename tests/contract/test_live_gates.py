"""Canary, rollback and budget gates from a POST to a verdict, and the same verdict computed again."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from penstock.api.gates_evidence_models import EvidenceAnswer
from penstock.schemas.config import parse
from penstock.schemas.frames import FrameHeader, encode_frame
from penstock.tests.contract.deployments import FORMS, Deployment
from penstock.tests.support.kafka_events import eventually

pytestmark = pytest.mark.slow

FRAMES = {"Content-Type": "application/vnd.penstock.frames"}
SECOND = 1_000_000
SESSIONS = 400
CONFIG = """
slos:
  - {id: answers, filter: {model: chat}, sli: {kind: availability}, target: 0.99, window: 7d}
gates:
  - id: bad-canary
    kind: canary
    control: {variant: control}
    treatment: {variant: canary}
    unit: session
    mature_s: 10
    metrics: [{metric: error_rate, margin_ratio: 1.5}]
  - id: split
    kind: canary
    control: {variant: control}
    treatment: {variant: canary}
    mature_s: 10
    share: 0.1
    metrics: [{metric: error_rate, margin_ratio: 1.5}]
  - id: go-back
    kind: rollback
    treatment: {variant: canary}
    for_s: 60
    mature_s: 10
    limits: [{metric: error_rate, max_ratio: 0.01}]
  - {id: may-we, kind: budget, slo: answers, min_left_ratio: 0.25}
  - {id: limits, filter: {variant: canary}, metrics: [{metric: error_rate, max_ratio: 0.01}]}
"""


@pytest.fixture(scope="module")
def running(form: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with FORMS[form](tmp_path_factory.mktemp(form), CONFIG) as found:
        yield found


@pytest.fixture(scope="module")
def sent(running: Deployment) -> int:
    """Half of the traffic is the canary's, of which two in five fail; returns the failed sessions.

    Every session asks three times in a row, through two workers, whose boots may live in two
    partitions; where one fails, all its requests do.
    """
    draw = random.Random(5)
    now_us = time.time_ns() // 1000
    rows: dict[str, list[dict[str, Any]]] = {"one": [], "two": []}
    failed = 0
    for number in range(SESSIONS):
        variant = "canary" if number % 2 else "control"
        bad = draw.random() < (0.4 if variant == "canary" else 0.01)
        failed += bad and variant == "canary"
        started_us = now_us - 400 * SECOND + number * 300 * SECOND // SESSIONS
        for attempt in range(3):
            worker = ("one", "two")[(number // 2 + attempt) % 2]
            rows[worker].append(
                {
                    "ts": started_us + attempt * SECOND + 100_000,
                    "model": "chat",
                    "variant": variant,
                    "session_id": f"s{number}",
                    "status": "error" if bad else "ok",
                    "latency_ms": 100.0,
                }
            )
    begun_us = now_us - 400 * SECOND
    # Both workers' clocks stand at the beginning until everything is sent, so that nothing is late.
    for clock_us, closing in ((begun_us, False), (now_us, True)):
        for worker, mine in rows.items():
            sent = [] if closing else mine
            header = FrameHeader(
                kind="control" if closing else "request", worker_id=worker,
                boot_id=f"gates-{worker}", seq0=len(mine) if closing else 0, count=len(sent),
                next_seq=len(mine), clock_us=clock_us, closing=closing,
            )  # fmt: skip
            for _ in range(2):  # what is delivered twice counts once
                answer = running.post(encode_frame(header, sent), **FRAMES)
                assert answer.status_code in (200, 202)
    return failed


def decided(running: Deployment, gate: str, *wanted: str) -> dict[str, Any]:
    """The verdict of a gate, once it is one of these."""

    found: dict[str, Any] = {}

    def look() -> bool:
        found.update(running.get(f"/v1/gates/{gate}/verdict").json())
        return found["verdict"] in wanted

    try:
        eventually(look, 150)
    except AssertionError as error:
        raise AssertionError(f"{gate} is not {' or '.join(wanted)} but {found}") from error
    return found


def test_a_canary_fails_on_sessions_and_not_on_requests(running: Deployment, sent: int) -> None:
    verdict = decided(running, "bad-canary", "FAIL")
    assert verdict["action"] == "rollback"
    assert verdict["reasons"][0] == "margin_exceeded"
    (evidence,) = verdict["evidence"]
    assert evidence["metric"] == "error_rate"
    assert evidence["decision"] == "FAIL"
    assert 0 < verdict["n"] <= SESSIONS, "three requests of a session are one unit"


def test_a_split_that_is_not_as_configured_is_invalid(running: Deployment, sent: int) -> None:
    verdict = decided(running, "split", "INVALID")
    assert "sample_ratio" in verdict["reasons"]


def test_a_rollback_gate_fails(running: Deployment, sent: int) -> None:
    assert decided(running, "go-back", "FAIL")["action"] == "rollback"


def test_a_budget_gate_tells_what_is_left(running: Deployment, sent: int) -> None:
    verdict = decided(running, "may-we", "FAIL")
    assert "budget_spent" in verdict["reasons"]


def test_every_stored_verdict_is_computed_again_to_the_last_byte(
    running: Deployment, sent: int
) -> None:
    for gate in parse(CONFIG).live_gates:
        decided(running, gate.id, "FAIL", "INVALID")
        path = f"/v1/gates/{gate.id}/replay"
        answer = running.get(path).json()
        assert answer["differing"] == [], gate.id
        assert answer["verdicts"] > 0


def test_the_printed_sql_shows_the_counts_of_the_evidence(running: Deployment, sent: int) -> None:
    for gate in parse(CONFIG).live_gates:
        verdict = decided(running, gate.id, "FAIL", "INVALID")
        answer = running.get(f"/v1/gates/{gate.id}/evidence").json()
        EvidenceAnswer.model_validate(answer)
        assert answer["verdict"] == verdict["verdict"]
        assert answer["reproduces"] is True, answer["metrics"]
        assert [one["metric"] for one in answer["metrics"]] == [
            item["metric"] for item in verdict["evidence"]
        ]
        for one in answer["metrics"]:
            assert "{" not in one["sql"], "nothing is left to be bound"
            assert all(arm["found"] == arm["evidence"] for arm in one["arms"])
            assert sum(arm["found"]["n"] for arm in one["arms"]) > 0
    told = running.get("/v1/gates/bad-canary/evidence").json()["metrics"][0]
    treatment, _ = told["arms"]
    assert 0 < treatment["found"]["bad"] <= sent, "sessions, of which each asked three times"
    assert len(treatment["examples"]) == 5
