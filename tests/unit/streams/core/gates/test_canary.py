"""The canary gate end to end: verdicts, reasons, latching, and that grouping changes nothing."""

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.schemas.gates.canary import CanaryGate
from penstock.streams.core.gates.interface import Context, GateInputs, MetricRows, no_inputs
from penstock.streams.core.gates.live import GateState, advance, begin, inputs_wanted
from penstock.streams.core.gates.verdict import Verdict

from .blocks import Row, inputs_of, rate_rows

ERRORS = {"metric": "error_rate", "margin_ratio": 1.5, "floor_ratio": 0.01}
STRICT = {"metric": "error_rate", "margin_ratio": 1.0}
LATER = Context(10**12, requests_per_s=100.0)


def gate(*metrics: dict[str, Any], **fields: Any) -> CanaryGate:
    return CanaryGate.model_validate(
        {
            "id": "canary",
            "control": {"variant": "control"},
            "treatment": {"variant": "canary"},
            "metrics": list(metrics) or [ERRORS],
            "min_bake_s": 0,
            **fields,
        }
    )


def judged(spec: CanaryGate, inputs: GateInputs, context: Context = LATER) -> Verdict:
    return advance(spec, begin(spec), inputs, context)[1]


def rates(
    control: float, treatment: float, blocks: int = 40, seed: int = 1, workers: int = 2
) -> list[Row]:
    rng = np.random.default_rng(seed)
    return rate_rows(rng, blocks, (900, 100), (control, treatment), workers=workers)


def part(inputs: GateInputs, blocks: list[int]) -> GateInputs:
    """Some of the blocks, as a later query would deliver them."""
    rows = [row for row in range(len(inputs.block)) if inputs.block[row] in blocks]
    return GateInputs(
        inputs.end_us[blocks],
        inputs.coverage[blocks],
        inputs.share[blocks],
        np.array([blocks.index(int(inputs.block[row])) for row in rows], np.int64),
        inputs.arm[rows],
        [inputs.stratum[row] for row in rows],
        [inputs.worker[row] for row in rows],
        inputs.assigned[rows],
        {name: _taken(metric, rows) for name, metric in inputs.metrics.items()},
    )


def _taken(metric: MetricRows, rows: list[int]) -> MetricRows:
    picked: dict[str, Any] = {}
    for name in ("n", "bad", "a", "b", "aa", "ab", "bb"):
        column = getattr(metric, name)
        picked[name] = None if column is None else column[rows]
    for name in ("bins", "counts"):
        column = getattr(metric, name)
        picked[name] = None if column is None else [column[row] for row in rows]
    return MetricRows(**picked)


def test_nothing_is_counted_after_a_verdict_but_time() -> None:
    """What comes after has no reader; the state is the same however the blocks came."""
    spec, inputs = gate(STRICT), inputs_of(rates(0.005, 0.03), 40)
    whole, told = advance(spec, begin(spec), inputs, LATER)
    assert whole.latched is not None
    ends = [advance(spec, begin(spec), part(inputs, [*range(n)]), LATER)[1] for n in range(1, 40)]
    cut = [found.verdict for found in ends].index("FAIL")
    assert cut < 38
    state = begin(spec)
    for blocks in ([*range(cut + 1)], [cut + 1], [*range(cut + 2, 40)]):
        state, verdict = advance(spec, state, part(inputs, blocks), LATER)
        assert verdict.digest == told.digest
        if blocks[-1] == cut:
            counted = state.tests
    assert state.to_json() == whole.to_json()
    assert state.end_us == inputs.end_us[-1]
    assert replace(state, tests=counted).to_json() == state.to_json()


def test_metrics_say_what_they_are_compared_within() -> None:
    latency = {"metric": "latency", "margin_ratio": 1.2}
    spec = gate(ERRORS, latency, strata=["prompt_length"], block_s=10)
    rows = rates(0.01, 0.01, 4)
    for row in rows:
        row.latencies_ms = {"latency_ms_p95": np.full(row.units, 100.0)}
    detail = [found["detail"] for found in judged(spec, inputs_of(rows, 4)).evidence]
    assert [found["strata"] for found in detail] == [["prompt_length"], []]
    plain = judged(gate(ERRORS), inputs_of(rates(0.01, 0.01, 4), 4))
    assert "strata" not in plain.evidence[0]["detail"]


