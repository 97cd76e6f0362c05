"""Published values of the uniform boundaries, and what they must do at the edges."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.streams.core.gates import boundaries


def test_best_rho() -> None:
    assert boundaries.best_rho(100, 0.05) == pytest.approx(12.60056, abs=5e-6)
    assert boundaries.one_sided_best_rho(100, 0.05) == pytest.approx(15.80063, abs=5e-6)


def test_normal_mixture_bounds() -> None:
    two_sided = boundaries.normal_bound(100, 0.05, boundaries.best_rho(100, 0.05))
    rho = boundaries.one_sided_best_rho(100, 0.05)
    assert two_sided == pytest.approx(30.35209, abs=5e-6)
    assert boundaries.one_sided_normal_bound(100, 0.05, rho) == pytest.approx(27.66071, abs=5e-6)


def test_beta_binomial_mixture() -> None:
    r = boundaries.best_rho(100, 0.05) - 0.2 * 0.8
    assert boundaries.beta_binomial_log(10, 100, 0.2, 0.8, r) == pytest.approx(-0.6941012, abs=5e-8)
    bound = boundaries.beta_binomial_bound(100, 0.05, 0.2, 0.8, r)
    assert bound == pytest.approx(31.4308, abs=5e-5)


def test_beta_binomial_mean_is_one_under_the_null() -> None:
    """Summed exactly over the binomial: 40 units that are bad with probability 0.3."""
    total = 0.0
    for k in range(41):
        s = k - 40 * 0.3
        weight = math.comb(40, k) * 0.3**k * 0.7 ** (40 - k)
        total += weight * math.exp(boundaries.beta_binomial_log(s, 40 * 0.21, 0.3, 0.7, 2.1))
    assert total == pytest.approx(1.0)


def test_beta_binomial_bound_that_is_never_reached_is_the_largest_sum() -> None:
    assert boundaries.beta_binomial_bound(0.16, 0.05, 0.2, 0.8, 1.0) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("bad", "units", "t_opt", "expected"),
    [
        (700, 1000, 100, (0.651629, 0.745949)),
        (15, 50, 50, (0.129556, 0.511896)),
        (0, 1, 50, (0.0, 1.0)),
    ],
)
def test_bernoulli_confidence_sequence(
    bad: int, units: int, t_opt: float, expected: tuple[float, float]
) -> None:
    interval = boundaries.rate_confidence_sequence(bad, units, 0.05, t_opt)
    assert interval == pytest.approx(expected, abs=2e-6)


def test_no_units_say_nothing() -> None:
    assert boundaries.rate_confidence_sequence(0, 0, 0.05, 100) == (0.0, 1.0)


def test_a_thousand_million_units() -> None:
    low, high = boundaries.rate_confidence_sequence(10**6, 10**9, 0.01, 1000)
    assert 0.00099 < low < 0.001 < high < 0.00101
    assert boundaries.rate_confidence_sequence(0, 10**9, 0.01, 1e6)[0] == 0.0


@given(units=st.integers(1, 5000), share=st.floats(0, 1), alpha=st.sampled_from([0.2, 0.05, 0.001]))
def test_interval_holds_the_estimate_and_mirrors(units: int, share: float, alpha: float) -> None:
    bad = round(units * share)
    low, high = boundaries.rate_confidence_sequence(bad, units, alpha, 100)
    assert 0.0 <= low <= bad / units <= high <= 1.0
    mirrored = boundaries.rate_confidence_sequence(units - bad, units, alpha, 100)
    assert mirrored == pytest.approx((1.0 - high, 1.0 - low), abs=1e-9)


def test_interval_covers_at_every_time() -> None:
    """1,000 streams looked at after each of 60 blocks: misses stay within the level."""
    rng = np.random.default_rng(5)
    missed = 0
    for _ in range(1000):
        bad = rng.binomial(10, 0.1, 60).cumsum()
        looks = (1, 3, 10, 30, 59)
        intervals = [
            boundaries.rate_confidence_sequence(int(bad[i]), 10 * (i + 1), 0.1, 200) for i in looks
        ]
        missed += any(not low <= 0.1 <= high for low, high in intervals)
    assert missed / 1000 <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 1000)
