"""What buckets leave open: counts, quantiles, and one verdict from two ends."""

from __future__ import annotations

import doctest
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.schemas.gates.absolute import AbsoluteGate
from penstock.streams.core.gates import histograms
from penstock.streams.core.gates.absolute import Context, evaluate, initial_state
from penstock.streams.core.gates.histograms import Histogram, Histograms, cells_between, join
from penstock.streams.core.gates.units import CELL_US
from penstock.streams.core.gates.verdict import Verdict

TIMES = st.lists(st.integers(0, 400), min_size=1, max_size=60)
BOUNDS = st.lists(st.integers(1, 300), min_size=0, max_size=8, unique=True).map(sorted)


def of(values: Any, bounds: Any) -> Histogram:
    """Values counted in buckets."""
    values, edges = np.asarray(values, np.float64), np.asarray(bounds, np.float64)
    at = np.searchsorted(edges, values, side="left")
    return Histogram(edges, np.bincount(at, minlength=edges.size + 1), float(values.sum()))


def gate(**more: Any) -> AbsoluteGate:
    limit = {"metric": "latency", "field": "ttft_ms", "quantile": 0.9, "max_ms": 150, **more}
    return AbsoluteGate.model_validate({"id": "limits", "metrics": [limit]})


def told(spec: AbsoluteGate, **fields: Histogram) -> Verdict:
    found = Histograms(fields, {name: f"{name} is a test" for name in fields})
    spec = spec.model_copy(update={"min_bake_s": 0})
    ends = [
        evaluate(spec, initial_state(spec, 0, 0), cells, Context(CELL_US))[1]
        for cells in cells_between(spec, found)
    ]
    return join(spec, found, *ends)


def test_examples() -> None:
    assert doctest.testmod(histograms).failed == 0


@given(TIMES, BOUNDS, st.integers(1, 400))
def test_the_number_above_a_limit_lies_between_its_ends(
    values: list[int], bounds: list[int], limit: int
) -> None:
    fewest, most = of(values, bounds).above(limit)
    above = sum(value > limit for value in values)
    assert fewest <= above <= most
    if limit in bounds:
        assert fewest == most


@given(TIMES, BOUNDS, st.sampled_from([0.01, 0.5, 0.9, 0.95, 1.0]))
def test_the_quantile_is_in_its_bucket(values: list[int], bounds: list[int], q: float) -> None:
    low, high = of(values, bounds).quantile(q)
    found = sorted(values)[math.ceil(q * len(values)) - 1]
    assert low < found <= high or (low == found == 0)


def test_what_is_no_histogram() -> None:
    for bounds, counts in (([1.0], [1]), ([2.0, 1.0], [1, 1, 1]), ([1.0], [-1, 1])):
        with pytest.raises(ValueError, match=r"histogram|bounds"):
            Histogram(np.array(bounds), np.array(counts))
    for bounds in ([-1.0], [math.inf], [math.nan]):
        with pytest.raises(ValueError, match="bounds are finite"):
            Histogram(np.array(bounds), np.array([1, 1]))
    with pytest.raises(ValueError, match="no quantile"):
        of([], [1.0]).quantile(0.5)


@pytest.mark.parametrize(
    ("counts", "verdict", "reason"),
    [
        # up to 100, in (100, 200], above; the limit is 150 and a tenth may be above it
        ((995, 3, 2), "PASS", "within_limits"),
        ((500, 50, 450), "FAIL", "limit_exceeded"),
        ((500, 480, 20), "UNDECIDED", "bucket_too_wide"),
        ((900, 80, 20), "UNDECIDED", "bucket_too_wide"),
        ((900, 0, 100), "UNDECIDED", "not_enough_evidence"),
        ((50, 10, 3), "NO_DATA", "few_units"),
        ((0, 0, 0), "NO_DATA", "no_traffic"),
    ],
)
def test_a_limit_within_a_bucket(counts: tuple[int, ...], verdict: str, reason: str) -> None:
    verdict_told = told(gate(), ttft_ms=Histogram(np.array([100.0, 200.0]), np.array(counts)))
    assert (verdict_told.verdict, verdict_told.reasons[0]) == (verdict, reason)
    assert ("bucket_too_wide" in verdict_told.reasons) == (reason == "bucket_too_wide")


def test_evidence_spans_both_ends() -> None:
    counted = Histogram(np.array([100.0, 200.0]), np.array([500, 480, 20]))
    verdict = told(gate(), ttft_ms=counted)
    [evidence] = verdict.evidence
    assert (evidence["estimate"], evidence["bad"], evidence["decision"]) == (
        None,
        None,
        "UNDECIDED",
    )
    assert evidence["low"] < 0.02 < 0.5 < evidence["high"]
    assert evidence["detail"] == {
        "bucket_ms": [100.0, 200.0],
        "bad_fewest": 20,
        "bad_most": 500,
        "quantile_ms": [100.0, 200.0],
        "mean_ms": None,
    }
    assert verdict.n_needed is None
    assert (
        "20 to 500 of 1,000 are above 150 ms, which is in the bucket 100 to 200 ms" in verdict.text
    )
    assert "a max_ms of 100 or 200" in verdict.text
    assert verdict.checks == ({"check": "input", "ok": True, "text": "run: ttft_ms is a test"},)


def test_a_decision_is_told_with_what_is_sure() -> None:
    fail = told(gate(), ttft_ms=Histogram(np.array([100.0, 200.0]), np.array([500, 50, 450])))
    assert fail.evidence[0]["estimate"] == pytest.approx(0.45)
    assert "45 % of 1,000 requests are slower" in fail.text
    passed = told(gate(), ttft_ms=Histogram(np.array([100.0, 200.0]), np.array([995, 3, 2])))
    assert passed.evidence[0]["bad"] == 5
    beyond = told(gate(), ttft_ms=Histogram(np.array([100.0]), np.array([700, 300])))
    assert "in the bucket above 100 ms; exact would be a max_ms of 100" in beyond.text
    assert beyond.evidence[0]["detail"]["bucket_ms"] == [100.0, None]


def test_a_limit_on_a_bound_is_as_on_a_server() -> None:
    spec = gate(max_ms=100)
    exact = told(spec, ttft_ms=Histogram(np.array([100.0]), np.array([930, 70])))
    _, most = cells_between(
        spec, Histograms({"ttft_ms": Histogram(np.array([100.0]), np.array([930, 70]))})
    )
    spec = spec.model_copy(update={"min_bake_s": 0})
    plain = evaluate(spec, initial_state(spec, 0, 0), most, Context(CELL_US))[1]
    assert (exact.verdict, exact.reasons) == (plain.verdict, plain.reasons)
    assert (exact.text, exact.n_needed) == (plain.text, plain.n_needed)
    assert exact.evidence[0] | {"detail": {}} == plain.evidence[0]
