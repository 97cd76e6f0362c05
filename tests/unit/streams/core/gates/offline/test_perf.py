"""The perf gate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from penstock.schemas.gates.perf import PerfGate
from penstock.streams.core.gates.offline import perf
from penstock.streams.core.gates.offline.series import Run

from .build import bench, times

METRICS = [
    {"metric": "step_ms", "direction": "lower", "margin_ratio": 1.05},
    {"metric": "tokens", "statistic": "per_s", "direction": "higher", "margin_ratio": 1.05},
]


def gate(**more: Any) -> PerfGate:
    return PerfGate.model_validate({"id": "perf", "metrics": METRICS, **more})


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.0, "PASS"), (0.8, "PASS"), (1.05, "UNDECIDED"), (1.2, "FAIL")]
)
def test_a_factor_on_every_step(factor: float, verdict: str) -> None:
    told = perf.evaluate(gate(), bench(times(1, 600, factor)), bench(times(2, 600)))
    assert told.verdict == verdict
    if verdict == "FAIL":
        assert told.reasons == ("perf_regression",)
        assert "step_ms is +2" in told.text
        assert "allowed -4.76 %" in told.text


def test_a_last_step_that_stalls_is_seen() -> None:
    steps = times(1)
    steps[-1] = 9000.0
    told = perf.evaluate(gate(), bench(steps), bench(times(2)))
    assert (told.verdict, told.reasons) == ("FAIL", ("stalled",))
    assert "number 400 of 400 took 9,000 ms" in told.text


def test_a_step_that_never_came_is_seen() -> None:
    told = perf.evaluate(gate(), bench(times(1, 399), expected=400), bench(times(2)))
    assert (told.verdict, told.reasons) == ("FAIL", ("incomplete_run",))
    allowed = gate(max_failed_ratio=0.01)
    assert perf.evaluate(allowed, bench(times(1, 399), failed=1), bench(times(2))).verdict == "PASS"
    sick = perf.evaluate(gate(), bench(times(1)), bench(times(2), failed=7))
    assert (sick.verdict, sick.reasons) == ("INVALID", ("baseline_unhealthy",))


def test_runs_under_different_conditions_are_not_compared() -> None:
    run = bench(times(1), conditions={"concurrency": "8", "gpu": "a"})
    other = bench(times(2), conditions={"concurrency": "16"})
    told = perf.evaluate(gate(), run, other)
    assert (told.verdict, told.reasons) == ("INVALID", ("different_workload",))
    assert "concurrency 8, baseline 16" in told.text
    assert perf.evaluate(gate(may_differ=["concurrency"]), run, other).verdict == "PASS"


def test_two_blocks_show_nothing() -> None:
    run, baseline = (bench(np.array([a, b])) for a, b in ((10.0, 11.0), (1.0, 1.1)))
    told = perf.evaluate(gate(block=1, min_blocks=2), run, baseline)
    assert (told.verdict, told.reasons) == ("UNDECIDED", ("not_enough_evidence",))
    assert told.n_needed is not None
    assert perf.evaluate(gate(block=1), run, run).verdict == "NO_DATA"


@pytest.mark.parametrize("unit", [1.0, 1e-5, 1e6])
def test_a_slowdown_is_one_whatever_the_unit(unit: float) -> None:
    told = perf.evaluate(gate(), bench(times(1, 60, 1.45) * unit), bench(times(2, 60) * unit))
    assert (told.verdict, told.reasons) == ("FAIL", ("perf_regression",))


def test_constant_equal_runs_pass_with_one_digest() -> None:
    told = [perf.evaluate(gate(), bench(np.ones(100)), bench(np.ones(100))) for _ in range(3)]
    assert len({one.digest for one in told}) == 1
    assert told[0].verdict == "PASS"


def test_what_was_not_measured_never_passes() -> None:
    run = Run({"step_ms": times(1)}, summaries={"tokens": 32.0})
    told = perf.evaluate(gate(), run, bench(times(2)))
    assert (told.verdict, told.reasons) == ("NO_DATA", ("metric_missing",))
    assert "one number of a whole run shows nothing" in told.text
    untimed = replace(bench(times(1)), took_ms=None)
    assert "no rate per second" in perf.evaluate(gate(), untimed, bench(times(2))).text
    assert perf.evaluate(gate(), Run({}), Run({})).verdict == "NO_DATA"


def test_what_is_no_number_is_invalid_and_a_warmup_may_be_all_there_is() -> None:
    steps = times(1)
    steps[7] = np.inf
    told = perf.evaluate(gate(), bench(steps, failed=0), bench(times(2)))
    assert told.verdict == "INVALID"
    assert "step_ms of the run is no finite number at 8" in told.text
    assert perf.evaluate(gate(warmup=500), bench(times(1)), bench(times(2))).verdict == "NO_DATA"


def test_blocks_are_as_long_as_the_baseline_needs() -> None:
    g = np.random.default_rng(0)
    ar = np.zeros(4000)
    for at in range(1, 4000):
        ar[at] = 0.9 * ar[at - 1] + g.normal(0, 0.05)
    told = perf.evaluate(gate(), bench(times(1, 4000)), bench(30 * np.exp(ar)))
    assert 120 < told.evidence[0]["detail"]["block"] < 260
    assert told.evidence[0]["n"] == 4000 // told.evidence[0]["detail"]["block"]


@pytest.mark.slow
@pytest.mark.parametrize("phi", [0.0, 0.6])
def test_error_rates(phi: float) -> None:
    """150 pairs of runs each: equal ones hardly ever fail, and hardly any passes at the margin."""
    g = np.random.default_rng(17)
    spec = PerfGate.model_validate({"id": "perf", "metrics": METRICS[:1], "alpha_fail": 0.05})

    def run(factor: float) -> Run:
        noise = g.normal(0, 0.1 * np.sqrt(1 - phi**2), 250)
        values = np.zeros(250)
        for at in range(1, 250):
            values[at] = phi * values[at - 1] + noise[at]
        return Run({"step_ms": 30 * factor * np.exp(values)})

    equal = [perf.evaluate(spec, run(1.0), run(1.0)).verdict for _ in range(150)]
    margin = [perf.evaluate(spec, run(1.05), run(1.0)).verdict for _ in range(150)]
    bound = 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)
    assert equal.count("FAIL") / 150 <= bound
    assert margin.count("FAIL") / 150 <= bound
    assert margin.count("PASS") / 150 <= bound
