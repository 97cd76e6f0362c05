"""The budget gate: may we deploy? A census of the error budget, and its burn-rate rules.

Budget left is event-weighted and exact, so it is compared and not tested. The burn rate is an
estimate, shown with a time-uniform interval; what decides about it are the objective's rules, each a
point rule together with an e-detector (streams/core/slo/).
"""

from __future__ import annotations

from ....schemas.gates.budget import BudgetGate
from ..slo.status import ObjectiveStatus
from .answers import Asked, Outlook, deadline_reasons, left_us, told, verdict_of
from .boundaries import rate_confidence_sequence
from .canonical import ENGINE, spec_hash
from .reasons import Reason
from .two_arm_evidence import rounded
from .verdict import Evidence, Verdict, VerdictName, because

_CONFIDENCE = 0.99


def budget_verdict(
    spec: BudgetGate,
    status: ObjectiveStatus | None,
    watermark_us: int,
    opened_us: int | None = None,
    last_hour: tuple[int, int] = (0, 0),
    epoch: int = 0,
) -> Verdict:
    """The answer now; nothing is remembered and nothing latches.

    Args:
        spec: the gate.
        status: of its objective; None where there is none yet.
        watermark_us: event time now.
        opened_us: when the question was opened, for the deadline; None without one.
        last_hour: bad and all events of the last hour, for the interval of the burn rate.
        epoch: number of the gate's life.
    """
    verdict, reasons = _judged(spec, status)
    left = None if opened_us is None else left_us(opened_us, spec.deadline_s, watermark_us)
    if verdict in ("UNDECIDED", "NO_DATA"):
        reasons = (*reasons, *deadline_reasons(left, Outlook()))
    evidence = () if status is None else (_evidence(spec, status, verdict, last_hour),)
    n = 0 if status is None else status.total
    end_us = watermark_us if status is None else status.end_s * 1_000_000
    text = because(verdict, reasons, n, "events")
    if status is not None and status.consumed is not None:
        text += f"; {(1 - status.consumed) * 100:.4g} % of the budget is left"
    asked = Asked(spec, epoch, spec_hash(spec), ENGINE, watermark_us, left, latched=False)
    return verdict_of(asked, told(verdict, reasons, evidence, n, end_us, text), Outlook())


def _judged(
    spec: BudgetGate, status: ObjectiveStatus | None
) -> tuple[VerdictName, tuple[Reason, ...]]:
    if status is None or status.consumed is None:
        return "NO_DATA", ("no_traffic",)
    alarm = any(burn.firing and burn.severity in spec.severities for burn in status.burns)
    why: tuple[Reason, ...] = ("budget_spent",) if status.consumed > 1 else ()
    if alarm:
        why = (*why, "burn_alarm")
    # what is known to be spent is spent, however much was not measured
    if why:
        return "FAIL", why
    if status.state == "unknown":
        unknown: tuple[Reason, ...] = ("coverage_unknown",) if status.coverage is None else ()
        return "NO_DATA", ("low_coverage", *unknown)
    # rounded, so that 80 % spent leaves 20 % and not a little less
    if round(1 - status.consumed, 12) < spec.min_left_ratio:
        return "UNDECIDED", ("budget_low",)
    return "PASS", ("budget_enough",)


def _evidence(
    spec: BudgetGate, status: ObjectiveStatus, verdict: VerdictName, last_hour: tuple[int, int]
) -> Evidence:
    left = None if status.consumed is None else 1 - status.consumed
    bad, total = last_hour
    budget = 1 - status.target
    low, high = rate_confidence_sequence(bad, total, 1 - _CONFIDENCE, max(20.0 / budget, 1.0))
    return Evidence(
        metric=status.id,
        declared=f"at least {spec.min_left_ratio * 100:g} % of the budget of {status.declared}",
        unit="ratio",
        limit=spec.min_left_ratio,
        estimate=rounded(left),
        low=rounded(left),
        high=rounded(left),
        confidence=1.0,
        log10_e_fail=0.0,
        log10_e_pass=0.0,
        threshold_fail=0.0,
        threshold_pass=0.0,
        n=status.total,
        bad=status.bad,
        critical=True,
        decision=verdict,
        n_needed=None,
        detail={
            "burn_1h": rounded(status.burn_1h),
            "burn_1h_low": rounded(low / budget),
            "burn_1h_high": rounded(high / budget),
            "burn_confidence": _CONFIDENCE,
            "left_minutes": rounded(status.left_minutes),
            "exhaustion_s": rounded(status.exhaustion_s),
            "in_alarm": [burn.name for burn in status.burns if burn.firing],
        },
    )
