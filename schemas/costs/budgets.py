"""How much may be spent, and by whom."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .values import Budgeted, Name, Scope


class Budget(Budgeted):
    """An amount for a calendar period of UTC; weeks begin on Monday.

    Attributes:
        alert_projected_ratio: alert when spending is projected above this share of the budget.
        alert_spent_ratio: alert when this share of the budget is spent.
        min_measured: share of the traffic whose cost is known, below which all is never well.
    """

    id: Name
    filter: Scope = Scope()
    period: Literal["day", "week", "month"] = "week"
    alert_projected_ratio: float = Field(1.2, gt=0)
    alert_spent_ratio: float = Field(1.0, gt=0)
    min_measured: float = Field(0.95, ge=0, le=1)
    level: float = Field(0.9, gt=0.5, lt=1, description="Confidence level of the projection.")


class SpendLimit(Budgeted):
    """A limit on what one user or one tenant spends in a rolling window."""

    id: Name
    by: Literal["user_hash", "tenant"]
    window_s: int = Field(86400, ge=60, multiple_of=60)
