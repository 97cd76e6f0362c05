"""From measured metrics and checks to a verdict: the same for every gate on files."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from .....schemas.gates.absolute import AbsoluteGate
from .....schemas.gates.offline import GateOnFiles
from ..canonical import ENGINE, spec_hash
from ..reasons import REASONS, Reason
from ..verdict import (
    ArmEvidence,
    Evidence,
    HasLevels,
    Verdict,
    VerdictName,
    action_of,
    digest,
)

_LN10 = math.log(10.0)
_SCALES = np.geomspace(1.05, 1000.0, 40)
_MOST_UNITS = 1e5

Interval = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric, before error rates are applied.

    Attributes:
        metric, declared, unit, limit, estimate, n, bad, critical, arms, detail: as in `Evidence`.
        log_e: scale -> natural log e-values for FAIL and for PASS, if there were `scale` times as
            many units like these.
        interval: alpha -> the values that neither side rejects.
        reason: what its FAIL is called.
        passes: whether PASS needs it; a slice may fail the gate and is too small to pass it.
    """

    metric: str
    declared: str
    unit: str
    limit: float
    estimate: float | None
    n: int
    log_e: Callable[[float], tuple[float, float]]
    interval: Callable[[float], Interval]
    reason: Reason
    critical: bool = True
    bad: int | None = None
    passes: bool = True
    arms: tuple[ArmEvidence, ...] = ()
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    """Something that is counted, not estimated, and decides alone.

    Attributes:
        check: its name.
        ok: whether it holds.
        text: what was found, in a sentence.
        verdict, reason: what follows where it does not hold.
    """

    check: str
    ok: bool
    text: str
    verdict: Literal["FAIL", "NO_DATA", "INVALID", "UNDECIDED"]
    reason: Reason

    def told(self) -> dict[str, Any]:
        """As a verdict carries it."""
        return {"check": self.check, "ok": self.ok, "text": self.text}


def conclude(
    spec: GateOnFiles | AbsoluteGate,
    measured: Sequence[Measured],
    checks: Sequence[Check],
    n: int,
    min_n: int,
    units: str,
) -> Verdict:
    """The verdict.

    INVALID where a check says that the files cannot be compared; then FAIL, which needs no
    minimum; then NO_DATA; PASS where every critical metric is shown to be within its limit.

    Args:
        spec: the gate.
        measured: its metrics.
        checks: what was counted.
        n: units that the verdict is based on, and what they are called (`units`).
        min_n: units below which there is no PASS.
    """
    evidence = evidence_of(spec, measured)
    decisive = [(m, e) for m, e in zip(measured, evidence, strict=True) if m.critical]
    checks = [*checks, *_minimum(checks, n, min_n, units)]
    verdict, reasons = _decide(decisive, [c for c in checks if not c.ok])
    needed = _needed(decisive, max(min_n - n, 0)) if verdict == "UNDECIDED" else None
    size = f"{n:,} {units}" if units else ""
    text = _text(spec, verdict, reasons, decisive, checks, size)
    if needed is not None:
        text += f"; about {needed:,} more are needed"
    told, checked = tuple(asdict(item) for item in evidence), tuple(c.told() for c in checks)
    specification = spec_hash(spec)
    return Verdict(
        verdict=verdict,
        action=action_of(spec, verdict, deadline_passed=True),
        reasons=reasons,
        evidence=told,
        n=n,
        n_needed=needed,
        eta_s=None,
        watermark_us=0,
        as_of_us=0,
        epoch=0,
        spec_hash=specification,
        engine=ENGINE,
        digest=digest(verdict, reasons, told, n, 0, 0, specification, ENGINE, checked),
        next_poll_ms=0,
        text=text,
        checks=checked,
    )


def nothing(spec: GateOnFiles | AbsoluteGate, check: Check) -> Verdict:
    """The verdict where there is nothing to evaluate."""
    return conclude(spec, (), (check,), 0, 0, "")


def _minimum(checks: Sequence[Check], n: int, min_n: int, units: str) -> Sequence[Check]:
    """Whether there are enough units; not told where it is known already why there are not."""
    if any(not check.ok and check.verdict == "NO_DATA" for check in checks):
        return ()
    text = f"{n:,} {units}; a PASS takes at least {min_n:,}"
    return (Check("minimum", n >= min_n, text, "NO_DATA", "few_units"),)


def _decide(
    decisive: Sequence[tuple[Measured, Evidence]], broken: Sequence[Check]
) -> tuple[VerdictName, tuple[Reason, ...]]:
    def because(verdict: str) -> list[Reason]:
        return [check.reason for check in broken if check.verdict == verdict]

    if because("INVALID"):
        return "INVALID", _once(because("INVALID"))
    failed = [m.reason for m, e in decisive if e.decision == "FAIL"]
    if failed or because("FAIL"):
        return "FAIL", _once([*because("FAIL"), *failed])
    if because("NO_DATA"):
        return "NO_DATA", _once(because("NO_DATA"))
    waited = [e for m, e in decisive if m.passes and e.decision != "PASS"]
    left_open = because("UNDECIDED")
    if left_open and not any(e.n_needed for e in waited):
        return "UNDECIDED", _once(left_open)
    if waited or not decisive:
        return "UNDECIDED", _once([*left_open, "not_enough_evidence"])
    return "PASS", ("within_margins",)


