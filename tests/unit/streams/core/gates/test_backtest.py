"""Backtests: their intervals against known answers, their runs against streams of known truth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from penstock.schemas.gates.rollback import RollbackGate
from penstock.streams.core.gates.backtest import (
    Draws,
    Run,
    early,
    judged,
    median_of,
    proportion,
    reasons_of,
    runs,
    table_of,
)
from penstock.streams.core.gates.backtest_past import PastEpoch, past_epochs, past_shares
from penstock.streams.core.gates.interface import GateInputs
from penstock.streams.core.gates.pool import stretch
from penstock.streams.core.gating import Marker
from scipy import stats

from .blocks import Row, inputs_of, rate_rows
from .test_canary import gate
from .test_canary import judged as judged_at_once

SECOND = 1_000_000
ERRORS = {"metric": "error_rate", "margin_ratio": 1.5}
BLOCKS, BUCKETS = 60, 20


def history(error_rate: float, seed: int = 1, blocks: int = BLOCKS) -> GateInputs:
    """Twenty buckets with ten units each per block."""
    rng = np.random.default_rng(seed)
    rows = [
        Row(
            block,
            bucket,
            10,
            {"error_rate": int(rng.binomial(10, error_rate))},
            worker=f"w{bucket % 3}",
        )
        for block in range(blocks)
        for bucket in range(BUCKETS)
    ]
    return inputs_of(rows, blocks)


def draws(count: int, **more: Any) -> Draws:
    return Draws(
        **{"seed": 3, "runs": count, "share": 0.5, "buckets": BUCKETS, "life_blocks": BLOCKS} | more
    )


@pytest.mark.parametrize(("count", "total"), [(0, 5), (5, 5), (1, 200), (37, 61)])
def test_intervals_of_shares_are_exact(count: int, total: int) -> None:
    low, high = proportion(count, total)
    told = stats.binomtest(count, total).proportion_ci(0.95, "exact")
    assert (low, high) == pytest.approx((told.low, told.high), abs=1e-12)


def test_intervals_of_medians_cover_as_they_say() -> None:
    """Over 4,000 samples of 15 with one third never told: at least 95 %, and not 100 %."""
    rng = np.random.default_rng(4)
    truth, covered = -math.log(0.5), 0
    for _ in range(4000):
        values = sorted(value if value < 1.1 else math.inf for value in rng.exponential(size=15))
        _, low, high = median_of(values)
        covered += (low is not None and low <= truth) and (high is None or truth <= high)
    assert 0.95 - 3 * math.sqrt(0.95 * 0.05 / 4000) <= covered / 4000 < 1
    assert median_of([math.inf] * 9) == (None, None, None)
    assert median_of([1.0, 2.0, 3.0]) == (2.0, None, None)


def test_the_same_version_seldom_fails_and_a_worse_one_does() -> None:
    spec, healthy = gate(ERRORS), history(0.02)
    same = [*runs(spec, healthy, None, draws(40))]
    assert sum(run.verdict == "FAIL" for run in same) <= 2
    worse = [*runs(spec, healthy, history(0.2), draws(40))]
    told = {line.verdict: line for line in table_of(worse)}
    assert told["FAIL"].runs == 40
    assert told["FAIL"].low == pytest.approx(0.025 ** (1 / 40))
    assert told["FAIL"].median_s is not None
    assert 60 < told["FAIL"].median_s < 400  # blocks of 10 s that are told 60 s later
    assert len(told["FAIL"].delays_s) == 40
    assert told["PASS"] == table_of(worse)[0]
    assert (told["PASS"].runs, told["PASS"].median_s) == (0, None)


def test_runs_are_the_same_whatever_comes_before_them() -> None:
    spec, pool = gate(ERRORS), history(0.02)
    few, many = [*runs(spec, pool, None, draws(3))], [*runs(spec, pool, None, draws(6))]
    assert many[:3] == few
    assert [*runs(spec, pool, None, draws(6, seed=4))] != many
    short = [*runs(spec, pool, None, draws(6, life_blocks=BLOCKS // 3))]
    assert len(short) == 6
    assert max(run.units for run in short) < min(run.units for run in many if run.delay_s is None)


def test_shares_of_the_split_are_those_that_are_checked() -> None:
    """A gate that expects 10 % is not told INVALID when half of the buckets play its treatment."""
    spec = gate(ERRORS, share=0.1)
    assert {run.verdict for run in runs(spec, history(0.02), None, draws(5))} <= {
        "PASS",
        "UNDECIDED",
    }
    assert [draws(1, share=share).treated for share in (0.001, 0.1, 0.999)] == [1, 2, 19]
    assert draws(1, buckets=1).treated == 1


def two_arms(treatment: float, blocks: int) -> GateInputs:
    rng = np.random.default_rng(1)
    return inputs_of(rate_rows(rng, blocks, (90, 10), (0.02, treatment)), blocks)


def test_ending_at_the_decision_changes_nothing() -> None:
    decided, never = gate(ERRORS), gate({"metric": "error_rate", "margin_ratio": 1.0})
    for spec, treatment in ((decided, 0.2), (never, 0.02)):
        inputs = two_arms(treatment, 300)
        told, at_once = judged(spec, inputs, 0), judged_at_once(spec, inputs)
        assert (told.as_of_us, told.digest) == (at_once.as_of_us, at_once.digest)
    assert told.verdict == "UNDECIDED"


def watched() -> RollbackGate:
    limits = [{"metric": "error_rate", "max_ratio": 0.1}]
    arm = {"variant": "canary"}
    return RollbackGate.model_validate(
        {"id": "r", "treatment": arm, "limits": limits, "for_s": 60, "mature_s": 10}
    )


def minutes(error_rate: float, blocks: int = 40) -> GateInputs:
    """One bucket, a block a minute, as a rollback gate reads them."""
    rng = np.random.default_rng(2)
    rows = [Row(b, 0, 50, {"error_rate": int(rng.binomial(50, error_rate))}) for b in range(blocks)]
    return inputs_of(rows, blocks, block_s=60)


def test_a_rollback_gate_is_timed_from_its_change() -> None:
    spec = watched()
    asked = draws(20, buckets=1, life_blocks=40)
    found = [*runs(spec, minutes(0.02), minutes(0.5), asked)]
    assert {run.verdict for run in found} == {"FAIL"}
    assert early(found) == 0
    assert all(60 <= (run.delay_s or 0) <= 600 for run in found)
    broken = [*runs(spec, minutes(0.5), minutes(0.5), asked)]
    assert early(broken) > 0
    assert table_of(broken)[1].runs == 20 - early(broken)
    with pytest.raises(ValueError, match="two arms"):
        next(runs(spec, minutes(0.02), None, asked))


def test_reasons_are_those_of_runs_that_told_nothing() -> None:
    found = [
        Run("UNDECIDED", ("not_enough_evidence",), None, 5),
        Run("INVALID", ("sample_ratio",), None, 5),
        Run("UNDECIDED", ("not_enough_evidence",), None, 5),
        Run("FAIL", ("margin_exceeded",), 70.0, 5),
    ]
    assert reasons_of(found) == {"not_enough_evidence": 2, "sample_ratio": 1}


def marker(at_s: int, release: str = "", gate_id: str = "", share: float | None = None) -> Marker:
    dimensions = {"variant": "canary"} | ({"release": release} if release else {})
    return Marker(at_s * SECOND, dimensions, gate_id, share)


def test_past_epochs_are_those_of_the_markers() -> None:
    spec = gate(ERRORS)
    markers = [
        marker(50, "r1"),
        marker(200, "r2", share=0.1),
        marker(250, "r2", share=0.5),  # a ramp
        marker(300, gate_id="canary"),  # a reset
        marker(350, gate_id="another"),
        Marker(360 * SECOND, {"variant": "other"}, "", 0.9),
        marker(900, "r3"),
    ]

    def between(start_s: int, end_s: int) -> list[tuple[int, int, str | None, bool]]:
        found = past_epochs(spec, markers, start_s * SECOND, end_s * SECOND)
        return [
            (one.start_us // SECOND, one.end_us // SECOND, one.release, one.is_marked)
            for one in found
        ]

    assert between(100, 400) == [
        (100, 200, "r1", True), (200, 300, "r2", True), (300, 400, "r2", True)
    ]  # fmt: skip
    assert between(0, 60) == [(0, 50, None, False), (50, 60, "r1", True)]
    assert between(1000, 1100) == [(1000, 1100, "r3", True)]
    assert past_epochs(spec, [], 5, 9) == [PastEpoch(5, 9, None, False)]
    shares = past_shares(spec, markers, [at * SECOND for at in (0, 200, 249, 250, 400)])
    assert shares.tolist()[1:] == [0.1, 0.1, 0.5, 0.5]
    assert math.isnan(shares[0])


def test_a_stretch_of_history_starts_anew() -> None:
    spec = gate(ERRORS)
    late = stretch(two_arms(0.2, 80), 40, 80)
    told = judged(spec, late, 400 * SECOND)
    assert told.verdict == "FAIL"
    assert told.as_of_us > 400 * SECOND
