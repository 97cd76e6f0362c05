"""Verdicts: what they are, why, what follows from them, and how they are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, TypeAlias

from ....schemas.gates.base import PolicyName
from .canonical import sha256
from .reasons import REASONS as REASONS
from .reasons import Reason as Reason

VerdictName: TypeAlias = Literal["PASS", "FAIL", "UNDECIDED", "NO_DATA", "INVALID"]
Action: TypeAlias = Literal["promote", "rollback", "wait", "hold"]
_POLICY: dict[PolicyName, Action] = {"block": "rollback", "allow": "promote", "hold": "hold"}


class HasPolicies(Protocol):
    """A specification that says what follows where its gate cannot tell."""

    @property
    def on_no_data(self) -> PolicyName:
        """What NO_DATA becomes at the deadline."""

    @property
    def on_undecided_at_deadline(self) -> PolicyName:
        """What UNDECIDED becomes at the deadline."""


class HasLevels(Protocol):
    """A specification with error rates."""

    @property
    def alpha_fail(self) -> float:
        """Chance of ever failing what keeps its limits."""

    @property
    def alpha_pass(self) -> float:
        """Chance of ever passing what breaks one."""


@dataclass(frozen=True, slots=True)
class ArmEvidence:
    """What one arm showed of a metric.

    Attributes:
        arm: `treatment` or `control`.
        n, bad: units, and bad ones (None where none are told apart).
        estimate: of this arm alone, in its own unit; None without units.
        low, high: its confidence sequence, None where there is none.
        workers: workers that its units came from.
    """

    arm: str
    n: int
    bad: int | None
    estimate: float | None
    low: float | None = None
    high: float | None = None
    workers: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one metric, of any kind of gate.

    Attributes:
        metric: name.
        declared: the limit or margin in the words of the specification.
        unit: of estimate, low, high and limit: `ratio`, a share of units; `usd_per_request`, dollars
            above plan per request; `relative`, treatment over control; `difference`, treatment less
            control; or what the metric itself is measured in.
        limit: what the estimate is compared with, in that unit (0 for a cost).
        estimate: point estimate, None without units, or where buckets leave it open.
        low, high: confidence sequence: holds the truth at every time at once with `confidence`;
            None where it has no bound.
        log10_e_fail, log10_e_pass: running maxima of the e-values.
        threshold_fail, threshold_pass: log10 thresholds that they decide at.
        n, bad: units, and bad ones (None for a mean, or where buckets leave it open), over all arms.
        critical: whether it decides.
        decision: FAIL, PASS, NO_DATA (no units) or UNDECIDED for this metric alone.
        n_needed: about how many more of its units until it is decided, None where nobody can tell.
        arms: each arm alone; empty for a gate of one arm.
        contribution: its share of the evidence for FAIL of all critical metrics, 0 to 1.
        design_effect, effective_n: variance of its blocks over that of independent units, and the
            independent units that they are worth; None where units are taken as independent.
        detail: more numbers of this kind of metric.
    """

    metric: str
    declared: str
    unit: str
    limit: float
    estimate: float | None
    low: float | None
    high: float | None
    confidence: float
    log10_e_fail: float
    log10_e_pass: float
    threshold_fail: float
    threshold_pass: float
    n: int
    bad: int | None
    critical: bool
    decision: VerdictName
    n_needed: int | None
    arms: tuple[ArmEvidence, ...] = ()
    contribution: float | None = None
    design_effect: float | None = None
    effective_n: float | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        data = asdict(self)
        data["arms"] = list(data["arms"])
        return data


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer of a gate at one moment.

    Attributes:
        verdict, action, reasons: what is known, what follows by policy, why (`REASONS`).
        evidence: one entry per metric, as dictionaries of `Evidence`.
        n: completed requests the verdict is based on.
        n_needed: about how many more requests until the nearer decision, None if unknown.
        eta_s: the same in seconds at the current traffic.
        watermark_us, as_of_us: event time now, and of the last cell the verdict is based on.
        epoch, spec_hash, engine: what was asked, of which life, computed by what.
        digest: SHA-256 of verdict, reasons, evidence, checks, n, as_of, epoch, spec_hash and engine.
        next_poll_ms: when asking again makes sense.
        text: one sentence.
        checks: what makes the comparison fair, each a dictionary with `check` and `ok`.
    """

    verdict: VerdictName
    action: Action
    reasons: tuple[Reason, ...]
    evidence: tuple[dict[str, Any], ...]
    n: int
    n_needed: int | None
    eta_s: float | None
    watermark_us: int
    as_of_us: int
    epoch: int
    spec_hash: str
    engine: str
    digest: str
    next_poll_ms: int
    text: str
    checks: tuple[dict[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """What the API answers; times are ISO 8601 in UTC."""
        data = asdict(self)
        for name in ("reasons", "evidence", "checks"):
            data[name] = list(data[name])
        data["watermark"] = iso(data.pop("watermark_us"))
        data["as_of"] = iso(data.pop("as_of_us"))
        return data


def digest(
    verdict: VerdictName,
    reasons: Sequence[Reason],
    evidence: Sequence[dict[str, Any]],
    n: int,
    as_of_us: int,
    epoch: int,
    specification: str,
    engine: str,
    checks: Sequence[dict[str, Any]] = (),
) -> str:
    """SHA-256 over what a verdict states, and nothing that depends on when it was asked."""
    stated = [verdict, list(reasons), list(evidence), list(checks), n, as_of_us, epoch]
    return sha256([*stated, specification, engine])


def action_of(spec: HasPolicies, verdict: VerdictName, deadline_passed: bool) -> Action:
    """What follows from a verdict.

    PASS promotes and FAIL rolls back. Before the deadline (or without one) UNDECIDED and NO_DATA
    wait and INVALID holds for a person. After it the policy decides: block is rollback, allow is
    promote, hold is hold; INVALID never promotes.
    """
    if verdict == "PASS":
        return "promote"
    if verdict == "FAIL":
        return "rollback"
    if verdict == "UNDECIDED":
        return _POLICY[spec.on_undecided_at_deadline] if deadline_passed else "wait"
    if verdict == "NO_DATA":
        return _POLICY[spec.on_no_data] if deadline_passed else "wait"
    return "rollback" if deadline_passed and spec.on_no_data == "block" else "hold"


def sentence(
    spec: HasLevels,
    verdict: VerdictName,
    reasons: Sequence[Reason],
    evidence: Sequence[Evidence],
    n: int,
    units: str = "requests",
) -> str:
    """One clear sentence for a person, without what depends on when it was asked.

    Args:
        spec: error rates.
        verdict, reasons, evidence: what is told; a FAIL or PASS that metrics decided.
        n: units it is based on.
        units: what they are called.
    """
    if verdict == "FAIL":
        shown = [item for item in evidence if item.critical and item.decision == "FAIL"]
        worst = max(shown, key=lambda item: item.log10_e_fail - item.threshold_fail)
        return f"FAIL: {_exceeds(worst)}, shown at error rate {_percent(spec.alpha_fail)}"
    if verdict == "PASS":
        names = ", ".join(item.metric for item in evidence if item.critical)
        within = "margins" if any(item.arms for item in evidence) else "limits"
        return (
            f"PASS: {names} within {within} after {n:,} {units}, "
            f"shown at error rate {_percent(spec.alpha_pass)}"
        )
    return because(verdict, reasons, n, units)


def because(verdict: VerdictName, reasons: Sequence[Reason], n: int, units: str) -> str:
    """A sentence that gives the reasons alone."""
    return f"{verdict}: {'; '.join(REASONS[reason] for reason in reasons)} ({n:,} {units})"


def outlook(n_needed: int | None, eta_s: float | None) -> str:
    """The end of an undecided sentence: how much more is needed."""
    if n_needed is None:
        return "; how many more are needed cannot be told yet"
    if n_needed == 0 and eta_s is not None:
        return f"; about {_duration(eta_s)} more are needed"
    if eta_s is None:
        return f"; about {n_needed:,} more are needed, and no traffic is coming in"
    return f"; about {n_needed:,} more are needed, {_duration(eta_s)} at the current traffic"


def iso(time_us: int) -> str:
    """ISO 8601 in UTC with as many digits as the time needs.

    >>> iso(1_767_225_600_000_000)
    '2026-01-01T00:00:00Z'
    """
    seconds, micros = divmod(time_us, 1_000_000)
    text = datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros, tzinfo=None)
    return text.isoformat() + "Z"


def _exceeds(item: Evidence) -> str:
    if item.arms:
        told = " against ".join(
            f"{'none' if arm.estimate is None else f'{arm.estimate:.4g}'} in {arm.arm}"
            f" ({arm.n:,} units)"
            for arm in item.arms
        )
        return f"{item.metric} is worse than {item.declared}: {told}"
    head = f"{item.metric} is above {item.declared}"
    estimate = item.estimate or 0.0  # never None: without units nothing is shown
    if item.unit == "usd_per_request":
        return (
            f"{head}: a request costs {estimate:.3g} USD above plan on average "
            f"over {item.n:,} requests"
        )
    verb = "slower" if item.declared.endswith("ms") else "bad"
    return (
        f"{head}: {_percent(estimate)} of {item.n:,} requests are {verb} "
        f"(allowed {_percent(item.limit)})"
    )


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
