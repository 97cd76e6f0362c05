"""The absolute gate end to end on counts: verdicts, latching, grouping, error rates."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from penstock.streams.core.gates.absolute import (
    CellCounts,
    Context,
    evaluate,
    initial_state,
)
from penstock.streams.core.gates.evidence import evidence_of

from .conftest import COST, ERRORS, LATENCY, Cells, Gate

HOUR_US = 3_600_000_000
OPEN = Context(HOUR_US, requests_per_s=10.0)
NONE = CellCounts(
    np.array([], np.int64),
    np.array([], np.int64),
    {name: np.array([], np.int64) for name in ("ttft_ms_p95", "error_rate")},
    {
        name: np.array([], np.int64)
        for name in ("ttft_ms_p95", "error_rate", "cost_per_1k_tokens_usd")
    },
    {"cost_per_1k_tokens_usd": np.array([], np.int64)},
)


def test_good_release_passes(gate: Gate, cells: Cells) -> None:
    spec = gate()
    good = cells([20] * 300, slow=[0, 1] * 150, excess_usd=[-0.1] * 300)
    state, verdict = evaluate(spec, initial_state(spec, 0, 0), good, OPEN)
    assert (verdict.verdict, verdict.action) == ("PASS", "promote")
    assert verdict.reasons == ("within_limits",)
    assert state.latched is not None
    assert verdict.n == state.latched["n"] < state.requests
    assert verdict.text.startswith("PASS: ttft_ms_p95, error_rate, cost_per_1k_tokens_usd within")


def test_slow_release_fails_with_its_sentence(gate: Gate, cells: Cells) -> None:
    spec = gate(metrics=[LATENCY])
    slow = cells([40] * 100, slow=[4] * 100)
    _, verdict = evaluate(spec, initial_state(spec, 0, 0), slow, OPEN)
    assert (verdict.verdict, verdict.action) == ("FAIL", "rollback")
    assert verdict.text == (
        f"FAIL: ttft_ms_p95 is above 1200 ms: 10 % of {verdict.n:,} requests are slower "
        "(allowed 5 %), shown at error rate 1 %"
    )
    (evidence,) = verdict.evidence
    assert evidence["low"] < 0.1 < evidence["high"]
    assert evidence["limit"] == 0.05
    assert evidence["log10_e_fail"] >= evidence["threshold_fail"] == 2.0
    assert verdict.as_of_us == verdict.n // 40 * 1_000_000


def test_all_errors_fail_at_once_and_without_min_units(gate: Gate, cells: Cells) -> None:
    spec = gate(metrics=[ERRORS])
    _, verdict = evaluate(spec, initial_state(spec, 0, 0), cells([5], errors=[5]), OPEN)
    assert verdict.verdict == "FAIL"
    assert "100 % of 5 requests are bad (allowed 1 %)" in verdict.text


def test_one_failed_request_of_ten_does_not_fail(gate: Gate, cells: Cells) -> None:
    spec = gate(metrics=[ERRORS], min_units=5)
    _, verdict = evaluate(spec, initial_state(spec, 0, 0), cells([10], errors=[1]), OPEN)
    assert (verdict.verdict, verdict.action) == ("UNDECIDED", "wait")


def test_a_lucky_minute_does_not_pass(gate: Gate, cells: Cells) -> None:
    """200 requests without one error do not show a rate below 1 %; 1,000 do."""
    spec = gate(metrics=[ERRORS])
    state, verdict = evaluate(spec, initial_state(spec, 0, 0), cells([2] * 100), OPEN)
    assert verdict.verdict == "UNDECIDED"
    assert verdict.reasons == ("not_enough_evidence",)
    assert verdict.n_needed is not None
    more = cells([2] * (verdict.n_needed // 2 + 20), first_end_s=101)
    _, verdict = evaluate(spec, state, more, OPEN)
    assert verdict.verdict == "PASS"


def test_forecast_is_about_right(gate: Gate, cells: Cells) -> None:
    spec = gate(metrics=[ERRORS], min_bake_s=0)
    start, verdict = evaluate(
        spec, initial_state(spec, 0, 0), cells([100] * 20, errors=[0, 1] * 10), OPEN
    )
    assert verdict.verdict == "UNDECIDED"
    assert verdict.n_needed is not None
    assert verdict.eta_s == verdict.n_needed / 10
    _, later = evaluate(spec, start, cells([100] * 400, errors=[0, 1] * 200, first_end_s=21), OPEN)
    assert later.verdict == "PASS"
    assert later.n - 2000 == pytest.approx(verdict.n_needed, rel=0.25, abs=200)


@pytest.mark.parametrize(
    ("context", "reasons"),
    [
        (Context(HOUR_US, coverage=0.5), ("low_coverage",)),
        (Context(HOUR_US, coverage=math.nan), ("low_coverage",)),
        (Context(HOUR_US, coverage=None), ("low_coverage", "coverage_unknown")),
        (Context(HOUR_US, coverage_state="unknown"), ("low_coverage", "coverage_unknown")),
        (Context(HOUR_US, coverage_state="no_data"), ("no_data",)),
    ],
)
def test_low_coverage_never_passes(
    gate: Gate, cells: Cells, context: Context, reasons: tuple[str, ...]
) -> None:
    spec = gate(metrics=[ERRORS])
    state, verdict = evaluate(spec, initial_state(spec, 0, 0), cells([50] * 200), context)
    assert (verdict.verdict, verdict.action, verdict.reasons) == ("NO_DATA", "wait", reasons)
    _, verdict = evaluate(spec, state, NONE, replace(OPEN, coverage_state="partial"))
    assert verdict.verdict == "PASS"
    assert verdict.as_of_us == 200_000_000


def test_low_coverage_still_fails(gate: Gate, cells: Cells) -> None:
    spec = gate(metrics=[ERRORS])
    context = replace(OPEN, coverage=0.1)
    _, verdict = evaluate(
        spec, initial_state(spec, 0, 0), cells([50] * 20, errors=[25] * 20), context
    )
    assert verdict.verdict == "FAIL"


def test_no_traffic_and_few_units(gate: Gate, cells: Cells) -> None:
    spec = gate(metrics=[ERRORS])
    state, verdict = evaluate(spec, initial_state(spec, 0, 0), cells([0] * 5), OPEN)
    assert (verdict.verdict, verdict.reasons) == ("NO_DATA", ("no_traffic",))
    state, verdict = evaluate(spec, state, NONE, OPEN)
    assert verdict.reasons == ("no_traffic",)
    _, verdict = evaluate(spec, state, cells([99], first_end_s=6), OPEN)
    assert (verdict.verdict, verdict.reasons) == ("NO_DATA", ("few_units",))
    assert verdict.n_needed is not None


def test_a_critical_metric_that_nobody_measures_never_passes(gate: Gate, cells: Cells) -> None:
    spec = gate(metrics=[LATENCY, ERRORS])
    counts = cells([100] * 300)
    unmeasured = replace(counts, units={**counts.units, "ttft_ms_p95": counts.requests * 0})
    _, verdict = evaluate(spec, initial_state(spec, 0, 0), unmeasured, OPEN)
    assert (verdict.verdict, verdict.reasons) == ("NO_DATA", ("few_units",))
    assert verdict.evidence[0]["decision"] == "NO_DATA"
    assert verdict.evidence[0]["estimate"] is None


def test_overdue_requests_alone_fail(gate: Gate, cells: Cells) -> None:
    """A hang completes nothing; the requests announced as overdue count as slow."""
    spec = gate(metrics=[LATENCY])
    hang = cells([10] * 5, slow=[10] * 5)
    hang = replace(hang, requests=hang.requests * 0)
    _, verdict = evaluate(spec, initial_state(spec, 0, 0), hang, OPEN)
    assert (verdict.verdict, verdict.n) == ("FAIL", 0)


def test_bake_time(gate: Gate, cells: Cells) -> None:
    spec = gate(metrics=[ERRORS], min_bake_s=60)
    idle_then_busy = cells([0] * 100 + [1000] * 30)
    state, verdict = evaluate(spec, initial_state(spec, 0, 0), idle_then_busy, OPEN)
    assert (verdict.verdict, verdict.reasons) == ("UNDECIDED", ("min_bake",))
    assert (verdict.n_needed, verdict.eta_s) == (0, 30.0)
    assert verdict.text.endswith("about 30 s more are needed")
    _, verdict = evaluate(spec, state, cells([1000] * 60, first_end_s=131), OPEN)
    assert (verdict.verdict, verdict.as_of_us) == ("PASS", 160_000_000)


def test_does_not_pass_while_the_estimate_is_over_the_limit(gate: Gate, cells: Cells) -> None:
    spec = gate(metrics=[ERRORS], min_bake_s=600)
    good_then_bad = cells([1000] * 3 + [100] * 2, errors=[0, 0, 0, 19, 18])
    state, verdict = evaluate(spec, initial_state(spec, 0, 0), good_then_bad, OPEN)
    assert verdict.evidence[0]["decision"] == "PASS"
    assert verdict.evidence[0]["log10_e_fail"] < 2.0
    _, verdict = evaluate(spec, state, cells([0] * 600, first_end_s=6), OPEN)
    assert (verdict.verdict, verdict.reasons) == (
        "UNDECIDED",
        ("estimate_over_limit", "estimate_near_limit"),
    )
    assert verdict.n_needed is not None


def test_near_the_limit_the_forecast_is_a_likely_least(gate: Gate, cells: Cells) -> None:
    spec = gate(metrics=[ERRORS])
    _, verdict = evaluate(
        spec, initial_state(spec, 0, 0), cells([100] * 100, errors=[1] * 100), OPEN
    )
    assert verdict.reasons == ("not_enough_evidence", "estimate_near_limit")
    assert verdict.n_needed is not None
    assert verdict.n_needed > 1000
    assert "at the current traffic" in verdict.text


def test_heading_for_fail_without_traffic(gate: Gate, cells: Cells) -> None:
    spec = gate(metrics=[ERRORS])
    still = replace(OPEN, requests_per_s=0.0)
    _, verdict = evaluate(
        spec, initial_state(spec, 0, 0), cells([100] * 5, errors=[1, 2, 2, 2, 2]), still
    )
    assert verdict.verdict == "UNDECIDED"
    assert verdict.n_needed is not None
    assert verdict.eta_s is None
    assert "no traffic is coming in" in verdict.text


@pytest.mark.parametrize(
    ("policy", "action"), [("block", "rollback"), ("allow", "promote"), ("hold", "hold")]
)
def test_policies_after_the_deadline(gate: Gate, cells: Cells, policy: str, action: str) -> None:
    spec = gate(
        metrics=[ERRORS], deadline_s=300, on_no_data=policy, on_undecided_at_deadline=policy
    )
    few, many = cells([1]), cells([200])
    for counts, verdict_name in ((few, "NO_DATA"), (many, "UNDECIDED")):
        early = Context(299_000_000, requests_per_s=1000.0)
        state, verdict = evaluate(spec, initial_state(spec, 0, 0), counts, early)
        assert (verdict.verdict, verdict.action) == (verdict_name, "wait")
        _, verdict = evaluate(spec, state, NONE, Context(300_000_000))
        assert (verdict.verdict, verdict.action) == (verdict_name, action)
        assert verdict.reasons[-1] == "deadline_passed"


def test_deadline_that_cannot_be_met(gate: Gate, cells: Cells) -> None:
    spec = gate(metrics=[ERRORS], deadline_s=300)
    slow = Context(100_000_000, requests_per_s=0.1)
    state, verdict = evaluate(spec, initial_state(spec, 0, 0), cells([200]), slow)
    assert verdict.reasons == ("not_enough_evidence", "min_bake", "deadline_unreachable")
    _, verdict = evaluate(spec, state, NONE, replace(slow, requests_per_s=100.0))
    assert verdict.reasons == ("not_enough_evidence", "min_bake")


def test_latched_verdict_stays_while_totals_go_on(gate: Gate, cells: Cells) -> None:
    spec = gate(metrics=[ERRORS])
    state, first = evaluate(spec, initial_state(spec, 0, 0), cells([100] * 100), OPEN)
    assert first.verdict == "PASS"
    bad = cells([100] * 100, errors=[50] * 100, first_end_s=101)
    state, later = evaluate(spec, state, bad, replace(OPEN, coverage_state="unknown"))
    assert later == first
    (amended,) = evidence_of(spec, state)
    assert amended.bad == 5000
    assert amended.decision == "FAIL"


def test_fail_wins_on_the_same_cell(gate: Gate, cells: Cells) -> None:
    """PASS becomes possible with min_units at the very cell that shows FAIL of the other metric."""
    spec = gate(metrics=[LATENCY, ERRORS], min_units=2000, min_bake_s=0)
    counts = cells([1999, 1], slow=[0, 0], errors=[0, 0])
    bad = {**counts.bad, "error_rate": np.array([0, 1], np.int64)}
    _, verdict = evaluate(spec, initial_state(spec, 0, 0), counts, OPEN)
    assert (verdict.verdict, verdict.as_of_us) == ("PASS", 2_000_000)
    state = initial_state(spec, 0, 0)
    fails = {**state.metrics, "error_rate": replace(state.metrics["error_rate"], log_fail=9.0)}
    _, verdict = evaluate(spec, replace(state, metrics=fails), replace(counts, bad=bad), OPEN)
    assert verdict.verdict == "FAIL"


def test_advisory_metrics_never_decide(gate: Gate, cells: Cells) -> None:
    spec = gate(metrics=[ERRORS, {**LATENCY, "critical": False}])
    slow = cells([50] * 300, slow=[50] * 300)
    _, verdict = evaluate(spec, initial_state(spec, 0, 0), slow, OPEN)
    assert verdict.verdict == "PASS"
    assert [item["decision"] for item in verdict.evidence] == ["PASS", "FAIL"]
    assert verdict.evidence[1]["threshold_fail"] == 2.0
    few = cells([100], slow=[5])
    _, verdict = evaluate(spec, initial_state(spec, 0, 0), few, OPEN)
    assert verdict.verdict == "UNDECIDED"
    assert "estimate_near_limit" not in verdict.reasons


def test_alpha_fail_is_split(gate: Gate) -> None:
    spec = gate()
    assert evidence_of(spec, initial_state(spec, 0, 0))[0].threshold_fail == pytest.approx(
        math.log10(300)
    )


def test_cost_fails_and_is_told_in_dollars(gate: Gate, cells: Cells) -> None:
    spec = gate(metrics=[COST])
    dear = cells([10] * 300, excess_usd=[0.03] * 300)
    _, verdict = evaluate(spec, initial_state(spec, 0, 0), dear, OPEN)
    assert verdict.verdict == "FAIL"
    assert "a request costs 0.003 USD above plan on average" in verdict.text
    assert verdict.evidence[0]["unit"] == "usd_per_request"
    assert verdict.evidence[0]["bad"] is None


def test_cost_forecast(gate: Gate, cells: Cells) -> None:
    spec = gate(metrics=[COST])
    state, verdict = evaluate(
        spec, initial_state(spec, 0, 0), cells([10, 0] * 15, excess_usd=[0.04, 0] * 15), OPEN
    )
    assert verdict.verdict == "UNDECIDED"
    assert verdict.n_needed is not None
    more = cells([10] * 300, excess_usd=[0.04] * 300, first_end_s=31)
    _, later = evaluate(spec, state, more, OPEN)
    assert later.n - 150 == pytest.approx(verdict.n_needed, rel=0.25)
    _, flat = evaluate(spec, initial_state(spec, 0, 0), cells([10] * 20), OPEN)
    assert "estimate_near_limit" in flat.reasons


def test_clock(gate: Gate, cells: Cells) -> None:
    spec = gate()
    before = initial_state(spec, 0, 0)
    state, verdict = evaluate(spec, before, cells([5] * 10), Context(9_999_999))
    assert (verdict.verdict, verdict.action, verdict.reasons) == ("INVALID", "hold", ("clock",))
    assert state == before


def test_inconsistent_counts_stick(gate: Gate, cells: Cells) -> None:
    spec = gate(metrics=[ERRORS, COST], deadline_s=60)
    counts = cells([5, 5, 5], errors=[0, 6, 0])
    early = Context(10_000_000)
    state, verdict = evaluate(spec, initial_state(spec, 0, 0), counts, early)
    assert (verdict.verdict, verdict.action) == ("INVALID", "hold")
    assert verdict.reasons == ("inconsistent_counts",)
    assert (state.requests, state.end_us) == (5, 1_000_000)
    more = cells([1000] * 100, excess_usd=[0.0] * 100, first_end_s=4)
    state, verdict = evaluate(spec, state, more, Context(HOUR_US))
    assert (verdict.verdict, verdict.action) == ("INVALID", "rollback")
    assert evaluate(spec, state, NONE, Context(HOUR_US))[1] == verdict
    over_cap = cells([1], excess_usd=[0.021])
    _, verdict = evaluate(spec, initial_state(spec, 0, 0), over_cap, early)
    assert verdict.reasons == ("inconsistent_counts",)


def test_changed_specification_or_engine(gate: Gate, cells: Cells) -> None:
    spec = gate()
    state, _ = evaluate(spec, initial_state(spec, 0, 0), cells([5] * 10), OPEN)
    other, verdict = evaluate(gate(alpha_fail=0.02), state, NONE, OPEN)
    assert (verdict.verdict, verdict.reasons) == ("INVALID", ("configuration_changed",))
    assert (verdict.evidence, other) == ((), state)
    _, verdict = evaluate(spec, replace(state, engine="absolute-0"), NONE, OPEN)
    assert verdict.reasons == ("engine_changed",)


def test_epochs(gate: Gate, cells: Cells) -> None:
    spec = gate(metrics=[ERRORS])
    state, verdict = evaluate(
        spec, initial_state(spec, 1, 0), cells([5] * 2, errors=[5] * 2), replace(OPEN, epoch=1)
    )
    assert verdict.verdict == "FAIL"
    fresh, verdict = evaluate(spec, state, cells([5], first_end_s=9), replace(OPEN, epoch=2))
    assert (verdict.verdict, verdict.epoch, fresh.start_us) == ("NO_DATA", 2, 8_000_000)
    fresh, _ = evaluate(spec, state, NONE, replace(OPEN, epoch=2))
    assert fresh.start_us == HOUR_US
    with pytest.raises(ValueError, match="epoch 0 is over"):
        evaluate(spec, state, NONE, OPEN)


def test_a_repeated_call_counts_nothing_twice(gate: Gate, cells: Cells) -> None:
    spec = gate()
    counts = cells([5] * 10, slow=[1] * 10)
    state, verdict = evaluate(spec, initial_state(spec, 0, 0), counts, OPEN)
    assert evaluate(spec, state, counts, OPEN) == (state, verdict)


def test_constant_input_gives_the_same_digest(gate: Gate, cells: Cells) -> None:
    spec = gate()
    digests = {
        evaluate(spec, initial_state(spec, 0, 0), cells([7] * 50), OPEN)[1].digest for _ in range(3)
    }
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"end_us": np.array([2, 2])}, "increase strictly"),
        ({"requests": np.array([1])}, "requests must have 2 cells"),
        ({"requests": np.array([1, -1])}, "requests must not be negative"),
        ({"units": {}}, r"units\[ttft_ms_p95\] must have 2 cells"),
        ({"bad": {}}, r"bad\[ttft_ms_p95\] must have 2 cells"),
        ({"cost_sum_nano": {}}, r"cost_sum_nano\[cost_per_1k_tokens_usd\] must have 2"),
    ],
)
def test_arrays_that_no_correct_caller_sends(
    gate: Gate, cells: Cells, change: dict[str, Any], message: str
) -> None:
    spec = gate()
    with pytest.raises(ValueError, match=message):
        evaluate(spec, initial_state(spec, 0, 0), replace(cells([1, 1]), **change), OPEN)
