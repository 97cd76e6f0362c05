"""What objectives and budgets tell alert rules: signals by kind and id, with a judgement of their own."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ...schemas.costs.budgets import Budget
from ...schemas.costs.capacity import CapacityForecast
from ...schemas.signals import burn_signals
from ...schemas.slo.objective import Objective
from .alerts.signals import SignalReading
from .costs.budget import BudgetStatus
from .costs.capacity import Saturation
from .costs.limits import LimitLook
from .slo.burn import BurnStatus
from .slo.status import ObjectiveStatus


def of_objective(objective: Objective, status: ObjectiveStatus) -> Iterator[SignalReading]:
    """The signals of an objective: each burn-rate rule, all of them as one, and the budget.

    No data is no judgement: an alert on it stays as it is.
    """
    at_s, labels, n = status.end_s, objective.filter.given(), status.total
    judged: list[bool | None] = []
    for name, burn in zip(burn_signals(objective), status.burns, strict=True):
        rate = _burn(burn)
        judged.append(None if rate is None else burn.firing)
        yield SignalReading(
            "burn_rate", name, at_s, labels, judged[-1], rate, burn.factor, n,
            note=f"times the rate of the budget, over {burn.name}",
        )  # fmt: skip
    known = [item for item in judged if item is not None]
    yield SignalReading(
        "burn_rate", objective.id, at_s, labels, any(known) if known else None,
        status.burn_1h, math.nan, n, note="times the rate of the budget, over 1h",
    )  # fmt: skip
    spent = None if status.state in ("unknown", "no_data") else status.state != "met"
    yield SignalReading(
        "budget", objective.id, at_s, labels, spent, status.consumed, float(objective.at_risk), n,
        "ratio", "of the error budget",
    )  # fmt: skip


def _burn(burn: BurnStatus) -> float | None:
    """The burn rate that both windows have reached; None where one of them is without data."""
    if burn.long_rate is None or burn.short_rate is None:
        return None
    return min(burn.long_rate, burn.short_rate)


def of_budget(budget: Budget, status: BudgetStatus, at_s: int) -> SignalReading:
    """The signal of a budget of cost: what is spent, once too much is, else what is expected."""
    exceeded = status.state == "exceeded" or status.projected is None
    amount = status.spent if exceeded else status.projected
    assert amount is not None
    return SignalReading(
        "budget",
        budget.id,
        at_s,
        budget.filter.given(),
        None if status.state == "unknown" else status.state != "ok",
        amount / status.budget,
        budget.alert_spent_ratio if exceeded else budget.alert_projected_ratio,
        unit="ratio",
        note=f"of the budget of the {budget.period} is " + ("spent" if exceeded else "expected"),
    )


def of_limit(look: LimitLook) -> Iterator[SignalReading]:
    """The signal of a spend limit: of each key that it tells of, the share of the limit."""
    spec = look.spec
    for item in (*look.keys, *look.left):
        yield SignalReading(
            "spend_limit", spec.id, look.at_s, {spec.by: item.key}, item.since_s is not None,
            item.spent / spec.nanousd, 1.0, unit="ratio",
            note=f"of the {spec.usd} USD allowed in {spec.window_s} s is spent",
        )  # fmt: skip


def of_forecast(spec: CapacityForecast, found: Saturation, at_s: int) -> SignalReading:
    """The signal of a forecast: time until the fleet is full, or how far ahead it is not.

    It is broken where the expected load, not only the early end of the interval, gets there.
    """
    breach: bool | None = None
    value: float | None = None
    note = f"unknown: {found.reason}"
    if found.state == "saturated":
        breach, value, note = True, 0.0, f"{found.reason} is full"
    elif found.estimate_s is not None:
        breach, value, note = True, float(found.estimate_s), f"until {found.signal} is full"
    elif found.state != "unknown":
        breach, value = False, float(found.horizon_s)
        note = "ahead the fleet is not expected to be full"
    return SignalReading(
        "capacity", spec.id, at_s, spec.filter.given(), breach, value, float(spec.horizon_s),
        unit="s", note=note,
    )  # fmt: skip
