from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.streams.core.costs.law import fit_law
from penstock.streams.core.costs.resample import (
    block_length,
    bounds,
    correlation,
    redrawn,
    widening,
)
from penstock.streams.core.costs.trend import Trend, fit_cycle, fit_line
from scipy import stats

numbers = st.floats(-1e6, 1e6)


@given(st.lists(numbers, min_size=3, max_size=40), st.integers(1, 5))
def test_the_slope_is_that_of_scipy(values: list[float], gap: int) -> None:
    steps = np.arange(len(values)) * gap
    found = fit_line(np.array([values, values]), steps)
    expected = stats.theilslopes(values, steps)
    assert found.slope[0] == found.slope[1] == pytest.approx(float(expected.slope), abs=1e-9)


def test_a_quarter_of_wild_steps_does_not_move_a_line() -> None:
    steps = np.arange(40)
    values = np.linspace(3.0, 81.0, 40)
    values[::4] = 1e9
    found = fit_line(values[None, :], steps)
    assert found.slope[0] == pytest.approx(2.0)
    assert found.expected(np.array([100]))[0, 0] == pytest.approx(203.0)


@pytest.mark.parametrize("days", [2, 3, 14])
def test_a_cycle_that_grows_is_found_exactly(days: int) -> None:
    steps = np.arange(24 * days)
    cycle = 1 + 0.5 * np.sin(2 * np.pi * steps / 24)
    found = fit_cycle(((10 + 0.1 * steps) * cycle)[None, :])
    ahead = np.arange(24 * days, 24 * days + 24)
    expected = (10 + 0.1 * ahead) * (1 + 0.5 * np.sin(2 * np.pi * ahead / 24))
    assert found.expected(ahead)[0] == pytest.approx(expected, rel=0.02)


def test_a_wild_day_of_seven_does_not_move_a_cycle() -> None:
    steps = np.arange(24 * 7)
    load = 10 * (1 + 0.5 * np.sin(2 * np.pi * steps / 24))
    load[48:72] *= 10
    found = fit_cycle(load[None, :])
    assert found.expected(np.arange(168, 192))[0] == pytest.approx(load[:24], rel=0.02)


def test_no_load_at_all_is_a_flat_cycle() -> None:
    found = fit_cycle(np.zeros((2, 48)))
    assert found.expected(np.arange(5)).tolist() == [[0.0] * 5] * 2
    assert found.cycle.tolist() == [[1.0] * 24] * 2


def test_a_line_that_falls_below_nothing_is_nothing() -> None:
    found = fit_line(np.array([[3.0, 2.0, 1.0]]), np.arange(3))
    assert found.expected(np.array([2, 10]))[0].tolist() == [1.0, 0.0]


def test_a_slope_is_kept_as_far_as_it_is_clear() -> None:
    def shrunk(*slopes: float) -> Trend:
        n = len(slopes)
        return Trend(np.full(n, 10.0), np.array(slopes), np.ones((n, 1))).shrunk(21)

    clear = shrunk(2.0, 1.0, 3.0)  # a spread of 1: half of it is kept, about step 10
    assert clear.expected(np.array([0, 10, 20]))[0].tolist() == [20.0, 30.0, 40.0]
    assert shrunk(1.0, -1.0, 3.0).expected(np.array([0, 20]))[0].tolist() == [20.0, 20.0]
    assert shrunk(0.0, 0.0, 0.0).expected(np.array([20]))[0].tolist() == [10.0]


def test_the_law_of_utilisation_and_the_load_that_fills() -> None:
    load = np.array([5.0, 1.0, 2.0, 4.0, 3.0])
    law = fit_law(load, np.array([0.1 + 0.1 * load, np.full(5, 0.4), 0.9 - 0.1 * load]))
    assert law.load_at(0.9) == pytest.approx([8.0, np.inf, np.inf])
    assert law.at(np.array([10.0]))[0, 0] == pytest.approx(1.1)
    already = fit_law(load, (0.95 + 0.001 * load)[None, :])
    assert already.load_at(0.9).tolist() == [0.0]
    assert fit_law(np.ones(4), np.array([[0.1, 0.2, 0.3, 0.4]])).per_load.tolist() == [0.0]


def test_blocks_grow_with_correlation() -> None:
    assert [block_length(60, 0.0), block_length(60, 0.5), block_length(60, 0.9)] == [4, 6, 12]
    assert block_length(336, 0.75) == 14
    assert correlation(np.zeros(5)) == 0.0
    assert correlation(np.array([1.0, -1.0, 1.0, -1.0])) == 0.0
    assert correlation(np.repeat([1.0, -1.0, 1.0, -1.0], 10)) == pytest.approx(0.825)
    assert correlation(np.repeat([1.0, -1.0], 50)) == 0.95


def test_widening_of_known_cases() -> None:
    # 60 independent values: 58 / 60 corrected to r = 2 / 56, length 4, t of about 54
    long_run = (1 + 2 / 56) / (1 - 2 / 56)
    tail = stats.t.ppf(0.95, 60 / long_run - 2) / stats.norm.ppf(0.95)
    expected = math.sqrt(long_run / (1 - 8 / 60)) * tail
    assert widening(60, 0.0, 4, 0.9) == pytest.approx(expected)
    assert widening(60, 0.9, 12, 0.9) > widening(60, 0.5, 6, 0.9) > widening(60, 0.0, 4, 0.9)
    assert widening(10_000, 0.0, 22, 0.9) == pytest.approx(1.0, abs=0.01)


def test_redrawn_errors_are_blocks_of_residuals() -> None:
    residuals = np.arange(60.0) - 29.5
    drawn = redrawn(np.random.default_rng(1), residuals, 3, 0.9)
    again = redrawn(np.random.default_rng(1), residuals, 3, 0.9)
    assert drawn.shape == (3, 60)
    assert np.array_equal(drawn, again)
    r = correlation(residuals)
    length = block_length(60, r)
    plain = drawn / widening(60, r, length, 0.9)
    within = np.diff(plain[:, :length], axis=1) % 60
    assert within == pytest.approx(1.0)


def test_bounds_of_resamples() -> None:
    again = np.arange(1.0, 1000.0)
    low, high = bounds(np.append(500.0, again), 0.9)
    assert (low, high) == pytest.approx((50, 950), abs=1)
    # the estimate lies at the 10 % quantile: so may the truth of the resamples' centre
    low, high = bounds(np.append(100.0, again), 0.9)
    assert high < 500
    low, high = bounds(np.append(np.inf, np.full(99, np.inf)), 0.9)
    assert np.isinf([low, high]).all()
    low, high = bounds(np.append(5.0, np.full(99, np.inf)), 0.9)
    assert np.isinf([low, high]).all()
