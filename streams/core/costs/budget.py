"""Budgets: what a calendar period has cost, will have cost, and whether to alert."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Literal

from ....schemas.costs.budgets import Budget
from ..gates.canonical import sha256
from .periods import period_of
from .projection import project
from .series import HOUR_S, Series

BudgetState = Literal["exceeded", "projected", "ok", "unknown"]


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """A budget at a moment of event time; amounts in nano-dollars.

    Attributes:
        state: `exceeded` and `projected` are what to alert on; they are told whatever is missing,
            because what is missing only adds. `ok` needs a projection and known costs.
        reasons: why it is unknown, or what the numbers lack.
        start_s, end_s: the period, seconds since 1970 UTC.
        projected, low, high: at the end of the period, with an interval where it is known.
        last_hour, budget_per_hour: the run rate beside the plan's.
        measured_share: share of the traffic whose cost is known; None where that is not known.
        spec_hash: `budget_hash` of what was asked for.
    """

    id: str
    state: BudgetState
    reasons: tuple[str, ...]
    start_s: int
    end_s: int
    budget: int
    spent: int
    projected: int | None
    low: int | None
    high: int | None
    method: str
    last_hour: int
    budget_per_hour: int
    measured_share: float | None
    spec_hash: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The status as JSON holds it."""
        return asdict(self) | {"reasons": list(self.reasons)}


def budget_hash(spec: Budget) -> str:
    """Hash of what the numbers of a budget follow from."""
    return sha256(spec.model_dump(mode="json", exclude={"id"}))[:16]


def budget_status(
    spec: Budget, series: Series, now_s: int, coverage: float | None, hidden: bool = False
) -> BudgetStatus:
    """Evaluate a budget.

    Args:
        spec: the budget.
        series: SPEND of its slice: hours of the period and of four weeks, minutes of the last hours.
        now_s: event time up to which tiles are closed, seconds; rounded down to the minute.
        coverage: share of the period's events that arrived, None where unknown.
        hidden: whether its slice counts in `(other)` (spend.slices_of).
    """
    now_s = now_s // 60 * 60
    start_s, end_s = period_of(spec.period, now_s)
    sums = series.total(start_s, now_s)
    expected = project(series, start_s, now_s, end_s, spec.level)
    measured = _measured(sums, coverage)
    reasons = _reasons(spec, measured, hidden, expected.total)
    return BudgetStatus(
        id=spec.id,
        state=_state(spec, sums["cost_nanousd"], expected.total, bool(reasons)),
        reasons=reasons if expected.low is not None else (*reasons, "no_interval"),
        start_s=start_s,
        end_s=end_s,
        budget=spec.nanousd,
        spent=sums["cost_nanousd"],
        projected=expected.total,
        low=expected.low,
        high=expected.high,
        method=expected.method,
        last_hour=series.total(now_s - HOUR_S, now_s)["cost_nanousd"],
        budget_per_hour=spec.nanousd * HOUR_S // (end_s - start_s),
        measured_share=measured,
        spec_hash=budget_hash(spec),
    )


def _measured(sums: dict[str, int], coverage: float | None) -> float | None:
    """Share of events that arrived, times the share of their tokens that state a cost."""
    if coverage is None:
        return None
    return coverage * (sums["costed_tokens"] / sums["tokens"] if sums["tokens"] else 1.0)


def _reasons(
    spec: Budget, measured: float | None, hidden: bool, projected: int | None
) -> tuple[str, ...]:
    told = {
        "slice_in_other": hidden,
        "coverage_unknown": measured is None,
        "too_little_measured": measured is not None and measured < spec.min_measured,
        "no_history": projected is None,
    }
    return tuple(reason for reason, holds in told.items() if holds)


def _state(spec: Budget, spent: int, projected: int | None, doubtful: bool) -> BudgetState:
    if spent >= spec.nanousd * Fraction(str(spec.alert_spent_ratio)):
        return "exceeded"
    limit = spec.nanousd * Fraction(str(spec.alert_projected_ratio))
    if projected is not None and projected > limit:
        return "projected"
    return "unknown" if doubtful else "ok"
