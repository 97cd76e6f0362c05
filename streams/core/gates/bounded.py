"""E-process of a bounded mean from two sums, so that a whole axis of limits costs few numbers each.

For z >= -w, 0 <= w <= 1, and a bet L in [0, 1),

    exp(L z + c z^2) <= 1 + L z        c = (L w + log(1 - L w)) / w^2,  -L^2 / 2 at w = 0

because (log(1 + u) - u) / u^2 increases with u (Fan, Grama and Liu 2015, "Exponential inequalities for
martingales with applications", for w = 1; used by Howard, Ramdas, McAuliffe and Sekhon, arXiv
1810.08240). For observations z >= -1 with conditional mean at most 0 the wealth of betting L each time,
the product of 1 + L z (Waudby-Smith and Ramdas, arXiv 2010.09686), is a supermartingale, and so is its
mean over bets. From S = sum z and V = sum z^2 that wealth is known from below:

    log E = log of the mean over bets of exp(L S + c V)

The bound holds of every realised sequence, not on average, so w may be what was seen: minus the smallest
z so far. It need not be known beforehand and it may grow; E stays below the wealth at every time, and a
bet is limited by the -1 that z could be, never by w. Where all z are far from -1, as of costs far below
their cap, this is most of the power.

Bets are a fixed grid, large ones weighted more, as in betting.py. The price against betting itself is
of third order in L z.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from .eprocess import FloatArray
from .two_arm import log_mean_exp

_LEAST = 1e-3


@dataclass(frozen=True, slots=True)
class Bets:
    """Shares of the wealth at stake, shape (G,), and what each starts with, adding up to 1."""

    stakes: FloatArray
    weights: FloatArray


def _grid(largest: float, tilt: float, size: int) -> Bets:
    """Stakes, each 1 / sqrt(2) of the one before, weighted by 2^-(tilt k)."""
    k = np.arange(size, dtype=np.float64)
    weights = np.exp2(-tilt * k)
    return Bets(np.asarray(largest * np.exp2(-0.5 * k)), np.asarray(weights / weights.sum()))


BETS = _grid(0.96, 0.25, 24)
LARGE = _grid(0.98, 0.5, 16)
"""For shares near 1, of which one observation says at most -log(limit): only large bets get anywhere."""


def log_e_positive(
    total: FloatArray, squares: FloatArray, worst: npt.ArrayLike = 1.0, bets: Bets = BETS
) -> FloatArray:
    """Log e-value of the null "the conditional mean of z is at most 0", where every z can be -1.

    Args:
        total, squares: sums of z and of z^2, any shape.
        worst: w, minus the smallest z so far, in [0, 1]; broadcasts with them.
        bets: the grid.

    Returns:
        Natural logarithms, same shape.

    >>> z = np.repeat([1.0, -0.5], [60, 40])
    >>> bool(log_e_positive(np.array(z.sum()), np.array((z * z).sum())) > np.log(100))
    True
    """
    total, squares = np.asarray(total, np.float64), np.asarray(squares, np.float64)
    per_square = _per_square(np.asarray(worst, np.float64)[..., None], bets.stakes)
    logs = total[..., None] * bets.stakes + squares[..., None] * per_square
    return log_mean_exp(logs, bets.weights)


def _per_square(worst: FloatArray, stakes: FloatArray) -> FloatArray:
    """c of every bet: what is lost per z^2; below a w of 1/1000 that of 1/1000, which is lower."""
    w = np.maximum(worst, _LEAST)
    return np.asarray((stakes * w + special.log1p(-stakes * w)) / (w * w), np.float64)


def log_e_mean_above(
    n: FloatArray,
    y: FloatArray,
    yy: FloatArray,
    limit: FloatArray,
    least: npt.ArrayLike = 0.0,
    bets: Bets = BETS,
) -> FloatArray:
    """Log e-value of the null "the mean of y >= 0 is at most `limit`"; y has no upper bound here.

    Args:
        n, y, yy: observations, their sum and sum of squares; they broadcast.
        limit: above 0.
        least: the smallest y so far, or less.
        bets: the grid.
    """
    worst = np.maximum(limit - np.asarray(least, np.float64), 0.0) / limit
    squares = _squares(n, y, yy, limit) / limit**2
    return log_e_positive((y - n * limit) / limit, squares, worst, bets)


def log_e_mean_below(
    n: FloatArray, y: FloatArray, yy: FloatArray, limit: FloatArray, bets: Bets = BETS
) -> FloatArray:
    """Log e-value of the null "the mean of y <= 1 is at least `limit`".

    Args:
        n, y, yy: observations, their sum and sum of squares; they broadcast.
        limit: below 1.
        bets: the grid.
    """
    reach = 1.0 - limit
    squares = _squares(n, y, yy, limit) / reach**2
    return log_e_positive((n * limit - y) / reach, squares, 1.0, bets)


def _squares(n: FloatArray, y: FloatArray, yy: FloatArray, limit: FloatArray) -> FloatArray:
    return np.asarray(np.maximum(yy - 2.0 * limit * y + n * limit * limit, 0.0), np.float64)
