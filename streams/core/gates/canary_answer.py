"""What a canary gate answers for the state as it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from ....schemas.gates.canary import CanaryGate
from .answers import Asked, Outlook, deadline_reasons, left_us, told, verdict_of
from .canonical import spec_hash
from .combine import contributions, thresholds
from .interface import CONTROL, TREATMENT, Context
from .live_state import LiveState, TestState
from .reasons import Reason
from .tested import Tested, metrics_tested
from .trace import Peaks, groups_seen
from .two_arm_evidence import (
    arm_evidence,
    compared,
    dependence_of,
    detail_of,
    needed,
    rounded,
    units_of,
)
from .units import allowed_rate
from .verdict import Evidence, Verdict, VerdictName, iso, outlook, sentence
from .watch_state import WatchState

_LN10 = math.log(10.0)
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
    wanting = _wanting(spec, state)
    ahead = _outlook(spec, state, context, wanting)
    missing = _missing(spec, state)
    if missing:
        return _verdict(spec, state, context, "NO_DATA", missing, ahead, wanting)
    why = _open(spec, state, ahead)
    return _verdict(spec, state, context, "UNDECIDED", why, ahead, wanting)


Wanting: TypeAlias = Mapping[str, float | None]
"""Per undecided metric, units until FAIL (positive) or PASS (negative), None where nobody can tell."""


def _wanting(spec: CanaryGate, state: LiveState) -> Wanting:
    tests, found = metrics_tested(spec), {}
    for test in tests:
        held = state.tests.get(test.name)
        if held is not None:
            to_fail, to_pass = thresholds(spec, tests, test.critical)
            if _decision(held, _peaks(state, test), to_fail, to_pass) == "UNDECIDED":
                found[test.name] = needed(test, held, to_fail, to_pass)
    return found


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
        peaks = _peaks(state, test)
        if peaks.fail_all >= to_fail > peaks.fail:
            found.append("one_worker_decides")
        if getattr(test, "blocks", False) and _too_short(held):
            found.append("blocks_too_short")
    return tuple(dict.fromkeys(found))


def _peaks(state: LiveState, test: Tested) -> Peaks:
    held = state.tests.get(test.name)
    return Peaks() if held is None or isinstance(held, WatchState) else held.peaks


def _too_short(held: object) -> bool:
    series = getattr(held, "series", None)
    return series is not None and series[CONTROL].too_short


def evidence_of(
    spec: CanaryGate, state: LiveState, wanting: Wanting | None = None
) -> tuple[Evidence, ...]:
    """Evidence per metric, in the order of the specification; none before the first block."""
    wanting = _wanting(spec, state) if wanting is None else wanting
    tests = metrics_tested(spec)
    held = {test.name: _peaks(state, test).fail for test in tests}
    shares = contributions(held, tests)
    return tuple(
        _evidence(spec, state, test, shares[test.name], wanting.get(test.name))
        for test in tests
        if test.name in state.tests
    )


def _evidence(
    spec: CanaryGate, state: LiveState, test: Tested, contribution: float, more: float | None
) -> Evidence:
    held, peaks = state.tests[test.name], _peaks(state, test)
    to_fail, to_pass = thresholds(spec, metrics_tested(spec), test.critical)
    (estimate, low, high), unit, limit = compared(test, held, spec.alpha_fail)
    arms = tuple(
        arm_evidence(test, held, arm, spec.alpha_fail, groups_seen(state.workers)[arm])
        for arm in (TREATMENT, CONTROL)
    )
    bad = [arm.bad for arm in arms if arm.bad is not None]
    decision = _decision(held, peaks, to_fail, to_pass)
    effect, worth = dependence_of(held)
    return Evidence(
        metric=test.name,
        declared=test.declared,
        unit=unit,
        limit=rounded(limit) or 0.0,
        estimate=rounded(estimate),
        low=rounded(low),
        high=rounded(high),
        confidence=1.0 - spec.alpha_fail,
        log10_e_fail=rounded(peaks.fail / _LN10) or 0.0,
        log10_e_pass=rounded(peaks.passed / _LN10) or 0.0,
        threshold_fail=rounded(to_fail / _LN10) or 0.0,
        threshold_pass=rounded(to_pass / _LN10) or 0.0,
        n=sum(units_of(held)),
        bad=sum(bad) if bad else None,
        critical=test.critical,
        decision=decision,
        n_needed=None if more is None else math.ceil(abs(more)),
        arms=arms,
        contribution=rounded(contribution),
        design_effect=effect,
        effective_n=worth,
        detail=detail_of(test, held, state.workers, spec.blocks_s),
    )


def _decision(held: TestState, peaks: Peaks, to_fail: float, to_pass: float) -> VerdictName:
    if min(units_of(held)) == 0:
        return "NO_DATA"
    if peaks.fail >= to_fail:
        return "FAIL"
    return "PASS" if peaks.passed >= to_pass else "UNDECIDED"


def checks_of(spec: CanaryGate, state: LiveState) -> tuple[dict[str, Any], ...]:
    """What makes the comparison fair, and whether it is."""
    control, treatment = state.units
    first_us = state.start_us if state.first_us is None else state.first_us
    found: list[dict[str, Any]] = [
        {"check": "window", "ok": True, "start": iso(first_us), "end": iso(state.end_us)},
        {
            "check": "coverage",
            "ok": state.coverage is not None and state.coverage >= spec.min_coverage,
            "coverage": rounded(state.coverage),
        },
        {
            "check": "workers",
            "ok": min(groups_seen(state.workers)) > 1,
            "control": list(state.workers[CONTROL]),
            "treatment": list(state.workers[TREATMENT]),
        },
    ]
    if spec.share is not None or any(state.assigned):
        total = control + treatment
        found.append(
            {
                "check": "sample_ratio",
                "ok": state.log_e_share < math.log(1.0 / spec.sample_ratio_alpha),
                "configured": {key: list(pair) for key, pair in state.assigned.items() if key},
                "share": rounded(treatment / total) if total else None,
                "p": rounded(min(1.0, math.exp(-state.log_e_share))),
            }
        )
    for limit in spec.baseline_health:
        health = state.health.get(limit.name)
        if health is not None:
            shown = math.log(len(spec.baseline_health) / spec.health_alpha)
            found.append(
                {
                    "check": f"baseline:{limit.name}",
                    "ok": health.log_e < shown,
                    "n": health.n,
                    "bad": health.bad,
                    "allowed": allowed_rate(limit),
                }
            )
    return tuple(found)


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
    if any(_peaks(state, test).passed < to_pass for test in metrics_tested(spec) if test.critical):
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
