"""How much longer an undecided gate will take, if the traffic goes on as it was.

An approximation, stated as such: the current estimate is taken as the truth and the e-value of
`units + m` units at exactly that rate is computed for a grid of m (each 4 % larger than the one
before). Within one standard error of the limit the direction itself is noise: then the truth is taken
to be one standard error from the limit, so that the answer says what at least a likely rate needs, and
`is_noise` says that it is no more than that. Random streams decide a little earlier or later; half of
them within about the number told.
"""

from __future__ import annotations

import math

import numpy as np

from .betting import NO_SIGNAL, BettingState
from .eprocess import log_e_above, log_e_below
from .state import prior_of

_MORE = np.geomspace(1.0, 1e12, 700)


def is_noise(bad: int, units: int, rate: float) -> bool:
    """Whether the estimate is within one standard error of the limit."""
    return units > 0 and (bad / units - rate) ** 2 < rate * (1.0 - rate) / units


def rate_needs(bad: int, units: int, rate: float, log_fail: float, log_pass: float) -> float | None:
    """Further units until a rate is decided at its current estimate.

    Args:
        bad, units: totals so far.
        rate: allowed share of bad units.
        log_fail, log_pass: natural log thresholds of the e-values.

    Returns:
        Positive: units until FAIL, for an estimate above the limit. Negative: minus the units
        until PASS. None: further than anyone waits, or nothing measured.
    """
    if units == 0:
        return None
    estimate = bad / units
    above = estimate > rate
    if is_noise(bad, units, rate):
        error = math.sqrt(rate * (1.0 - rate) / units)
        estimate = min(rate + error, 1.0) if above else max(rate - error, 0.0)
    n = units + _MORE
    test, threshold = (log_e_above, log_fail) if above else (log_e_below, log_pass)
    reached = test(estimate * n, n, rate, prior_of(rate)) >= threshold
    if not reached.any():
        return None
    more = float(math.ceil(_MORE[int(np.argmax(reached))]))
    return more if above else -more


def cost_needs(state: BettingState, units: int, log_fail: float, log_pass: float) -> float | None:
    """Further requests until a cost is decided, at the growth of its best bet so far.

    Where no bet has grown by more than noise, growth at the edge of noise is taken.

    Args and result as `rate_needs`.
    """
    if state.blocks == 0:
        return None
    up, down = max(state.up), max(state.down)
    above = up > down
    best = max(up if above else down, NO_SIGNAL)
    have = state.log_e_above() if above else state.log_e_below()
    missing = max((log_fail if above else log_pass) - have, 0.0)
    more = float(max(math.ceil(missing / best * units), 1))
    return more if above else -more
