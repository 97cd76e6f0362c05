"""Budgets kept up from tiles say what they say from all tiles at once."""

from __future__ import annotations

import numpy as np
from penstock.schemas.costs.budgets import Budget
from penstock.streams.core import metrics as m
from penstock.streams.core.costs.keeper import BudgetKeeper, group_of_budget
from penstock.streams.core.costs.series import HOUR_S, MINUTE_S
from penstock.streams.core.slices import COVERAGE, Slice, SliceRegistry
from penstock.streams.core.tiles import SLICE_BITS, Span, Tile, merge, tile_of

START_S = 1_767_571_200  # Monday, 5 January 2026
BUDGETS = (
    Budget.model_validate({"id": "all", "usd": 1, "period": "month"}),
    Budget.model_validate({"id": "route", "usd": 1, "period": "day", "filter": {"route": "/a"}}),
)


def registry() -> SliceRegistry:
    found = SliceRegistry(10, 10)
    found.number(Slice("route", ("/a",)))
    return found


def minute(slices: SliceRegistry, at: int) -> Tile:
    """A request for 1 + at nano-dollars and three tokens, of which two state a cost."""
    counters = {m.COST_NANOUSD: 1 + at, m.COSTED_TOKENS: 2, m.INPUT_TOKENS: 1, m.OUTPUT_TOKENS: 2}
    found: dict[int, int] = {}
    for number in (0, slices.number(Slice("route", ("/a",)))):
        found |= {number << SLICE_BITS | m.key(metric): n for metric, n in counters.items()}
    found[COVERAGE << SLICE_BITS | m.key(m.RECEIVED)] = 3
    found[COVERAGE << SLICE_BITS | m.key(m.MISSING)] = 1
    return tile_of(np.array([*found], np.uint64), np.array([*found.values()]))


def tiles(slices: SliceRegistry, minutes: int) -> dict[Span, Tile]:
    """Minutes, and the hours that they fill."""
    found = {Span(MINUTE_S, START_S + 60 * at): minute(slices, at) for at in range(minutes)}
    for hour in range(minutes // 60):
        start_s = START_S + hour * HOUR_S
        parts = [found[Span(MINUTE_S, start_s + 60 * at)] for at in range(60)]
        found[Span(HOUR_S, start_s)] = merge(parts)
    return found


def test_amounts_and_coverage_are_exact() -> None:
    slices = registry()
    keeper = BudgetKeeper(BUDGETS, slices)
    keeper.feed(tiles(slices, 150) | {Span(10, START_S): minute(slices, 9)})
    found = keeper.evaluate(START_S + 150 * 60)
    for name in ("all", "route"):
        assert found[name].spent == sum(1 + at for at in range(150))
        assert found[name].measured_share == 0.75 * 2 / 3
        assert found[name].last_hour == sum(1 + at for at in range(90, 150))
    assert keeper.evaluate(START_S + 150 * 60, vanished=True)["all"].measured_share is None


def test_a_restart_with_what_is_needed_changes_nothing() -> None:
    slices = registry()
    whole, minutes = BudgetKeeper(BUDGETS, slices), 61 * 60
    every = tiles(slices, minutes)
    for span in sorted(every):
        whole.feed({span: every[span]})
    for at in range(120, minutes + 1, 36):
        assert whole.evaluate(START_S + at * 60)
    expected = whole.evaluate(START_S + minutes * 60)
    again = BudgetKeeper(BUDGETS, slices)
    since_s, end_s = START_S + (minutes - 10) * 60, START_S + minutes * 60 + 7
    for length_s, low_s, high_s in again.needs(since_s, end_s):
        again.feed(
            {
                s: t
                for s, t in every.items()
                if s.length_s == length_s and low_s <= s.start_s < high_s
            }
        )
    assert again.evaluate(START_S + (minutes - 9) * 60)
    assert again.evaluate(START_S + minutes * 60) == expected


def test_an_empty_store_has_no_amounts() -> None:
    found = BudgetKeeper(BUDGETS, registry()).evaluate(START_S + 60)
    assert (found["all"].state, found["all"].spent) == ("unknown", 0)


def test_a_budget_is_evaluated_where_its_slice_is() -> None:
    assert [group_of_budget(budget) for budget in BUDGETS] == ["fleet", "route:/a"]