def _once(reasons: Sequence[Any]) -> tuple[Reason, ...]:
    return tuple(dict.fromkeys(reasons))


def evidence_of(spec: HasLevels, measured: Sequence[Measured]) -> tuple[Evidence, ...]:
    """Evidence per metric; alpha_fail is split over the critical ones."""
    shares = max(sum(item.critical for item in measured), 1)
    logs = [max(item.log_e(1.0)[0], 0.0) if item.critical else 0.0 for item in measured]
    total = sum(logs)
    return tuple(
        _evidence(spec, item, shares if item.critical else 1, log / total if total else None)
        for item, log in zip(measured, logs, strict=True)
    )


def _evidence(spec: HasLevels, item: Measured, shares: int, contribution: float | None) -> Evidence:
    to_fail, to_pass = math.log(shares / spec.alpha_fail), math.log(1.0 / spec.alpha_pass)
    log_fail, log_pass = item.log_e(1.0)
    decision: VerdictName = "UNDECIDED"
    if not item.n:
        decision = "NO_DATA"
    elif log_fail >= to_fail:
        decision = "FAIL"
    elif log_pass >= to_pass:
        decision = "PASS"
    low, high = item.interval(spec.alpha_fail)
    undecided = decision == "UNDECIDED"
    return Evidence(
        metric=item.metric,
        declared=item.declared,
        unit=item.unit,
        limit=rounded(item.limit),
        estimate=None if item.estimate is None else rounded(item.estimate),
        low=None if low is None else rounded(low),
        high=None if high is None else rounded(high),
        confidence=rounded(1.0 - spec.alpha_fail),
        log10_e_fail=rounded(log_fail / _LN10),
        log10_e_pass=rounded(log_pass / _LN10),
        threshold_fail=rounded(to_fail / _LN10),
        threshold_pass=rounded(to_pass / _LN10),
        n=item.n,
        bad=item.bad,
        critical=item.critical,
        decision=decision,
        n_needed=_until(item, to_fail, to_pass) if undecided else None,
        arms=item.arms,
        contribution=None if contribution is None else rounded(contribution),
        detail=item.detail,
    )


def _until(item: Measured, to_fail: float, to_pass: float) -> int | None:
    """Further units until either side is shown, if they are like those that are there."""
    for scale in map(float, _SCALES[item.n * _SCALES <= _MOST_UNITS]):
        log_fail, log_pass = item.log_e(scale)
        if log_fail >= to_fail or log_pass >= to_pass:
            return math.ceil(item.n * (scale - 1.0))
    return None


def _needed(decisive: Sequence[tuple[Measured, Evidence]], missing: int) -> int | None:
    """Units until all that PASS waits for is decided; None where one cannot be told."""
    waited = [e.n_needed for m, e in decisive if m.passes and e.decision == "UNDECIDED"]
    known = [need for need in waited if need is not None]
    return max([*known, missing]) if len(known) == len(waited) else None


def _text(
    spec: HasLevels,
    verdict: VerdictName,
    reasons: Sequence[Reason],
    decisive: Sequence[tuple[Measured, Evidence]],
    checks: Sequence[Check],
    size: str,
) -> str:
    """One clear sentence for a person."""
    size = f" ({size})" if size else ""
    found = [check.text for check in checks if not check.ok and check.verdict == verdict]
    if verdict == "FAIL":
        shown = [e for _, e in decisive if e.decision == "FAIL"]
        shown.sort(key=lambda e: e.threshold_fail - e.log10_e_fail)
        found += [f"{e.metric} is {_shown(e)}, allowed {e.declared}" for e in shown]
    if found:
        return f"{verdict}: {'; '.join(found)}{size}"
    if verdict == "PASS":
        names = ", ".join(e.metric for m, e in decisive if m.passes)
        return f"PASS: {names} within margins, shown at error rate {spec.alpha_pass:g}{size}"
    return f"{verdict}: {'; '.join(REASONS[reason] for reason in reasons)}{size}"


def _shown(item: Evidence) -> str:
    if item.estimate is None:
        ends = [None if end is None else amount(end, item.unit) for end in (item.low, item.high)]
        words = (("more than", ends[0]), ("less than", ends[1]))
        return " and ".join(f"{word} {end}" for word, end in words if end) or "worse"
    text = amount(item.estimate, item.unit)
    if item.low is None or item.high is None:
        return text
    return f"{text} ({amount(item.low, item.unit)} to {amount(item.high, item.unit)})"


def amount(value: float, unit: str) -> str:
    """A number as a person reads it: `relative` as a change, `ratio` as a share.

    >>> amount(1.07, "relative"), amount(0.05, "ratio"), amount(0.021, "difference")
    ('+7 %', '5 %', '0.021')
    """
    if unit == "relative":
        return f"{(value - 1.0) * 100:+.3g} %"
    return f"{value * 100:.3g} %" if unit == "ratio" else f"{value:.4g}"


def rounded(value: float) -> float:
    """Nine significant digits: the same on machines whose logarithms differ in the last bit."""
    return float(f"{value:.9g}")
