"""The training gate: loss, gradient norm, step time, MFU.

**The loss moved.** The blocks of the run's last quarter are shown to lie below those of its first
quarter by at least `min_loss_drop_ratio`, by ranks. A run that never trained is shown not to.

**Nothing changed for the worse.** FAIL is the average of two e-values on block medians
(changes.py), alpha for the whole run. PASS: the last quarter is shown to be no worse than the half
before it, by ranks, and a change is no likelier than none (its e-value is at most 1).

A value that is not finite is a run that diverged: no test is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from .....schemas.gates.offline import SeriesMetric
from .....schemas.gates.training import TrainingGate, TrainingMetric
from ..verdict import Verdict
from .changes import find_change
from .compare import arm_of, no_worse
from .conclude import Interval, Measured, conclude
from .health import completed, finite, measured_check
from .ranks import log_e_larger, ratio_interval, ratio_of
from .series import Run, blocks_of


def evaluate(spec: TrainingGate, run: Run) -> Verdict:
    """Did the run learn, and did it stay healthy?"""
    loss = SeriesMetric(metric=spec.loss, statistic="median")
    wanted = [loss, *(metric for metric in spec.metrics if metric.critical)]
    moved = _moved(spec, loss, run)
    measured = [*moved, *(m for metric in spec.metrics for m in _health(spec, metric, run))]
    checks = [
        *(measured_check(metric, "run", run) for metric in wanted),
        finite("run", (spec.loss, "grad_norm"), run, "FAIL", "diverged"),
        completed("run", run, spec.max_missing_ratio, "NO_DATA", "low_coverage"),
    ]
    n = min((int(item.detail["blocks"]) for item in measured if item.critical), default=0)
    return conclude(spec, measured, checks, n, spec.min_blocks, "blocks")


def _moved(spec: TrainingGate, loss: SeriesMetric, run: Run) -> Iterator[Measured]:
    """The last quarter of the loss against the first."""
    blocks = blocks_of(run, loss, spec.warmup, spec.block)
    if blocks is None:
        return
    quarter = blocks.values.size // 4
    first, last = blocks.values[:quarter], blocks.values[blocks.values.size - quarter :]
    drop = spec.min_loss_drop_ratio
    # a loss may be negative: the fall is a share of its size
    fallen = first - drop * np.abs(first)

    def log_e(scale: float) -> tuple[float, float]:
        return log_e_larger(last, fallen, scale), log_e_larger(fallen, last, scale)

    def interval(alpha: float) -> Interval:
        return ratio_interval(last, first, alpha)

    yield Measured(
        metric=f"{spec.loss}_moved",
        declared=f"a fall of {drop * 100:g} % or more",
        unit="relative",
        limit=1.0 - drop,
        estimate=ratio_of(last, first),
        n=quarter,
        log_e=log_e,
        interval=interval,
        reason="never_trained",
        arms=(arm_of("last_quarter", last), arm_of("first_quarter", first)),
        detail={"blocks": blocks.values.size},
    )


def _health(spec: TrainingGate, metric: TrainingMetric, run: Run) -> Iterator[Measured]:
    """No change for the worse, as the detector sees it; FAIL only beyond the margin."""
    blocks = blocks_of(run, metric, spec.warmup, spec.block)
    if blocks is None:
        return
    values = blocks.values
    half = values.size // 2
    late, before = values[values.size - half // 2 :], values[half // 2 : values.size - half // 2]
    change = find_change(values, metric.better, metric.margin_ratio)
    suspected = change.log_e > 0.0
    end = no_worse(
        metric.name,
        late,
        before,
        metric.better,
        metric.margin_ratio,
        "training_changed",
        metric.critical,
        {
            "blocks": values.size,
            "changed_at": change.at * spec.block + spec.warmup if suspected and change.at else None,
        },
    )

    def log_e(scale: float) -> tuple[float, float]:
        log_pass = end.log_e(scale)[1]
        if suspected:
            return change.log_e * scale, min(log_pass, 0.0)
        return change.log_e, log_pass

    yield replace(end, log_e=log_e)
