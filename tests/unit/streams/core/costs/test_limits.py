from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from penstock.schemas.costs.budgets import SpendLimit
from penstock.streams.core.costs.limits import Overspend, overspending

WINDOW_S = 600
SPEC = SpendLimit.model_validate(
    {"id": "l", "by": "user_hash", "usd": "1e-7", "window_s": WINDOW_S}  # 100 nano-dollars
)
KEYS = ["a", "b", ""]
rows = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40), st.integers(0, 80)), max_size=60)


def found(items: list[tuple[int, int, int]], now_min: int) -> list[Overspend]:
    codes, minutes, nano = np.array(items, np.int64).reshape(-1, 3).T
    return overspending(SPEC, KEYS, codes, minutes * 60, nano, now_min * 60)


def plain(items: list[tuple[int, int, int]], key: int, now_min: int) -> int:
    return sum(
        nano for code, minute, nano in items if code == key and now_min - 10 <= minute < now_min
    )


@given(rows, st.integers(0, 45))
def test_sums_and_beginnings_are_those_of_a_plain_loop(
    items: list[tuple[int, int, int]], now_min: int
) -> None:
    expected = []
    for key in (0, 1):
        since = now_min
        while plain(items, key, since) > 100:
            since -= 1
        if since < now_min:
            expected.append(Overspend(KEYS[key], plain(items, key, now_min), 100, (since + 1) * 60))
    assert found(items, now_min) == sorted(expected, key=lambda item: (-item.spent, item.key))


@given(rows, st.randoms(use_true_random=False))
def test_order_does_not_matter(items: list[tuple[int, int, int]], rng: Any) -> None:
    shuffled = list(items)
    rng.shuffle(shuffled)
    assert found(shuffled, 30) == found(items, 30)


def test_the_limit_itself_is_allowed_and_the_unnamed_have_none() -> None:
    assert found([(0, 5, 100), (2, 5, 500)], 6) == []
    assert found([(0, 5, 100), (0, 5, 1)], 6) == [Overspend("a", 101, 100, 360)]
    assert found([(0, 5, 101)], 16) == []


def test_the_beginning_stays_as_long_as_the_sum_is_above() -> None:
    items = [(0, minute, 30) for minute in range(30)]
    assert {found(items, now)[0].since_s for now in range(4, 31)} == {240}
