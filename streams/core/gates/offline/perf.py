"""The perf gate: throughput and latency of two benchmark runs, or of a run and a stored baseline.

Units are blocks within each run, so what is shown holds for runs like these two: what differs
from run to run on one build (machine, neighbours, temperature) has to fit into the margin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from .....schemas.gates.perf import PerfGate, PerfMetric
from ..verdict import Verdict
from .compare import no_worse
from .conclude import Check, Measured, conclude
from .health import completed, finite, measured_check, times_of
from .series import Run, blocks_of


def evaluate(spec: PerfGate, run: Run, baseline: Run) -> Verdict:
    """Is the new build as fast as the baseline?"""
    measured = [item for metric in spec.metrics for item in _measure(spec, metric, run, baseline)]
    names = [metric.metric for metric in spec.metrics]
    allowed = spec.max_failed_ratio
    checks = [
        same_conditions(spec, run.conditions, baseline.conditions),
        completed("baseline", baseline, allowed, "INVALID", "baseline_unhealthy"),
        completed("run", run, allowed, "FAIL", "incomplete_run"),
        *_stalls(spec, run, baseline),
    ]
    for side, one in (("run", run), ("baseline", baseline)):
        checks.append(finite(side, names, one, "INVALID", "unreadable_file"))
        checks += [measured_check(m, side, one) for m in spec.metrics if m.critical]
    n = min((item.n for item in measured if item.critical), default=0)
    return conclude(spec, measured, checks, n, spec.min_blocks, "blocks in the shorter run")


def _measure(spec: PerfGate, metric: PerfMetric, run: Run, baseline: Run) -> Iterator[Measured]:
    old = blocks_of(baseline, metric, spec.warmup, spec.block)
    if old is None:
        return
    # the baseline says how long blocks are, for both
    new = blocks_of(run, metric, spec.warmup, old.length)
    if new is None:
        return
    yield no_worse(
        metric.name,
        new.values,
        old.values,
        metric.direction,
        metric.margin_ratio,
        "perf_regression",
        metric.critical,
        {"block": old.length, "values": new.measured, "autocorrelation": round(old.phi, 3)},
    )


def same_conditions(spec: PerfGate, run: Mapping[str, str], baseline: Mapping[str, str]) -> Check:
    """Whether both runs were made under the same conditions, as far as both files tell."""
    both = sorted((run.keys() & baseline.keys()) - set(spec.may_differ))
    differ = [name for name in both if run[name] != baseline[name]]
    told = ", ".join(f"{name} {run[name]}, baseline {baseline[name]}" for name in differ)
    return Check(
        "conditions",
        not differ,
        told or f"equal: {', '.join(both) or 'none told'}",
        "INVALID",
        "different_workload",
    )


def _stalls(spec: PerfGate, run: Run, baseline: Run) -> Iterator[Check]:
    """No time of the run is out of all proportion to the baseline's longest."""
    for name in times_of(spec.metrics, spec.warmup, run, baseline):
        new, old = (r.timing(name)[spec.warmup :] for r in (run, baseline))
        longest, reference = float(np.nanmax(new)), float(np.nanmax(old))
        at = int(np.nanargmax(new)) + spec.warmup + 1
        yield Check(
            "stall",
            longest <= spec.max_stall_ratio * reference,
            f"{name}: number {at} of {len(new) + spec.warmup} took {longest:,.4g} ms, the longest of "
            f"the baseline {reference:,.4g} ms; allowed {spec.max_stall_ratio:g} times",
            "FAIL",
            "stalled",
        )
