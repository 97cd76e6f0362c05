"""Two arms' quantiles, by ratio: E = min over x of E1(x) E0(x / m).

FAIL has the null "the treatment's p-quantile is at most m times the control's": there is an x with
F1(x) >= p and F0(x/m) <= p (left limit); PASS has both reversed. E1 and E0 are e-processes of those
shares: one-sided beta-binomial mixtures (Howard and Ramdas, arXiv 1906.09712) where requests are
units, and bets on block shares (bounded.py) where worker blocks are.

x runs over bin edges, where counts are exact, so m is rounded down to whole bins and x/m is an edge
too. An x between two edges is covered by its bracket (intersection.py). The axis has every edge near
an anchor, every fourth within a factor of 2.7, and doubles its steps beyond; any anchor is valid, one
near the quantile has power. Its
ends are x below everything and x above everything, where only requests in flight (overdue, counted in
INFINITE_BIN) are left: a hang of 6 % of requests puts p95 there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..sketch import INFINITE_BIN, ZERO_BIN
from .boundaries import LOG_2, MIN_BATCHES, RHO, one_sided_normal_logs
from .bounded import log_e_mean_above, log_e_mean_below
from .eprocess import BetaPrior, FloatArray, log_e_above, log_e_below
from .intersection import smallest_bracket
from .two_arm import Direction

IntArray: TypeAlias = npt.NDArray[np.int64]
Test: TypeAlias = Callable[[npt.ArrayLike, npt.ArrayLike, float, BetaPrior], FloatArray]

NOTHING, FINITE, ALL = ZERO_BIN - 1, INFINITE_BIN - 1, INFINITE_BIN
PRIOR_COUNT = 8.0
"""Weight of the prior on a share, in requests beyond the quantile: see docs/gates.md, "Measured".

A margin of a few per cent in latency moves the share beyond a limit by a few tens of per cent only, so
the prior looks nearer to the limit than that of an absolute rate does.
"""
_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True, slots=True)
class Shares:
    """What one arm showed at each edge.

    Attributes:
        n: observations (requests or blocks), shape (..., 1).
        below: sum over observations of the share at or below each edge, shape (..., K).
        squares: sum of its squares; the same as `below` where requests are observations.
    """

    n: FloatArray
    below: FloatArray
    squares: FloatArray


def edges_around(anchor: int) -> IntArray:
    """Edges for the treatment: bins up to and including each, ascending, shape (K,).

    Args:
        anchor: bin near the quantile, of any resolution.

    >>> edges_around(9000)[[0, 1, -2, -1]].tolist()
    [-1, 0, 65534, 65535]
    """
    spacing = np.concatenate([[1] * 40, [2] * 40, [4] * 20, 8 * 2 ** np.arange(14)])
    outwards = np.cumsum(spacing)
    steps = np.concatenate([-outwards[::-1], [0], outwards])
    inner = anchor + steps
    inner = inner[(inner > ZERO_BIN) & (inner < FINITE)]
    return np.concatenate([[NOTHING, ZERO_BIN], inner, [FINITE, ALL]]).astype(np.int64)


def control_edges(edges: IntArray, bins: int) -> IntArray:
    """The edges of x / m: `bins` below the treatment's, shape (K,)."""
    inner = (edges > ZERO_BIN) & (edges < FINITE)
    return np.where(inner, np.maximum(edges - bins, ZERO_BIN), edges)


def counts_below(bins: IntArray, counts: IntArray, edges: IntArray) -> IntArray:
    """How many of a sketch lie in bins up to each edge; bins ascending, shape (K,)."""
    total = np.concatenate([[0], np.cumsum(counts)])
    return np.asarray(total[np.searchsorted(bins, edges, side="right")], np.int64)


