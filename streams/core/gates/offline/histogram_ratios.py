"""E-values for two histograms: is a quantile, or the mean, of one larger than that of the other?

Both hold at two ends of what the buckets leave open: `sure`, with every value where it speaks least
for what is to be shown, and else where it speaks most. Values count `1 / block` each, as if every
`block` of them were one: a mean of a block's indicators is a number y in [0, 1], and the likelihood
ratios that the beta mixtures average are convex in y, so they stay e-values (quantiles.py has the
mixtures).

**Quantiles.** E is the minimum over x of E1(x) and E0(x / m) together, as for two live arms. x runs
over the run's bounds and m times the baseline's. Between two of them each arm's count below is known
only to be between those at the nearest bounds of its own.

**Means.** The sums are exact, so only the spread is open: the squares of values lie between those
of their buckets' bounds. z is the difference over its standard error, and E the one-sided normal mixture
(Howard, Ramdas, McAuliffe, Sekhon, arXiv 1810.08240, Proposition 5) at intrinsic time 1. That
is asymptotic, so it takes 30 blocks, and it never shows that a mean is small enough: the values that make
a mean large may be too rare to be in a sample (docs/gates-in-ci.md).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable

import numpy as np

from ..boundaries import MIN_BATCHES, one_sided_best_rho, one_sided_normal_log
from ..eprocess import FloatArray
from ..histograms import Histogram
from ..quantiles import Shares, log_e_brackets
from ..two_arm import Direction

_RHO = one_sided_best_rho(1.0, 0.01)
_NEAR = 1e-12
_Counted = tuple[FloatArray, FloatArray]


def log_e_quantile_ratio(
    run: Histogram,
    baseline: Histogram,
    quantile: float,
    margin: float,
    direction: Direction,
    block: float,
    sure: bool = True,
) -> float:
    """Log e-value of the ratio of two quantiles, run over baseline.

    Args:
        run, baseline: of the two arms.
        quantile: p, in (0, 1).
        margin: FAIL has the null "at most that ratio", PASS "at least".
        direction: what is to be shown.
        block: values that count as one.
        sure: whether values lie where they speak least, or most.
    """
    edges = np.unique(np.concatenate([run.bounds_ms, margin * baseline.bounds_ms]))
    lows, highs = np.concatenate([[-np.inf], edges]), np.concatenate([edges, [np.inf]])
    fail = direction == "FAIL"
    if sure:
        one = _up_to(run, 1.0, highs) if fail else _from(run, 1.0, lows)
        other = _from(baseline, margin, lows) if fail else _up_to(baseline, margin, highs)
    else:
        one = _certain_below(run, 1.0, highs) if fail else _possible_below(run, 1.0, highs)
        other = (
            _possible_below(baseline, margin, highs)
            if fail
            else _certain_below(baseline, margin, highs)
        )
        # at infinity everything is below: nothing is asked of the arm whose values may lie there
        at_end = one if fail else other
        at_end[0][-1] = at_end[1][-1] = 0.0
    shares = [Shares(n / block, below / block, below / block) for n, below in (one, other)]
    logs = log_e_brackets(shares[0], shares[1], quantile, direction, blocks=False)
    return float(logs.min())


def _certain_below(one: Histogram, scale: float, at: FloatArray) -> _Counted:
    """Values that must lie at or below each x: those in buckets that end there or before."""
    below = _cumulative(one)[np.searchsorted(scale * one.bounds_ms, at, side="right")]
    return np.full(at.size, float(one.n)), below


def _possible_below(one: Histogram, scale: float, at: FloatArray) -> _Counted:
    """Values that may lie at or below each x: those in buckets that begin before it."""
    ends = np.append(_cumulative(one)[1:], float(one.n))
    below = ends[np.searchsorted(scale * one.bounds_ms, at, side="left")]
    return np.full(at.size, float(one.n)), below


def _from(one: Histogram, scale: float, at: FloatArray) -> _Counted:
    """As `_certain_below`; before the first bound nothing is known, and nothing is asked."""
    n, below = _certain_below(one, scale, at)
    unknown = at < scale * one.bounds_ms[0] if one.bounds_ms.size else np.full(at.size, True)
    n[unknown] = below[unknown] = 0.0
    return n, below


def _up_to(one: Histogram, scale: float, at: FloatArray) -> _Counted:
    """As `_possible_below`; beyond the last bound nothing is known, and nothing is asked."""
    n, below = _possible_below(one, scale, at)
    unknown = at > scale * one.bounds_ms[-1] if one.bounds_ms.size else np.full(at.size, True)
    n[unknown] = below[unknown] = 0.0
    return n, below


def _cumulative(one: Histogram) -> FloatArray:
    """Values at or below each bound, and none before the first, shape (K + 1,)."""
    return np.concatenate([[0.0], np.cumsum(one.counts[:-1], dtype=np.float64)])


def quantile_ratio_interval(
    run: Histogram, baseline: Histogram, quantile: float, block: float, log_threshold: float
) -> tuple[float | None, float | None]:
    """Ratios that neither direction rejects, both ends from the buckets; None without a bound."""
    ratios = np.divide.outer(run.bounds_ms, baseline.bounds_ms[baseline.bounds_ms > 0.0])
    found = sorted({float(ratio) for ratio in ratios.ravel() if ratio > 0.0})

    def shown(direction: Direction, near: float) -> Callable[[float], bool]:
        return lambda ratio: (
            log_e_quantile_ratio(run, baseline, quantile, ratio * near, direction, block)
            >= log_threshold
        )

    # what is shown of a ratio is shown of all below (above) it, and changes only at these ratios
    too_small, too_large = shown("FAIL", 1.0 - _NEAR), shown("PASS", 1.0 + _NEAR)
    first = bisect.bisect_left(found, True, key=lambda ratio: not too_small(ratio))
    last = bisect.bisect_left(found, True, key=too_large)
    return found[first - 1] if first else None, found[last] if last < len(found) else None


def log_e_mean_ratio(
    run: Histogram, baseline: Histogram, margin: float, block: float, above: bool, sure: bool = True
) -> float:
    """Log e-value that the run's mean is more (`above`) or less than `margin` times the baseline's.

    0 where an arm has fewer than 30 blocks, or its values are not bounded.
    """
    sizes = [one.n / block for one in (run, baseline)]
    means = [one.mean_ms for one in (run, baseline)]
    if min(sizes) < MIN_BATCHES or means[0] is None or means[1] is None:
        return 0.0
    spreads = [variance_range(one)[int(sure)] for one in (run, baseline)]
    error = math.sqrt(spreads[0] / sizes[0] + margin * margin * spreads[1] / sizes[1])
    difference = means[0] - margin * means[1]
    if not above:
        difference = -difference
    if not math.isfinite(error) or difference <= 0.0:
        return 0.0
    # equal values without spread differ for certain; a float cannot hold how much that shows
    z = min(difference / error, 1e6) if error > 0.0 else 1e6
    return one_sided_normal_log(z, 1.0, _RHO)


def variance_range(one: Histogram) -> tuple[float, float]:
    """Least and most variance, in ms^2, of values in such buckets with this sum.

    The most: every value on the lower bound of its bucket, but for what the sum has beyond that. A
    value that moves to its upper bound adds their sum to the squares per ms, so those of the
    highest buckets move; above the highest bound one value has all of it.
    """
    if one.mean_ms is None or one.sum_ms is None:
        return 0.0, math.inf
    lows = np.concatenate([[0.0], one.bounds_ms])
    least = most = float(one.counts @ (lows * lows))
    beyond = max(one.sum_ms - float(one.counts @ lows), 0.0)
    if one.counts[-1]:
        most += beyond * (beyond + 2.0 * float(lows[-1]))
        beyond = 0.0
    for count, low, high in zip(one.counts[-2::-1], lows[-2::-1], lows[:0:-1], strict=True):
        moved = min(beyond, float(count * (high - low)))
        most += moved * float(low + high)
        beyond -= moved
    square = one.mean_ms * one.mean_ms
    return max(least / one.n - square, 0.0), max(most / one.n - square, 0.0)


def mean_ratio_floor(
    run: Histogram, baseline: Histogram, block: float, log_threshold: float
) -> float | None:
    """The largest ratio that the means' ratio is shown to be above; None if there is none."""

    def shown(ratio: float) -> bool:
        return log_e_mean_ratio(run, baseline, ratio, block, above=True) >= log_threshold

    means = run.mean_ms, baseline.mean_ms
    if not means[0] or not means[1] or not shown(0.0):
        return None
    low, high = 0.0, means[0] / means[1]
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if shown(middle) else (low, middle)
    return low
