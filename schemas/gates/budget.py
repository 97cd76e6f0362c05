"""The budget gate: is enough of an error budget left to deploy?"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .base import LivePolicies


class BudgetGate(LivePolicies):
    """Budget left is a census, so it is compared and not tested; burn rates are (docs/slos.md).

    FAIL is a spent budget, or a burn-rate rule of a named severity in alarm. PASS needs
    `min_left_ratio` of the budget and neither. Between them the gate is undecided. Nothing latches:
    the answer is about now.

    Attributes:
        slo: id of an objective of the configuration.
        min_left_ratio: share of the budget that must be left; it has no default.
        severities: of the burn-rate rules that block.
        deadline_s: event time after the question opened, after which policies apply.
    """

    kind: Literal["budget"] = "budget"
    slo: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    min_left_ratio: float = Field(ge=0, le=1)
    severities: tuple[Literal["info", "warning", "critical", "emergency"], ...] = (
        "warning",
        "critical",
        "emergency",
    )
    deadline_s: int | None = Field(None, gt=0)