def test_more_errors_fail_and_the_verdict_latches_at_its_block() -> None:
    spec = gate()
    inputs = inputs_of(rates(0.005, 0.05), 40)
    state, verdict = advance(spec, begin(spec), inputs, LATER)
    assert (verdict.verdict, verdict.action) == ("FAIL", "rollback")
    assert verdict.reasons == ("margin_exceeded",)
    assert verdict.as_of_us < int(inputs.end_us[-1])
    evidence = verdict.evidence[0]
    assert evidence["decision"] == "FAIL"
    assert evidence["unit"] == "relative"
    assert [arm["arm"] for arm in evidence["arms"]] == ["treatment", "control"]
    assert "error_rate is worse than 1.5 times control" in verdict.text
    _, again = advance(spec, state, inputs_of(rates(0.005, 0.0), 80, first=40), LATER)
    assert again.digest == verdict.digest
    assert again.next_poll_ms == 60_000


def test_equal_arms_pass() -> None:
    verdict = judged(gate(), inputs_of(rates(0.02, 0.02, 400), 400))
    assert (verdict.verdict, verdict.action) == ("PASS", "promote")
    assert verdict.reasons == ("within_margins",)
    assert "within margins" in verdict.text


def test_zero_errors_against_zero_pass_by_the_floor_only() -> None:
    inputs = inputs_of(rates(0.0, 0.0, 20), 20)
    assert judged(gate(), inputs).verdict == "PASS"
    without = judged(gate({"metric": "error_rate", "margin_ratio": 1.5}), inputs)
    assert (without.verdict, without.n_needed) == ("UNDECIDED", None)
    assert "estimate_near_limit" in without.reasons


def test_two_errors_against_zero_are_undecided_and_say_how_many_more() -> None:
    rows = rates(0.0, 0.0, 3)
    rows[3].bad["error_rate"] = 2
    verdict = judged(gate(STRICT), inputs_of(rows, 3))
    assert verdict.verdict == "UNDECIDED"
    assert verdict.n_needed is not None
    assert verdict.n_needed > 0
    assert "more are needed" in verdict.text


@pytest.mark.parametrize("margin", [1.0, 1.5])
def test_a_better_treatment_never_fails(margin: float) -> None:
    rows = []
    for block in range(30):
        rows += [Row(block, 0, 500, {"error_rate": 45}), Row(block, 1, 500, {"error_rate": 5})]
    verdict = judged(gate({"metric": "error_rate", "margin_ratio": margin}), inputs_of(rows, 30))
    assert verdict.verdict == "PASS"


@settings(deadline=None, max_examples=12)
@given(cuts=st.lists(st.integers(1, 29), max_size=5), seed=st.integers(0, 50))
def test_grouping_restarts_and_repetition_change_nothing(cuts: list[int], seed: int) -> None:
    spec = gate(STRICT, share=0.1, baseline_health=[{"metric": "error_rate", "max_ratio": 0.5}])
    rows = rates(0.02, 0.05, 30, seed)
    for row in rows:
        row.bad["baseline:error_rate"] = row.bad["error_rate"]
    inputs = inputs_of(rows, 30)
    whole, verdict = advance(spec, begin(spec), inputs, LATER)
    state = begin(spec)
    edges = [0, *sorted(set(cuts)), 30]
    for low, high in pairwise(edges):
        again = max(low - 3, 0)  # what was counted before is delivered again
        state, piece = advance(spec, state, part(inputs, list(range(again, high))), LATER)
        state = GateState.from_json(state.to_json())
    assert state.to_json() == whole.to_json()
    assert piece.digest == verdict.digest
    polls = [advance(spec, one, no_inputs(), LATER)[1] for one in (whole, state)]
    assert json.dumps(polls[0].to_dict()) == json.dumps(polls[1].to_dict())
    assert polls[1].digest == verdict.digest


def test_order_of_rows_changes_nothing() -> None:
    spec = gate(STRICT)
    rows = rates(0.02, 0.03, 30)
    one = advance(spec, begin(spec), inputs_of(rows, 30), LATER)
    other = advance(spec, begin(spec), inputs_of(rows[::-1], 30), LATER)
    assert one[0].to_json() == other[0].to_json()
    assert one[1].digest == other[1].digest


