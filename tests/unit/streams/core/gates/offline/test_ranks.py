"""E-values from ranks: their mean over all orders is 1, and what follows from that."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.streams.core.gates.offline.ranks import (
    log_e_larger,
    mann_whitney,
    ratio_interval,
    ratio_of,
)
from scipy import stats

VALUES = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=8).map(np.array)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 4), (5, 3)])
def test_the_mean_over_all_orders_is_one(n: int, m: int) -> None:
    total = 0.0
    for places in itertools.combinations(range(n + m), n):
        other = [at for at in range(n + m) if at not in places]
        total += math.exp(log_e_larger(np.array(places, float), np.array(other, float)))
    assert total / math.comb(n + m, n) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("values", [[0, 0, 1, 1, 2], [0, 0, 0, 0, 0], [0, 1, 1, 1, 3]])
def test_ties_only_make_it_smaller(values: list[int]) -> None:
    total = 0.0
    for places in itertools.combinations(range(5), 2):
        one = np.array([values[at] for at in places], float)
        other = np.array([values[at] for at in range(5) if at not in places], float)
        total += math.exp(log_e_larger(one, other))
    assert total / 10 <= 1.0 + 1e-12


@given(VALUES, VALUES)
def test_the_count_is_scipys(one: np.ndarray, other: np.ndarray) -> None:
    u = (
        stats.mannwhitneyu(one, other, method="asymptotic").statistic
        if one.size + other.size > 2
        else None
    )
    if u is not None and not math.isnan(u):
        assert mann_whitney(one, other) * one.size * other.size == pytest.approx(u)


@given(VALUES, VALUES, st.randoms())
def test_the_order_of_blocks_is_immaterial(
    one: np.ndarray, other: np.ndarray, random: object
) -> None:
    shuffled = one.tolist()
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis' Random has no public type
    assert log_e_larger(np.array(shuffled), other) == log_e_larger(one, other)


@given(VALUES, VALUES)
def test_larger_values_are_more_evidence(one: np.ndarray, other: np.ndarray) -> None:
    assert log_e_larger(one + 0.5, other) >= log_e_larger(one, other) - 1e-12


def test_two_against_two_is_undecided_and_five_against_five_not() -> None:
    two, five = np.array([1.0, 2.0]), np.arange(5.0)
    assert log_e_larger(two + 10, two) < math.log(20)
    assert log_e_larger(five + 10, five) > math.log(100)


def test_units_of_measurement_do_not_matter() -> None:
    base = np.random.default_rng(3).lognormal(0, 0.1, 12)
    told = {round(log_e_larger(base * 1.45 * unit, base * 1.05 * unit), 12) for unit in (1.0, 1e-5)}
    assert len(told) == 1
    assert told.pop() > math.log(100)


def test_an_adversarial_pair_of_arms_shows_nothing() -> None:
    one, other = np.array([0, 1, 2, 1, 0, 0.0]), np.zeros(6)
    assert log_e_larger(one, other) < math.log(20)
    assert log_e_larger(other, one) < math.log(20)
    assert ratio_of(one, other) is None
    assert ratio_interval(one, other, 0.01) == (None, None)


def test_nothing_is_shown_without_blocks() -> None:
    assert log_e_larger(np.empty(0), np.ones(3)) == 0.0
    assert log_e_larger(np.ones(3), np.empty(0)) == 0.0


def test_the_interval_holds_the_true_ratio_and_shrinks() -> None:
    g = np.random.default_rng(11)
    widths = []
    for n in (20, 200):
        low, high = ratio_interval(g.normal(110, 5, n), g.normal(100, 5, n), 0.01)
        assert low is not None
        assert high is not None
        assert low < 1.1 < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2
    assert ratio_interval(np.ones(2), np.ones(2) * 2, 0.01) == (None, None)


def test_thousands_of_blocks_do_not_overflow() -> None:
    g = np.random.default_rng(1)
    one, other = g.normal(1.1, 0.1, 3000), g.normal(1, 0.1, 3000)
    assert 100 < log_e_larger(one, other, 10.0) < 1e5
    assert log_e_larger(other, one, 10.0) < -100
