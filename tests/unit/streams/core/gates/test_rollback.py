"""The rollback gate: what sends a release back, what does not, and that age changes neither."""

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from penstock.schemas.gates.rollback import RollbackGate
from penstock.streams.core.gates.interface import Context, GateInputs, no_inputs
from penstock.streams.core.gates.live import GateState, advance, begin, inputs_wanted
from penstock.streams.core.gates.verdict import Verdict
from penstock.streams.core.gates.watch_state import exact, point_rule

from .blocks import Row, inputs_of
from .test_canary import part

ERRORS = {"metric": "error_rate", "max_ratio": 0.01}
LATER = Context(10**12)


def gate(*limits: dict[str, Any], **fields: Any) -> RollbackGate:
    return RollbackGate.model_validate(
        {"id": "back", "treatment": {"release": "r2"}, "limits": list(limits) or [ERRORS], **fields}
    )


def minutes(
    bad: list[int], units: int = 1000, name: str = "error_rate", first: int = 0
) -> GateInputs:
    rows = [Row(at, 1, units, {name: count}) for at, count in enumerate(bad)]
    return inputs_of(rows, len(bad), 60, first)


def judged(spec: RollbackGate, inputs: GateInputs) -> Verdict:
    return advance(spec, begin(spec), inputs, LATER)[1]


def test_a_broken_limit_fails_after_its_duration_and_latches() -> None:
    spec = gate()
    state, verdict = advance(spec, begin(spec), minutes([100] * 10), LATER)
    assert (verdict.verdict, verdict.action) == ("FAIL", "rollback")
    assert verdict.reasons == ("limit_held",)
    assert verdict.as_of_us == 300 * 1_000_000
    assert "error_rate 0.1 against 0.01" in verdict.text
    _, again = advance(spec, state, minutes([0] * 30, first=10), LATER)
    assert again.digest == verdict.digest


def test_a_healthy_release_is_watched_and_never_passes() -> None:
    verdict = judged(gate(), minutes([10] * 3000))
    assert (verdict.verdict, verdict.action) == ("UNDECIDED", "wait")
    assert verdict.reasons == ("watching",)


def test_a_lucky_or_unlucky_minute_is_not_enough() -> None:
    assert judged(gate(), minutes([0] * 20 + [300] + [0] * 20)).verdict == "UNDECIDED"
    # one failure in a quiet hour is over the limit by the point rule alone
    quiet = minutes([1] + [0] * 10, units=3)
    verdict = judged(gate(), quiet)
    assert verdict.verdict == "UNDECIDED"


@pytest.mark.parametrize("age", [10, 4000])
def test_age_does_not_make_it_slow(age: int) -> None:
    verdict = judged(gate(), minutes([5] * age + [40] * 20))
    assert verdict.verdict == "FAIL"
    assert verdict.as_of_us <= (age + 8) * 60 * 1_000_000


def test_latency_is_the_share_above_its_limit() -> None:
    limit = {"metric": "latency", "field": "ttft_ms", "quantile": 0.95, "max_ms": 900}
    spec = gate(limit)
    wanted = inputs_wanted(spec)
    assert wanted is not None
    assert (wanted.metrics[0].field, wanted.metrics[0].limit) == ("above:ttft_ms", 900.0)
    assert wanted.block_s == 60
    assert judged(spec, minutes([200] * 6, name="ttft_ms_p95")).verdict == "FAIL"
    assert judged(spec, minutes([40] * 60, name="ttft_ms_p95")).verdict == "UNDECIDED"


def acceptance(bad: list[tuple[int, int]], units: int = 200) -> GateInputs:
    rows = [
        Row(at, arm, units, {"acceptance_drop": pair[arm]})
        for at, pair in enumerate(bad)
        for arm in (0, 1)
    ]
    return inputs_of(rows, len(bad), 60)