def test_a_split_that_is_not_as_configured_is_invalid() -> None:
    inputs = inputs_of(rates(0.01, 0.01), 40)
    verdict = judged(gate(share=0.2), inputs)
    assert (verdict.verdict, verdict.action) == ("INVALID", "hold")
    assert verdict.reasons == ("sample_ratio",)
    check = next(item for item in verdict.checks if item["check"] == "sample_ratio")
    assert not check["ok"]
    assert check["share"] == pytest.approx(0.1)
    assert judged(gate(share=0.1), inputs).verdict == "PASS"


def test_a_configured_ramp_is_no_mismatch_and_no_failure() -> None:
    rng = np.random.default_rng(2)
    rows = rate_rows(rng, 60, (900, 100), (0.01, 0.01))
    late = rate_rows(rng, 60, (500, 500), (0.05, 0.05))
    rows += [replace(row, block=row.block + 60) for row in late]
    inputs = inputs_of(rows, 120)
    inputs.share[:60], inputs.share[60:] = 0.1, 0.5
    verdict = judged(gate(STRICT, share=0.3), inputs)
    assert verdict.verdict == "UNDECIDED"
    assert verdict.evidence[0]["estimate"] == pytest.approx(1.0, abs=0.15)


def test_a_sick_baseline_is_invalid() -> None:
    rows = rates(0.2, 0.2)
    for row in rows:
        row.bad["baseline:error_rate"] = row.bad["error_rate"]
    limit = {"metric": "error_rate", "max_ratio": 0.05}
    verdict = judged(gate(baseline_health=[limit]), inputs_of(rows, 40))
    assert verdict.verdict == "INVALID"
    assert verdict.reasons == ("baseline_unhealthy",)
    check = next(item for item in verdict.checks if item["check"] == "baseline:error_rate")
    assert not check["ok"]


def test_one_bad_host_does_not_fail_the_release() -> None:
    rows = rates(0.005, 0.005, 60, workers=4)
    for row in rows:
        if row.arm == 1 and row.worker == "w3":
            row.bad["error_rate"] = 10
    verdict = judged(gate(), inputs_of(rows, 60))
    assert verdict.verdict != "FAIL"
    assert "one_worker_decides" in verdict.reasons
    detail = verdict.evidence[0]["detail"]
    assert detail["without_worker"] == "w3"


def test_an_arm_with_one_worker_says_so() -> None:
    verdict = judged(gate(), inputs_of(rates(0.005, 0.05, workers=1), 40))
    assert verdict.verdict == "FAIL"
    assert verdict.reasons == ("margin_exceeded", "single_worker")


def test_many_workers_share_the_last_group() -> None:
    rows = rates(0.005, 0.06, 30, workers=20)
    state, verdict = advance(gate(), begin(gate()), inputs_of(rows, 30), LATER)
    assert verdict.verdict == "FAIL"
    assert len(state.workers[0]) == len(state.workers[1]) == 8
    assert state.workers[1][-1] == "(others)"


@pytest.mark.parametrize(
    ("rows", "reasons"),
    [
        ([], ("no_traffic", "no_control")),
        ([Row(0, 0, 500, {"error_rate": 1})], ("no_traffic",)),
        ([Row(0, 1, 500, {"error_rate": 1})], ("no_control",)),
        ([Row(0, 0, 500, {"error_rate": 1}), Row(0, 1, 9, {"error_rate": 0})], ("few_units",)),
        ([Row(0, 0, 9, {"error_rate": 0}), Row(0, 1, 500, {"error_rate": 0})], ("no_control",)),
    ],
)
def test_too_little_is_no_data(rows: list[Row], reasons: tuple[str, ...]) -> None:
    inputs = inputs_of(rows, 1)
    if not rows:
        none = np.empty(0, np.int64)
        inputs = replace(inputs, metrics={"error_rate": MetricRows(none, bad=none)})
    verdict = judged(gate(), inputs)
    assert verdict.verdict == "NO_DATA"
    assert verdict.action == "wait"
    assert verdict.reasons[: len(reasons)] == reasons


