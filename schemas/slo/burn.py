"""Burn-rate rules: how fast a budget may be spent, over which windows.

Google SRE Workbook, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts". A rule holds where the error
rate of a long window, and of a short one of a twelfth, is above `factor` times the budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from pydantic import Field, field_validator, model_validator

from .base import InnerShare, Model, Positive, Severity, percent, seconds_of

DAY_S = 86400
LONGEST_S = 3 * DAY_S
Window = Literal["7d", "28d", "30d", "week", "month", "quarter"]
# Calendar periods differ in length; rules take the usual one, so that they do not change by month.
PERIOD_S: dict[Window, int] = {
    "7d": 7 * DAY_S,
    "28d": 28 * DAY_S,
    "30d": 30 * DAY_S,
    "week": 7 * DAY_S,
    "month": 30 * DAY_S,
    "quarter": 90 * DAY_S,
}


class BurnRate(Model):
    """One rule, by its factor or by the share of the budget that is gone after its window."""

    window: str = Field(description="Long window, such as 1h; the short one is a twelfth.")
    factor: Positive | None = Field(None, description="Multiple of the budget's rate.")
    budget: InnerShare | None = Field(None, description="Share of the budget that it spends.")
    severity: Severity = "critical"
    for_s: int = Field(0, ge=0, description="How long it must hold, in seconds of event time.")

    @field_validator("window")
    @classmethod
    def _is_window(cls, window: str) -> str:
        length_s = seconds_of(window)
        if length_s % 60 or not 60 <= length_s <= LONGEST_S:
            raise ValueError("a window of a burn rate is whole minutes, from 1m to 3d")
        return window

    @model_validator(mode="after")
    def _one_way(self) -> BurnRate:
        if (self.factor is None) == (self.budget is None):
            raise ValueError("give either factor or budget")
        return self


@dataclass(frozen=True, slots=True)
class BurnRule:
    """A rule of one objective.

    Attributes:
        name: the long window as it is written.
        long_s, short_s: its windows, in seconds.
        factor: exact multiple of the budget's rate.
        severity, for_s: as configured.
    """

    name: str
    long_s: int
    short_s: int
    factor: Fraction
    severity: Severity
    for_s: int = 0


WORKBOOK = (
    BurnRate(window="1h", budget=Decimal("0.02"), severity="critical"),
    BurnRate(window="6h", budget=Decimal("0.05"), severity="critical"),
    BurnRate(window="1d", budget=Decimal("0.1"), severity="warning"),
    BurnRate(window="3d", budget=Decimal("0.1"), severity="warning"),
)
"""2 % of the budget in an hour, 5 % in six, 10 % in a day and in three."""


def rule_of(rate: BurnRate, window: Window) -> BurnRule:
    """A rule over the period of an objective.

    >>> [float(rule_of(rate, "30d").factor) for rate in WORKBOOK]
    [14.4, 6.0, 3.0, 1.0]
    >>> float(rule_of(WORKBOOK[0], "28d").factor)
    13.44
    """
    long_s = seconds_of(rate.window)
    if rate.factor is not None:
        factor = Fraction(rate.factor)
    else:
        factor = Fraction(rate.budget or 0) * PERIOD_S[window] / long_s
    short_s = max(60, -(-long_s // (12 * 60)) * 60)
    return BurnRule(rate.window, long_s, short_s, factor, rate.severity, rate.for_s)


def unreachable(rule: BurnRule, budget: Fraction) -> str | None:
    """Why a rule can never hold, if so. It must be exceeded, so 100 % errors are not enough."""
    needed = rule.factor * budget
    if needed < 1:
        return None
    return (
        f"the burn rate over {rule.name} cannot be reached: {float(rule.factor):.10g} times a budget"
        f" of {percent(budget)} is {percent(needed)}, and it needs more than that"
    )
