"""Latencies, means, qualities and differences in a canary gate, in blocks and by request."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from penstock.schemas.gates.canary import CanaryGate
from penstock.streams.core.gates.interface import GateInputs
from penstock.streams.core.gates.live import GateState, advance, begin, inputs_wanted
from penstock.streams.core.gates.mean_state import MeanState, log_e_asymptotic
from penstock.streams.core.gates.tested import metrics_tested
from penstock.streams.core.gates.verdict import Verdict

from .blocks import Row, inputs_of
from .test_canary import LATER, gate, judged, part

LATENCY = {"metric": "latency", "field": "ttft_ms", "margin_ratio": 1.1}
COST = {"metric": "cost_usd", "margin_ratio": 1.2, "cap": 0.1}
TOKENS = {
    "metric": "cost_per_1k_tokens_usd",
    "margin_ratio": 1.2,
    "cap": 0.1,
    "cap_tokens": 4000,
    "cap_floor_ratio": 0.01,
}
QUALITY = {"metric": "quality", "margin_absolute": 0.05, "cap": 1.0}


def world(
    blocks: int,
    slower: float = 1.0,
    dearer: float = 1.0,
    longer: float = 1.0,
    worse: float = 0.0,
    sizes: Sequence[int] = (120, 40),
    seed: int = 1,
    workers: str = "ab",
) -> GateInputs:
    """Requests of a few workers per arm with latency, cost, cost per token and quality."""
    rng = np.random.default_rng(seed)
    rows = []
    for block in range(blocks):
        for arm in (0, 1):
            for worker in workers:
                n = sizes[arm] // len(workers)
                tokens = rng.uniform(0.1, 0.4, n) * (longer if arm else 1.0)
                cost = 0.4 * tokens * rng.uniform(0.8, 1.2, n) * (dearer if arm else 1.0)
                values = {
                    "cost_usd": cost,
                    "cost_per_1k_tokens_usd": cost,
                    "quality": rng.beta(8, 2, n) - (worse if arm else 0.0),
                }
                over = {f"{name}_above_cap": 0 for name in ("cost_usd", "cost_per_1k_tokens_usd")}
                latency = rng.lognormal(5, 0.5, n) * (slower if arm else 1.0)
                row = Row(
                    block, arm, n, {**over, "error_rate": 0}, {"ttft_ms_p95": latency}, values
                )
                rows.append(replace(row, worker=worker, weights={"cost_per_1k_tokens_usd": tokens}))
    return inputs_of(rows, blocks, 30)


def by_request(metric: dict[str, Any]) -> dict[str, Any]:
    return {**metric, "unit": "request"}


def decided(spec: CanaryGate, inputs: GateInputs) -> tuple[str, dict[str, Any]]:
    verdict = judged(spec, inputs)
    return verdict.verdict, verdict.evidence[0]


@pytest.mark.parametrize("metric", [LATENCY, by_request(LATENCY)])
def test_a_slower_treatment_fails(metric: dict[str, Any]) -> None:
    blocks = 30 if metric.get("unit") == "request" else 70
    verdict, evidence = decided(gate(metric), world(blocks, slower=2.0, workers="abcdef"))
    assert verdict == "FAIL"
    assert evidence["limit"] == pytest.approx(1.0997, abs=0.0001)
    assert evidence["estimate"] == pytest.approx(2.0, abs=0.5)
    if metric.get("unit") == "request":
        assert evidence["low"] > 1.0
    assert all(arm["low"] <= arm["estimate"] <= (arm["high"] or 1e9) for arm in evidence["arms"])
    assert evidence["arms"][0]["workers"] == 6


def test_an_equal_treatment_passes_by_request() -> None:
    verdict, evidence = decided(gate(by_request({**LATENCY, "margin_ratio": 1.3})), world(80))
    assert verdict == "PASS"
    assert evidence["estimate"] == pytest.approx(1.0, abs=0.1)


def test_the_largest_cost_seen_sharpens_a_test_by_request_and_no_other() -> None:
    """Costs far below their cap: told how far, the test finds more; not told, it takes the cap."""
    spec = gate({**COST, "unit": "request", "cap_floor_ratio": 0.01})
    inputs = world(30, dearer=1.3)
    cost = inputs.metrics["cost_usd"]
    assert cost.top_a is not None
    untold = {**inputs.metrics, "cost_usd": replace(cost, top_a=None, top_b=None)}
    found = []
    for given in (inputs, replace(inputs, metrics=untold)):
        state = advance(spec, begin(spec), given, LATER)[0].tests["cost_usd"]
        assert isinstance(state, MeanState)
        found.append(state)
    assert found[0].tops[..., 0].max() == cost.top_a.max() / 1e6
    assert found[1].tops.max() == 1.0
    assert found[0].peaks.now_fail > found[1].peaks.now_fail + 0.1
    assert np.array_equal(found[0].sums, found[1].sums)


def test_blocks_need_longer_but_pass_too() -> None:
    verdict, evidence = decided(gate({**LATENCY, "margin_ratio": 2.0}), world(250))
    assert verdict == "PASS"
    assert evidence["design_effect"] == pytest.approx(1.0, abs=0.4)
    assert evidence["effective_n"] <= evidence["arms"][0]["n"]


def test_constant_equal_arms_give_the_same_digest_each_time() -> None:
    rows = [
        Row(block, arm, 50, {}, {"ttft_ms_p95": [100.0] * 50}, worker=worker)
        for block in range(10)
        for arm in (0, 1)
        for worker in ("a", "b")
    ]
    verdicts = [judged(gate(LATENCY), inputs_of(rows, 10, 30)) for _ in range(2)]
    assert verdicts[0].digest == verdicts[1].digest
    assert verdicts[0].verdict == "UNDECIDED"


def test_a_hang_of_every_tenth_request_fails() -> None:
    rng = np.random.default_rng(3)
    rows = []
    for block in range(60):
        for arm, size in ((0, 60), (1, 60)):
            for worker in ("a", "b"):
                latency = rng.lognormal(5, 0.5, size)
                hung = (rng.random(size) < 0.1) & (arm == 1)
                latency = np.where(hung, np.inf, latency)
                rows.append(Row(block, arm, size, {}, {"ttft_ms_p95": latency}, worker=worker))
    verdict, evidence = decided(gate(by_request(LATENCY)), inputs_of(rows, 60, 30))
    assert verdict == "FAIL"
    assert evidence["arms"][0]["estimate"] is None  # longer than anything that ended
    assert evidence["estimate"] is None


@pytest.mark.parametrize("metric", [COST, by_request(COST), TOKENS, by_request(TOKENS)])
def test_a_dearer_treatment_fails(metric: dict[str, Any]) -> None:
    verdict, evidence = decided(gate(metric), world(80, dearer=1.6))
    assert verdict == "FAIL"
    assert evidence["estimate"] == pytest.approx(1.6, abs=0.15)


def test_longer_answers_cost_more_and_not_more_per_token() -> None:
    inputs = world(120, longer=1.8)
    assert judged(gate(by_request(COST)), inputs).verdict == "FAIL"
    verdict, evidence = decided(gate(by_request(TOKENS)), inputs)
    assert verdict == "PASS"
    assert evidence["arms"][1]["estimate"] == pytest.approx(0.4 * 0.1 / 4000 * 1000, rel=0.1)


@pytest.mark.parametrize("metric", [QUALITY, by_request(QUALITY)])
def test_quality_is_better_when_higher(metric: dict[str, Any]) -> None:
    worse, evidence = decided(gate(metric), world(100, worse=0.15))
    assert worse == "FAIL"
    assert (evidence["unit"], evidence["limit"]) == ("difference", 0.05)
    assert evidence["estimate"] == pytest.approx(-0.15, abs=0.03)
    better, _ = decided(gate(metric), world(100, worse=-0.15))
    assert better in ("PASS", "UNDECIDED")


def test_quality_by_ratio() -> None:
    metric = {"metric": "quality", "margin_ratio": 1.1, "cap": 1.0, "unit": "request"}
    verdict, evidence = decided(gate(metric), world(100, worse=0.2))
    assert verdict == "FAIL"
    assert evidence["declared"] == "control / 1.1"
    assert evidence["limit"] == pytest.approx(1 / 1.1)
    assert decided(gate(metric), world(300))[0] == "PASS"


def test_rates_by_difference() -> None:
    spec = gate({"metric": "error_rate", "margin_absolute": 0.02})
    rows = []
    for block in range(40):
        for arm, bad in ((0, 1), (1, 8)):
            for worker in ("a", "b"):
                rows.append(Row(block, arm, 100, {"error_rate": bad}, worker=worker))
    verdict, evidence = decided(spec, inputs_of(rows, 40))
    assert verdict == "FAIL"
    assert (evidence["unit"], evidence["limit"]) == ("difference", 0.02)
    assert evidence["estimate"] == pytest.approx(0.07)
    assert evidence["low"] > 0.0
    good = [replace(row, bad={"error_rate": 1}) for row in rows]
    assert decided(spec, inputs_of(good, 40))[0] == "PASS"


def test_what_is_above_the_cap_is_a_rate_of_its_own() -> None:
    assert [test.name for test in metrics_tested(gate(COST, QUALITY))] == [
        "cost_usd",
        "cost_usd_above_cap",
        "quality",
    ]
    wanted = inputs_wanted(gate(TOKENS))
    assert wanted is not None
    assert [(m.kind, m.field, m.cap, m.cap_tokens) for m in wanted.metrics] == [
        ("moments", "cost_tokens", 0.1, 4000),
        ("rate", "above_cap", 0.1, 4000),
    ]
    rows = []
    for block in range(40):
        for arm, over in ((0, 1), (1, 12)):
            for worker in ("a", "b"):
                values = {"cost_usd": [0.2] * 100}
                row = Row(block, arm, 100, {"cost_usd_above_cap": over}, {}, values, worker=worker)
                rows.append(row)
    verdict = judged(gate(COST), inputs_of(rows, 40, 30))
    assert verdict.verdict == "FAIL"
    assert "cost_usd_above_cap" in verdict.text


def test_states_of_every_kind_resume_exactly() -> None:
    spec = gate(
        LATENCY, by_request({**LATENCY, "field": "ttft_ms", "quantile": 0.5}), COST, QUALITY
    )
    inputs = world(24)
    median = inputs.metrics["ttft_ms_p95"]
    inputs = replace(inputs, metrics={**inputs.metrics, "ttft_ms_p50": median})
    whole, verdict = advance(spec, begin(spec), inputs, LATER)
    state, piece = begin(spec), verdict
    for low in range(0, 24, 5):
        state, piece = advance(spec, state, part(inputs, list(range(low, min(low + 5, 24)))), LATER)
        state = GateState.from_json(state.to_json())
    assert state.to_json() == whole.to_json()
    assert piece.digest == verdict.digest


def test_correlated_blocks_say_that_they_are_too_short() -> None:
    rng = np.random.default_rng(5)
    load, rows = 0.0, []
    for block in range(80):
        load = 0.95 * load + float(rng.standard_normal()) * 0.3
        for arm in (0, 1):
            for worker in ("a", "b"):
                latency = rng.lognormal(5 + 0.5 * load, 0.3, 60)
                rows.append(Row(block, arm, 60, {}, {"ttft_ms_p95": latency}, worker=worker))
    verdict: Verdict = judged(gate(LATENCY), inputs_of(rows, 80, 30))
    assert verdict.verdict != "FAIL"
    assert "blocks_too_short" in verdict.reasons
    assert verdict.evidence[0]["detail"]["block_s_wanted"] > 300


@pytest.mark.parametrize(
    ("metric", "name", "columns", "message"),
    [
        (LATENCY, "ttft_ms_p95", {"bins": None}, "bins and counts"),
        (COST, "cost_usd", {"a": None}, "must have a and b"),
        (by_request(COST), "cost_usd", {"aa": None}, "aa, ab and bb"),
    ],
)
def test_missing_columns(metric: dict[str, Any], name: str, columns: Any, message: str) -> None:
    inputs = world(2)
    rows = replace(inputs.metrics[name], **columns)
    with pytest.raises(ValueError, match=message):
        judged(gate(metric), replace(inputs, metrics={**inputs.metrics, name: rows}))


def test_contradictory_bins_and_sums() -> None:
    inputs = world(3)
    for name, spec in (("ttft_ms_p95", gate(LATENCY)), ("cost_usd", gate(COST))):
        rows = inputs.metrics[name]
        wrong = replace(rows, n=rows.n * 0)
        broken = replace(inputs, metrics={**inputs.metrics, name: wrong})
        assert judged(spec, broken).reasons == ("inconsistent_counts",)


def test_latencies_that_never_came_leave_the_gate_waiting() -> None:
    rows = [
        Row(block, arm, 50, {}, {"ttft_ms_p95": []}, worker=worker)
        for block in range(3)
        for arm in (0, 1)
        for worker in ("a", "b")
    ]
    verdict = judged(gate(LATENCY), inputs_of(rows, 3, 30))
    assert (verdict.verdict, verdict.reasons) == ("NO_DATA", ("few_units", "no_control"))
    evidence = verdict.evidence[0]
    assert (evidence["estimate"], evidence["decision"]) == (None, "NO_DATA")


def test_missing_bad_units_of_a_difference() -> None:
    spec = gate({"metric": "error_rate", "margin_absolute": 0.02})
    inputs = inputs_of([Row(0, arm, 50, {"error_rate": 1}) for arm in (0, 1)], 1)
    rows = replace(inputs.metrics["error_rate"], bad=None)
    with pytest.raises(ValueError, match="must have bad"):
        judged(spec, replace(inputs, metrics={"error_rate": rows}))


def test_asymptotic_leg_needs_a_control_that_is_not_the_smaller_arm() -> None:
    """The same blocks with the arms' sizes exchanged: only bets are left."""
    spec = gate(COST)
    held = [
        advance(spec, begin(spec), world(35, sizes=sizes), LATER)[0].tests["cost_usd"]
        for sizes in ((120, 40), (40, 120))
    ]
    assert [state.paired[0, 0] for state in held if isinstance(state, MeanState)] == [35.0, 0.0]


@pytest.mark.slow
def test_asymptotic_leg_keeps_its_level_on_skewed_costs() -> None:
    """800 streams of 150 blocks of log-normal costs in equal arms: ever above half of 1/alpha."""
    rng = np.random.default_rng(9)
    failed = 0
    for _ in range(8):
        control, treatment = (
            np.minimum(rng.lognormal(0, 1.5, (100, 150, n)), 400).mean(axis=2) for n in (90, 10)
        )
        gap = treatment - control
        paired = np.stack([np.ones_like(gap), gap, gap * gap], axis=-1).cumsum(axis=1)
        failed += int((log_e_asymptotic(paired) >= np.log(200)).any(axis=1).sum())
    assert failed / 800 <= 0.01 + 3 * np.sqrt(0.01 / 800)
