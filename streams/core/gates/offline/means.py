"""E-values for the mean of bounded values: paired differences, and shares.

The bet of Waudby-Smith and Ramdas (arXiv 2010.09686) on values x of at least `lowest` whose mean
is at most `limit` under the null: with a stake s in (0, 1),

    E_s = product of 1 + s (x - limit) / (limit - lowest)

has mean at most 1, and so has its average over s, here uniform on (0, 1) and taken at 128
Gauss-Legendre nodes: a fixed discrete prior, so the result is an e-value whatever the nodes miss.

On pairs (worse 1, better -1, neither 0) with limit 0 this is McNemar's test as an e-process: only
discordant pairs count, and theta = (1 + s) / 2 has the uniform prior on (1/2, 1). A margin moves
the limit from 0 to the margin and keeps the rest. Values enter by how often they occur, so the
order of items is immaterial.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from ..eprocess import FloatArray

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(128)
_STAKES = 0.5 * (_NODES + 1.0)
_LOG_PRIOR = np.log(0.5 * _WEIGHTS)
_BISECTIONS = 24


@dataclass(frozen=True, slots=True)
class Bets:
    """Log wealth of each stake after all units, shape (128,)."""

    wealth: FloatArray

    def log_e(self, scale: float = 1.0) -> float:
        """Log e-value; with `scale` as if there were that many times as many units like these."""
        return float(special.logsumexp(scale * self.wealth + _LOG_PRIOR))


@dataclass(frozen=True, slots=True)
class Sample:
    """Values of independent units, told by how often each occurs.

    Attributes:
        values: distinct values, ascending, float64, shape (K,).
        counts: how many units have each, float64, shape (K,).
        low, high: bounds that no unit can leave.
    """

    values: FloatArray
    counts: FloatArray
    low: float
    high: float

    @classmethod
    def of(cls, values: FloatArray, low: float, high: float) -> Sample:
        """The sample of some values, shape (N,).

        Raises:
            ValueError: a value lies outside of the bounds or is not finite.
        """
        if values.size and not (values.min() >= low and values.max() <= high):
            raise ValueError(f"values must lie in [{low:g}, {high:g}]")
        distinct, counts = np.unique(values, return_counts=True)
        return cls(distinct, counts.astype(np.float64), low, high)

    @property
    def n(self) -> int:
        """Number of units."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float | None:
        """Mean of the units, None without any."""
        return float(self.values @ self.counts / self.counts.sum()) if self.n else None

    def above(self, limit: float) -> Bets:
        """Bets against the null "the mean is at most `limit`".

        >>> pairs = Sample.of(np.array([1.0] * 12 + [-1.0]), -1.0, 1.0)
        >>> round(float(np.exp(pairs.above(0.0).log_e())), 2)
        89.94
        """
        return _bets(self.values - limit, self.counts, limit - self.low)

    def below(self, limit: float) -> Bets:
        """Bets against the null "the mean is at least `limit`"."""
        return _bets(limit - self.values, self.counts, self.high - limit)

    def interval(self, alpha: float) -> tuple[float, float]:
        """The means that neither side rejects at alpha / 2: a confidence interval."""
        if not self.n:
            return self.low, self.high
        threshold, centre = np.log(2.0 / alpha), float(self.mean or 0.0)
        low = _edge(lambda m: bool(self.above(m).log_e() >= threshold), self.low, centre)
        high = _edge(lambda m: self.below(m).log_e() >= threshold, self.high, centre)
        return low, high


def _bets(gain: FloatArray, counts: FloatArray, largest_loss: float) -> Bets:
    """Wealth of each stake: the sum of log(1 + stake * gain / largest_loss) over the units.

    A limit at the bound itself allows no bet: nothing is shown.
    """
    if largest_loss <= 0.0 or not gain.size:
        return Bets(np.zeros(_STAKES.size))
    growth = np.log1p(np.multiply.outer(_STAKES, gain / largest_loss))
    return Bets(np.asarray(growth @ counts, np.float64))


def _edge(rejected: Callable[[float], bool], outside: float, inside: float) -> float:
    """Where rejection ends between a bound and the estimate, on the rejected side."""
    for _ in range(_BISECTIONS):
        middle = 0.5 * (outside + inside)
        outside, inside = (middle, inside) if rejected(middle) else (outside, middle)
    return outside
