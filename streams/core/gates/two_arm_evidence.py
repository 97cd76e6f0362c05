"""Evidence of a two-arm metric: estimates, intervals, arms, and how much more is needed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ....schemas.gates.metrics import ratio_of
from . import mean_state, quantile_state, ratio_state
from .boundaries import rate_confidence_sequence
from .cells import Workers
from .dependence import block_length, effective_n
from .eprocess import FloatArray
from .interface import ARM_NAMES, CONTROL, TREATMENT, upper_edge_ms
from .live_state import TestState
from .mean_state import MeanState, moments_of, scaled_mean
from .means import mean_range
from .quantile_state import QuantileState, scaled_quantile, shares_of
from .quantiles import control_edges, quantile_range
from .ratio_state import RatioState, scaled_ratio
from .tested import MeanTest, QuantileTest, RatioTest, Tested
from .two_arm import ratio_interval
from .verdict import ArmEvidence
from .watch_state import WatchState

_LN10 = math.log(10.0)
_FACTORS = np.array([1.15**k for k in range(1, 100)])
_STRIDE = 11

Interval = tuple[float | None, float | None, float | None]
"""Estimate, lower and upper end."""


def rounded(value: float | None) -> float | None:
    """To nine significant digits, the same on machines whose logarithms differ in the last bit."""
    if value is None or not math.isfinite(value):
        return None
    return 0.0 if abs(value) < 1e-12 else float(f"{value:.9g}")


def units_of(state: TestState) -> tuple[int, int]:
    """Units of control and of treatment."""
    if isinstance(state, RatioState):
        return int(state.n[CONTROL].sum()), int(state.n[TREATMENT].sum())
    if isinstance(state, QuantileState):
        return int(state.requests[CONTROL].sum()), int(state.requests[TREATMENT].sum())
    assert isinstance(state, MeanState)
    return int(state.units[CONTROL].sum()), int(state.units[TREATMENT].sum())


def compared(test: Tested, state: TestState, alpha: float) -> tuple[Interval, str, float]:
    """How the arms compare: estimate with confidence sequence, its unit, and the margin in it."""
    if isinstance(test, RatioTest) and isinstance(state, RatioState):
        low, high = ratio_interval(state.fail[0], state.passed, test.margin, alpha)
        return (state.estimate, low, high), "relative", test.margin
    control, treatment = (arm_evidence(test, state, arm, alpha / 2) for arm in (0, 1))
    if isinstance(test, MeanTest) and test.margin.ratio == 1.0 and test.margin.absolute > 0:
        return _difference(treatment, control), "difference", test.margin.absolute * test.cap
    limit = ratio_of(test.bins) if isinstance(test, QuantileTest) else 0.0
    if isinstance(test, MeanTest):
        limit = 1 / test.margin.ratio if test.swapped else test.margin.ratio
    return _quotient(treatment, control), "relative", limit


def _difference(treatment: ArmEvidence, control: ArmEvidence) -> Interval:
    def less(a: float | None, b: float | None) -> float | None:
        return None if a is None or b is None else a - b

    return (
        less(treatment.estimate, control.estimate),
        less(treatment.low, control.high),
        less(treatment.high, control.low),
    )


def _quotient(treatment: ArmEvidence, control: ArmEvidence) -> Interval:
    def over(a: float | None, b: float | None) -> float | None:
        return None if a is None or not b else a / b

    return (
        over(treatment.estimate, control.estimate),
        over(treatment.low, control.high),
        over(treatment.high, control.low),
    )


def arm_evidence(
    test: Tested, state: TestState, arm: int, alpha: float, workers: int = 0
) -> ArmEvidence:
    """One arm alone, its confidence sequence at level 1 - alpha."""
    n, bad = units_of(state)[arm], None
    if isinstance(test, RatioTest) and isinstance(state, RatioState):
        bad = int(state.bad[arm].sum())
    elif isinstance(test, MeanTest) and isinstance(state, MeanState) and test.is_rate:
        bad = int(state.sums[arm, :, 1].sum())
    if bad is not None:
        low, high = rate_confidence_sequence(bad, n, alpha, max(20.0, float(n)), alpha)
        found: Interval = (bad / n if n else None, low, high)
    elif isinstance(test, QuantileTest) and isinstance(state, QuantileState):
        found = _quantile(test, state, arm, alpha)
    else:
        assert isinstance(test, MeanTest)
        assert isinstance(state, MeanState)
        found = _mean(test, state, arm, alpha)
    estimate, low_end, high_end = (rounded(value) for value in found)
    return ArmEvidence(ARM_NAMES[arm], n, bad, estimate, low_end, high_end, workers)


def _quantile(test: QuantileTest, state: QuantileState, arm: int, alpha: float) -> Interval:
    if state.anchor is None:
        return None, None, None
    edges = state.edges if arm == TREATMENT else control_edges(state.edges, test.bins)
    shares = shares_of(state, arm)
    lower, upper = quantile_range(shares, edges, test.quantile, test.blocks, math.log(2 / alpha))
    reached = shares.below >= test.quantile * shares.n
    estimate = int(edges[int(reached.argmax())]) if shares.n[0] > 0 else None
    return (
        _milliseconds(estimate),
        upper_edge_ms(lower) if lower >= 0 else 0.0,
        _milliseconds(upper),
    )


def _milliseconds(edge: int | None) -> float | None:
    """Upper edge of a bin; None where it has none (requests still in flight, or nobody knows)."""
    return None if edge is None or edge >= 65534 else upper_edge_ms(max(edge, 0))


def _mean(test: MeanTest, state: MeanState, arm: int, alpha: float) -> Interval:
    moments = moments_of(state, arm)
    low, high = mean_range(moments, test.plain, math.log(2 / alpha))
    estimate = float(moments.a / moments.b) if moments.b > 0 else None
    scaled = [None if value is None else value * test.cap for value in (estimate, low, high)]
    return scaled[0], scaled[1], scaled[2]


def scaled(test: Tested, state: TestState, factors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Log e-values for FAIL and PASS if everything so far had happened so many times, shape (F,)."""
    if isinstance(test, RatioTest) and isinstance(state, RatioState):
        return scaled_ratio(test, state, factors)
    if isinstance(test, QuantileTest) and isinstance(state, QuantileState):
        return scaled_quantile(test, state, factors)
    assert isinstance(test, MeanTest)
    assert isinstance(state, MeanState)
    return scaled_mean(test, state, factors)


