"""Bets on a bounded mean: error rates, power, interval, and independence of grouping."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.streams.core.gates.betting import BETS, SHARES, BettingState, advance

blocks = st.lists(st.floats(-1, 1, allow_nan=False), max_size=40)


@given(blocks, st.data())
def test_grouping_changes_no_bit(values: list[float], data: st.DataObject) -> None:
    means = np.array(values, np.float64)
    whole, up, down = advance(BettingState(), means, 0.01)
    cut = data.draw(st.integers(0, len(values)))
    part, up_1, down_1 = advance(BettingState(), means[:cut], 0.01)
    rest, up_2, down_2 = advance(part, means[cut:], 0.01)
    assert rest == whole
    assert [*up_1, *up_2] == up.tolist()
    assert [*down_1, *down_2] == down.tolist()


@given(blocks)
def test_states_and_traces_agree(values: list[float]) -> None:
    state, up, down = advance(BettingState(), np.array(values, np.float64), 0.01)
    assert state.blocks == len(values)
    if values:
        assert state.log_e_above() == up[-1]
        assert state.log_e_below() == down[-1]
    low, high = state.interval(2.0, 0.05)
    assert -2.0 <= low <= high <= 2.0


def test_wealth_by_hand() -> None:
    state, _, _ = advance(BettingState(), np.array([0.5, -0.25]), 0.05)
    by_hand = sum(
        share * (1 + bet * 0.5) * (1 - bet * 0.25) for bet, share in zip(BETS, SHARES, strict=True)
    )
    assert state.log_e_above() == pytest.approx(math.log(by_hand))


def test_worst_blocks_stay_finite() -> None:
    state, _, _ = advance(BettingState(), np.full(10_000, -1.0), 0.05)
    assert math.isfinite(state.log_e_above())
    assert state.log_e_below() > 1000
    assert state.interval(1.0, 0.05)[1] < -0.9


@pytest.mark.parametrize("shape", ["two_points", "skewed", "uniform"])
def test_error_rates_and_coverage_at_zero_mean(shape: str) -> None:
    rng = np.random.default_rng(11)
    size = (2000, 200)
    means = {
        "two_points": rng.choice([-1.0, 1.0], size),
        "skewed": np.where(rng.random(size) < 0.01, 0.99, -0.01),
        "uniform": rng.uniform(-0.3, 0.3, size),
    }[shape]
    ever_up = ever_down = missed = 0
    for row in means:
        state, up, down = advance(BettingState(), row, 0.05)
        low, high = state.interval(1.0, 0.05)
        ever_up += bool((up >= math.log(100)).any())
        ever_down += bool((down >= math.log(20)).any())
        missed += not low <= 0.0 <= high
    assert ever_up / 2000 <= 0.01 + 3 * math.sqrt(0.01 * 0.99 / 2000)
    assert ever_down / 2000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)
    assert missed / 2000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_finds_a_shifted_mean() -> None:
    rng = np.random.default_rng(3)
    needed = []
    for _ in range(100):
        _, up, _ = advance(BettingState(), rng.uniform(-0.2, 0.3, 400), 0.01)
        needed.append(int(np.argmax(up >= math.log(100))) or 400)
    assert np.median(needed) < 170
