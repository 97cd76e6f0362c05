"""Distances of two histograms, many at a time. Sources of the formulas are named at each.

Rows of `reference` and `current` are series, columns the bins; counts, not shares. A series that is
empty on either side has the distance NaN.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from ..sketch import ACCURACY
from .binning import Binning
from .pairs import Pairs

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SMALLEST_SHARE = 1e-4  # an empty bin counts as this share, so that PSI stays finite
VALUES_PER_BIN = 50  # fewer on either side, and the bias of PSI is taken off


def shares(counts: Ints) -> Floats:
    """Counts as shares of their row, shape (s, k); NaN in an empty row."""
    totals = counts.sum(axis=-1, keepdims=True).astype(np.float64)
    return np.asarray(counts / np.where(totals == 0, np.nan, totals))


def psi(reference: Ints, current: Ints) -> tuple[Floats, Floats]:
    """Population stability index, in nats, and the bias that was taken off it.

    sum (c - r) ln(c / r), shares below `SMALLEST_SHARE` raised to it. Without a change n m / (n + m)
    times it is about chi-square with k - 1 degrees of freedom (Yurdakul 2018), so that its mean is
    (k - 1)(1/n + 1/m), k the bins in use. That is taken off where a side has fewer than 50 values
    per bin (500 for ten bins); the result is never below 0.

    Returns:
        PSI and bias, shape (s,) each; a bias that was not taken off is 0.
    """
    n, m = reference.sum(axis=-1), current.sum(axis=-1)
    used = ((reference + current) > 0).sum(axis=-1)
    expected = np.maximum(shares(reference), SMALLEST_SHARE)
    actual = np.maximum(shares(current), SMALLEST_SHARE)
    raw = ((actual - expected) * np.log(actual / expected)).sum(axis=-1)
    small = np.minimum(n, m) < VALUES_PER_BIN * used
    bias = np.where(small, (used - 1) * (1 / np.maximum(n, 1) + 1 / np.maximum(m, 1)), 0.0)
    return np.maximum(raw - bias, 0.0), bias


def jensen_shannon(reference: Ints, current: Ints) -> Floats:
    """Jensen-Shannon divergence in bits, 0..1, shape (s,) (Lin 1991).

    It is the divergence and not its square root. Over merged bins it is at most that of the values.
    """
    p, q = shares(reference), shares(current)
    middle = (p + q) / 2
    nats = (special.rel_entr(p, middle) + special.rel_entr(q, middle)).sum(axis=-1) / 2
    return np.asarray(nats / np.log(2), np.float64)


def kolmogorov_smirnov(pairs: Pairs) -> tuple[Floats, Floats]:
    """The largest distance of the distribution functions at bin edges, and what it may lack.

    Edges are where counts are exact, so D of the raw values lies within [D, D + error]: inside a
    bin either function rises by no more than its mass there.

    Returns:
        D and the error, shape (s,) each.
    """
    at_end = pairs.distance()
    p = pairs.reference / np.maximum(pairs.n_reference, 1)[pairs.owner]
    q = pairs.current / np.maximum(pairs.n_current, 1)[pairs.owner]
    before = at_end - p + q
    inside = np.maximum(np.minimum(before + p, at_end + q), np.minimum(q - before, p - at_end))
    statistic = _known(pairs, pairs.largest(np.abs(at_end)))
    return statistic, np.maximum(_known(pairs, pairs.largest(inside)) - statistic, 0.0)


def ks_p_value(statistic: Floats, n: Ints, m: Ints) -> Floats:
    """Asymptotic two-sided p of D, with Stephens' correction for its size (1970).

    Q(D (s + 0.12 + 0.11 / s)), s^2 = n m / (n + m), Q Kolmogorov's limit. D at bin edges is at most
    that of the values, so this p is at least theirs.
    """
    root = np.sqrt(_effective(n, m))
    return np.asarray(special.kolmogorov(statistic * (root + 0.12 + 0.11 / root)), np.float64)


def ks_interval(
    statistic: Floats, error: Floats, n: Ints, m: Ints, alpha: float = 0.05
) -> tuple[Floats, Floats]:
    """Interval of the true distance: Dvoretzky, Kiefer, Wolfowitz with Massart's constant (1990).

    Holds for every n with probability at least 1 - alpha, each side taking alpha / 2, and includes
    the error of the bins.
    """
    width = np.sqrt(np.log(4 / alpha) / 2) * (
        1 / np.sqrt(np.maximum(n, 1)) + 1 / np.sqrt(np.maximum(m, 1))
    )
    return np.maximum(statistic - width, 0.0), np.minimum(statistic + error + width, 1.0)


def wasserstein(pairs: Pairs, binning: Binning) -> tuple[Floats, Floats]:
    """Wasserstein-1 distance of the bins' estimates, and how far that of the values may be.

    A value differs from its estimate by at most a = 1 % of its size, so the distance by at most
    a / (1 - a) times the sum of both means of the estimates' sizes. Overdue requests (the infinite bin) count as the
    largest finite estimate of their series. Values of zero and below are 0 in `LOG` bins.

    Returns:
        Distance and error, shape (s,) each, in the unit of the values.
    """
    values = _finite_values(pairs, binning)
    last = np.diff(pairs.owner, append=-1) != 0  # no step to the next series
    gaps = np.where(last, 0.0, np.diff(values, append=0.0))
    distance = np.asarray(pairs.sums(np.abs(pairs.distance()) * gaps), np.float64)
    size = np.abs(values)
    means = sum(
        np.asarray(pairs.sums(size * counts), np.float64) / np.maximum(totals, 1)
        for counts, totals in (
            (pairs.reference, pairs.n_reference),
            (pairs.current, pairs.n_current),
        )
    )
    return _known(pairs, distance), ACCURACY / (1 - ACCURACY) * np.asarray(means, np.float64)


def reference_iqr(pairs: Pairs, binning: Binning) -> Floats:
    """Distance between the quartiles of the reference, shape (s,); NaN where it is zero.

    It normalises Wasserstein's distance, because a standard deviation would let one outlier in the
    reference hide everything.
    """
    values = _finite_values(pairs, binning)
    running = pairs.running(pairs.reference)
    ends = []
    for quarter in (1, 3):
        ahead = (4 * running < quarter * pairs.n_reference[pairs.owner]).astype(np.int64)
        rank = np.asarray(pairs.sums(ahead), np.int64)
        ends.append(values[np.minimum(pairs.starts + rank, len(values) - 1)])
    spread = ends[1] - ends[0]
    return np.where(spread > 0, spread, np.nan)


def _finite_values(pairs: Pairs, binning: Binning) -> Floats:
    values = binning.values_of(pairs.bins)
    finite = np.isfinite(values)
    tops = pairs.largest(np.where(finite, values, -np.inf))
    tops = np.where(np.isfinite(tops), tops, 0.0)
    return np.where(finite, values, tops[pairs.owner])


def _known(pairs: Pairs, values: Floats) -> Floats:
    both = (pairs.n_reference > 0) & (pairs.n_current > 0)
    return np.where(both, values, np.nan)


def _effective(n: Ints, m: Ints) -> Floats:
    n, m = np.maximum(n, 1), np.maximum(m, 1)
    return np.asarray(n * (m / (n + m)), np.float64)