def test_acceptance_falls_below_three_sigma_of_its_baseline() -> None:
    spec = gate({"metric": "acceptance_drop", "baseline_blocks": 30}, baseline={"release": "r1"})
    rng = np.random.default_rng(1)
    usual = [(int(rng.binomial(200, 0.2)), int(rng.binomial(200, 0.2))) for _ in range(60)]
    state, verdict = advance(spec, begin(spec), acceptance(usual), LATER)
    assert verdict.verdict == "UNDECIDED"
    assert verdict.evidence[0]["declared"] == "acceptance - 3 sigma"
    # 20 % are not accepted; a minute's spread is 2.8 %
    assert verdict.evidence[0]["limit"] == pytest.approx(0.2 + 3 * math.sqrt(0.16 / 200), abs=0.04)
    worse = replace(acceptance([(40, 110)] * 20), end_us=(np.arange(20) + 61) * 60_000_000)
    assert advance(spec, state, worse, LATER)[1].verdict == "FAIL"
    learning = judged(spec, acceptance([(40, 110)] * 20))
    assert learning.evidence[0]["decision"] == "NO_DATA"


def test_several_limits_split_alpha() -> None:
    safety = {"metric": "safety_rate", "max_ratio": 0.001}
    rows = [Row(at, 1, 1000, {"error_rate": 5, "safety_rate": 10}) for at in range(10)]
    verdict = judged(gate(ERRORS, safety), inputs_of(rows, 10, 60))
    assert verdict.verdict == "FAIL"
    assert [item["decision"] for item in verdict.evidence] == ["UNDECIDED", "FAIL"]
    assert verdict.evidence[0]["threshold_fail"] == pytest.approx(math.log10(43200 * 2 / 0.01))


def test_grouping_and_restarts_change_nothing() -> None:
    spec = gate()
    inputs = minutes([12, 9, 0, 30, 28, 31, 26, 29, 33, 40, 35, 2])
    whole, verdict = advance(spec, begin(spec), inputs, LATER)
    state, piece = begin(spec), verdict
    for low in range(0, 12, 5):
        state, piece = advance(spec, state, part(inputs, list(range(low, min(low + 5, 12)))), LATER)
        state = GateState.from_json(state.to_json())
    assert state.to_json() == whole.to_json()
    assert piece.digest == verdict.digest


def test_no_traffic_faults_and_contradictions() -> None:
    spec = gate()
    empty = advance(spec, begin(spec), no_inputs(), LATER)[1]
    assert (empty.verdict, empty.reasons) == ("NO_DATA", ("no_traffic",))
    early = advance(spec, begin(spec), minutes([1]), Context(60_000_000))[1]
    assert (early.verdict, early.reasons) == ("INVALID", ("clock",))
    broken = advance(spec, begin(spec), minutes([1, 2000, 1]), LATER)
    assert broken[1].reasons == ("inconsistent_counts",)
    assert advance(spec, broken[0], minutes([1], first=3), LATER)[0] == broken[0]
    other = begin(gate({"metric": "error_rate", "max_ratio": 0.5}))
    changed = advance(spec, other, minutes([1]), LATER)[1]
    assert changed.reasons == ("configuration_changed",)
    with pytest.raises(ValueError, match="no metric error_rate"):
        judged(spec, replace(minutes([1]), metrics={}))
    unknown = judged(spec, replace(minutes([1]), coverage=np.array([math.nan])))
    assert unknown.reasons == ("watching", "coverage_unknown")


def test_a_new_release_opens_a_new_epoch() -> None:
    spec = gate()
    state, _ = advance(spec, begin(spec), minutes([100] * 10), LATER)
    context = replace(LATER, epoch=1)
    fresh, verdict = advance(spec, state, minutes([1] * 3, first=10), context)
    assert (fresh.start_us, verdict.verdict) == (600 * 1_000_000, "UNDECIDED")
    assert advance(spec, state, no_inputs(), context)[0].start_us == 10**12


def test_point_rule_is_strict_and_exact() -> None:
    assert not point_rule([(144, 10_000)], exact(0.0144))
    assert point_rule([(145, 10_000)], exact(0.0144))
    assert not point_rule([], Fraction(1, 2))
    assert point_rule([(9, 100), (0, 0)], exact(0.05))


@pytest.mark.slow
def test_a_release_exactly_at_its_limit_is_seldom_sent_back() -> None:
    """25 releases of a day at 60 requests a minute whose error rate is the limit."""
    rng = np.random.default_rng(2)
    failed = 0
    for _ in range(25):
        bad = rng.binomial(60, 0.01, 1440).tolist()
        failed += judged(gate(), minutes(bad, 60)).verdict == "FAIL"
    assert failed == 0  # at most 1 % of them within 30 days
