"""From what a gate found to what it answers: the same for every kind of gate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .reasons import Reason
from .verdict import Evidence, HasPolicies, Verdict, VerdictName, action_of, digest

_POLL_LATCHED_MS = 60_000


@dataclass(frozen=True, slots=True)
class Asked:
    """Of which gate and when a verdict is asked.

    Attributes:
        spec: policies.
        epoch, spec_hash, engine: of the state.
        watermark_us: event time now.
        left_us: microseconds until the deadline, negative after it; None without one.
        latched: whether the verdict stands.
    """

    spec: HasPolicies
    epoch: int
    spec_hash: str
    engine: str
    watermark_us: int
    left_us: int | None
    latched: bool


@dataclass(frozen=True, slots=True)
class Outlook:
    """How much more is needed: units and seconds, None where nobody can tell."""

    n_needed: int | None = None
    eta_s: float | None = None


def told(
    verdict: VerdictName,
    reasons: Sequence[Reason],
    evidence: Sequence[Evidence],
    n: int,
    as_of_us: int,
    text: str,
    checks: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """The part of a verdict that latches, as JSON can hold it."""
    return {
        "verdict": verdict,
        "reasons": list(reasons),
        "evidence": [item.to_dict() for item in evidence],
        "checks": list(checks),
        "n": n,
        "as_of_us": as_of_us,
        "text": text,
    }


def verdict_of(asked: Asked, found: dict[str, Any], outlook: Outlook) -> Verdict:
    """The answer.

    Args:
        asked: of what and when.
        found: what `told` gave, now or when it latched.
        outlook: how much more is needed.
    """
    after_deadline = asked.left_us is not None and asked.left_us <= 0
    return Verdict(
        verdict=found["verdict"],
        action=action_of(asked.spec, found["verdict"], after_deadline),
        reasons=tuple(found["reasons"]),
        evidence=tuple(found["evidence"]),
        n=found["n"],
        n_needed=outlook.n_needed,
        eta_s=outlook.eta_s,
        watermark_us=asked.watermark_us,
        as_of_us=found["as_of_us"],
        epoch=asked.epoch,
        spec_hash=asked.spec_hash,
        engine=asked.engine,
        digest=digest(
            found["verdict"],
            found["reasons"],
            found["evidence"],
            found["n"],
            found["as_of_us"],
            asked.epoch,
            asked.spec_hash,
            asked.engine,
            found["checks"],
        ),
        next_poll_ms=_next_poll_ms(asked.latched, outlook.eta_s),
        text=found["text"],
        checks=tuple(found["checks"]),
    )


def left_us(start_us: int, deadline_s: int | None, watermark_us: int) -> int | None:
    """Microseconds until the deadline, negative after it; None without one."""
    return None if deadline_s is None else start_us + deadline_s * 1_000_000 - watermark_us


def deadline_reasons(left: int | None, outlook: Outlook) -> tuple[Reason, ...]:
    """What the deadline adds to the reasons."""
    if left is None:
        return ()
    if left <= 0:
        return ("deadline_passed",)
    late = outlook.eta_s is not None and outlook.eta_s * 1e6 > left
    return ("deadline_unreachable",) if late else ()


def _next_poll_ms(latched: bool, eta_s: float | None) -> int:
    """A quarter of the way to the decision, between 1 s and 30 s; a minute once latched."""
    if latched:
        return _POLL_LATCHED_MS
    return 5_000 if eta_s is None else int(1000 * math.ceil(min(max(eta_s / 4, 1.0), 30.0)))
