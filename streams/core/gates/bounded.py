"""E-process of a bounded mean from two sums, so that a whole axis of limits costs two numbers each.

For observations z >= -1 with conditional mean at most 0 and a bet L in [0, 1),

    exp(L z + (L + log(1 - L)) z^2) <= 1 + L z

(Fan, Grama and Liu 2015, "Exponential inequalities for martingales with applications"; used by
Howard, Ramdas, McAuliffe and Sekhon, arXiv 1810.08240). The product over
observations is therefore at most the wealth of betting L each time (Waudby-Smith and Ramdas, arXiv
2010.09686), a supermartingale, and it needs no more than S = sum z and V = sum z^2:

    log E = log of the mean over bets of exp(L S + (L + log(1 - L)) V)

Bets are a fixed grid, large ones weighted more, as in betting.py. The price against betting itself is
of third order in L z.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from .eprocess import FloatArray
from .two_arm import log_mean_exp

BETS = 0.96 * 2.0 ** (-0.5 * np.arange(24))
WEIGHTS = 2.0 ** (-0.25 * np.arange(24)) / np.sum(2.0 ** (-0.25 * np.arange(24)))
_PENALTY = BETS + special.log1p(-BETS)


def log_e_positive(total: FloatArray, squares: FloatArray) -> FloatArray:
    """Log e-value of the null "the conditional mean of z is at most 0", where every z >= -1.

    Args:
        total, squares: sums of z and of z^2, any shape.

    Returns:
        Natural logarithms, same shape.

    >>> z = np.repeat([1.0, -0.5], [60, 40])
    >>> bool(log_e_positive(np.array(z.sum()), np.array((z * z).sum())) > np.log(100))
    True
    """
    total, squares = np.asarray(total, np.float64), np.asarray(squares, np.float64)
    return log_mean_exp(total[..., None] * BETS + squares[..., None] * _PENALTY, WEIGHTS)


def log_e_mean_above(n: FloatArray, y: FloatArray, yy: FloatArray, limit: FloatArray) -> FloatArray:
    """Log e-value of the null "the mean of y >= 0 is at most `limit`"; y has no upper bound here.

    Args:
        n, y, yy: observations, their sum and sum of squares; they broadcast.
        limit: above 0.
    """
    return log_e_positive((y - n * limit) / limit, _squares(n, y, yy, limit) / limit**2)


def log_e_mean_below(
    n: FloatArray, y: FloatArray, yy: FloatArray, limit: FloatArray, top: float = 1.0
) -> FloatArray:
    """Log e-value of the null "the mean of y <= `top` is at least `limit`".

    Args:
        n, y, yy: observations, their sum and sum of squares; they broadcast.
        limit: below `top`.
        top: largest value of y.
    """
    reach = top - limit
    return log_e_positive((n * limit - y) / reach, _squares(n, y, yy, limit) / reach**2)


def _squares(n: FloatArray, y: FloatArray, yy: FloatArray, limit: FloatArray) -> FloatArray:
    return np.asarray(np.maximum(yy - 2.0 * limit * y + n * limit * limit, 0.0), np.float64)
