"""The canary gate: blocks in, verdict out.

`advance` is pure: the same specification, state and blocks give the same state and the same digest, in
however many calls the blocks arrive.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ....schemas.gates.absolute import LatencyLimit
from ....schemas.gates.canary import CanaryGate, HealthLimit
from .canary_answer import answer, fixed
from .cells import Cells, cells_of, check_rows, contradictory
from .combine import thresholds
from .eprocess import BetaPrior, FloatArray, log_e_above
from .interface import (
    CONTROL,
    TREATMENT,
    Context,
    GateInputs,
    IntArray,
    Wanted,
    WantedMetric,
)
from .live_state import Health, LiveState, TestState, fault_of, state_of_epoch
from .mean_state import MeanState, advance_mean
from .quantile_state import QuantileState, advance_quantile
from .ratio_state import RatioState, advance_ratio
from .reasons import Reason
from .sample_ratio import log_e_shares
from .tested import MeanTest, QuantileTest, RatioTest, Tested, metrics_tested
from .trace import Trace
from .units import allowed_rate
from .verdict import Verdict, VerdictName

_CHUNK = 256
"""Blocks counted together: bounds the memory of a catch-up, and changes no result."""
_HEALTH_FIELDS = {"error_rate": "error", "safety_rate": "safety"}


def wanted_by(spec: CanaryGate) -> Wanted:
    """What the query of a canary gate must deliver."""
    health = [_health_metric(limit) for limit in spec.baseline_health]
    return Wanted(
        arms=(spec.control.given(), spec.treatment.given()),
        unit=spec.unit,
        strata=spec.strata,
        block_s=spec.blocks_s,
        mature_s=spec.mature_s,
        metrics=(*(test.wanted for test in metrics_tested(spec)), *health),
    )


def _health_metric(limit: HealthLimit) -> WantedMetric:
    name = f"baseline:{limit.name}"
    if isinstance(limit, LatencyLimit):
        return WantedMetric(name, "rate", f"above:{limit.field}", "request", limit=limit.max_ms)
    return WantedMetric(name, "rate", _HEALTH_FIELDS[limit.metric], "unit")


def advance_canary(
    spec: CanaryGate, state: LiveState, inputs: GateInputs, context: Context
) -> tuple[LiveState, Verdict]:
    """Count further blocks and answer; see interface.py.

    Raises:
        ValueError: rows that no correct caller sends, or an epoch older than the state's.
    """
    check_rows(inputs)
    state = _in_epoch(spec, state, inputs, context)
    fault = fault_of(spec, state, inputs, context)
    if fault is None and context.clock_skew_s > spec.max_clock_skew_s:
        fault = "clock_skew"
    if fault is not None:
        return state, answer(spec, state, context, fault)
    start = int(np.searchsorted(inputs.end_us, state.end_us, side="right"))
    for low in range(start, len(inputs.end_us), _CHUNK):
        high = min(low + _CHUNK, len(inputs.end_us))
        state = _count(spec, state, inputs, low, high)
    return state, answer(spec, state, context)


def _in_epoch(
    spec: CanaryGate, state: LiveState, inputs: GateInputs, context: Context
) -> LiveState:
    block_us = spec.blocks_s * 1_000_000
    start_us = int(inputs.end_us[0]) - block_us if len(inputs.end_us) else context.watermark_us
    return state_of_epoch(spec, state, context, start_us)


def _count(
    spec: CanaryGate, state: LiveState, inputs: GateInputs, low: int, high: int
) -> LiveState:
    """Count blocks; nothing is counted from the first that contradicts itself, nor after a verdict.

    A latched verdict carries its own evidence, so what comes after it has no reader: only the time goes on.
    """
    if state.broken == "inconsistent_counts":
        return state
    if state.latched is not None:
        return replace(state, end_us=int(inputs.end_us[high - 1]))
    wrong = contradictory(cells_of(inputs, low, high, state.workers)[0])
    if not wrong.any():
        return _decide(spec, state, inputs, low, high)
    stop = low + int(np.argmax(wrong))
    if stop > low:
        state = _decide(spec, state, inputs, low, stop)
    return replace(state, broken="inconsistent_counts")


def _decide(
    spec: CanaryGate, state: LiveState, inputs: GateInputs, low: int, high: int
) -> LiveState:
    """Count blocks and fix the first decision, or the first break, at its own block."""
    after, found = _counted(spec, state, inputs, low, high)
    if state.broken is not None:
        return after
    first = _first(spec, found, inputs.coverage[low:high])
    if first is None:
        return after
    at, what = first
    cut = fixed(spec, _counted(spec, state, inputs, low, low + at + 1)[0], what)
    return _count(spec, cut, inputs, low + at + 1, high) if low + at + 1 < high else cut


@dataclass(frozen=True, slots=True)
class _Found:
    """A gate after every block of a call."""

    traces: Mapping[str, Trace]
    bake_us: IntArray
    share: FloatArray
    unhealthy: npt.NDArray[np.bool_]


def _counted(
    spec: CanaryGate, state: LiveState, inputs: GateInputs, low: int, high: int
) -> tuple[LiveState, _Found]:
    cells, workers = cells_of(inputs, low, high, state.workers)
    tests: dict[str, TestState] = {}
    traces: dict[str, Trace] = {}
    for test in metrics_tested(spec):
        if test.name not in cells.metrics:
            raise ValueError(f"the inputs hold no metric {test.name}")
        tests[test.name], traces[test.name] = _advanced(test, state.tests.get(test.name), cells)
    assigned, share = _shares(spec, state, cells, inputs.share[low:high])
    health, unhealthy = _health(spec, state, cells)
    end_us = inputs.end_us[low:high]
    first_us = state.first_us
    if first_us is None:
        there = cells.per_block(cells.assigned)[:, TREATMENT].sum(axis=1) > 0
        if there.any():
            first_us = int(end_us[int(np.argmax(there))]) - spec.blocks_s * 1_000_000
    coverage = float(inputs.coverage[high - 1])
    after = replace(
        state,
        end_us=int(end_us[-1]),
        first_us=first_us,
        workers=workers,
        assigned=assigned,
        log_e_share=float(share[-1]),
        coverage=None if math.isnan(coverage) else coverage,
        health=health,
        tests=tests,
    )
    bake_us = np.maximum(end_us - first_us, 0) if first_us is not None else end_us * 0
    return after, _Found(traces, bake_us, share, unhealthy)


def _advanced(test: Tested, state: TestState | None, cells: Cells) -> tuple[TestState, Trace]:
    if isinstance(test, RatioTest):
        return advance_ratio(test, state if isinstance(state, RatioState) else RatioState(), cells)
    if isinstance(test, QuantileTest):
        before = state if isinstance(state, QuantileState) else QuantileState()
        return advance_quantile(test, before, cells)
    assert isinstance(test, MeanTest)
    return advance_mean(test, state if isinstance(state, MeanState) else MeanState(), cells)


def _shares(
    spec: CanaryGate, state: LiveState, cells: Cells, configured: FloatArray
) -> tuple[dict[str, tuple[int, int]], FloatArray]:
    """Assigned units by configured share, and the highest log e-value after each block."""
    units = cells.per_block(cells.assigned).sum(axis=2)
    assigned = dict(state.assigned)
    peak, found = state.log_e_share, np.zeros(cells.blocks)
    for block in range(cells.blocks):
        share = spec.share if math.isnan(configured[block]) else float(configured[block])
        key = "" if share is None or not 0 < share < 1 else repr(share)
        treatment, control = assigned.get(key, (0, 0))
        assigned[key] = (
            treatment + int(units[block, TREATMENT]),
            control + int(units[block, CONTROL]),
        )
        tested = {float(name): counts for name, counts in assigned.items() if name}
        peak = max(peak, log_e_shares(tested))
        found[block] = peak
    return assigned, found


def _health(
    spec: CanaryGate, state: LiveState, cells: Cells
) -> tuple[dict[str, Health], npt.NDArray[np.bool_]]:
    """Limits on control: totals, and whether one is shown to be broken after each block."""
    unhealthy = np.zeros(cells.blocks, np.bool_)
    after: dict[str, Health] = {}
    for limit in spec.baseline_health:
        before = state.health.get(limit.name, Health())
        rows = cells.metrics.get(f"baseline:{limit.name}")
        if rows is None or rows.bad is None:
            raise ValueError(f"the inputs hold no metric baseline:{limit.name}")
        n = before.n + np.cumsum(cells.per_block(rows.n)[:, CONTROL].sum(axis=1))
        bad = before.bad + np.cumsum(cells.per_block(rows.bad)[:, CONTROL].sum(axis=1))
        rate = allowed_rate(limit)
        log_e = log_e_above(np.minimum(bad, n), n, rate, BetaPrior.around(rate))
        peak = np.maximum.accumulate(np.maximum(log_e, before.log_e))
        unhealthy |= peak >= math.log(len(spec.baseline_health) / spec.health_alpha)
        after[limit.name] = Health(int(n[-1]), int(bad[-1]), float(peak[-1]))
    return after, unhealthy


def _first(
    spec: CanaryGate, found: _Found, coverage: FloatArray
) -> tuple[int, VerdictName | Reason] | None:
    """Position of the first block that decides or breaks the gate, and how.

    What breaks the comparison goes first, then FAIL, where several fall on one block.
    """
    fails = np.zeros(len(coverage), np.bool_)
    # written so that an unknown coverage, NaN, counts as low
    passes = (found.bake_us >= spec.min_bake_s * 1_000_000) & (coverage >= spec.min_coverage)
    tests = metrics_tested(spec)
    to_fail, to_pass = thresholds(spec, tests, critical=True)
    for test in tests:
        if not test.critical:
            continue
        trace = found.traces[test.name]
        fails |= trace.fail >= to_fail
        passes &= (trace.passed >= to_pass) & trace.leaning
        passes &= (trace.units >= spec.min_units).all(axis=1)
    events: list[tuple[npt.NDArray[np.bool_], VerdictName | Reason]] = [
        (found.share >= math.log(1.0 / spec.sample_ratio_alpha), "sample_ratio"),
        (found.unhealthy, "baseline_unhealthy"),
        (fails, "FAIL"),
        (passes, "PASS"),
    ]
    firsts = [(int(np.argmax(flags)), at) for at, (flags, _) in enumerate(events) if flags.any()]
    if not firsts:
        return None
    at, event = min(firsts)
    return at, events[event][1]
