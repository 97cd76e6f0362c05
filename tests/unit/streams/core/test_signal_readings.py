from __future__ import annotations

import pytest
from penstock.schemas.config import parse
from penstock.schemas.slo.objective import Objective
from penstock.streams.core.costs.budget import BudgetStatus
from penstock.streams.core.signal_readings import of_budget, of_objective
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
