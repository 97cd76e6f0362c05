"""Checks on a run as a whole: is it there, is it complete?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np

from .....schemas.gates.offline import SeriesMetric
from ..reasons import Reason
from .conclude import Check
from .series import TOOK, Run


def completed(
    side: str,
    run: Run,
    allowed: float,
    verdict: Literal["FAIL", "NO_DATA", "INVALID"],
    reason: Reason,
) -> Check:
    """Whether no more than a share of a run's steps or requests failed or never came."""
    total = len(run) + run.missing
    return Check(
        f"{side}_completed",
        run.missing <= allowed * total,
        f"{side}: {run.missing:,} of {total:,} failed or never came; allowed {allowed * 100:g} %",
        verdict,
        reason,
    )


def finite(
    side: str, names: Iterable[str], run: Run, verdict: Literal["FAIL", "INVALID"], reason: Reason
) -> Check:
    """Whether values that were measured are numbers: not NaN, not infinite."""
    bad = [
        f"{name} of the {side} is no finite number at {int(np.flatnonzero(np.isinf(values))[0]) + 1}"
        for name in dict.fromkeys(names)
        for values in (run.series.get(name, np.empty(0)),)
        if bool(np.isinf(values).any())
    ]
    return Check(f"{side}_finite", not bad, "; ".join(bad) or f"all of the {side}", verdict, reason)


def measured_check(metric: SeriesMetric, side: str, run: Run) -> Check:
    """Whether a run measured a metric at all."""
    values = run.series.get(metric.metric)
    there = values is not None and bool(np.isfinite(values).any())
    untimed = metric.statistic == "per_s" and run.took_ms is None
    if not there:
        known = ", ".join(sorted(run.series)) or "none"
        text = f"the {side} has no values of {metric.metric}; it has {known}"
        if metric.metric in run.summaries or metric.name in run.summaries:
            text += ": one number of a whole run shows nothing; save it per request or step"
    elif untimed:
        text = f"the {side} does not tell how long each step took, so there is no rate per second"
    else:
        text = f"the {side} has {metric.name}"
    return Check("measured", there and not untimed, text, "NO_DATA", "metric_missing")


def times_of(metrics: Sequence[SeriesMetric], warmup: int, *runs: Run) -> Iterator[str]:
    """Names of the times among the metrics that every run measured after its warmup."""
    names = dict.fromkeys(
        TOOK if metric.statistic == "per_s" else metric.metric
        for metric in metrics
        if metric.statistic == "per_s" or metric.metric.endswith("_ms")
    )
    for name in names:
        if all(bool(np.isfinite(run.timing(name)[warmup:]).any()) for run in runs):
            yield name
