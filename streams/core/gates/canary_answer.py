"""What a canary gate answers for the state as it is."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from ....schemas.gates.canary import CanaryGate
from .answers import Asked, Outlook, deadline_reasons, left_us, told, verdict_of
from .canary_evidence import Wanting, checks_of, evidence_of, peaks_of, wanting_of
from .canonical import spec_hash
from .combine import thresholds
from .interface import CONTROL, TREATMENT, Context
from .live_state import LiveState
from .reasons import Reason
from .tested import metrics_tested
from .trace import groups_seen
from .two_arm_evidence import units_of
from .verdict import Verdict, VerdictName, outlook, sentence

_DECISIONS: dict[VerdictName, Reason] = {"FAIL": "margin_exceeded", "PASS": "within_margins"}


def fixed(spec: CanaryGate, state: LiveState, what: VerdictName | Reason) -> LiveState:
    """Latch a decision, or note what broke the comparison, at the state's own block."""
    if what == "FAIL" or what == "PASS":
        return replace(state, latched=_found(spec, state, what, (_DECISIONS[what],)))
    reason: Any = what
    return replace(state, broken=reason)


def answer(
    spec: CanaryGate, state: LiveState, context: Context, fault: Reason | None = None
) -> Verdict:
    """The verdict at a moment.

    Args:
        spec: the gate.
        state: what was counted.
        context: see interface.py.
        fault: why this call counted nothing, if so.
    """
    if fault is not None:
        return _verdict(spec, state, context, "INVALID", (fault,), Outlook())
    if state.latched is not None:
        return verdict_of(_asked(spec, state, context), state.latched, Outlook())
    if state.broken is not None:
        return _verdict(spec, state, context, "INVALID", (state.broken,), Outlook())
    wanting = wanting_of(spec, state)
    ahead = _outlook(spec, state, context, wanting)
    missing = _missing(spec, state)
    if missing:
        return _verdict(spec, state, context, "NO_DATA", missing, ahead, wanting)
    why = _open(spec, state, ahead)
    return _verdict(spec, state, context, "UNDECIDED", why, ahead, wanting)


def _asked(spec: CanaryGate, state: LiveState, context: Context) -> Asked:
    return Asked(
        spec=spec,
        epoch=state.epoch,
        spec_hash=state.spec_hash,
        engine=state.engine,
        watermark_us=context.watermark_us,
        left_us=left_us(state.start_us, spec.deadline_s, context.watermark_us),
        latched=state.latched is not None,
    )


def _verdict(
    spec: CanaryGate,
    state: LiveState,
    context: Context,
    verdict: VerdictName,
    why: tuple[Reason, ...],
    ahead: Outlook,
    wanting: Wanting | None = None,
) -> Verdict:
    """A verdict that is not latched."""
    asked = _asked(spec, state, context)
    reasons = (*why, *deadline_reasons(asked.left_us, ahead))
    found = _found(spec, state, verdict, reasons, wanting)
    if verdict == "UNDECIDED":
        found["text"] += outlook(ahead.n_needed, ahead.eta_s)
    return verdict_of(asked, found, ahead)


def _found(
    spec: CanaryGate,
    state: LiveState,
    verdict: VerdictName,
    why: tuple[Reason, ...],
    wanting: Wanting | None = None,
) -> dict[str, Any]:
    # the specification may have changed under the state: then there is nothing to compare with
    same = state.spec_hash == spec_hash(spec)
    evidence = evidence_of(spec, state, wanting) if same else ()
    reasons = (*why, *_doubts(spec, state)) if same else why
    n = sum(state.units)
    text = sentence(spec, verdict, reasons, evidence, n, f"{spec.unit}s")
    return told(verdict, reasons, evidence, n, state.end_us, text, checks_of(spec, state))


def _doubts(spec: CanaryGate, state: LiveState) -> tuple[Reason, ...]:
    """What a reader should know of any verdict."""
    found: list[Reason] = []
    if state.first_us is not None and 1 in groups_seen(state.workers):
        found.append("single_worker")
    tests = metrics_tested(spec)
    to_fail, _ = thresholds(spec, tests, critical=True)
    for test in tests:
        held = state.tests.get(test.name)
        if held is None or not test.critical:
            continue
        peaks = peaks_of(state, test)
        if peaks.fail_all >= to_fail > peaks.fail:
            found.append("one_worker_decides")
        if getattr(test, "blocks", False) and _too_short(held):
            found.append("blocks_too_short")
    return tuple(dict.fromkeys(found))


def _too_short(held: object) -> bool:
    series = getattr(held, "series", None)
    return series is not None and series[CONTROL].too_short


def _missing(spec: CanaryGate, state: LiveState) -> tuple[Reason, ...]:
    reasons: list[Reason] = []
    control, treatment = state.units
    if treatment == 0:
        reasons.append("no_traffic")
    if control == 0:
        reasons.append("no_control")
    if not reasons:
        least = [units_of(state.tests[test.name]) for test in metrics_tested(spec) if test.critical]
        if min(pair[TREATMENT] for pair in least) < spec.min_units:
            reasons.append("few_units")
        if min(pair[CONTROL] for pair in least) < spec.min_units:
            reasons.append("no_control")
    if state.coverage is None:
        return (*reasons, "low_coverage", "coverage_unknown")
    # written so that a NaN counts as low
    return tuple(reasons) if state.coverage >= spec.min_coverage else (*reasons, "low_coverage")


def _open(spec: CanaryGate, state: LiveState, ahead: Outlook) -> tuple[Reason, ...]:
    """Why it is still undecided."""
    reasons: list[Reason] = []
    _, to_pass = thresholds(spec, metrics_tested(spec), critical=True)
    if any(
        peaks_of(state, test).passed < to_pass for test in metrics_tested(spec) if test.critical
    ):
        reasons.append("not_enough_evidence")
    else:
        baked = state.first_us is not None and _baked_s(state) >= spec.min_bake_s
        reasons.append("estimate_over_limit" if baked else "min_bake")
    if ahead.n_needed is None:
        reasons.append("estimate_near_limit")
    return tuple(reasons)


def _baked_s(state: LiveState) -> float:
    return 0.0 if state.first_us is None else (state.end_us - state.first_us) / 1e6


def _outlook(spec: CanaryGate, state: LiveState, context: Context, wanting: Wanting) -> Outlook:
    """Units of both arms, and seconds, until the nearer decision at the current estimates."""
    critical = {test.name for test in metrics_tested(spec) if test.critical}
    if not state.tests:
        return Outlook()
    fails: list[float] = []
    passes: list[float] = [float(max(2 * spec.min_units - sum(state.units), 0))]
    unknown = False
    for name, more in wanting.items():
        if name not in critical:
            continue
        if more is None:
            unknown = True
            continue
        per_unit = max(sum(state.units), 1) / max(sum(units_of(state.tests[name])), 1)
        (fails if more > 0 else passes).append(abs(more) * max(per_unit, 1.0))
    if unknown and not fails:
        return Outlook()
    n = math.ceil(min(fails) if fails else max(passes))
    bake_s = 0.0 if fails else max(spec.min_bake_s - _baked_s(state), 0.0)
    if n > 0 and not context.requests_per_s > 0:
        return Outlook(n, None)
    wait_s = n / context.requests_per_s + spec.mature_s if n else 0.0
    return Outlook(n, round(max(wait_s, bake_s), 1))
