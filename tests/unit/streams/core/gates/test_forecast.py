"""How many more units: the edges of the forecast; its use is tested with the gate."""

import math

import pytest
from penstock.streams.core.gates.betting import BettingState
from penstock.streams.core.gates.eprocess import BetaPrior, log_e_above
from penstock.streams.core.gates.forecast import cost_needs, is_noise, rate_needs

FAIL, PASS = math.log(100), math.log(20)


def test_nothing_measured() -> None:
    assert rate_needs(0, 0, 0.05, FAIL, PASS) is None
    assert cost_needs(BettingState(), 0, FAIL, PASS) is None


def test_the_forecast_solves_the_threshold() -> None:
    needed = rate_needs(70, 1000, 0.05, FAIL, PASS)
    assert needed is not None
    assert needed > 0
    for factor, reached in ((1.0, True), (0.95, False)):
        units = 1000 + factor * needed
        value = log_e_above(0.07 * units, units, 0.05, BetaPrior.around(0.05))[0]
        assert (value >= FAIL) == reached


def test_one_standard_error_is_noise() -> None:
    sd = math.sqrt(0.05 * 0.95 * 1000)
    assert is_noise(round(50 - 0.9 * sd), 1000, 0.05)
    assert not is_noise(round(50 - 1.3 * sd), 1000, 0.05)
    assert not is_noise(0, 0, 0.05)
    # A rate one standard error from the limit is assumed, on the side of the estimate.
    below = rate_needs(round(50 - 0.9 * sd), 1000, 0.05, FAIL, PASS)
    above = rate_needs(round(50 + 0.9 * sd), 1000, 0.05, FAIL, PASS)
    assert below == rate_needs(50, 1000, 0.05, FAIL, PASS)
    assert below is not None
    assert above is not None
    assert below < 0 < above
    assert rate_needs(round(50 - 1.3 * sd), 1000, 0.05, FAIL, PASS) == pytest.approx(-4000, rel=0.6)


def test_further_than_anyone_waits() -> None:
    units = 10**14
    bad = units // 20 + round(1.1 * math.sqrt(0.05 * 0.95 * units))
    assert rate_needs(bad, units, 0.05, FAIL, PASS) is None
