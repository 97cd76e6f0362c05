"""The state of a budget at one moment: a census of what the period holds so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Literal

from ....schemas.slo.objective import Composite, Objective
from ..gates.canonical import sha256
from .burn import BurnStatus, above, burn_rate, over
from .ledger import HOUR_S, Ledger, Pair
from .period import Period, period_at

State = Literal["met", "at_risk", "breached", "unknown", "no_data"]
STATES: Mapping[State, str] = {
    "met": "the target is kept, and enough of the budget is left",
    "at_risk": "the target is kept, and most of the budget is spent (75 % unless configured)",
    "breached": "more than the budget is spent",
    "unknown": "too small a part of the traffic is known to have been measured",
    "no_data": "nothing was measured",
}
"""Every state and what it means: a closed list."""


@dataclass(frozen=True, slots=True)
class ObjectiveStatus:
    """An objective at one moment.

    Attributes:
        id, declared, target: of the objective; target is the share that must be good.
        state: see `STATES`.
        end_s: what is closed, in seconds since 1970 UTC.
        period_start_s, period_end_s: the period of the budget.
        bad, total: in it, so far; millionths of a score for quality, minutes where those count.
        attainment: share of good ones; None without any.
        consumed: share of the budget that is spent, above 1 in a breach; None without events.
        budget_minutes, left_minutes: the same in minutes of the period; negative in a breach.
        exhaustion_s: seconds until it is spent at the burn rate of the last hour; 0 in a breach,
            None where it will not be.
        burn_1h: burn rate of the last hour.
        coverage: share of the fleet's events that arrived, None where it cannot be told.
        burns: burn-rate rules.
        alarm_s: event time of the e-detector's last alarm.
        spec_hash: `objective_hash` of what was asked for.
    """

    id: str
    declared: str
    target: float
    state: State
    end_s: int
    period_start_s: int
    period_end_s: int
    bad: int
    total: int
    attainment: float | None
    consumed: float | None
    budget_minutes: float
    left_minutes: float | None
    exhaustion_s: float | None
    burn_1h: float | None
    coverage: float | None
    burns: tuple[BurnStatus, ...]
    alarm_s: int | None
    spec_hash: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        data = asdict(self)
        data["burns"] = list(data["burns"])
        return data


def objective_hash(objective: Objective) -> str:
    """Hash of what the numbers of an objective follow from; its texts may change."""
    texts = {"id", "description", "service", "notify"}
    return sha256(objective.model_dump(mode="json", exclude=texts))[:16]


def status_of(
    objective: Objective,
    ledger: Ledger,
    lost: Ledger,
    end_s: int,
    burns: Sequence[BurnStatus] = (),
    alarm_s: int | None = None,
    vanished: bool = False,
) -> ObjectiveStatus:
    """The state of an objective.

    Args:
        objective: which.
        ledger: its counts.
        lost: what is missing, out of what was sent, of the whole fleet.
        end_s: what is closed, a full pane.
        burns: its rules now.
        alarm_s: of its e-detector.
        vanished: whether a worker fell silent in the period, so that what is missing is unknown.
    """
    period = period_at(objective.window, end_s)
    pair = ledger.total(period.start_s, end_s)
    missing, sent = lost.total(period.start_s, end_s)
    coverage = None if vanished or not sent else 1 - Fraction(missing, sent)
    budget = objective.budget
    consumed = Fraction(pair[0]) / (budget * pair[1]) if pair[1] else None
    last_hour = over(ledger, HOUR_S, end_s)
    minutes = budget * period.length_s / 60
    return ObjectiveStatus(
        id=objective.id,
        declared=objective.declared,
        target=float(1 - budget),
        state=_state(objective, pair, coverage),
        end_s=end_s,
        period_start_s=period.start_s,
        period_end_s=period.end_s,
        bad=pair[0],
        total=pair[1],
        attainment=float(1 - Fraction(*pair)) if pair[1] else None,
        consumed=None if consumed is None else float(consumed),
        budget_minutes=float(minutes),
        left_minutes=None if consumed is None else float((1 - consumed) * minutes),
        exhaustion_s=_exhaustion_s(period, end_s, consumed, last_hour, budget),
        burn_1h=burn_rate(last_hour, budget),
        coverage=None if coverage is None else float(coverage),
        burns=tuple(burns),
        alarm_s=alarm_s,
        spec_hash=objective_hash(objective),
    )


def _state(objective: Objective, pair: Pair, coverage: Fraction | None) -> State:
    if not pair[1]:
        return "no_data"
    wanted = Fraction(objective.min_coverage)
    if wanted and (coverage is None or coverage < wanted):
        return "unknown"
    if above(pair, Fraction(1), objective.budget):
        return "breached"
    spent = pair[0] >= Fraction(objective.at_risk) * objective.budget * pair[1]
    return "at_risk" if spent else "met"


def _exhaustion_s(
    period: Period, end_s: int, consumed: Fraction | None, last_hour: Pair, budget: Fraction
) -> float | None:
    """Seconds until the budget is spent if the last hour goes on.

    Rolling: what is left lasts a period at a burn rate of 1, as if nothing left the window. In a
    calendar period the budget grows with the traffic, so that only a burn rate above 1 spends it.
    """
    if consumed is None:
        return None
    if consumed >= 1:
        return 0.0
    if not last_hour[0]:
        return None
    rate = Fraction(*last_hour) / budget
    if period.rolling:
        return float((1 - consumed) * period.length_s / rate)
    if rate <= 1:
        return None
    left_s = (1 - consumed) * (end_s - period.start_s) / (rate - 1)
    return float(left_s) if end_s + left_s < period.end_s else None


@dataclass(frozen=True, slots=True)
class OverallStatus:
    """A composite at one moment.

    Attributes:
        id: of the composite.
        state: breached where too many of its objectives are; met or at_risk where enough are kept;
            unknown (or no_data, where none has data) where it depends on what was not measured.
        kept: objectives that are met or at risk.
        total: objectives.
        target: share that must be kept.
        states: state of each objective, by id.
    """

    id: str
    state: State
    kept: int
    total: int
    target: float
    states: Mapping[str, State]

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


def overall(composite: Composite, statuses: Mapping[str, ObjectiveStatus]) -> OverallStatus:
    """The state of several objectives as one; those without a status have no data."""
    states: dict[str, State] = {
        name: statuses[name].state if name in statuses else "no_data" for name in composite.of
    }
    needed = Fraction(composite.target) * len(states)
    values = list(states.values())
    kept = values.count("met") + values.count("at_risk")
    state: State
    if len(states) - values.count("breached") < needed:
        state = "breached"
    elif kept == 0 and values.count("no_data") == len(states):
        state = "no_data"
    elif kept < needed:
        state = "unknown"
    else:
        state = "at_risk" if "at_risk" in values or "breached" in values else "met"
    return OverallStatus(composite.id, state, kept, len(states), float(composite.target), states)