@pytest.mark.parametrize(
    ("coverage", "reasons"),
    [(0.5, ("low_coverage",)), (float("nan"), ("low_coverage", "coverage_unknown"))],
)
def test_low_coverage_never_passes(coverage: float, reasons: tuple[str, ...]) -> None:
    inputs = inputs_of(rates(0.0, 0.0, 20), 20, coverage=coverage)
    state, verdict = advance(gate(), begin(gate()), inputs, LATER)
    assert verdict.verdict == "NO_DATA"
    assert verdict.reasons == reasons
    well = inputs_of(rates(0.0, 0.0, 1), 1, first=20)
    assert advance(gate(), state, well, LATER)[1].verdict == "PASS"


def test_bake_holds_a_pass_back() -> None:
    inputs = inputs_of(rates(0.0, 0.0, 20), 20)
    verdict = judged(gate(min_bake_s=300), inputs)
    assert verdict.verdict == "UNDECIDED"
    assert verdict.reasons == ("min_bake",)
    assert verdict.eta_s == pytest.approx(100.0)
    baked = inputs_of(rates(0.0, 0.0, 40), 40)
    assert judged(gate(min_bake_s=300), baked).as_of_us == 300 * 1_000_000


def test_deadline_and_policies() -> None:
    inputs = inputs_of(rates(0.02, 0.02, 3), 3)
    spec = gate(STRICT, deadline_s=500, on_undecided_at_deadline="block")
    slow = Context(100 * 1_000_000, requests_per_s=0.5)
    verdict = judged(spec, inputs, slow)
    assert verdict.verdict == "UNDECIDED"
    assert verdict.action == "wait"
    passed = judged(spec, inputs, Context(600 * 1_000_000, requests_per_s=0.5))
    assert passed.action == "rollback"
    assert passed.reasons[-1] == "deadline_passed"
    soft = gate(deadline_s=500, on_no_data="allow")
    empty = judged(soft, no_inputs(), Context(600 * 1_000_000))
    assert (empty.verdict, empty.action) == ("NO_DATA", "promote")


def test_deadline_that_traffic_cannot_reach() -> None:
    spec = gate({"metric": "error_rate", "margin_ratio": 2.0}, deadline_s=200)
    verdict = judged(
        spec, inputs_of(rates(0.01, 0.01, 5), 5), Context(120_000_000, requests_per_s=1)
    )
    assert "deadline_unreachable" in verdict.reasons


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        (Context(100_000_000), "clock"),
        (Context(10**12, clock_skew_s=9.0), "clock_skew"),
    ],
)
def test_what_breaks_the_comparison_now(context: Context, reason: str) -> None:
    spec = gate()
    state, verdict = advance(spec, begin(spec), inputs_of(rates(0.005, 0.05), 40), context)
    assert verdict.verdict == "INVALID"
    assert verdict.reasons == (reason,)
    assert state == begin(spec)  # nothing was counted, so nothing is lost


def test_changed_configuration_or_engine_is_invalid() -> None:
    inputs = inputs_of(rates(0.005, 0.05), 40)
    other = begin(gate(STRICT))
    assert advance(gate(), other, inputs, LATER)[1].reasons == ("configuration_changed",)
    old = replace(begin(gate()), engine="gates-0")
    assert advance(gate(), old, inputs, LATER)[1].reasons == ("engine_changed",)


def test_a_new_epoch_starts_again_and_an_old_one_is_refused() -> None:
    spec = gate()
    state, _ = advance(spec, begin(spec), inputs_of(rates(0.005, 0.05), 40), LATER)
    context = replace(LATER, epoch=1)
    fresh, verdict = advance(spec, state, inputs_of(rates(0.0, 0.0, 2), 2, first=40), context)
    assert fresh.start_us == 400 * 1_000_000
    assert (verdict.epoch, verdict.verdict) == (1, "UNDECIDED")
    with pytest.raises(ValueError, match="epoch 0 is over"):
        advance(spec, fresh, no_inputs(), LATER)


