"""Contributions add up to the change, whatever the slices, and are what a calculation by hand gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.streams.core.explain.contribution import Sums, change, effects, surprise
from penstock.streams.core.explain.ranking import MIN_SURPRISE


def sums(n: list[float], d: list[float], n0: list[float], d0: list[float]) -> Sums:
    return Sums(*(np.array(values, float) for values in (n, d, n0, d0)))


def total_of(slices: Sums) -> Sums:
    columns = (slices.n, slices.d, slices.n0, slices.d0)
    return Sums(*(np.array([column.sum()]) for column in columns))


ROW = st.integers(0, 1000).flatmap(lambda d: st.tuples(st.integers(0, d), st.just(d)))
SLICES = st.lists(st.tuples(ROW, ROW), min_size=1, max_size=12).filter(
    lambda rows: sum(now[1] for now, _ in rows) > 0
)


@given(SLICES, st.booleans())
def test_effects_add_up_to_the_change(
    rows: list[tuple[tuple[int, int], tuple[int, int]]], quotient: bool
) -> None:
    slices = sums(
        [now[0] for now, _ in rows],
        [now[1] for now, _ in rows],
        [old[0] for _, old in rows],
        [old[1] for _, old in rows],
    )
    total = total_of(slices)
    parts = effects(slices, total, quotient)
    assert parts.sum() == pytest.approx(change(total, quotient), abs=1e-9)
    order = np.random.default_rng(len(rows)).permutation(len(rows))
    columns = (slices.n, slices.d, slices.n0, slices.d0)
    moved = Sums(*(column[order] for column in columns))
    np.testing.assert_allclose(effects(moved, total, quotient), parts[order], atol=1e-12)


@given(SLICES)
def test_surprise_is_a_share_of_a_divergence(
    rows: list[tuple[tuple[int, int], tuple[int, int]]],
) -> None:
    slices = sums(
        [now[0] for now, _ in rows],
        [now[1] for now, _ in rows],
        [old[0] for _, old in rows],
        [old[1] for _, old in rows],
    )
    bits = surprise(slices, total_of(slices))
    assert bits.sum() >= -1e-12
    assert bits.sum() <= 1 + 1e-12


def test_by_hand() -> None:
    slices = sums([10, 60], [100, 300], [10, 10], [100, 100])
    total = total_of(slices)
    # 70 / 400 against 20 / 200: of 0.075, the second slice's rate is (0.625)(0.1), the rest moved.
    rate = 0.625 * (0.2 - 0.1)
    moved = ((0.2 + 0.1) / 2 - (0.175 + 0.1) / 2) * 0.25
    first = (0.1 - 0.1375) * -0.25
    assert effects(slices, total, True).tolist() == pytest.approx([first, rate + moved])
    assert effects(slices, total, False).tolist() == [0, 50]


def test_traffic_that_moves_to_a_bad_slice_is_its_effect_although_nothing_got_worse() -> None:
    slices = sums([8, 0], [80, 20], [2, 0], [20, 80])
    parts = effects(slices, total_of(slices), True)
    assert parts.sum() == pytest.approx(0.06)
    assert (parts > 0).all()


def test_a_new_slice_and_one_that_is_gone() -> None:
    slices = sums([5, 0], [50, 0], [0, 1], [0, 50])
    parts = effects(slices, total_of(slices), True)
    assert parts.tolist() == pytest.approx([0.1 - 0.06, 0.06 - 0.02])


def test_a_handful_of_errors_before_surprises_nobody() -> None:
    def bits(n: list[float], n0: list[float]) -> float:
        slices = sums(n, [900, 100], n0, [900, 100])
        return float(surprise(slices, total_of(slices)).sum())

    assert bits([90, 10], [9, 1]) == pytest.approx(0, abs=1e-12)
    # The only error before was of the small slice; now they are spread as the traffic is.
    assert bits([90, 10], [0, 1]) < MIN_SURPRISE
    assert bits([0, 50], [9, 1]) > 20 * MIN_SURPRISE
    assert bits([0, 0], [9, 1]) == 0
