from __future__ import annotations

import pytest
from penstock.schemas.config import parse
from penstock.schemas.costs.budgets import SpendLimit
from penstock.schemas.costs.capacity import CapacityForecast
from penstock.schemas.slo.objective import Objective
from penstock.streams.core.costs.budget import BudgetStatus
from penstock.streams.core.costs.capacity import Saturation
from penstock.streams.core.costs.limits import KeySpend, LimitLook
from penstock.streams.core.signal_readings import of_budget, of_forecast, of_limit, of_objective
from penstock.streams.core.slo.burn import burn_statuses
from penstock.streams.core.slo.ledger import Ledger
from penstock.streams.core.slo.status import status_of
from penstock.streams.core.tiles import Span

FOUND = parse("""
slos: [{id: up, filter: {model: m}, sli: {kind: availability}, target: 0.9, min_coverage: 0,
  burn_rates: [{window: 1h, factor: 2}, {window: 2h, factor: 3}]}]
costs: {budgets: [{id: week, usd: 0.000001, filter: {route: /a}}]}
""")
(UP,) = FOUND.objectives
(WEEK,) = FOUND.costs.budgets
END_S = 1_767_571_200 + 1800


def told(*minutes: tuple[int, int], alarm_s: int | None = None) -> dict[tuple[str, str], object]:
    """Judgement and value of each signal after minutes of bad and total."""
    assert isinstance(UP, Objective)
    ledger = Ledger()
    for at, (bad, total) in enumerate(reversed(minutes), 1):
        ledger.put(Span(60, END_S - 60 * at), bad, total)
    burns = burn_statuses(UP.rules, ledger, UP.budget, END_S, alarm_s)
    status = status_of(UP, ledger, Ledger(), END_S, burns, alarm_s)
    readings = list(of_objective(UP, status))
    assert {dict(item.labels)["model"] for item in readings} == {"m"}
    return {(item.kind, item.id): (item.breach, item.value) for item in readings}


def test_without_data_nothing_is_judged() -> None:
    assert set(told().values()) == {(None, None)}


def test_a_short_window_without_data_is_no_judgement_of_its_rule() -> None:
    found = told((5, 10), *[(0, 0)] * 8)
    assert found["burn_rate", "up.1h"] == (None, None)
    assert found["burn_rate", "up.2h"] == (False, 5.0)
    assert found["burn_rate", "up"] == (False, 5.0)
    assert found["budget", "up"] == (True, 5.0)


def test_a_burn_that_is_no_chance_fires_where_it_is_above() -> None:
    found = told((25, 100), alarm_s=END_S)
    assert found["burn_rate", "up.1h"] == (True, 2.5)
    assert found["burn_rate", "up.2h"] == (False, 2.5)
    assert found["burn_rate", "up"] == (True, 2.5)


@pytest.mark.parametrize(
    ("state", "spent", "projected", "expected"),
    [
        ("ok", 100, 900, (False, 0.9, 1.2, "of the budget of the week is expected")),
        ("projected", 100, 1300, (True, 1.3, 1.2, "of the budget of the week is expected")),
        ("exceeded", 1100, 1300, (True, 1.1, 1.0, "of the budget of the week is spent")),
        ("unknown", 100, None, (None, 0.1, 1.0, "of the budget of the week is spent")),
    ],
)
def test_a_budget_tells_what_is_expected_until_it_is_spent(
    state: str, spent: int, projected: int | None, expected: tuple[object, ...]
) -> None:
    status = BudgetStatus(
        "week", state, (), 0, 7, 1000, spent, projected, None, None, "linear", 0, 0, None  # type: ignore[arg-type]  # parametrized
    )  # fmt: skip
    said = of_budget(WEEK, status, END_S)
    assert (said.breach, said.value, said.limit, said.note) == expected
    assert (said.kind, said.id, said.at_s, said.labels) == (
        "budget",
        "week",
        END_S,
        {"route": "/a"},
    )


LIMIT = SpendLimit.model_validate({"id": "user", "by": "user_hash", "usd": 2, "window_s": 3600})


def test_a_spend_limit_tells_of_each_key_and_of_those_that_left() -> None:
    keys = (KeySpend("ann", 3 * 10**9, 60), KeySpend("bob", 10**9))
    told = [*of_limit(LimitLook(LIMIT, 120, 1, keys, (KeySpend("cy", 0),)))]
    assert [(one.labels["user_hash"], one.breach, one.value) for one in told] == [
        ("ann", True, 1.5),
        ("bob", False, 0.5),
        ("cy", False, 0.0),
    ]
    assert {(one.kind, one.id, one.at_s, one.limit, one.unit) for one in told} == {
        ("spend_limit", "user", 120, 1.0, "ratio")
    }


@pytest.mark.parametrize(
    ("found", "breach", "value", "note"),
    [
        (Saturation("unknown", "gaps", 60), None, None, "unknown: gaps"),
        (Saturation("saturated", "queue_depth", 60), True, 0.0, "queue_depth is full"),
        (
            Saturation("saturates", "", 60, 600, 300, 200, None, "batch_fill"),
            True,
            300.0,
            "until batch_fill is full",
        ),
        (
            Saturation("saturates", "", 60, 600, None, 200, None, "batch_fill"),
            False,
            600.0,
            "ahead the fleet is not expected",
        ),
        (Saturation("not_within_horizon", "", 60, 600), False, 600.0, "ahead the fleet is not"),
    ],
)
def test_a_forecast_is_broken_where_the_expected_load_fills_the_fleet(
    found: Saturation, breach: bool | None, value: float | None, note: str
) -> None:
    spec = CapacityForecast.model_validate({"id": "chat", "filter": {"model": "chat"}})
    told = of_forecast(spec, found, 60)
    assert (told.kind, told.id, told.labels) == ("capacity", "chat", {"model": "chat"})
    assert (told.breach, told.value, told.unit) == (breach, value, "s")
    assert told.note.startswith(note)
