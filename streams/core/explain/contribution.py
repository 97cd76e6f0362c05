"""How much of a change each slice of a dimension explains, and how unlike its past it is.

A total is a sum N, or a quotient N / D of sums; `before` and `now` are two stretches of time. The change
of a quotient is split exactly over the slices by Bennet's decomposition (1920) with w = d / D and r = n / d:

    R - R0 = sum of  mean(w, w0) (r - r0)  +  (mean(r, r0) - mean(R, R0)) (w - w0)

the first part from rows that got worse, the second from traffic that moved. Where a slice has no rows on
one side, both give (r - mean(R, R0)) (w - w0), whatever its rate there would have been. Without any rows
before, all of N is new: n / D.

Explanatory power (share of the change) and surprise (how far its share of N is from what it was; a term
of the Jensen-Shannon divergence) are those of Adtributor (Bhagwat et al., NSDI 2014), which splits
quotients by finite differences that do not add up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

Floats = npt.NDArray[np.float64]

# Rows of N before, so many, count as if they had been spread as the traffic was: shares of a handful of
# errors say little.
PRIOR = 10.0
RARE = 0.001


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums of slices of one dimension, shape (s,) each, or of everything, shape (1,).

    Attributes:
        n, d: of the time looked at.
        n0, d0: of the baseline, scaled to an equal time.
    """

    n: Floats
    d: Floats
    n0: Floats
    d0: Floats


def effects(slices: Sums, total: Sums, quotient: bool) -> Floats:
    """What each slice adds to the change of the total, shape (s,), in its unit.

    Args:
        slices: of one dimension; together they are the total.
        total: everything.
        quotient: whether N / D is explained, or N alone.

    >>> one = lambda *v: np.array(v, float)
    >>> slices = Sums(one(1, 50), one(100, 100), one(1, 1), one(100, 100))
    >>> total = Sums(one(51), one(200), one(2), one(200))
    >>> effects(slices, total, True).tolist()
    [0.0, 0.245]
    """
    if not quotient:
        return slices.n - slices.n0
    if not total.d0[0]:
        return slices.n / total.d
    w, w0 = slices.d / total.d, slices.d0 / total.d0
    rate, rate0 = total.n / total.d, total.n0 / total.d0
    r, r0 = _over(slices.n, slices.d), _over(slices.n0, slices.d0)
    r = np.where(slices.d > 0, r, r0)
    r0 = np.where(slices.d0 > 0, r0, r)
    return (w + w0) / 2 * (r - r0) + ((r + r0) / 2 - (rate + rate0) / 2) * (w - w0)


def change(total: Sums, quotient: bool) -> float:
    """What `effects` add up to."""
    if not quotient:
        return float(total.n[0] - total.n0[0])
    return float(total.n[0] / total.d[0] - _over(total.n0, total.d0)[0])


def surprise(slices: Sums, total: Sums) -> Floats:
    """How unlike before each slice's share of N is, in bits, shape (s,), from 0 to 0.5 each.

    Without rows before, what is expected is the share of the traffic. Where nothing is left of N, all
    slices are alike.
    """
    if total.n[0] == 0:
        return np.zeros(len(slices.n))
    traffic = np.where(total.d0 > 0, _over(slices.d0, total.d0), _over(slices.d, total.d))
    expected = (slices.n0 + PRIOR * traffic) / (total.n0 + PRIOR)
    found = _over(slices.n, total.n)
    middle = (expected + found) / 2
    return (_bits(expected, middle) + _bits(found, middle)) / 2


def chance(values: int, total: Sums, counts: bool) -> float:
    """Bits that a dimension reaches by chance in 1 of 1,000 looks, were its shares the expected ones.

    The divergence of a sample of size N from its expectation is about chi-square / (8 N ln 2), with a
    degree of freedom less than there are values.

    Args:
        values: of the dimension.
        total: everything.
        counts: whether N counts rows; else all rows stand for it.
    """
    size = max(float((total.n if counts else total.d)[0]), 1.0)
    return float(chi2.isf(RARE, max(values - 1, 1)) / (8 * size * np.log(2)))


def _bits(share: Floats, middle: Floats) -> Floats:
    return share * np.log2(_over(share, middle), out=np.zeros_like(share), where=share > 0)


def _over(above: Floats, below: Floats) -> Floats:
    """A quotient, 0 where there is nothing to divide by."""
    above, below = np.broadcast_arrays(above, below)
    return np.divide(above, below, out=np.zeros(above.shape), where=below != 0)
