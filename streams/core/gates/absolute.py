"""The absolute gate: limits on one release, decided from the counts of closed cells.

`evaluate` is pure: the same specification, state, cells and context give the same state and the
same verdict, to the last bit, in however many calls the cells arrive. docs/gates.md explains the
tests; the module names below say where each lives.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ....schemas.gates.absolute import AbsoluteGate
from .answers import Asked, Outlook, deadline_reasons, left_us, told, verdict_of
from .canonical import ENGINE, spec_hash
from .evidence import Needs, evidence_of, needs_of, thresholds
from .state import GateState, MetricTrace, Trace, count_cells, initial_state
from .units import CELL_US, CellCounts
from .verdict import Evidence, Reason, Verdict, VerdictName, outlook, sentence

__all__ = ["CellCounts", "Context", "GateState", "evaluate", "initial_state"]

CoverageState: TypeAlias = Literal["ok", "partial", "unknown", "no_data"]


@dataclass(frozen=True, slots=True)
class Context:
    """What the runner knows beside the counts.

    Attributes:
        watermark_us: event time up to which everything is taken as complete.
        coverage: share of the expected events that was received, 0 to 1; None if unknown.
        coverage_state: worst state of the workers behind the counts.
        epoch: number of the gate's current life; a new release or a reset counts it up.
        requests_per_s: recent traffic of the filter.
    """

    watermark_us: int
    coverage: float | None = 1.0
    coverage_state: CoverageState = "ok"
    epoch: int = 0
    requests_per_s: float = 0.0


def evaluate(
    spec: AbsoluteGate, state: GateState, cells: CellCounts, context: Context
) -> tuple[GateState, Verdict]:
    """Count further cells and answer.

    Cells that end at or before `state.end_us` were counted already and are skipped, so a call may
    be repeated. A context with a newer epoch starts a new state, from the first cell given.

    Args:
        spec: the gate.
        state: what the last call returned, or `initial_state`.
        cells: closed cells in event-time order; may be empty (a poll).
        context: see `Context`.

    Returns:
        The state for the next call, and the verdict.

    Raises:
        ValueError: for arrays no correct caller sends, or an epoch older than the state's.
    """
    cells.check(spec)
    state = _in_epoch(spec, state, cells, context)
    fault = _fault(spec, state, cells, context)
    if fault is not None:
        return state, _answer(spec, state, context, "INVALID", (fault,), None)
    state = _advance(spec, state, cells.after(state.end_us), context)
    return state, _current(spec, state, context)


def _in_epoch(
    spec: AbsoluteGate, state: GateState, cells: CellCounts, context: Context
) -> GateState:
    if context.epoch < state.epoch:
        raise ValueError(f"epoch {context.epoch} is over: the state is of epoch {state.epoch}")
    if context.epoch == state.epoch:
        return state
    start_us = int(cells.end_us[0]) - CELL_US if len(cells) else context.watermark_us
    return initial_state(spec, context.epoch, start_us)


def _fault(
    spec: AbsoluteGate, state: GateState, cells: CellCounts, context: Context
) -> Reason | None:
    """Why nothing may be counted, if so."""
    if state.spec_hash != spec_hash(spec):
        return "configuration_changed"
    if state.engine != ENGINE:
        return "engine_changed"
    if len(cells) and int(cells.end_us[-1]) > context.watermark_us:
        return "clock"
    return None


def _advance(
    spec: AbsoluteGate, state: GateState, cells: CellCounts, context: Context
) -> GateState:
    """Count the cells and latch the first decision at its own cell."""
    after, trace = count_cells(spec, state, cells)
    if state.latched is not None:
        return after
    if len(trace.end_us) == 0:
        return _latch_now(spec, after, context)
    found = _first_decision(spec, trace, context)
    if found is None:
        return after
    at, verdict = found
    cut, _ = count_cells(spec, state, cells.part(0, at + 1))
    return count_cells(spec, _latch(spec, cut, verdict), cells.part(at + 1))[0]


def _latch_now(spec: AbsoluteGate, state: GateState, context: Context) -> GateState:
    """A poll without cells: the coverage may have become good enough for what is shown already."""
    if state.broken is not None or state.first_us is None:
        return state
    found = _first_decision(spec, _trace_of(state), context)
    return state if found is None else _latch(spec, state, found[1])


def _trace_of(state: GateState) -> Trace:
    """The state as a trace of one cell."""
    start_us = state.end_us if state.first_us is None else state.first_us
    return Trace(
        np.array([state.end_us]),
        np.array([state.requests]),
        np.array([state.end_us - start_us]),
        {
            name: MetricTrace(
                np.array([metric.log_fail]),
                np.array([metric.log_pass]),
                np.array([metric.units]),
                np.array([metric.within]),
            )
            for name, metric in state.metrics.items()
        },
    )


def _first_decision(
    spec: AbsoluteGate, trace: Trace, context: Context
) -> tuple[int, VerdictName] | None:
    """Position and name of the first decision; FAIL wins where both fall on one cell."""
    fails = np.zeros(len(trace.end_us), np.bool_)
    passes = trace.requests >= spec.min_units
    passes &= trace.bake_us >= spec.min_bake_s * 1_000_000
    passes &= _covered(spec, context)
    for limit in spec.metrics:
        if not limit.critical:
            continue
        metric = trace.metrics[limit.name]
        to_fail, to_pass = thresholds(spec, limit)
        fails |= metric.log_fail >= to_fail
        passes &= (metric.log_pass >= to_pass) & (metric.units >= spec.min_units) & metric.within
    first_fail, first_pass = _first(fails), _first(passes)
    if first_fail is not None and (first_pass is None or first_fail <= first_pass):
        return first_fail, "FAIL"
    return None if first_pass is None else (first_pass, "PASS")


def _first(flags: npt.NDArray[np.bool_]) -> int | None:
    return int(np.argmax(flags)) if bool(flags.any()) else None


def _covered(spec: AbsoluteGate, context: Context) -> bool:
    return not _coverage_reasons(spec, context)


def _coverage_reasons(spec: AbsoluteGate, context: Context) -> list[Reason]:
    """Why the coverage forbids a PASS; empty if it does not."""
    if context.coverage_state == "no_data":
        return ["no_data"]
    if context.coverage_state == "unknown" or context.coverage is None:
        return ["low_coverage", "coverage_unknown"]
    # written so that a NaN counts as low
    return [] if context.coverage >= spec.min_coverage else ["low_coverage"]


def _latch(spec: AbsoluteGate, state: GateState, verdict: VerdictName) -> GateState:
    evidence = evidence_of(spec, state)
    reason: Reason = "limit_exceeded" if verdict == "FAIL" else "within_limits"
    text = sentence(spec, verdict, (reason,), evidence, state.requests)
    return replace(
        state,
        latched=_told(state, verdict, (reason,), evidence, text),
    )


def _told(
    state: GateState,
    verdict: VerdictName,
    reasons: tuple[Reason, ...],
    evidence: tuple[Evidence, ...],
    text: str,
) -> dict[str, Any]:
    return told(verdict, reasons, evidence, state.requests, state.end_us, text)


def _current(spec: AbsoluteGate, state: GateState, context: Context) -> Verdict:
    """The answer for the state as it is."""
    if state.latched is not None:
        return _verdict(spec, state, context, state.latched, None)
    if state.broken is not None:
        return _answer(spec, state, context, "INVALID", ("inconsistent_counts",), None)
    needs = needs_of(spec, state, context.requests_per_s)
    missing = _missing(spec, state, context)
    if missing:
        return _answer(spec, state, context, "NO_DATA", missing, needs)
    return _answer(spec, state, context, "UNDECIDED", _open(spec, state, needs), needs)


def _missing(spec: AbsoluteGate, state: GateState, context: Context) -> tuple[Reason, ...]:
    reasons: list[Reason] = []
    critical = [state.metrics[limit.name].units for limit in spec.metrics if limit.critical]
    if state.first_us is None:
        reasons.append("no_traffic")
    elif min([state.requests, *critical]) < spec.min_units:
        reasons.append("few_units")
    return (*reasons, *_coverage_reasons(spec, context))


def _open(spec: AbsoluteGate, state: GateState, needs: Needs) -> tuple[Reason, ...]:
    """Why it is still undecided."""
    reasons: list[Reason] = []
    for limit in spec.metrics:
        metric = state.metrics[limit.name]
        if limit.critical and metric.log_pass < thresholds(spec, limit)[1]:
            reasons.append("not_enough_evidence")
        elif limit.critical and not metric.within:
            reasons.append("estimate_over_limit")
    if needs.near_limit:
        reasons.append("estimate_near_limit")
    if needs.bake_s > 0:
        reasons.append("min_bake")
    return tuple(dict.fromkeys(reasons))


def _left_us(spec: AbsoluteGate, state: GateState, context: Context) -> int | None:
    return left_us(state.start_us, spec.deadline_s, context.watermark_us)


def _answer(
    spec: AbsoluteGate,
    state: GateState,
    context: Context,
    verdict: VerdictName,
    why: tuple[Reason, ...],
    needs: Needs | None,
) -> Verdict:
    """A verdict that is not latched."""
    ahead = _outlook(needs)
    reasons = (*why, *deadline_reasons(_left_us(spec, state, context), ahead))
    # the specification may have changed under the state: then there is nothing to compare with
    same = state.spec_hash == spec_hash(spec)
    evidence = evidence_of(spec, state) if same else ()
    text = sentence(spec, verdict, reasons, evidence, state.requests)
    if verdict == "UNDECIDED":
        text += outlook(ahead.n_needed, ahead.eta_s)
    found = _told(state, verdict, reasons, evidence, text)
    return _verdict(spec, state, context, found, needs)


def _verdict(
    spec: AbsoluteGate,
    state: GateState,
    context: Context,
    found: dict[str, Any],
    needs: Needs | None,
) -> Verdict:
    asked = Asked(
        spec=spec,
        epoch=state.epoch,
        spec_hash=state.spec_hash,
        engine=state.engine,
        watermark_us=context.watermark_us,
        left_us=_left_us(spec, state, context),
        latched=state.latched is not None,
    )
    return verdict_of(asked, found, _outlook(needs))


def _outlook(needs: Needs | None) -> Outlook:
    return Outlook() if needs is None else Outlook(needs.n_needed, needs.eta_s)
