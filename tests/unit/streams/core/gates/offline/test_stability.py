"""The stability gate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from penstock.schemas.gates.stability import StabilityGate
from penstock.streams.core.gates.offline import stability
from penstock.streams.core.gates.offline.series import Run

from .build import bench, times


def gate(**more: Any) -> StabilityGate:
    metric = {"metric": "step_ms", "max_cv": 0.1, "max_drift_ratio": 0.1}
    return StabilityGate.model_validate({"id": "stability", "metrics": [metric], **more})


def test_a_steady_run_passes() -> None:
    told = stability.evaluate(gate(), bench(times(1, 1000)))
    assert (told.verdict, told.reasons) == ("PASS", ("within_margins",))
    cv = told.evidence[0]
    assert cv["estimate"] == pytest.approx(0.1 / np.sqrt(10), rel=0.4)
    assert cv["low"] < cv["estimate"] < cv["high"] < cv["limit"]


def test_a_scattered_run_fails_for_its_cv() -> None:
    told = stability.evaluate(gate(), bench(times(1, 1500, spread=0.7)))
    assert told.verdict == "FAIL"
    assert "unstable" in told.reasons
    assert "drifted" not in told.reasons


def test_a_run_that_slows_down_fails_for_its_drift() -> None:
    steps = times(1, 1000)
    steps[500:] *= 1.3
    told = stability.evaluate(gate(), bench(steps))
    assert (told.verdict, told.reasons) == ("FAIL", ("drifted",))
    steps[500:] *= 0.7 / 1.3
    assert stability.evaluate(gate(), bench(steps)).reasons == ("drifted",)


def test_wild_blocks_fail_for_themselves() -> None:
    steps = times(1, 4000)
    for at in range(0, 4000, 100):
        steps[at : at + 10] *= 3
    told = stability.evaluate(gate(), bench(steps))
    assert (told.verdict, told.reasons) == ("FAIL", ("bursts",))


def test_one_stalled_step_is_seen() -> None:
    steps = times(1, 1000)
    steps[-1] = 5000.0
    told = stability.evaluate(gate(), bench(steps))
    assert (told.verdict, told.reasons) == ("FAIL", ("stalled",))


def test_too_little_is_no_data() -> None:
    assert stability.evaluate(gate(), bench(times(1, 150))).reasons == ("few_units",)
    assert stability.evaluate(gate(), Run({})).reasons == ("metric_missing",)
    assert stability.evaluate(gate(), bench(times(1, 300))).verdict == "UNDECIDED"


def test_an_incomplete_run_fails() -> None:
    told = stability.evaluate(gate(), bench(times(1, 1000), expected=1001))
    assert told.reasons == ("incomplete_run",)


def test_pairs_of_blocks() -> None:
    assert stability.pair_cv(np.array([0.0, 0.0, 5.0])).tolist() == [0.0]
    assert stability.pair_cv(np.empty(0)).size == 0
    g = np.random.default_rng(0)
    spread = stability.pair_cv(g.normal(100, 10, 20_000))
    assert np.median(spread) / stability.NORMAL_QUARTILE == pytest.approx(0.1, rel=0.03)


@pytest.mark.slow
def test_error_rates_at_the_limits() -> None:
    """100 runs of normal blocks exactly at max_cv: FAIL and PASS are both rare."""
    g = np.random.default_rng(8)
    spec = gate(block=1, alpha_fail=0.05)
    told = [
        stability.evaluate(spec, Run({"step_ms": g.normal(100, 10, 120)})).evidence[0]["decision"]
        for _ in range(100)
    ]
    bound = 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)
    assert told.count("FAIL") / 100 <= bound
    assert told.count("PASS") / 100 <= bound
