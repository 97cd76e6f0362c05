"""The stability gate: variation and drift within one run, over blocks.

**cv.** Two neighbouring blocks a, b have the coefficient of variation sqrt(2) |a - b| / (a + b),
which for normal blocks of coefficient c is c |Z|, of median 0.6745 c. So "cv <= c" is tested as
"at most half of the pairs of neighbours differ by more than 0.6745 c", a rate with an exact
e-value, on pairs that do not overlap. Slow drift hardly enters: it has its own test.

**burst.** A few wild blocks hide behind a median: at most `max_burst_ratio` of the pairs may differ
by more than 3 c.

**drift.** The blocks after a split against those before it, by ranks, with the margin both ways.
FAIL is the average e-value over splits at 1/2, 3/4 and 7/8 and both directions; PASS needs both
directions shown at 1/2 and at 3/4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from .....schemas.gates.stability import StabilityGate, StabilityMetric
from ..boundaries import rate_confidence_sequence
from ..eprocess import BetaPrior, FloatArray, log_e_above, log_e_below
from ..reasons import Reason
from ..verdict import Verdict
from .conclude import Check, Interval, Measured, conclude
from .health import completed, finite, measured_check, times_of
from .ranks import log_e_larger, ratio_interval, ratio_of
from .series import Run, blocks_of

NORMAL_QUARTILE = float(stats.norm.ppf(0.75))
_BURST = 3.0
_SPLITS = (0.5, 0.75, 0.875)
_PASS_SPLITS = (0.5, 0.75)


def evaluate(spec: StabilityGate, run: Run) -> Verdict:
    """Did the run stay what it was?"""
    measured = [item for metric in spec.metrics for item in _measures(spec, metric, run)]
    checks = [
        completed("run", run, spec.max_failed_ratio, "FAIL", "incomplete_run"),
        finite("run", [m.metric for m in spec.metrics], run, "INVALID", "unreadable_file"),
        *(measured_check(metric, "run", run) for metric in spec.metrics if metric.critical),
        *_stalls(spec, run),
    ]
    n = min((item.n for item in measured if item.unit == "relative" and item.critical), default=0)
    return conclude(spec, measured, checks, n, spec.min_blocks, "blocks")


def _measures(spec: StabilityGate, metric: StabilityMetric, run: Run) -> Iterator[Measured]:
    blocks = blocks_of(run, metric, spec.warmup, spec.block)
    if blocks is None:
        return
    spread = pair_cv(blocks.values)
    cv = f"{metric.max_cv * 100:g} %"
    yield _cv(metric, spread, f"cv {cv}")
    bursts = spread > _BURST * metric.max_cv
    declared = f"{spec.max_burst_ratio * 100:g} % of pairs beyond 3 times cv {cv}"
    yield _share(f"{metric.name}_burst", bursts, spec.max_burst_ratio, declared, "bursts", metric)
    yield drift(f"{metric.name}_drift", blocks.values, metric.max_drift_ratio, metric.critical)


def pair_cv(blocks: FloatArray) -> FloatArray:
    """Coefficient of variation of each two neighbours, shape (B // 2,); 0 for two zeros.

    >>> pair_cv(np.array([1.0, 1.0, 3.0, 1.0])).round(4).tolist()
    [0.0, 0.7071]
    """
    a, b = blocks[0 : blocks.size // 2 * 2 : 2], blocks[1::2]
    total = np.abs(a) + np.abs(b)
    apart = math.sqrt(2.0) * np.abs(a - b)
    return np.asarray(np.divide(apart, total, out=np.zeros_like(a), where=total > 0), np.float64)


def _cv(metric: StabilityMetric, spread: FloatArray, declared: str) -> Measured:
    """The coefficient of variation, by the median pair."""
    beyond = spread > NORMAL_QUARTILE * metric.max_cv
    share = _share(f"{metric.name}_cv", beyond, 0.5, declared, "unstable", metric)
    told = np.sort(spread) / NORMAL_QUARTILE

    def interval(alpha: float) -> Interval:
        threshold, prior = math.log(2.0 / alpha), BetaPrior.around(0.5)
        # how many pairs lie beyond each value that occurs
        more, n = told.size - 1 - np.arange(told.size), np.full(told.size, told.size)
        small = told[log_e_above(more, n, 0.5, prior) >= threshold]
        large = told[log_e_below(more, n, 0.5, prior) >= threshold]
        return float(small[-1]) if small.size else 0.0, float(large[0]) if large.size else None

    return replace(
        share,
        limit=metric.max_cv,
        estimate=float(np.median(told)) if told.size else None,
        interval=interval,
    )


def _share(
    name: str,
    bad: npt.NDArray[np.bool_],
    allowed: float,
    declared: str,
    reason: Reason,
    metric: StabilityMetric,
) -> Measured:
    """A share of pairs of blocks against what is allowed."""
    pairs, wrong = bad.size, int(bad.sum())
    prior = BetaPrior.around(allowed)

    def log_e(scale: float) -> tuple[float, float]:
        x, n = [wrong * scale], [pairs * scale]
        above, below = log_e_above(x, n, allowed, prior), log_e_below(x, n, allowed, prior)
        return float(above[0]), float(below[0])

    def interval(alpha: float) -> Interval:
        return rate_confidence_sequence(wrong, pairs, alpha, 100.0)

    return Measured(
        metric=name,
        declared=declared,
        unit="ratio",
        limit=allowed,
        estimate=wrong / pairs if pairs else None,
        n=pairs,
        log_e=log_e,
        interval=interval,
        reason=reason,
        critical=metric.critical,
        bad=wrong,
    )


def drift(name: str, blocks: FloatArray, margin_ratio: float, critical: bool = True) -> Measured:
    """The end of a run against its start, with a margin both ways."""
    up, down = 1.0 + margin_ratio, 1.0 - margin_ratio

    def at(share: float) -> tuple[FloatArray, FloatArray]:
        cut = round(blocks.size * share)
        return blocks[cut:], blocks[:cut]

    def log_e(scale: float) -> tuple[float, float]:
        fails = [
            value
            for share in _SPLITS
            for after, before in (at(share),)
            for value in (
                log_e_larger(after, before * up, scale),
                log_e_larger(before * down, after, scale),
            )
        ]
        passes = [
            value
            for share in _PASS_SPLITS
            for after, before in (at(share),)
            for value in (
                log_e_larger(before * up, after, scale),
                log_e_larger(after, before * down, scale),
            )
        ]
        return float(special.logsumexp(fails) - math.log(len(fails))), min(passes)

    def interval(alpha: float) -> Interval:
        return ratio_interval(*at(0.5), alpha)

    return Measured(
        metric=name,
        declared=f"{margin_ratio * 100:g} % either way",
        unit="relative",
        limit=up,
        estimate=ratio_of(*at(0.5)),
        n=blocks.size,
        log_e=log_e,
        interval=interval,
        reason="drifted",
        critical=critical,
    )


def _stalls(spec: StabilityGate, run: Run) -> Iterator[Check]:
    """No time of the run is out of all proportion to its median."""
    for name in times_of(spec.metrics, spec.warmup, run):
        times = run.timing(name)[spec.warmup :]
        longest, median = float(np.nanmax(times)), float(np.nanmedian(times))
        at = int(np.nanargmax(times)) + spec.warmup + 1
        yield Check(
            "stall",
            longest <= spec.max_stall_ratio * median,
            f"{name}: number {at} of {len(times) + spec.warmup} took {longest:,.4g} ms, the median "
            f"is {median:,.4g} ms; allowed {spec.max_stall_ratio:g} times",
            "FAIL",
            "stalled",
        )
