"""Two arms' means, ratios of means, and rates by difference."""

import math
from typing import Any

import numpy as np
import pytest
from penstock.streams.core.gates.boundaries import (
    RHO,
    one_sided_normal_log,
    one_sided_normal_logs,
)
from penstock.streams.core.gates.eprocess import BetaPrior, log_e_above, log_e_axis, log_e_below
from penstock.streams.core.gates.means import (
    Margin,
    Moments,
    levels_around,
    log_e_mean,
    log_e_rate_difference,
    mean_range,
)

Floats = np.ndarray[Any, np.dtype[np.float64]]


def moments(a: Floats, b: Floats | None = None) -> Moments:
    weight = np.ones(len(a)) if b is None else b
    sums = (len(a), a.sum(), weight.sum(), (a * a).sum(), (a * weight).sum(), (weight**2).sum())
    return Moments(*(np.asarray(float(value)) for value in sums))


def test_levels_are_fine_near_the_centre_and_cover_everything() -> None:
    ratio = levels_around(np.asarray(0.2), Margin(1.2))
    assert ratio[0] == 0.0
    assert math.isinf(ratio[-1])
    near = ratio[(ratio > 0.19) & (ratio < 0.21)]
    assert bool(np.all(np.diff(np.log(near)) < math.log(1.2) / 15))
    difference = levels_around(np.asarray(0.2), Margin(absolute=0.01))
    assert bool(np.all(np.diff(difference) >= 0))
    assert 0.2 in difference


def test_cost_that_rose_fails_and_an_equal_one_passes() -> None:
    rng = np.random.default_rng(1)
    control = rng.beta(2, 18, 18000)
    equal, dearer = rng.beta(2, 18, 4000), rng.beta(2, 18, 4000) * 1.5
    margin = Margin(1.2)
    assert log_e_mean(moments(equal), moments(control), margin, "PASS", True) > math.log(20)
    assert log_e_mean(moments(equal), moments(control), margin, "FAIL", True) < 0.0
    assert log_e_mean(moments(dearer), moments(control), margin, "FAIL", True) > math.log(100)
    assert log_e_mean(moments(dearer), moments(control), margin, "PASS", True) < 0.0


def test_cost_per_token_sees_the_price_and_not_the_length() -> None:
    """Answers twice as long at the same price per token are within; a dearer token is not."""
    rng = np.random.default_rng(2)
    tokens = rng.uniform(0.05, 0.4, 9000)
    long = rng.uniform(0.1, 0.8, 3000)
    price = 0.5
    control = moments(price * tokens, tokens)
    margin = Margin(1.1)
    assert log_e_mean(moments(price * long, long), control, margin, "PASS", False) > math.log(20)
    dearer = moments(1.3 * price * long, long)
    assert log_e_mean(dearer, control, margin, "FAIL", False) > math.log(100)


def test_difference_of_means() -> None:
    rng = np.random.default_rng(3)
    control, equal = rng.beta(8, 2, 20000), rng.beta(8, 2, 8000)
    lower = np.maximum(rng.beta(8, 2, 8000) - 0.1, 0)
    margin = Margin(absolute=0.03)
    # more is better: the arms change places
    assert log_e_mean(moments(control), moments(equal), margin, "PASS", True) > math.log(20)
    assert log_e_mean(moments(control), moments(lower), margin, "FAIL", True) > math.log(100)


@pytest.mark.parametrize("direction", ["FAIL", "PASS"])
def test_missing_arms_and_constant_zeros_decide_nothing(direction: Any) -> None:
    empty, some = moments(np.array([])), moments(np.full(100, 0.2))
    zeros = moments(np.zeros(5))
    assert log_e_mean(empty, some, Margin(1.2), direction, True) == 0.0
    assert log_e_mean(some, empty, Margin(1.2), direction, True) == 0.0
    assert log_e_mean(zeros, zeros, Margin(1.2), direction, True) < math.log(20)
    assert log_e_rate_difference(0, 0, 3, 9, 0.01, direction) == 0.0


def test_range_of_a_mean_holds_it() -> None:
    values = np.random.default_rng(4).beta(2, 18, 5000)
    low, high = mean_range(moments(values), True, math.log(200))
    assert low is not None
    assert high is not None
    assert low < 0.1 < high < 1.5 * low
    assert mean_range(moments(np.array([])), True, math.log(200)) == (None, None)
    assert mean_range(moments(np.array([0.1])), True, math.log(200))[1] is None


def test_axis_of_limits_is_each_limit_by_itself() -> None:
    limits = np.array([0.001, 0.02, 0.5, 0.97])
    for above, test in ((True, log_e_above), (False, log_e_below)):
        axis = log_e_axis(7, 300, limits, above)
        alone = [float(test(7, 300, p, BetaPrior.around(p))[0]) for p in limits.tolist()]
        assert axis.tolist() == pytest.approx(alone, rel=1e-12)


def test_rates_by_difference() -> None:
    assert log_e_rate_difference(200, 4000, 360, 36000, 0.01, "FAIL") > math.log(100)
    assert log_e_rate_difference(40, 4000, 360, 36000, 0.01, "PASS") > math.log(20)
    assert log_e_rate_difference(40, 4000, 360, 36000, 0.01, "FAIL") < 0.0
    assert log_e_rate_difference(0, 4000, 0, 36000, 0.01, "PASS") > math.log(20)


@pytest.mark.parametrize("arms", [((9, 9), (0, 9)), ((9, 9), (9, 9)), ((0, 9), (9, 9))])
def test_rates_by_difference_at_their_ends(arms: Any) -> None:
    (bad1, n1), (bad0, n0) = arms
    told = [log_e_rate_difference(bad1, n1, bad0, n0, 0.3, d) for d in ("FAIL", "PASS")]
    assert all(math.isfinite(value) for value in told)
    assert max(told) == told[0] if bad1 > bad0 else told[1] >= told[0]


@pytest.mark.slow
def test_rate_difference_keeps_its_error_rates() -> None:
    """300 streams polled at 20 panes: the difference is exactly the margin."""
    rng = np.random.default_rng(6)
    failed = passed = 0
    for _ in range(300):
        bad1, bad0 = rng.binomial(100, 0.06, 20).cumsum(), rng.binomial(100, 0.02, 20).cumsum()
        n = 100 * np.arange(1, 21)
        sums = bad1[::2], n[::2], bad0[::2], n[::2]
        failed += bool((log_e_rate_difference(*sums, 0.04, "FAIL") >= math.log(100)).any())
        passed += bool((log_e_rate_difference(*sums, 0.04, "PASS") >= math.log(20)).any())
    assert failed / 300 <= 0.01 + 3 * math.sqrt(0.01 / 300)
    assert passed / 300 <= 0.05 + 3 * math.sqrt(0.05 / 300)


def test_normal_mixture_of_arrays_is_that_of_numbers() -> None:
    s, v = np.array([-5.0, 0.0, 30.0]), np.array([10.0, 100.0, 100.0])
    alone = [one_sided_normal_log(float(a), float(b), RHO) for a, b in zip(s, v, strict=True)]
    assert one_sided_normal_logs(s, v, RHO).tolist() == pytest.approx(alone)
