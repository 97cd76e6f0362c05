"""The e-detector for "the rate of bad events is within the budget".

A bare burn-rate rule pages a healthy service with little traffic, because one failure in a quiet
hour is above 14.4 times a budget of 0.1 %. The Shiryaev-Roberts e-detector says whether the bad
events are more than chance makes of a rate at the budget (Shin, Ramdas and Rinaldo, "E-detectors",
arXiv 2203.03532):

    R <- (1 + R) * LR,  LR = (r/b)^bad * ((1-r)/(1-b))^(units-bad)

for each alternative rate r against the budget b, and the average R of the alternatives. Whatever
the rate does within the budget, the expectation of R grows by at most 1 a step, so the average
reaches c = N / alpha within N steps with probability at most alpha.

A step is a minute with traffic; minutes without any are no step. After an alarm R starts again at
0. Bad may be fractional (a score in 0..1): LR is convex in it, so its mean is no larger.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from ....schemas.slo.burn import DAY_S
from .readings import MINUTE_S

Floats = npt.NDArray[np.float64]

ALPHA = 0.01
STEPS = 30 * DAY_S // MINUTE_S
LOG_C = math.log(STEPS / ALPHA)
"""A healthy service alarms within 30 days with probability at most ALPHA."""

REFERENCE = 0.001
ALTERNATIVES = (0.006, 0.0144, 0.05, 0.2, 0.6)
"""Rates that are looked for where the budget is 0.1 %."""


def alternatives_of(budget: float) -> tuple[float, ...]:
    """The alternatives for another budget: at the same odds ratios to it, so always above it.

    >>> [round(rate, 4) for rate in alternatives_of(0.001)]
    [0.006, 0.0144, 0.05, 0.2, 0.6]
    >>> [round(rate, 3) for rate in alternatives_of(0.05)]
    [0.241, 0.434, 0.735, 0.929, 0.987]
    """
    scale = _odds(budget) / _odds(REFERENCE)
    odds = (scale * _odds(rate) for rate in ALTERNATIVES)
    return tuple(value / (1 + value) for value in odds)


def _odds(rate: float) -> float:
    return rate / (1 - rate)


class EDetector:
    """The tests of one or several budgets; what they remember is given and returned.

    Args:
        budgets: shares that may be bad, each in (0, 1): one for each stream that is counted, or a
            single one for all.
        alpha: chance that a healthy stream alarms within 30 days.

    >>> detector = EDetector((Fraction(1, 1000),))
    >>> state = detector.initial(1)
    >>> for _ in range(3):
    ...     state, log_e, alarm = detector.step(state, np.array([1.0]), np.array([1.0]))
    >>> bool(alarm[0])
    True
    """

    def __init__(self, budgets: Sequence[Fraction], alpha: float = ALPHA) -> None:
        self.log_c = math.log(STEPS / alpha)
        limits = np.array([[float(budget)] for budget in budgets]).reshape(-1, 1)
        rates = np.array([alternatives_of(float(budget)) for budget in budgets])
        rates = rates.reshape(-1, len(ALTERNATIVES))
        # Log likelihood ratio of a bad and of a good unit for each alternative.
        self._up = np.log(rates / limits)
        self._down = np.log1p(-rates) - np.log1p(-limits)

    def initial(self, streams: int) -> Floats:
        """What is remembered at the start: log(1 + R) of each alternative, shape (streams, 5)."""
        return np.zeros((streams, len(ALTERNATIVES)))

    def step(
        self, state: Floats, bad: Floats, units: Floats
    ) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
        """Count one step of every stream.

        Args:
            state: log(1 + R) before, shape (streams, 5).
            bad: bad units, from 0 to `units`, shape (streams,).
            units: units; a stream without any is left as it is.

        Returns:
            The state after, the log of the average R, shape (streams,), and whether it alarmed.
        """
        log_r = state + bad[:, None] * self._up + (units - bad)[:, None] * self._down
        log_e = np.asarray(np.logaddexp.reduce(log_r, axis=-1) - math.log(len(ALTERNATIVES)))
        some = units > 0
        alarm = np.asarray(some & (log_e >= self.log_c))
        after = np.where(alarm[:, None], 0.0, np.logaddexp(0.0, log_r))
        return np.where(some[:, None], after, state), log_e, alarm
