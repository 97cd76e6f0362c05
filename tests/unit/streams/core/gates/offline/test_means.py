"""E-values of bounded means, against known answers and their definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.streams.core.gates.offline.means import Sample
from penstock.streams.core.gates.paired import log_e_mcnemar

PAIR = st.sampled_from([-1.0, 0.0, 1.0])


def of_pairs(worse: int, better: int, same: int = 0) -> Sample:
    return Sample.of(np.array([1.0] * worse + [-1.0] * better + [0.0] * same), -1.0, 1.0)


@pytest.mark.parametrize(("worse", "better", "e"), [(9, 1, 18.51), (12, 1, 89.94), (6, 0, 18.14)])
def test_known_answers_of_mcnemar(worse: int, better: int, e: float) -> None:
    assert round(math.exp(of_pairs(worse, better).above(0.0).log_e()), 2) == e
    assert round(math.exp(of_pairs(worse, better, 500).above(0.0).log_e()), 2) == e


@given(st.integers(0, 120), st.integers(0, 120))
def test_without_a_margin_it_is_the_paired_module(worse: int, better: int) -> None:
    mine = of_pairs(worse, better).above(0.0).log_e()
    assert mine == pytest.approx(float(log_e_mcnemar(worse, better)[0]), abs=1e-9)


@given(st.lists(PAIR, min_size=1, max_size=60), st.floats(0.0, 0.9), st.randoms())
def test_order_is_immaterial(values: list[float], limit: float, random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis' Random has no public type
    one, other = (Sample.of(np.array(v), -1.0, 1.0) for v in (values, shuffled))
    assert one.above(limit).log_e() == other.above(limit).log_e()
    assert one.below(limit).log_e() == other.below(limit).log_e()


@pytest.mark.parametrize("limit", [0.0, 0.02, 0.3])
def test_the_mean_under_the_null_is_one(limit: float) -> None:
    """Exactly: all outcomes of 6 pairs whose mean loss is the limit, weighted by probability."""
    worse = (0.4 + limit) / 2 + 0.1
    better = worse - limit
    total = 0.0
    for w in range(7):
        for b in range(7 - w):
            ways = math.comb(6, w) * math.comb(6 - w, b)
            p = ways * worse**w * better**b * (1 - worse - better) ** (6 - w - b)
            sample = of_pairs(w, b, 6 - w - b)
            total += p * math.exp(sample.above(limit).log_e())
            assert sample.below(limit).log_e() > -math.inf
    assert total == pytest.approx(1.0, abs=1e-9)


def test_limits_at_a_bound_show_nothing_and_none_without_units() -> None:
    assert Sample.of(np.zeros(50), 0.0, 1.0).above(0.0).log_e() == 0.0
    assert Sample.of(np.ones(50), 0.0, 1.0).below(1.0).log_e() == 0.0
    empty = Sample.of(np.empty(0), -1.0, 1.0)
    assert (empty.n, empty.mean, empty.above(0.1).log_e(), empty.below(0.1).log_e()) == (
        0,
        None,
        0,
        0,
    )
    assert empty.interval(0.01) == (-1.0, 1.0)


def test_the_interval_holds_what_is_not_rejected() -> None:
    sample = of_pairs(30, 10, 160)
    low, high = sample.interval(0.05)
    assert low < 0.1 < high
    threshold = math.log(2 / 0.05)
    assert sample.above(low - 1e-6).log_e() >= threshold > sample.above(low + 1e-6).log_e()
    assert sample.below(high + 1e-6).log_e() >= threshold > sample.below(high - 1e-6).log_e()


def test_as_many_units_again_is_the_same_as_a_scale() -> None:
    once, twice = of_pairs(8, 3, 40), of_pairs(16, 6, 80)
    assert once.above(0.05).log_e(2.0) == pytest.approx(twice.above(0.05).log_e(), abs=1e-9)


def test_a_million_pairs_do_not_overflow() -> None:
    sample = Sample(np.array([-1.0, 0.0, 1.0]), np.array([1e5, 7e5, 2e5]), -1.0, 1.0)
    assert 1e3 < sample.above(0.01).log_e() < 1e5
    assert sample.below(0.01).log_e() < -10


def test_values_outside_of_their_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must lie in \[-1, 1\]"):
        Sample.of(np.array([1.5]), -1.0, 1.0)
    with pytest.raises(ValueError, match="must lie"):
        Sample.of(np.array([math.nan]), -1.0, 1.0)