def log_e_quantile(
    treatment: Shares, control: Shares, quantile: float, direction: Direction, blocks: bool
) -> FloatArray:
    """Log e-value of the ratio of two quantiles.

    Args:
        treatment: at `edges_around`.
        control: at `control_edges` of the same.
        quantile: p, in (0, 1).
        direction: FAIL shows a ratio above the margin, PASS one below it.
        blocks: whether observations are block shares rather than requests.

    Returns:
        Shape (...).
    """
    if direction == "FAIL":
        low, high = _low(treatment, quantile, blocks), _high(control, quantile, blocks)
        if blocks:
            low = _with_asymptotic(low, treatment, quantile)
        return smallest_bracket(low, high, direction)
    treated, controlled = _high(treatment, quantile, blocks), _low(control, quantile, blocks)
    return smallest_bracket(treated, controlled, direction)


def quantile_range(
    shares: Shares, edges: IntArray, quantile: float, blocks: bool, log_threshold: float
) -> tuple[int, int]:
    """The edges that the quantile lies between, at every time at once.

    Args:
        shares: of one arm, K edges.
        edges: that they were counted at.
        quantile: p.
        blocks: as `log_e_quantile`.
        log_threshold: log(2 / alpha) for a level of 1 - alpha.

    Returns:
        (lower, upper) edge: the quantile is above the first and at most the second.
    """
    too_low = _low(shares, quantile, blocks) >= log_threshold
    too_high = _high(shares, quantile, blocks) >= log_threshold
    lower = int(np.flatnonzero(too_low)[-1]) if too_low.any() else 0
    upper = int(np.flatnonzero(too_high)[0]) if too_high.any() else len(edges) - 1
    return int(edges[lower]), int(edges[upper])


def _low(shares: Shares, p: float, blocks: bool) -> FloatArray:
    """Log e-value of "F >= p" at each edge: large where clearly less than p lies below it."""
    if blocks:
        told = log_e_mean_below(shares.n, shares.below, shares.squares, np.asarray(p))
    else:
        told = _of_counts(log_e_above, shares, round(1.0 - p, 12))
    return _trivial_at_ends(told)


def _high(shares: Shares, p: float, blocks: bool) -> FloatArray:
    """Log e-value of "F <= p" at each edge: large where clearly more than p lies below it."""
    if blocks:
        told = log_e_mean_above(shares.n, shares.below, shares.squares, np.asarray(p))
    else:
        told = _of_counts(log_e_below, shares, round(1.0 - p, 12))
    return _trivial_at_ends(told)


def _with_asymptotic(bounded: FloatArray, shares: Shares, p: float) -> FloatArray:
    """ "F >= p" of block shares by bets, and from 30 blocks on by a normal mixture too: their mean.

    The mixture has the estimated variance (arXiv 2103.06476) and needs fewer blocks. It is used where
    it errs on the safe side: slow blocks are rare and far out, so a stretch that shows them overstates
    its own variance. That *no* slow block was seen is never taken for more than bets make of it, which
    is why control, and PASS, have no such leg.
    """
    n = np.broadcast_to(shares.n, shares.below.shape)
    safe = np.maximum(n, 1.0)
    mean = shares.below / safe
    variance = np.maximum(shares.squares / safe - mean * mean, 0.0)
    able = (n >= MIN_BATCHES) & (variance > _LEAST_VARIANCE)
    spread = np.sqrt(np.where(able, variance, 1.0))
    told = one_sided_normal_logs((n * p - shares.below) / spread, safe, RHO)
    told = np.where(able, told, 0.0)
    return _trivial_at_ends(np.asarray(np.logaddexp(bounded, told) - LOG_2, np.float64))


def _trivial_at_ends(told: FloatArray) -> FloatArray:
    """Below everything F is 0, above everything 1: what is certain is tested by E = 1."""
    told[..., 0] = told[..., -1] = 0.0
    return told


def _of_counts(test: Test, shares: Shares, rate: float) -> FloatArray:
    above, n = np.broadcast_arrays(shares.n - shares.below, shares.n)
    told = test(above.ravel(), n.ravel(), rate, BetaPrior.around(rate, PRIOR_COUNT))
    return np.asarray(told.reshape(above.shape), np.float64)
