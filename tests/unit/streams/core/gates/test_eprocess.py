"""The beta mixture against direct integration, at its edges, and its error rates."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.streams.core.gates.eprocess import BetaPrior, log_e_above, log_e_below
from scipy import integrate


def integrated(x: float, n: float, p0: float, prior: BetaPrior, low: float, high: float) -> float:
    """The definition, by Simpson's rule around the mode; shares nothing with the package."""

    def log_f(r: np.ndarray) -> np.ndarray:
        likelihood = x * np.log(r / p0) + (n - x) * np.log1p((p0 - r) / (1 - p0))
        shape = (prior.a - 1) * np.log(r) + (prior.b - 1) * np.log1p(-r)
        return np.asarray(likelihood + shape)

    total = n + prior.a + prior.b
    mode = min(max((x + prior.a - 1) / (total - 2), low), high)
    width = 60 * math.sqrt(max(mode * (1 - mode), 1 / total) / total)
    grid = np.linspace(max(low, mode - width), min(high, mode + width), 400_001)
    values = log_f(np.clip(grid, 1e-300, 1 - 1e-16))
    top = values.max()
    mass, _ = integrate.quad(
        lambda r: r ** (prior.a - 1) * (1 - r) ** (prior.b - 1), low, high, limit=500
    )
    area = float(integrate.simpson(np.exp(values - top), x=grid))
    return math.log(area) + float(top) - math.log(mass)


CASES = [
    (40, 400, 0.05, 1.0),
    (0, 400, 0.05, 1.0),
    (0, 0, 0.05, 1.0),
    (3, 1000, 0.001, 1.0),
    (5, 5, 0.5, 2.0),
    (0, 5000, 0.5, 1.0),
    (5000, 5000, 0.5, 1.0),
    (100, 100_000, 0.01, 1.0),
    (500, 1_000_000, 0.01, 1.0),
    (1_000_000, 1_000_000_000, 0.002, 1.0),
    (1_000_000, 1_000_000_000, 0.00101, 1.0),
    (1_010_000, 1_000_000_000, 0.001, 1.0),
]


@pytest.mark.parametrize(("bad", "units", "limit", "count"), CASES)
def test_equals_direct_integration(bad: int, units: int, limit: float, count: float) -> None:
    prior = BetaPrior.around(limit, count)
    above = integrated(bad, units, limit, prior, limit, 1.0)
    below = integrated(bad, units, limit, prior, 0.0, limit)
    assert log_e_above(bad, units, limit, prior)[0] == pytest.approx(above, rel=1e-8, abs=2e-6)
    assert log_e_below(bad, units, limit, prior)[0] == pytest.approx(below, rel=1e-8, abs=2e-6)


def test_starts_at_one() -> None:
    prior = BetaPrior.around(0.05)
    assert log_e_above(0, 0, 0.05, prior)[0] == pytest.approx(0.0, abs=1e-12)
    assert log_e_below(0, 0, 0.05, prior)[0] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("limit", [1e-6, 0.001, 0.05, 0.5, 0.999])
@pytest.mark.parametrize("units", [1, 10**3, 10**6, 10**9])
def test_is_finite_everywhere(limit: float, units: int) -> None:
    prior = BetaPrior.around(limit)
    shares = (0.0, 1e-9, limit / 2, limit, min(2 * limit, 1.0), 0.5, 1.0)
    bad = [round(share * units) for share in shares]
    for test in (log_e_above, log_e_below):
        assert np.isfinite(test(bad, [units] * len(bad), limit, prior)).all()


def test_the_two_ways_to_the_tail_agree() -> None:
    """Around the place where the tail gets too small for a double, nothing jumps."""
    prior = BetaPrior.around(0.5)
    units = np.arange(550, 800)
    values = log_e_above(np.zeros(units.size), units, 0.5, prior)
    assert np.abs(np.diff(values, 3)).max() < 2e-8


@given(st.integers(0, 300), st.integers(1, 300), st.sampled_from([0.001, 0.05, 0.3]))
def test_monotone_in_bad(bad: int, good: int, limit: float) -> None:
    prior = BetaPrior.around(limit)
    units = bad + good
    above = log_e_above([bad, bad + 1], [units, units], limit, prior)
    below = log_e_below([bad, bad + 1], [units, units], limit, prior)
    assert above[1] > above[0]
    assert below[1] < below[0]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5000)), min_size=1, max_size=40))
def test_a_value_does_not_depend_on_its_neighbours(pairs: list[tuple[int, int]]) -> None:
    prior = BetaPrior.around(0.01)
    bad = np.array([b for b, _ in pairs])
    units = np.array([b + g for b, g in pairs])
    together = log_e_above(bad, units, 0.01, prior)
    alone = [log_e_above(b, n, 0.01, prior)[0] for b, n in zip(bad, units, strict=True)]
    assert together.tolist() == alone


def test_mean_is_one_under_the_null() -> None:
    """The e-value's expectation at the limit, summed exactly over the binomial."""
    prior = BetaPrior.around(0.1)
    n = 60
    x = np.arange(n + 1)
    weight = np.array([math.comb(n, int(k)) * 0.1**k * 0.9 ** (n - k) for k in x])
    for test in (log_e_above, log_e_below):
        assert weight @ np.exp(test(x, np.full(n + 1, n), 0.1, prior)) == pytest.approx(1.0)


@pytest.mark.parametrize("limit", [0.001, 0.05, 0.5])
def test_error_rates_at_the_limit(limit: float) -> None:
    """2,000 streams polled at every cell with the rate exactly at the limit."""
    rng = np.random.default_rng(7)
    prior = BetaPrior.around(limit)
    bad = rng.binomial(20, limit, (2000, 400)).cumsum(axis=1)
    units = np.broadcast_to(np.arange(20, 20 * 401, 20), bad.shape)
    for test, alpha in ((log_e_above, 0.01), (log_e_below, 0.05)):
        values = test(bad.ravel(), units.ravel(), limit, prior).reshape(bad.shape)
        ever = (values >= math.log(1 / alpha)).any(axis=1).mean()
        assert ever <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / 2000)
