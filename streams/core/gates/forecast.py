"""How much longer an undecided gate will take, if the traffic goes on as it was.

An approximation, stated as such: the current estimate is taken as the truth and the e-value of
`units + m` units at exactly that rate is computed for a grid of m (each 4 % larger than the one
before). Within one standard error of the limit the direction itself is noise, and the answer is
None. Random streams decide a little earlier or later; half of them within about the number told.
"""

from __future__ import annotations

import math

import numpy as np

from .betting import BettingState
from .eprocess import log_e_above, log_e_below
from .state import prior_of

_MORE = np.geomspace(1.0, 1e12, 700)
_HALF = 0.5  # a log e-value of z^2 / 2 at one standard error


def rate_needs(bad: int, units: int, rate: float, log_fail: float, log_pass: float) -> float | None:
    """Further units until a rate is decided at its current estimate.

    Args:
        bad, units: totals so far.
        rate: allowed share of bad units.
        log_fail, log_pass: natural log thresholds of the e-values.

    Returns:
        Positive: units until FAIL, for an estimate above the limit. Negative: minus the units
        until PASS. None: too near to the limit to tell, or nothing measured.
    """
    if units == 0:
        return None
    estimate = bad / units
    if (estimate - rate) ** 2 < rate * (1.0 - rate) / units:
        return None
    n = units + _MORE
    above = estimate > rate
    test, threshold = (log_e_above, log_fail) if above else (log_e_below, log_pass)
    reached = test(estimate * n, n, rate, prior_of(rate)) >= threshold
    if not reached.any():
        return None
    more = float(math.ceil(_MORE[int(np.argmax(reached))]))
    return more if above else -more


def cost_needs(state: BettingState, units: int, log_fail: float, log_pass: float) -> float | None:
    """Further requests until a cost is decided, at the growth of its best bet so far.

    Args and result as `rate_needs`.
    """
    if state.blocks == 0:
        return None
    up, down = max(state.up), max(state.down)
    above = up > down
    best = up if above else down
    if best < _HALF:
        return None
    have = state.log_e_above() if above else state.log_e_below()
    missing = max((log_fail if above else log_pass) - have, 0.0)
    more = float(max(math.ceil(missing / best * units), 1))
    return more if above else -more
