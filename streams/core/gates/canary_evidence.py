"""Evidence of a canary gate: one entry per metric, and the checks that make it a fair comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from ....schemas.gates.canary import CanaryGate
from .combine import contributions, thresholds
from .interface import CONTROL, TREATMENT
from .live_state import LiveState, TestState
from .tested import RatioTest, Tested, metrics_tested
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
from .verdict import Evidence, VerdictName, iso
from .watch_state import WatchState

_LN10 = math.log(10.0)

Wanting: TypeAlias = Mapping[str, float | None]
"""Per undecided metric, units until FAIL (positive) or PASS (negative), None where nobody can tell."""


def wanting_of(spec: CanaryGate, state: LiveState) -> Wanting:
    """What every undecided metric still needs."""
    tests, found = metrics_tested(spec), {}
    for test in tests:
        held = state.tests.get(test.name)
        if held is not None:
            to_fail, to_pass = thresholds(spec, tests, test.critical)
            if _decision(held, peaks_of(state, test), to_fail, to_pass) == "UNDECIDED":
                found[test.name] = needed(test, held, to_fail, to_pass)
    return found


def peaks_of(state: LiveState, test: Tested) -> Peaks:
    """Running maxima of one metric."""
    held = state.tests.get(test.name)
    return Peaks() if held is None or isinstance(held, WatchState) else held.peaks


def evidence_of(
    spec: CanaryGate, state: LiveState, wanting: Wanting | None = None
) -> tuple[Evidence, ...]:
    """Evidence per metric, in the order of the specification; none before the first block."""
    wanting = wanting_of(spec, state) if wanting is None else wanting
    tests = metrics_tested(spec)
    held = {test.name: peaks_of(state, test).fail for test in tests}
    shares = contributions(held, tests)
    return tuple(
        _evidence(spec, state, test, shares[test.name], wanting.get(test.name))
        for test in tests
        if test.name in state.tests
    )


def _evidence(
    spec: CanaryGate, state: LiveState, test: Tested, contribution: float, more: float | None
) -> Evidence:
    held, peaks = state.tests[test.name], peaks_of(state, test)
    to_fail, to_pass = thresholds(spec, metrics_tested(spec), test.critical)
    (estimate, low, high), unit, limit = compared(test, held, spec.alpha_fail)
    arms = tuple(
        arm_evidence(test, held, arm, spec.alpha_fail, groups_seen(state.workers)[arm])
        for arm in (TREATMENT, CONTROL)
    )
    bad = [arm.bad for arm in arms if arm.bad is not None]
    decision = _decision(held, peaks, to_fail, to_pass)
    effect, worth = dependence_of(held)
    detail = detail_of(test, held, state.workers, spec.blocks_s)
    if spec.strata:  # said of every metric, for those that are compared without them
        detail["strata"] = list(spec.strata) if isinstance(test, RatioTest) else []
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
        detail=detail,
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
