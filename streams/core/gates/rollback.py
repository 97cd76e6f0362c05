"""The rollback gate: minutes of a release in, FAIL as soon as it must go back."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from ....schemas.gates.absolute import LatencyLimit, RateLimit
from ....schemas.gates.rollback import AcceptanceDrop, RollbackGate, RollbackLimit
from ..slo.detector import STEPS
from .answers import Asked, Outlook, told, verdict_of
from .canonical import spec_hash
from .cells import Cells, cells_of, check_rows, contradictory
from .interface import (
    CONTROL,
    TREATMENT,
    Context,
    GateInputs,
    IntArray,
    Wanted,
    WantedMetric,
)
from .live_state import LiveState, TestState, fault_of, state_of_epoch
from .reasons import Reason
from .two_arm_evidence import rounded
from .units import allowed_rate, declared
from .verdict import Evidence, Verdict, VerdictName, because
from .watch_state import MINUTE_S, WatchState, alarmed, learnt, watched

_LN10 = math.log(10.0)
_FIELDS = {"error_rate": "error", "safety_rate": "safety"}


def wanted_by(spec: RollbackGate) -> Wanted:
    """What the query of a rollback gate must deliver: minutes of requests."""
    return Wanted(
        arms=({} if spec.baseline is None else spec.baseline.given(), spec.treatment.given()),
        unit="request",
        strata=(),
        block_s=MINUTE_S,
        mature_s=spec.mature_s,
        metrics=tuple(_wanted(limit) for limit in spec.limits),
    )


def _wanted(limit: RollbackLimit) -> WantedMetric:
    if isinstance(limit, LatencyLimit):
        return WantedMetric(
            limit.name, "rate", f"above:{limit.field}", "request", limit=limit.max_ms
        )
    if isinstance(limit, RateLimit):
        return WantedMetric(limit.name, "rate", _FIELDS[limit.metric], "unit")
    return WantedMetric(limit.name, "rate", "unaccepted", "unit")


def advance_rollback(
    spec: RollbackGate, state: LiveState, inputs: GateInputs, context: Context
) -> tuple[LiveState, Verdict]:
    """Count further minutes and answer; see interface.py.

    Raises:
        ValueError: rows that no correct caller sends, or an epoch older than the state's.
    """
    check_rows(inputs)
    start_us = context.watermark_us
    if len(inputs.end_us):
        start_us = int(inputs.end_us[0]) - MINUTE_S * 1_000_000
    state = state_of_epoch(spec, state, context, start_us)
    fault = fault_of(spec, state, inputs, context)
    if fault is not None:
        return state, _answer(spec, state, context, fault)
    start = int(np.searchsorted(inputs.end_us, state.end_us, side="right"))
    if start < len(inputs.end_us):
        state = _count(spec, state, inputs, start)
    return state, _answer(spec, state, context)


def _count(spec: RollbackGate, state: LiveState, inputs: GateInputs, start: int) -> LiveState:
    cells, workers = cells_of(inputs, start, len(inputs.end_us), state.workers)
    wrong = contradictory(cells)
    sums = {limit.name: _sums(cells, limit) for limit in spec.limits}
    assigned = cells.per_block(cells.assigned).sum(axis=2)
    state = replace(state, workers=workers)
    for block in range(cells.blocks):
        if state.broken is not None:
            return state
        if wrong[block]:
            return replace(state, broken="inconsistent_counts")
        end_us = int(inputs.end_us[start + block])
        counts = {name: (bad[block], n[block]) for name, (bad, n) in sums.items()}
        pair = (int(assigned[block, TREATMENT]), int(assigned[block, CONTROL]))
        coverage = float(inputs.coverage[start + block])
        state = replace(
            _minute(spec, state, counts, end_us, pair),
            coverage=None if math.isnan(coverage) else coverage,
        )
    return state


_Counts: TypeAlias = dict[str, tuple[IntArray, IntArray]]


def _sums(cells: Cells, limit: RollbackLimit) -> tuple[IntArray, IntArray]:
    rows = cells.metrics.get(limit.name)
    if rows is None or rows.bad is None:
        raise ValueError(f"the inputs hold no metric {limit.name}")
    return cells.per_block(rows.bad).sum(axis=2), cells.per_block(rows.n).sum(axis=2)


def _minute(
    spec: RollbackGate, state: LiveState, counts: _Counts, end_us: int, assigned: tuple[int, int]
) -> LiveState:
    """Count one minute; the first FAIL latches."""
    tests: dict[str, TestState] = dict(state.tests)
    alpha = spec.alpha_fail / len(spec.limits)
    for limit in spec.limits:
        before = tests.get(limit.name)
        watch = before if isinstance(before, WatchState) else _begun(limit)
        bad, n = counts[limit.name]
        if isinstance(limit, AcceptanceDrop):
            watch = learnt(
                watch, int(bad[CONTROL]), int(n[CONTROL]), limit.baseline_blocks, limit.sigmas
            )
        tests[limit.name] = watched(
            watch, int(bad[TREATMENT]), int(n[TREATMENT]), end_us, spec.for_s, alpha
        )
    before_pair = state.assigned.get("", (0, 0))
    first_us = state.first_us
    if first_us is None and assigned[0]:
        first_us = end_us - MINUTE_S * 1_000_000
    after = replace(
        state,
        end_us=end_us,
        first_us=first_us,
        tests=tests,
        assigned={"": (before_pair[0] + assigned[0], before_pair[1] + assigned[1])},
    )
    if after.latched is None and any(_fails(spec, after, limit) for limit in spec.limits):
        return replace(after, latched=_found(spec, after, "FAIL", ("limit_held",)))
    return after


def _begun(limit: RollbackLimit) -> WatchState:
    return WatchState(limit=None if isinstance(limit, AcceptanceDrop) else allowed_rate(limit))


def _watch(state: LiveState, limit: RollbackLimit) -> WatchState:
    found = state.tests.get(limit.name)
    return found if isinstance(found, WatchState) else _begun(limit)


def _fails(spec: RollbackGate, state: LiveState, limit: RollbackLimit) -> bool:
    watch = _watch(state, limit)
    return watch.held and alarmed(watch, state.end_us, spec.for_s)


def _answer(
    spec: RollbackGate, state: LiveState, context: Context, fault: Reason | None = None
) -> Verdict:
    asked = Asked(
        spec=spec,
        epoch=state.epoch,
        spec_hash=state.spec_hash,
        engine=state.engine,
        watermark_us=context.watermark_us,
        left_us=None,
        latched=state.latched is not None and fault is None,
    )
    if fault is None and state.latched is not None:
        return verdict_of(asked, state.latched, Outlook())
    if fault is not None or state.broken is not None:
        why: tuple[Reason, ...] = (fault or state.broken or "inconsistent_counts",)
        return verdict_of(asked, _found(spec, state, "INVALID", why), Outlook())
    if state.first_us is None:
        return verdict_of(asked, _found(spec, state, "NO_DATA", ("no_traffic",)), Outlook())
    doubts: tuple[Reason, ...] = () if state.coverage is not None else ("coverage_unknown",)
    return verdict_of(asked, _found(spec, state, "UNDECIDED", ("watching", *doubts)), Outlook())


def _found(
    spec: RollbackGate, state: LiveState, verdict: VerdictName, why: tuple[Reason, ...]
) -> dict[str, Any]:
    same = state.spec_hash == spec_hash(spec)
    evidence = tuple(_evidence(spec, state, limit) for limit in spec.limits) if same else ()
    n = state.units[TREATMENT]
    text = because(verdict, why, n, "requests")
    failed = [item for item in evidence if item.decision == "FAIL"]
    if verdict == "FAIL" and failed:
        told_of = "; ".join(
            f"{item.metric} {item.estimate:.3g} against {item.limit:.3g}"
            for item in failed
            if item.estimate is not None
        )
        text = f"FAIL: broken for {spec.for_s} s, and no chance: {told_of}"
    return told(verdict, why, evidence, n, state.end_us, text)


def _evidence(spec: RollbackGate, state: LiveState, limit: RollbackLimit) -> Evidence:
    watch = _watch(state, limit)
    bad, n = (sum(pair[at] for pair in watch.recent) for at in (0, 1))
    decision: VerdictName = "NO_DATA" if watch.n == 0 else "UNDECIDED"
    if _fails(spec, state, limit):
        decision = "FAIL"
    threshold = math.log(STEPS * len(spec.limits) / spec.alpha_fail) / _LN10
    if isinstance(limit, AcceptanceDrop):
        words = f"acceptance - {limit.sigmas:g} sigma"
    else:
        words = declared(limit)
    return Evidence(
        metric=limit.name,
        declared=words,
        unit="ratio",
        limit=rounded(watch.limit) or 0.0,
        estimate=rounded(bad / n) if n else None,
        low=None,
        high=None,
        confidence=1.0 - spec.alpha_fail,
        log10_e_fail=rounded(watch.log_e / _LN10) or 0.0,
        log10_e_pass=0.0,
        threshold_fail=rounded(threshold) or 0.0,
        threshold_pass=0.0,
        n=n,
        bad=bad,
        critical=True,
        decision=decision,
        n_needed=None,
        detail={
            "held": watch.held,
            "alarmed": alarmed(watch, state.end_us, spec.for_s),
            "n_total": watch.n,
            "bad_total": watch.bad,
        },
    )
