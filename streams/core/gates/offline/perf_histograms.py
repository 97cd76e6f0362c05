"""The perf gate on histograms: quantiles and means of two runs, as far as buckets tell them apart.

A histogram has no order, so it cannot show how long requests depend on each other, as perf.py sees
in blocks: `block` says it, ten values if nothing does, as for requests that show no dependence.
Failures, and what was left out at the start, it does not show either.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from .....schemas.gates.perf import PerfGate, PerfMetric
from ..histograms import TOO_WIDE, Histogram, Histograms, bucket_text, ends_of
from ..verdict import ArmEvidence, Verdict
from .conclude import Check, Interval, Measured, conclude, evidence_of
from .histogram_ratios import (
    log_e_mean_ratio,
    log_e_quantile_ratio,
    mean_ratio_floor,
    quantile_ratio_interval,
)
from .perf import same_conditions
from .series import block_length

_INDEPENDENT = 0.0
_QUANTILES = {"median": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


def evaluate(spec: PerfGate, run: Histograms, baseline: Histograms) -> Verdict:
    """Is the new build as fast as the baseline?"""
    block = spec.block or block_length(_INDEPENDENT)
    asked = [metric for metric in spec.metrics if not _unmeasured(spec, metric, run, baseline)]
    pairs = [(m, run.fields[m.metric], baseline.fields[m.metric]) for m in asked]
    measured = [_measure(metric, new, old, block) for metric, new, old in pairs]
    checks = [same_conditions(spec, run.conditions, baseline.conditions)]
    for metric in spec.metrics:
        why = _unmeasured(spec, metric, run, baseline)
        if metric.critical:
            text = why or f"both have {metric.name}"
            checks.append(Check("measured", not why, text, "NO_DATA", "metric_missing"))
    for metric, new, old in {pair[0].metric: pair for pair in pairs if pair[0].critical}.values():
        checks.append(_stall(spec, metric, new, old))
    decided = zip(pairs, evidence_of(spec, measured), strict=True)
    for (metric, new, old), evidence in decided:
        if metric.critical and evidence.decision == "UNDECIDED":
            checks += _open(spec, metric, new, old, block)
    checks += [
        Check("input", True, str(told["text"]), "INVALID", "unreadable_file")
        for side, one in (("run", run), ("baseline", baseline))
        for told in one.input_checks(side)
    ]
    n = min((item.n for item in measured if item.critical), default=0)
    units = f"blocks of {block:,} values in the shorter run"
    return conclude(spec, measured, checks, n, spec.min_blocks, units)


def _unmeasured(spec: PerfGate, metric: PerfMetric, run: Histograms, baseline: Histograms) -> str:
    """Why a metric cannot be told; empty where it can."""
    if metric.statistic == "per_s":
        return f"{metric.name}: a histogram does not tell how long its values took together"
    for side, one in (("run", run), ("baseline", baseline)):
        if metric.metric not in one.fields:
            return f"{side}: {one.lacks(metric.metric)}"
        if not one.fields[metric.metric].n:
            return f"{side}: the histogram of {metric.metric} is empty"
        if metric.statistic == "mean" and one.fields[metric.metric].sum_ms is None:
            return f"{side}: there is no sum of {metric.metric} for its mean"
    if spec.block is None and metric.metric in run.of_tokens | baseline.of_tokens:
        return (
            f"{metric.metric} counts tokens, and those of one request are alike: state in `block` how "
            "many tokens ten requests have, or ask for a time of requests, such as tpot_ms"
        )
    return ""


def _measure(metric: PerfMetric, new: Histogram, old: Histogram, block: int) -> Measured:
    lower = metric.direction == "lower"
    limit = metric.margin_ratio if lower else 1.0 / metric.margin_ratio
    is_mean = metric.statistic == "mean"

    def log_e(scale: float) -> tuple[float, float]:
        return _log_e(metric, new, old, block / scale)

    def interval(alpha: float) -> Interval:
        threshold = math.log(2.0 / alpha)
        if not is_mean:
            q = _QUANTILES[metric.statistic]
            return quantile_ratio_interval(new, old, q, block, threshold)
        if lower:
            return mean_ratio_floor(new, old, block, threshold), None
        floor = mean_ratio_floor(old, new, block, threshold)
        return None, 1.0 / floor if floor else None

    arms = (("treatment", new), ("control", old))
    return Measured(
        metric=metric.name,
        declared=f"{(limit - 1.0) * 100:+.3g} %",
        unit="relative",
        limit=limit,
        estimate=new.mean_ms / old.mean_ms if is_mean and new.mean_ms and old.mean_ms else None,
        n=min(new.n, old.n) // block,
        log_e=log_e,
        interval=interval,
        reason="perf_regression",
        critical=metric.critical,
        arms=tuple(
            ArmEvidence(name, one.n // block, None, one.mean_ms if is_mean else None)
            for name, one in arms
        ),
        detail={"block": block, "values": new.n}
        | {f"{name}_mean_ms": one.mean_ms for name, one in arms}
        | {
            f"{name}_bucket_ms": ends_of(one.quantile(_QUANTILES[metric.statistic]))
            for name, one in arms
            if not is_mean
        },
    )


def _log_e(
    metric: PerfMetric, new: Histogram, old: Histogram, block: float, sure: bool = True
) -> tuple[float, float]:
    """Log e-values for FAIL and for PASS."""
    lower = metric.direction == "lower"
    limit = metric.margin_ratio if lower else 1.0 / metric.margin_ratio
    if metric.statistic == "mean":
        return log_e_mean_ratio(new, old, limit, block, above=lower, sure=sure), 0.0
    q = _QUANTILES[metric.statistic]
    above = log_e_quantile_ratio(new, old, q, limit, "FAIL", block, sure)
    below = log_e_quantile_ratio(new, old, q, limit, "PASS", block, sure)
    return (above, below) if lower else (below, above)


def _open(
    spec: PerfGate, metric: PerfMetric, new: Histogram, old: Histogram, block: int
) -> Iterator[Check]:
    """Why an undecided metric is: its buckets, where it would be decided at their other end."""
    shares = sum(other.critical for other in spec.metrics)
    log_fail, log_pass = _log_e(metric, new, old, block, sure=False)
    wide = log_fail >= math.log(shares / spec.alpha_fail) or log_pass >= -math.log(spec.alpha_pass)
    if metric.statistic == "mean":
        text = (
            f"{metric.name}: a mean is never shown to be within its margin, as values may be too rare "
            "to be in a histogram; ask for a quantile, or set critical: false"
        )
        yield Check("mean", False, text, "UNDECIDED", TOO_WIDE if wide else "not_enough_evidence")
    elif wide:
        q = _QUANTILES[metric.statistic]
        text = (
            f"{metric.name} is in the bucket {bucket_text(new.quantile(q))}, of the baseline in "
            f"{bucket_text(old.quantile(q))}: too wide for {metric.margin_ratio:g} times; compare "
            "results that hold each request, or use narrower buckets"
        )
        yield Check("buckets", False, text, "UNDECIDED", TOO_WIDE)


def _stall(spec: PerfGate, metric: PerfMetric, new: Histogram, old: Histogram) -> Check:
    """No time of the run is out of all proportion to the baseline's longest, as far as buckets tell."""
    (low, high), (old_low, old_high) = new.longest(), old.longest()
    text = (
        f"{metric.metric}: the longest is in the bucket {bucket_text((low, high))}, that of the baseline "
        f"in {bucket_text((old_low, old_high))}; allowed {spec.max_stall_ratio:g} times"
    )
    if low >= spec.max_stall_ratio * old_high:
        return Check("stall", False, text, "FAIL", "stalled")
    return Check("stall", high <= spec.max_stall_ratio * old_low, text, "UNDECIDED", TOO_WIDE)
