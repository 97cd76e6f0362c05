"""Verdicts: what they are, why, what follows from them, and how they are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from ....schemas.config import AbsoluteGate
from .canonical import sha256

VerdictName: TypeAlias = Literal["PASS", "FAIL", "UNDECIDED", "NO_DATA", "INVALID"]
Action: TypeAlias = Literal["promote", "rollback", "wait", "hold"]
Reason: TypeAlias = Literal[
    "limit_exceeded",
    "within_limits",
    "not_enough_evidence",
    "estimate_near_limit",
    "estimate_over_limit",
    "min_bake",
    "deadline_passed",
    "deadline_unreachable",
    "no_traffic",
    "no_data",
    "few_units",
    "low_coverage",
    "coverage_unknown",
    "clock",
    "inconsistent_counts",
    "configuration_changed",
    "engine_changed",
]

REASONS: dict[Reason, str] = {
    "limit_exceeded": "a critical metric is shown to be above its limit",
    "within_limits": "every critical metric is shown to be below its limit",
    "not_enough_evidence": "neither side of the limit is shown yet",
    "estimate_near_limit": "a critical metric is within noise of its limit",
    "estimate_over_limit": "it was shown to be below its limit, but is above it now",
    "min_bake": "the release has not run for min_bake_s yet",
    "deadline_passed": "the deadline passed without a decision",
    "deadline_unreachable": "at the current traffic the deadline comes before a decision",
    "no_traffic": "no request of the release was seen",
    "no_data": "the source says that nothing was measured",
    "few_units": "fewer than min_units requests carry a critical metric",
    "low_coverage": "too small a part of the traffic is known to have been measured",
    "coverage_unknown": "a worker vanished, so how much is missing cannot be told",
    "clock": "cells closed after the watermark: a clock or the pipeline is wrong",
    "inconsistent_counts": "the counts contradict themselves: more bad units than units",
    "configuration_changed": "the specification changed without a new epoch",
    "engine_changed": "the engine changed without a new epoch",
}
"""Every reason code and what it means: a closed list."""

_POLICY: dict[str, Action] = {"block": "rollback", "allow": "promote", "hold": "hold"}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one metric.

    Attributes:
        metric: name.
        declared: the limit in the words of the specification.
        unit: `ratio`, a share of units; or `usd_per_request`, dollars above plan per request.
        limit: what the estimate is compared with, in that unit (0 for a cost).
        estimate: point estimate, None without units.
        low, high: confidence sequence: holds the truth at every time at once with `confidence`.
        log10_e_fail, log10_e_pass: running maxima of the e-values.
        threshold_fail, threshold_pass: log10 thresholds that they decide at.
        n, bad: units, and bad ones (None for a cost).
        critical: whether it decides.
        decision: FAIL, PASS, NO_DATA (no units) or UNDECIDED for this metric alone.
        n_needed: about how many more of its units until it is decided, None where nobody can tell.
    """

    metric: str
    declared: str
    unit: Literal["ratio", "usd_per_request"]
    limit: float
    estimate: float | None
    low: float
    high: float
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
        digest: SHA-256 of verdict, reasons, evidence, n, as_of, epoch, spec_hash and engine.
        next_poll_ms: when asking again makes sense.
        text: one sentence.
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

    def to_dict(self) -> dict[str, Any]:
        """What the API answers; times are ISO 8601 in UTC."""
        data = asdict(self)
        data["reasons"], data["evidence"] = list(self.reasons), list(data["evidence"])
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
) -> str:
    """SHA-256 over what a verdict states, and nothing that depends on when it was asked."""
    return sha256(
        [verdict, list(reasons), list(evidence), n, as_of_us, epoch, specification, engine]
    )


def action_of(spec: AbsoluteGate, verdict: VerdictName, deadline_passed: bool) -> Action:
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
    spec: AbsoluteGate,
    verdict: VerdictName,
    reasons: Sequence[Reason],
    evidence: Sequence[Evidence],
    n: int,
) -> str:
    """One clear sentence for a person, without what depends on when it was asked."""
    if verdict == "FAIL":
        shown = [item for item in evidence if item.critical and item.decision == "FAIL"]
        worst = max(shown, key=lambda item: item.log10_e_fail - item.threshold_fail)
        return f"FAIL: {_exceeds(worst)}, shown at error rate {_percent(spec.alpha_fail)}"
    if verdict == "PASS":
        names = ", ".join(item.metric for item in evidence if item.critical)
        return (
            f"PASS: {names} within limits after {n:,} requests, "
            f"shown at error rate {_percent(spec.alpha_pass)}"
        )
    why = "; ".join(REASONS[reason] for reason in reasons)
    return f"{verdict}: {why} ({n:,} requests)"


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
