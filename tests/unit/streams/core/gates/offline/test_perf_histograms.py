"""The perf gate on histograms: never against what the values themselves say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.schemas.gates.perf import PerfGate
from penstock.streams.core.gates.eprocess import FloatArray
from penstock.streams.core.gates.histograms import Histogram, Histograms
from penstock.streams.core.gates.offline import perf_histograms
from penstock.streams.core.gates.offline.histogram_ratios import (
    log_e_mean_ratio,
    log_e_quantile_ratio,
    quantile_ratio_interval,
    variance_range,
)
from penstock.streams.core.gates.two_arm import Direction
from penstock.streams.core.gates.verdict import Verdict

DIRECTIONS: tuple[Direction, ...] = ("FAIL", "PASS")
COARSE = [1.0, 5, 10, 20, 40, 60, 80, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10_000]
FINE = [float(bound) for bound in np.geomspace(10, 10_000, 200)]
VALUES = st.lists(st.integers(1, 400).map(float), min_size=1, max_size=40)
BOUNDS = st.lists(st.integers(1, 300).map(float), min_size=1, max_size=6, unique=True).map(sorted)


def of(values: Any, bounds: Any) -> Histogram:
    """Values counted in buckets."""
    values, edges = np.asarray(values, np.float64), np.asarray(bounds, np.float64)
    at = np.searchsorted(edges, values, side="left")
    return Histogram(edges, np.bincount(at, minlength=edges.size + 1), float(values.sum()))


def latencies(seed: int, n: int = 4000, factor: float = 1.0) -> FloatArray:
    return 200.0 * factor * np.exp(np.random.default_rng(seed).normal(0.0, 0.4, n))


def metric(statistic: str = "median", **more: Any) -> dict[str, Any]:
    return {
        "metric": "ttft_ms",
        "statistic": statistic,
        "direction": "lower",
        "margin_ratio": 1.1,
        **more,
    }


def gate(*metrics: dict[str, Any], **more: Any) -> PerfGate:
    return PerfGate.model_validate({"id": "perf", "metrics": metrics or [metric()], **more})


def told(spec: PerfGate, run: Any, baseline: Any, bounds: Any = FINE, **more: Any) -> Verdict:
    both = [
        Histograms({"ttft_ms": of(values, bounds)}, {"ttft_ms": name}, ["ttft_ms"], **more)
        for name, values in (("new", run), ("old", baseline))
    ]
    return perf_histograms.evaluate(spec, *both)


@pytest.mark.parametrize("statistic", ["median", "p90"])
@pytest.mark.parametrize(("factor", "verdict"), [(0.5, "PASS"), (2.0, "FAIL")])
def test_a_factor_on_every_request(statistic: str, factor: float, verdict: str) -> None:
    verdict_told = told(gate(metric(statistic)), latencies(1, factor=factor), latencies(2))
    assert verdict_told.verdict == verdict
    low, high = (verdict_told.evidence[0][end] for end in ("low", "high"))
    assert low < factor < high
    turned = gate(metric(statistic, direction="higher"))
    other = told(turned, latencies(1, factor=factor), latencies(2))
    assert other.verdict == {"PASS": "FAIL", "FAIL": "PASS"}[verdict]


def test_a_fail_is_told_by_what_is_sure() -> None:
    verdict = told(gate(), latencies(1, factor=2.0), latencies(2))
    assert verdict.reasons == ("perf_regression",)
    assert "ttft_ms_median is more than +62.6 % and less than" in verdict.text
    assert "allowed +10 %" in verdict.text
    assert [c["text"] for c in verdict.checks if c["check"] == "input"] == [
        "run: new",
        "baseline: old",
    ]


def test_buckets_wider_than_the_margin_are_undecided_for_that_reason() -> None:
    verdict = told(gate(), latencies(1), latencies(2), COARSE)
    assert (verdict.verdict, verdict.reasons) == ("UNDECIDED", ("bucket_too_wide",))
    assert "in the bucket 100 to 250 ms, of the baseline in 100 to 250 ms" in verdict.text
    assert verdict.n_needed is None
    assert verdict.evidence[0]["detail"]["treatment_bucket_ms"] == [100.0, 250.0]
    wide = gate(metric(margin_ratio=5.1))
    assert told(wide, latencies(1), latencies(2), COARSE).verdict == "PASS"


def test_few_requests_are_undecided_for_that_reason() -> None:
    verdict = told(gate(), latencies(1, 200), latencies(2, 200))
    assert (verdict.verdict, verdict.reasons) == ("UNDECIDED", ("not_enough_evidence",))
    assert told(gate(), latencies(1, 40), latencies(2)).verdict == "NO_DATA"


def test_a_mean_may_fail_and_never_passes() -> None:
    slow = told(gate(metric("mean")), latencies(1, factor=2.0), latencies(2))
    assert slow.verdict == "FAIL"
    assert slow.evidence[0]["estimate"] == pytest.approx(2.0, rel=0.05)
    fast = told(gate(metric("mean")), latencies(1, factor=0.2), latencies(2))
    assert (fast.verdict, fast.reasons) == ("UNDECIDED", ("not_enough_evidence",))
    assert "a mean is never shown to be within its margin" in fast.text
    advisory = gate(metric(), metric("mean", critical=False))
    assert told(advisory, latencies(1, factor=0.5), latencies(2)).verdict == "PASS"


def test_stalls() -> None:
    stalled = np.append(latencies(1, factor=0.5), 9000.0)
    verdict = told(gate(), stalled, latencies(2))
    assert (verdict.verdict, verdict.reasons) == ("FAIL", ("stalled",))
    endless = np.append(latencies(1, factor=0.5), 20_000.0)
    open_ended = np.append(latencies(2), 20_000.0)
    verdict = told(gate(), endless, open_ended)
    assert (verdict.verdict, verdict.reasons) == ("UNDECIDED", ("bucket_too_wide",))
    assert "in the bucket above 10,000 ms" in verdict.text


def test_what_was_not_measured_never_passes() -> None:
    good = latencies(1, factor=0.5)
    for spec, text in (
        (gate(metric("per_s")), "how long its values took together"),
        (gate(metric(metric="itl_ms")), "run: no histogram of itl_ms; there are: ttft_ms"),
    ):
        verdict = told(spec, good, latencies(2))
        assert (verdict.verdict, verdict.reasons) == ("NO_DATA", ("metric_missing",))
        assert text in verdict.text
    empty = told(gate(), [], latencies(2))
    assert (empty.verdict, empty.reasons) == ("NO_DATA", ("metric_missing",))
    tokens = told(gate(), good, latencies(2), of_tokens=frozenset({"ttft_ms"}))
    assert tokens.verdict == "NO_DATA"
    assert "state in `block`" in tokens.text
    known = told(gate(block=20), good, latencies(2), of_tokens=frozenset({"ttft_ms"}))
    assert known.verdict == "PASS"


def test_other_conditions_are_not_compared() -> None:
    run, baseline = (
        Histograms({"ttft_ms": of(latencies(1), FINE)}, conditions={"model_name": name})
        for name in ("a", "b")
    )
    verdict = perf_histograms.evaluate(gate(), run, baseline)
    assert (verdict.verdict, verdict.reasons) == ("INVALID", ("different_workload",))


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.floats(20.0, 2000.0), min_size=1, max_size=12, unique=True).map(sorted),
    st.lists(st.floats(20.0, 2000.0), min_size=1, max_size=12, unique=True).map(sorted),
    st.sampled_from([0.2, 0.5, 0.9, 1.1, 1.5, 5.0]),
    st.sampled_from([0.5, 0.9, 0.95]),
)
def test_what_buckets_show_is_so_in_the_values_themselves(
    seed: int, bounds: list[float], other: list[float], factor: float, q: float
) -> None:
    run, old = latencies(seed, 1500, factor), latencies(seed + 1, 1500)
    ratio = [float(np.quantile(values, q, method="inverted_cdf")) for values in (run, old)]
    for margin in (0.5, 0.9, 1.1, 2.0):
        fails, passes = (
            log_e_quantile_ratio(of(run, bounds), of(old, other), q, margin, direction, 1)
            for direction in DIRECTIONS
        )
        assert fails < math.log(20) or ratio[0] > margin * ratio[1]
        assert passes < math.log(20) or ratio[0] < margin * ratio[1]


@given(VALUES, BOUNDS)
def test_the_variance_lies_between_its_ends(values: list[float], bounds: list[float]) -> None:
    least, most = variance_range(of(values, bounds))
    found = float(np.var(values))
    assert least <= found + 1e-6
    assert found <= most + 1e-6


def test_a_mean_needs_blocks_and_a_spread_that_is_bounded() -> None:
    few = of(latencies(1, 200), FINE)
    assert log_e_mean_ratio(few, few, 0.1, 10, above=True) == 0.0
    enough = of(latencies(1), FINE)
    assert log_e_mean_ratio(enough, enough, 0.1, 10, above=True) > 10.0
    without = Histogram(enough.bounds_ms, enough.counts)
    assert log_e_mean_ratio(without, enough, 0.1, 10, above=True) == 0.0
    assert variance_range(without) == (0.0, math.inf)


def test_the_interval_holds_what_buckets_leave_open() -> None:
    low, high = quantile_ratio_interval(
        of(latencies(1), COARSE), of(latencies(2), COARSE), 0.5, 1, math.log(200)
    )
    assert [low, high] == pytest.approx([0.4, 2.5])
    assert quantile_ratio_interval(of([1.0], [2.0]), of([1.0], [2.0]), 0.5, 1, 5.0) == (None, None)


@pytest.mark.slow
@pytest.mark.parametrize("q", [0.5, 0.95, None], ids=["median", "p95", "mean"])
def test_at_the_margin_errors_are_as_rare_as_stated(q: float | None) -> None:
    """At alpha 20 %, so that 300 pairs tell: the truth is exactly the margin."""
    shown = {"FAIL": 0, "PASS": 0}
    for seed in range(300):
        run, old = of(latencies(2 * seed, 1000, 1.1), FINE), of(latencies(2 * seed + 1, 1000), FINE)
        for direction in DIRECTIONS:
            log_e = (
                log_e_mean_ratio(run, old, 1.1, 1, above=direction == "FAIL", sure=False)
                if q is None
                else log_e_quantile_ratio(run, old, q, 1.1, direction, 1, sure=False)
            )
            shown[direction] += log_e >= math.log(5)
    allowed = 0.2 * 300 + 3 * math.sqrt(0.2 * 0.8 * 300)
    assert max(shown.values()) <= allowed
