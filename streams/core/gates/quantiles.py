"""Two arms' quantiles, by ratio: E = min over x of E(x), which joins E1(x) and E0(x / m).

FAIL has the null "the treatment's p-quantile is at most m times the control's": there is an x with
F1(x) >= p and F0(x/m) <= p (left limit); PASS has both reversed. E1 and E0 are e-processes of those
shares.

Where requests are units, they are one-sided beta-binomial mixtures (Howard and Ramdas, arXiv 1906.09712),
and E(x) = sum over j of w_j E1_j(x) E0_j(x): a mean of products over a few pairs of priors, one that looks
for large changes in both arms and one for small ones. A mean of e-processes is one.

Where worker blocks are, they are bets on block shares y in [0, 1] (bounded.py), and E(x) is a mean of E1,
E0 and their product (intersection.py). That is because of what blocks can say. Of control the test needs
"more than p lies below x/m", and a block shows at most y = 1, which is worth log(1/p): 0.05 at p95. Let
e = (F0(q1/m) - p) / F0(q1/m) with q1 the treatment's quantile. If one of control's blocks in 1/e were slow
altogether, the null would be true, and n blocks would look as they do with probability (1 - e)^n. So no
test of level alpha, sequential or not, has power b with fewer than log(b / alpha) / -log(1 - e) blocks of
control (`least_blocks`), however slow the treatment is: at p95 at least log(b / alpha) / 0.0513. A normal
test of fewer blocks takes it that what was not seen does not happen.

Betting on the difference of both arms' shares in a block is no way round. At an x of the null the mean of
y0 - y1 is at most 0, so 1 + a (y0 - y1), a <= 1, is an e-process of the same null. But x is unknown: at
x = q1 it grows by F0(q1/m) - p <= 1 - p a block, as E0 does, and where both shares are 1 not at all, so its
minimum over x must leave the far edges to E1 and E0.

x runs over bin edges, where counts are exact, so m is rounded down to whole bins and x/m is an edge
too. An x between two edges is covered by its bracket (intersection.py). The axis has every edge near
an anchor, every fourth within a factor of 2.7, and doubles its steps beyond; any anchor is valid, one
near the quantile has power. Its ends are x below everything and x above everything, where only requests in
flight (overdue, counted in INFINITE_BIN) are left: a hang of 6 % of requests puts p95 there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..sketch import INFINITE_BIN, ZERO_BIN
from .boundaries import LOG_2, MIN_BATCHES, RHO, one_sided_normal_logs
from .bounded import LARGE, log_e_mean_above, log_e_mean_below
from .eprocess import BetaPrior, FloatArray, log_e_above, log_e_below
from .intersection import with_each_alone
from .two_arm import Direction

IntArray: TypeAlias = npt.NDArray[np.int64]
Test: TypeAlias = Callable[[npt.ArrayLike, npt.ArrayLike, float, BetaPrior], FloatArray]

NOTHING, FINITE, ALL = ZERO_BIN - 1, INFINITE_BIN - 1, INFINITE_BIN
PRIORS = ((2 / 3, 8.0, 2.0), (1 / 3, 128.0, 32.0))
"""Weight, then how many requests beyond the quantile the two priors are worth: of a share shown to be
above what is allowed, and of one shown to be below it.

