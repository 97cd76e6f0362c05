"""E-values for two samples of blocks: is one larger than the other? From ranks alone.

Let U be Mann and Whitney's count of pairs (i, j) with one_i > other_j, a tie counting half. If
both arms come from one distribution, every order of the N + M blocks is equally likely, and the
mean of q^U over them is a Gaussian binomial coefficient over an ordinary one (MacMahon; Mann and
Whitney 1947), so that

    E_q = q^U * C(N+M, N) / [N+M choose N]_q,  q > 1

has mean 1. U grows with `one`, so E_q is an e-value for the whole null "one is stochastically no
larger than other". Half a tie is no more than a coin thrown for it, because q^U is convex. E is
the average over four q, log q = z / sd(U) for z = 2.5 to 10: from differences that just show to
arms that do not overlap. Nothing depends on units of measurement, or on the shape of a
distribution. It is a test of finished samples: asked once, not at every block.

A margin is put into the control's blocks before: "at most 5 % larger" compares with 1.05 times
each of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import special

from ..eprocess import FloatArray

_Z = np.array([2.5, 3.5, 5.0, 10.0])


def log_e_larger(one: FloatArray, other: FloatArray, scale: float = 1.0) -> float:
    """Log e-value of the null "the blocks of `one` are stochastically no larger than `other`'s".

    Args:
        one, other: independent blocks of the two arms, shapes (N,) and (M,).
        scale: as if there were that many times as many blocks like these.

    >>> bool(log_e_larger(np.full(6, 1.45), np.full(6, 1.05)) > math.log(100))
    True
    >>> bool(log_e_larger(np.full(2, 1.45), np.full(2, 1.05)) < math.log(20))
    True
    """
    n, m = round(one.size * scale), round(other.size * scale)
    if not n or not m:
        return 0.0
    u = mann_whitney(one, other) * n * m
    log_q = _Z / math.sqrt(n * m * (n + m + 1) / 12.0)
    log_null = _log_gaussian_binomial(n, m, log_q) - _log_binomial(n, m)
    return float(special.logsumexp(u * log_q - log_null) - math.log(_Z.size))


def mann_whitney(one: FloatArray, other: FloatArray) -> float:
    """Share of pairs in which `one` is larger, a tie counting half."""
    ordered = np.sort(other)
    below = np.searchsorted(ordered, one, side="left")
    through = np.searchsorted(ordered, one, side="right")
    return float((below + through).sum() / (2.0 * one.size * other.size))


def ratio_of(one: FloatArray, other: FloatArray) -> float | None:
    """Hodges and Lehmann's estimate of how many times `one` is larger: the median of all ratios.

    None where not all blocks are positive: then there is no ratio.
    """
    if not _positive(one, other):
        return None
    low, high = _extremes(one, other)
    return _last(low, high, lambda ratio: mann_whitney(one, other * ratio) > 0.5)


def ratio_interval(
    one: FloatArray, other: FloatArray, alpha: float
) -> tuple[float | None, float | None]:
    """Ratios that neither side rejects at alpha / 2; None where there is no bound."""
    if not _positive(one, other):
        return None, None
    threshold = math.log(2.0 / alpha)
    low, high = _extremes(one, other)

    def too_small(ratio: float) -> bool:
        return log_e_larger(one, other * ratio) >= threshold

    def too_large(ratio: float) -> bool:
        return log_e_larger(other * ratio, one) >= threshold

    return (
        _last(low, high, too_small) if too_small(low) else None,
        _last(high, low, too_large) if too_large(high) else None,
    )


def _positive(one: FloatArray, other: FloatArray) -> bool:
    return bool(one.size and other.size and one.min() > 0 and other.min() > 0)


def _extremes(one: FloatArray, other: FloatArray) -> tuple[float, float]:
    """Ratios just beyond the smallest and the largest of any two blocks."""
    beyond = 1.0 + 1e-9
    return float(one.min() / other.max()) / beyond, float(one.max() / other.min()) * beyond


def _last(inside: float, outside: float, holds: Callable[[float], bool]) -> float:
    """Where a condition that holds at one ratio ends on the way to another, to 1 in 10^9."""
    while abs(outside - inside) > 1e-9 * inside:
        middle = math.sqrt(inside * outside)
        inside, outside = (middle, outside) if holds(middle) else (inside, middle)
    return inside


def _log_gaussian_binomial(n: int, m: int, log_q: FloatArray) -> FloatArray:
    """Log of the product over i = 1..n of (q^(m+i) - 1) / (q^i - 1), for each q > 1."""
    i = np.arange(1, n + 1)
    upper, lower = np.multiply.outer(log_q, m + i), np.multiply.outer(log_q, i)
    terms = upper + np.log(-np.expm1(-upper)) - lower - np.log(-np.expm1(-lower))
    return np.asarray(terms.sum(axis=-1), np.float64)


def _log_binomial(n: int, m: int) -> float:
    return math.lgamma(n + m + 1) - math.lgamma(n + 1) - math.lgamma(m + 1)
