"""The rate ratio of two arms: printed values, validity by exact enumeration, splits and orders."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.streams.core.gates.two_arm import (
    Direction,
    grid_of,
    log_e_ratio,
    log_likelihood_steps,
    log_mean_exp,
    ratio_interval,
)
from scipy.stats import norm


def ints(*values: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(values, np.int64)


def log_l(
    bad1: int, bad0: int, share: float, margin: float, direction: Direction
) -> np.ndarray[Any, np.dtype[np.float64]]:
    n1 = round(share * 1_000_000)
    sizes = ints(n1), ints(1_000_000 - n1)
    return log_likelihood_steps(ints(bad1), ints(bad0), *sizes, grid_of(margin, direction))


def e_value(bad1: int, bad0: int, share: float, margin: float, direction: Direction) -> float:
    grid = grid_of(margin, direction)
    return float(np.exp(log_e_ratio(log_l(bad1, bad0, share, margin, direction), grid)[0]))


@pytest.mark.parametrize(
    ("case", "printed"),
    [
        ((10, 20, 0.1, 1.0), "118.062"),
        ((10, 20, 0.1, 1.5), "12.7473"),
        ((20, 10, 0.5, 1.0), "3.05838"),
        ((5, 45, 0.5, 1.0), "0.0386664"),
        ((2, 0, 0.1, 1.0), "5.76058"),
        ((2, 0, 0.01, 1.0), "12.0635"),
    ],
)
def test_known_answers_to_fail(case: tuple[int, int, float, float], printed: str) -> None:
    assert f"{e_value(*case, 'FAIL'):.6g}" == printed


@pytest.mark.parametrize(
    ("case", "printed"),
    [
        ((3, 90, 0.1, 2.0), "7165.07"),
        ((5, 45, 0.1, 2.0), "2.01631"),
        ((0, 30, 0.1, 2.0), "69.7622"),
        ((50, 450, 0.1, 1.5), "13.8295"),
    ],
)
def test_known_answers_to_pass(case: tuple[int, int, float, float], printed: str) -> None:
    assert f"{e_value(*case, 'PASS'):.6g}" == printed


@pytest.mark.parametrize("direction", ["FAIL", "PASS"])
@pytest.mark.parametrize("margin", [1.0, 1.5, 4.0])
def test_prior_is_the_truncated_normal(direction: Direction, margin: float) -> None:
    grid = grid_of(margin, direction)
    assert grid.weight.sum() == pytest.approx(1.0)
    above = direction == "FAIL"
    assert bool(np.all((grid.ratio > margin) == above))
    # its mean log ratio is that of the truncated normal distribution
    low = norm.pdf(math.log(margin)) / (norm.sf if above else norm.cdf)(math.log(margin))
    mean = float(np.sum(grid.weight * np.log(grid.ratio)))
    assert mean == pytest.approx(low if above else -low, rel=1e-6)


@pytest.mark.parametrize("ratio", [1.0, 1.5])
def test_mean_is_at_most_one_over_every_outcome_of_the_null(ratio: float) -> None:
    """30 bad units, each the treatment's with the probability of a ratio at or below the margin."""
    share, margin = 0.2, 1.5
    theta = share * ratio / (share * ratio + 1 - share)
    total = sum(
        math.comb(30, x)
        * theta**x
        * (1 - theta) ** (30 - x)
        * e_value(x, 30 - x, share, margin, "FAIL")
        for x in range(31)
    )
    assert total <= 1.0 + 1e-9
    assert ratio < margin or total == pytest.approx(1.0)


def test_finite_panes_are_hypergeometric_and_conservative() -> None:
    """20 units of which 10 are the treatment's, 8 bad: all ways to draw them, without replacement."""
    grid = grid_of(1.0, "FAIL")
    mean = sum(
        math.comb(10, x)
        * math.comb(10, 8 - x)
        / math.comb(20, 8)
        * math.exp(
            log_e_ratio(log_likelihood_steps(ints(x), ints(8 - x), ints(10), ints(10), grid), grid)[
                0
            ]
        )
        for x in range(9)
    )
    assert mean < 1.0