A margin of a few per cent in latency moves the share beyond a limit by a few per cent to a few tens, a
release that is half as slow again by more: the pairs look near the limit and further off. At the x where
both arms say least, a large change shows in control's share rather than in the treatment's, so the second
kind is wider. Chosen by the time to FAIL at +5, +10, +20 and +45 % (docs/gates-simulation.md); one prior of
8 for both took a seventh longer at +5 % and at +45 %.
"""
_RANGE_COUNT = 8.0
"""Of the interval of one arm, which has to look both near and far."""
_ALONE = 1 / 3
"""Of E1 and of E0 each, beside their product, where worker blocks are observations."""
_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True, slots=True)
class Shares:
    """What one arm showed at each edge.

    Attributes:
        n: observations (requests or blocks), shape (..., 1).
        below: sum over observations of the share at or below each edge, shape (..., K).
        squares: sum of its squares; the same as `below` where requests are observations.
        least: smallest share at or below each edge of any block; 0 holds always.
    """

    n: FloatArray
    below: FloatArray
    squares: FloatArray
    least: FloatArray = field(default_factory=lambda: np.zeros(1))


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
    fail = direction == "FAIL"
    one, other = _sides(treatment, fail), _sides(control, not fail)
    return np.asarray(log_e_brackets(one, other, quantile, direction, blocks).min(axis=-1))


def log_e_brackets(
    treatment: Shares, control: Shares, quantile: float, direction: Direction, blocks: bool
) -> FloatArray:
    """Log e-value of each of some brackets, from both arms at the edges that favour the null.

    Args:
        treatment: FAIL: at the upper edge of each bracket; PASS: at the lower.
        control: at the other edge, over the margin.
        quantile, direction, blocks: as `log_e_quantile`.
    """
    p, fail = quantile, direction == "FAIL"
    fewer, more = (treatment, control) if fail else (control, treatment)
    if not blocks:
        return _of_requests(fewer, more, p)
    low = _low(fewer, p)
    if fail:
        low = _with_asymptotic(low, fewer, p)
    return with_each_alone(low, _high(more, p), _ALONE)


def _sides(shares: Shares, upper: bool) -> Shares:
    """One edge of every bracket; below everything F is 0, above everything 1, so there nothing is asked."""
    at, certain = (slice(1, None), -1) if upper else (slice(None, -1), 0)
    each = np.broadcast_to(shares.n, shares.below.shape)
    n, below, squares = (sums[..., at].copy() for sums in (each, shares.below, shares.squares))
    n[..., certain] = below[..., certain] = squares[..., certain] = 0.0
    least = shares.least[..., at] if shares.least.shape[-1] > 1 else shares.least
    return Shares(n, below, squares, least)


def least_blocks(quantile: float, beyond: float, alpha: float, power: float) -> float:
    """Blocks of control without which no test of level alpha shows FAIL; see the module.

    Args:
        quantile: p.
        beyond: share of control's requests at or below the treatment's quantile over the margin.
        alpha: error rate.
        power: chance that it is shown.

    >>> round(least_blocks(0.95, 1.0, 0.05, 0.8), 1)
    54.1
    """
    return math.log(power / alpha) / -math.log(quantile / beyond)


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
    low, high = (_low, _high) if blocks else (_few_below, _many_below)
    too_low = low(shares, quantile) >= log_threshold
    too_high = high(shares, quantile) >= log_threshold
    too_low[..., [0, -1]] = too_high[..., [0, -1]] = False
    lower = int(np.flatnonzero(too_low)[-1]) if too_low.any() else 0
    upper = int(np.flatnonzero(too_high)[0]) if too_high.any() else len(edges) - 1
    return int(edges[lower]), int(edges[upper])


def _low(shares: Shares, p: float) -> FloatArray:
    """Log e-value of "F >= p" of block shares at each edge: large where clearly less than p is below."""
    return log_e_mean_below(shares.n, shares.below, shares.squares, np.asarray(p), LARGE)


def _high(shares: Shares, p: float) -> FloatArray:
    """Log e-value of "F <= p" of block shares at each edge: large where clearly more than p is below."""
    limit, least = np.asarray(p), shares.least
    return log_e_mean_above(shares.n, shares.below, shares.squares, limit, least, LARGE)


def _of_requests(fewer: Shares, more: Shares, p: float) -> FloatArray:
    """Log e-value where requests are units: the mean over pairs of priors."""
    logs = [
        _few_below(fewer, p, above) + _many_below(more, p, below) + math.log(weight)
        for weight, above, below in PRIORS
    ]
    return np.asarray(np.logaddexp(*logs), np.float64)


def _few_below(shares: Shares, p: float, count: float = _RANGE_COUNT) -> FloatArray:
    """Log e-value of "F >= p" of requests: the share above an edge is more than 1 - p."""
    return _of_counts(log_e_above, shares, round(1.0 - p, 12), count)


def _many_below(shares: Shares, p: float, count: float = _RANGE_COUNT) -> FloatArray:
    """Log e-value of "F <= p" of requests: the share above an edge is less than 1 - p."""
    return _of_counts(log_e_below, shares, round(1.0 - p, 12), count)


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
    return np.asarray(np.logaddexp(bounded, told) - LOG_2, np.float64)


def _of_counts(test: Test, shares: Shares, rate: float, count: float) -> FloatArray:
    above, n = np.broadcast_arrays(shares.n - shares.below, shares.n)
    told = test(above.ravel(), n.ravel(), rate, BetaPrior.around(rate, count))
    return np.asarray(told.reshape(above.shape), np.float64)
