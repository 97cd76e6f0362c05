"""Paired binary outcomes: the same item or request answered by both sides.

Only discordant pairs tell which side is worse: `worse` of them where the treatment is bad and the
control good, `better` the other way round. Concordant pairs are counted in `pairs`.

FAIL: under "a discordant pair is worse with probability at most 1/2" (the sequential form of
McNemar's test), the mean likelihood ratio over a uniform prior on theta in (1/2, 1):

    E = 2 integral over (1/2, 1) of (2 theta)^worse (2 (1 - theta))^better d theta

PASS: under "the mean of (worse - better) per pair is at least the margin d", betting on d - y for y
in {1, 0, -1} (Waudby-Smith and Ramdas, arXiv 2010.09686). With a fixed grid of bets the wealth only
depends on how many pairs had each value, so not on their order.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from .bounded import BETS
from .eprocess import BetaPrior, FloatArray, log_e_above
from .two_arm import log_mean_exp

_UNIFORM = BetaPrior(1.0, 1.0)


def log_e_mcnemar(worse: npt.ArrayLike, better: npt.ArrayLike) -> FloatArray:
    """Log e-value of the null "the treatment is worse in at most half of the discordant pairs".

    Args:
        worse, better: discordant pairs, any shape.

    >>> np.exp(log_e_mcnemar([9, 12, 6], [1, 1, 0])).round(2).tolist()
    [18.51, 89.94, 18.14]
    """
    a, b = np.atleast_1d(np.asarray(worse, np.float64), np.asarray(better, np.float64))
    return log_e_above(a, a + b, 0.5, _UNIFORM)


def log_e_within(
    worse: npt.ArrayLike, better: npt.ArrayLike, pairs: npt.ArrayLike, margin: float
) -> FloatArray:
    """Log e-value of the null "the mean of (worse - better) per pair is at least `margin`".

    Args:
        worse, better: discordant pairs, any shape.
        pairs: all pairs, concordant ones too.
        margin: share of pairs that may be worse on balance, in (0, 1).

    Returns:
        Natural logarithms; large means: within the margin.
    """
    a, b, n = np.atleast_1d(
        np.asarray(worse, np.float64), np.asarray(better, np.float64), np.asarray(pairs, np.float64)
    )
    # A loss of 1 is the worst: bets are scaled by it, so that no pair takes more than 96 %.
    gains = (margin - np.array([1.0, -1.0, 0.0])) / (1.0 - margin)
    log_wealth = special.log1p(np.outer(gains, BETS.stakes))
    counts = np.stack([a, b, n - a - b], axis=-1)
    total = sum(counts[..., value, None] * log_wealth[value] for value in range(3))
    return log_mean_exp(np.asarray(total, np.float64), BETS.weights)


def exact_p(worse: int, better: int) -> float:
    """Exact one-sided p of McNemar's test at one look, to show beside the e-value.

    >>> [round(exact_p(*pair), 5) for pair in ((9, 1), (12, 1), (6, 0))]
    [0.01074, 0.00171, 0.01562]
    """
    if worse == 0:
        return 1.0
    return float(special.betainc(worse, better + 1, 0.5))