def test_panes_of_one_arm_say_nothing() -> None:
    grid = grid_of(1.0, "FAIL")
    steps = log_likelihood_steps(ints(3, 0, 0), ints(0, 4, 0), ints(9, 0, 0), ints(0, 9, 0), grid)
    assert not steps.any()


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(3, 20), st.integers(5, 90)),
        min_size=1,
        max_size=12,
    ),
    st.randoms(use_true_random=False),
)
def test_order_of_panes_does_not_matter(panes: list[tuple[int, ...]], random: Any) -> None:
    grid = grid_of(1.5, "FAIL")
    shuffled = panes.copy()
    random.shuffle(shuffled)
    sums = []
    for order in (panes, shuffled):
        bad1, bad0, n1, n0 = (ints(*column) for column in zip(*order, strict=True))
        sums.append(log_likelihood_steps(bad1, bad0, n1, n0, grid).sum(axis=0))
    assert np.allclose(sums[0], sums[1], rtol=1e-12)


def test_share_of_each_pane_keeps_a_ramp_fair() -> None:
    """Equal rates while the share goes from 10 to 50 % and the error rate rises: no evidence, where
    one pooled share would see the treatment fail."""
    n1, n0 = ints(100, 500), ints(900, 500)
    bad1, bad0 = ints(1, 50), ints(9, 50)
    grid = grid_of(1.0, "FAIL")
    fair = log_likelihood_steps(bad1, bad0, n1, n0, grid).sum(axis=0)
    pooled = log_likelihood_steps(ints(51), ints(59), ints(600), ints(1400), grid).sum(axis=0)
    assert float(log_e_ratio(fair, grid)) < 0.0 < 4.0 < float(log_e_ratio(pooled, grid))


def test_huge_counts_neither_under_nor_overflow() -> None:
    assert log_e_ratio(log_l(3 * 10**8, 9 * 10**8, 0.1, 1.0, "FAIL"), grid_of(1.0, "FAIL"))[0] > 0.0
    down = log_e_ratio(log_l(10**8, 9 * 10**8, 0.5, 1.0, "FAIL"), grid_of(1.0, "FAIL"))[0]
    assert math.isfinite(down)
    assert down < -1000


def test_log_mean_exp_at_the_ends() -> None:
    weight = np.array([0.5, 0.5])
    values = log_mean_exp(np.array([[-2000.0, -2000.0], [np.inf, 0.0], [-np.inf, -np.inf]]), weight)
    assert values.tolist() == [-2000.0, np.inf, -np.inf]


@pytest.mark.parametrize("case", [(30, 270, 0.1), (100, 450, 0.1), (0, 40, 0.5)])
def test_interval_holds_the_estimate_and_agrees_with_the_tests(
    case: tuple[int, int, float],
) -> None:
    bad1, bad0, share = case
    low, high = ratio_interval(
        log_l(*case, 1.5, "FAIL")[0], log_l(*case, 1.5, "PASS")[0], 1.5, 0.05
    )
    estimate = bad1 / bad0 * (1 - share) / share
    assert (low or 0.0) <= estimate <= (high or math.inf)
    assert high is not None
    if bad1 == 0:
        assert low is None


def test_interval_covers_at_every_time() -> None:
    """150 streams of equal rates, looked at after each of 40 panes: misses stay within the level."""
    rng = np.random.default_rng(11)
    missed = 0
    fail, passed = grid_of(1.0, "FAIL"), grid_of(1.0, "PASS")
    for _ in range(150):
        bad1, bad0 = rng.binomial(50, 0.05, 40), rng.binomial(450, 0.05, 40)
        sizes = np.full(40, 50), np.full(40, 450)
        up = np.cumsum(log_likelihood_steps(bad1, bad0, *sizes, fail), axis=0)
        down = np.cumsum(log_likelihood_steps(bad1, bad0, *sizes, passed), axis=0)
        intervals = [ratio_interval(up[i], down[i], 1.0, 0.1) for i in range(0, 40, 3)]
        missed += any(not (low or 0.0) <= 1.0 <= (high or math.inf) for low, high in intervals)
    assert missed / 150 <= 0.1 + 3 * math.sqrt(0.09 / 150)