def test_contradictory_counts_are_invalid_from_their_block_on() -> None:
    rows = rates(0.01, 0.01, 10)
    rows[12].bad["error_rate"] = 10**6
    spec = gate(STRICT)
    state, verdict = advance(spec, begin(spec), inputs_of(rows, 10), LATER)
    assert verdict.reasons == ("inconsistent_counts",)
    assert state.end_us == 30 * 1_000_000
    again, still = advance(spec, state, inputs_of(rates(0.0, 0.0, 1), 1, first=10), LATER)
    assert still.reasons == ("inconsistent_counts",)
    assert again == state


def test_strata_keep_a_harder_mix_from_failing_the_release() -> None:
    """Long prompts fail ten times as often, and the treatment happens to get most of them."""
    rows = []
    for block in range(80):
        for stratum, rate, control, treatment in (("9", 0.01, 900, 30), ("13", 0.1, 100, 70)):
            for arm, units in ((0, control), (1, treatment)):
                for worker in ("a", "b"):
                    half = units // 2
                    row = Row(block, arm, half, {"error_rate": round(half * rate)}, worker=worker)
                    rows.append(replace(row, stratum=stratum))
    mixed = [replace(row, stratum="") for row in rows]
    assert judged(gate(STRICT), inputs_of(mixed, 80)).verdict == "FAIL"
    stratified = judged(gate(STRICT, strata=["prompt_length"]), inputs_of(rows, 80))
    assert stratified.verdict != "FAIL"


def test_advisory_metrics_are_told_and_never_decide() -> None:
    advisory = {"metric": "timeout_rate", "margin_ratio": 1.0, "critical": False}
    rows = rates(0.0, 0.0, 20)
    for row in rows:
        row.bad["timeout_rate"] = row.arm * 20
    verdict = judged(gate(ERRORS, advisory), inputs_of(rows, 20))
    assert verdict.verdict == "PASS"
    told = verdict.evidence[1]
    assert (told["metric"], told["decision"], told["contribution"]) == ("timeout_rate", "FAIL", 0.0)


def test_rows_that_no_caller_sends() -> None:
    inputs = inputs_of(rates(0.01, 0.01, 3), 3)
    wrong = [
        (replace(inputs, end_us=inputs.end_us[::-1]), "increase strictly"),
        (replace(inputs, coverage=inputs.coverage[:1]), "coverage and share"),
        (replace(inputs, block=inputs.block + 9), "positions in end_us"),
        (replace(inputs, arm=inputs.arm + 5), "arm must be"),
        (replace(inputs, worker=["w"]), "must have 12 rows"),
        (replace(inputs, metrics={}), "no metric error_rate"),
        (replace(inputs, metrics={"error_rate": MetricRows(inputs.arm)}), "must have bad"),
        (
            replace(inputs, metrics={"error_rate": MetricRows(inputs.arm, bad=inputs.arm[:1])}),
            "must have 12 rows",
        ),
        (
            replace(inputs, metrics={"error_rate": MetricRows(inputs.arm, bad=-inputs.arm)}),
            "must not be negative",
        ),
    ]
    for broken, message in wrong:
        with pytest.raises(ValueError, match=message):
            judged(gate(), broken)


def test_states_that_are_none() -> None:
    for text in (
        "{}",
        "[]",
        '{"state": 1, "latched": null}',
        '{"state": {"type": "X"}, "latched": 1}',
    ):
        with pytest.raises(ValueError, match="not the state"):
            GateState.from_json(text)


def test_wanted() -> None:
    limit = {"metric": "latency", "field": "ttft_ms", "max_ms": 900}
    wanted = inputs_wanted(
        gate(
            ERRORS,
            strata=["route"],
            baseline_health=[limit, {"metric": "safety_rate", "max_ratio": 0.1}],
        )
    )
    assert wanted is not None
    assert (wanted.block_s, wanted.unit, wanted.strata) == (10, "request", ("route",))
    assert wanted.arms == ({"variant": "control"}, {"variant": "canary"})
    told = {metric.name: (metric.field, metric.per, metric.limit) for metric in wanted.metrics}
    assert told == {
        "error_rate": ("error", "unit", None),
        "baseline:ttft_ms_p95": ("above:ttft_ms", "request", 900.0),
        "baseline:safety_rate": ("safety", "unit", None),
    }
