"""Which slices a difference of two arms comes from."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.streams.core.gates.contributing import MOST, contributing

Row = dict[str, Any]
COUNT = st.integers(1, 500)


def row(dimension: str, value: str, n1: int, bad1: int, n0: int = 0, bad0: int = 0) -> Row:
    return {
        "dimension": dimension, "value": value, "n1": n1, "bad1": bad1, "n0": n0, "bad0": bad0,
    }  # fmt: skip


def test_the_slice_that_fails_comes_first_and_what_is_alike_not_at_all() -> None:
    rows = [
        row("", "", 200, 22, 200, 2),
        row("route", "a", 100, 1, 100, 1),
        row("route", "b", 100, 21, 100, 1),
        row("tenant", "t", 200, 22, 200, 2),
    ]
    (found,) = contributing(rows, two_arms=True)
    assert (found.dimension, found.value) == ("route", "b")
    assert found.effect == pytest.approx(0.1)
    assert found.power == pytest.approx(1.0)
    assert (found.n, found.bad, found.n_control, found.bad_control) == (100, 21, 100, 1)


def test_of_one_arm_what_has_more_than_its_share() -> None:
    rows = [
        row("", "", 100, 10),
        row("worker_id", "w1", 50, 9),
        row("worker_id", "w2", 50, 1),
    ]
    (found,) = contributing(rows, two_arms=False)
    assert (found.value, found.power) == ("w1", None)
    assert found.effect == pytest.approx(0.04)


def test_where_more_is_better_a_fall_is_worse() -> None:
    rows = [
        row("", "", 20, 12, 20, 18),
        row("route", "a", 10, 9, 10, 9),
        row("route", "b", 10, 3, 10, 9),
    ]
    (found,) = contributing(rows, two_arms=True, higher_is_better=True)
    assert found.value == "b"
    assert found.power == pytest.approx(1.0)
    assert contributing(rows, two_arms=True) == []


@pytest.mark.parametrize(
    ("rows", "two_arms"),
    [
        ([], True),
        ([row("", "", 0, 0, 10, 1), row("route", "a", 0, 0, 10, 1)], True),
        ([row("", "", 10, 1), row("route", "a", 5, 1), row("route", "b", 5, 0)], True),
    ],
)
def test_without_rows_on_a_side_nothing_is_told(rows: list[Row], two_arms: bool) -> None:
    assert contributing(rows, two_arms) == []


@given(st.lists(st.tuples(COUNT, COUNT, COUNT, COUNT), min_size=2, max_size=12))
def test_effects_are_worse_sorted_and_few(parts: list[tuple[int, int, int, int]]) -> None:
    slices = [row("route", f"{at:02}", a + b, a, c + d, c) for at, (a, b, c, d) in enumerate(parts)]
    total = {name: sum(one[name] for one in slices) for name in ("n1", "bad1", "n0", "bad0")}
    found = contributing([row("", "", 0, 0) | total, *slices], two_arms=True)
    assert len(found) <= MOST
    assert all(one.effect > 0 for one in found)
    assert found == sorted(found, key=lambda one: -one.effect)
    whole = total["bad1"] / total["n1"] - total["bad0"] / total["n0"]
    if whole > 1e-9:
        assert found, "a difference comes from somewhere"
        assert all(one.power == pytest.approx(one.effect / whole) for one in found)