def needed(test: Tested, state: TestState, to_fail: float, to_pass: float) -> float | None:
    """Units of both arms until a decision if everything goes on as it was.

    What was seen so far is taken as the truth, and repeated: no simulation, and half of the streams
    with that truth take about as long.

    Returns:
        Positive until FAIL, negative until PASS; None where neither comes within a million times.
    """
    n = sum(units_of(state))
    if n == 0:
        return None
    fail, passed = first_factors(lambda factors: scaled(test, state, factors), (to_fail, to_pass))
    if fail is not None and (passed is None or fail <= passed):
        return max((fail - 1.0) * n, 1.0)
    return None if passed is None else -max((passed - 1.0) * n, 1.0)


def first_factors(
    growing: Callable[[FloatArray], tuple[FloatArray, FloatArray]], thresholds: tuple[float, float]
) -> tuple[float | None, float | None]:
    """The smallest factors, of a grid up to a million, at which two growing values reach theirs.

    Args:
        growing: factors, shape (F,) -> both values, shape (F,) each.
        thresholds: of each.
    """
    coarse = _FACTORS[_STRIDE - 1 :: _STRIDE]
    found: list[float | None] = []
    for at, (value, threshold) in enumerate(zip(growing(coarse), thresholds, strict=True)):
        reached = value >= threshold
        if not reached[-1]:
            found.append(None)
            continue
        high = int(np.argmax(reached)) * _STRIDE
        fine = _FACTORS[high : high + _STRIDE]
        found.append(float(fine[int(np.argmax(growing(fine)[at] >= threshold))]))
    return found[0], found[1]


def weakest_link(test: Tested, state: TestState, workers: Workers) -> tuple[float, str] | None:
    """Smallest log e-value for FAIL without one worker, and its name."""
    if isinstance(test, RatioTest) and isinstance(state, RatioState):
        return ratio_state.least_without(state, test, workers)
    if isinstance(test, QuantileTest) and isinstance(state, QuantileState):
        return quantile_state.least_without(state, test, workers)
    assert isinstance(test, MeanTest)
    assert isinstance(state, MeanState)
    return mean_state.least_without(state, test, workers)


def detail_of(test: Tested, state: TestState, workers: Workers, block_s: int) -> dict[str, Any]:
    """More numbers: the share of the evidence that one worker holds, dependence between blocks."""
    found: dict[str, Any] = {}
    weakest = weakest_link(test, state, workers)
    if weakest is not None:
        found["without_worker"] = weakest[1]
        found["log10_e_fail_without"] = rounded(weakest[0] / _LN10)
    assert not isinstance(state, WatchState)
    series = state.series[CONTROL]
    phi = series.autocorrelation
    if phi is not None:
        found["autocorrelation"] = rounded(phi)
        if series.too_short:
            found["block_s_wanted"] = math.ceil(block_length(phi, block_s))
    return found


def dependence_of(state: TestState) -> tuple[float | None, float | None]:
    """Design effect of the treatment's blocks, and what its units are worth."""
    assert not isinstance(state, WatchState)
    series = state.series[TREATMENT]
    effect = None if isinstance(state, MeanState) else series.design_effect()
    return rounded(effect), rounded(effective_n(series.units, effect))
