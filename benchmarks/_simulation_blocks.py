"""Latency quantiles and cost means: independent requests, and worker blocks of dependent ones.

A stream is a sequence of periods. In each, every worker serves one block of requests whose log
latency is an AR(1) series that goes on from block to block. Leaving out one worker, which a FAIL also
needs, is not simulated: it makes a FAIL rarer. Quantile edges are those near the true quantile, every
second bin of those the engine has.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from penstock.benchmarks._simulation_rules import LONG_STREAMS, mann_whitney
from penstock.benchmarks._simulation_streams import FloatArray, IntArray
from penstock.schemas.gates.metrics import BIN_SHARE
from penstock.streams.core.gates.boundaries import MIN_BATCHES, RHO, one_sided_normal_logs
from penstock.streams.core.gates.bounded import log_e_mean_above, log_e_mean_below
from penstock.streams.core.gates.eprocess import BetaPrior, log_e_above, log_e_below
from penstock.streams.core.gates.interface import fine_bins_of
from penstock.streams.core.gates.mean_state import log_e_asymptotic
from penstock.streams.core.gates.means import Margin, Moments, log_e_mean
from penstock.streams.core.gates.quantiles import (
    FINITE,
    PRIOR_COUNT,
    Shares,
    control_edges,
    edges_around,
    log_e_quantile,
)
from penstock.streams.core.gates.two_arm import Direction
from penstock.streams.core.sketch import LOG_GAMMA, ZERO_BIN
from scipy.optimize import brentq
from scipy.signal import lfilter
from scipy.stats import norm

SIGMA = 0.5
P95 = 0.95
BIN = LOG_GAMMA / BIN_SHARE
"""Width of a bin of the engine in log latency."""
_ANCHOR = int(fine_bins_of(np.array([1000.0]))[0])
_EDGES = edges_around(_ANCHOR)
_SCREEN = np.flatnonzero(np.abs(_EDGES - _ANCHOR) <= 64)[::16]
COST_SIGMA, COST_CAP = 0.5, 8.0


@dataclass(frozen=True, slots=True)
class Latency:
    """One shape of latency streams.

    Attributes:
        phi: AR(1) coefficient of log latency within a worker.
        requests: of a block; of both arms together where requests are the unit.
        periods: length of a stream.
        workers: of the treatment, and of the control.
        slower: true ratio of all latencies, treatment over control.
        margin_bins: what is allowed, in whole bins.
        blocks: whether worker blocks are units.
    """

    phi: float
    requests: int
    periods: int
    workers: tuple[int, int] = (1, 1)
    slower: float = 1.0
    margin_bins: int = 2
    blocks: bool = True

    @property
    def share(self) -> float:
        """Of the treatment."""
        return self.workers[0] / sum(self.workers)


def first_periods(
    rng: np.random.Generator, latency: Latency, streams: int, tests: dict[Direction, list[float]]
) -> dict[tuple[Direction, float], FloatArray]:
    """Periods until each test first decides at each level, infinite where never, shape (S,)."""
    found = {
        (direction, alpha): np.full(streams, np.inf)
        for direction, alphas in tests.items()
        for alpha in alphas
    }
    arms = arms_of(rng, latency, streams)
    for period in range(1, latency.periods + 1):
        treatment, control = (arm.next_period() for arm in arms)
        for direction, alphas in tests.items():
            undecided = np.flatnonzero(np.isinf(found[direction, min(alphas)]))
            some = _near(treatment, control, latency, direction, undecided, max(alphas))
            pair = _streams(treatment, some), _streams(control, some)
            log_e = log_e_quantile(*pair, P95, direction, latency.blocks)
            _note(found, direction, alphas, some, log_e, period)
    return found


Found = dict[tuple[Direction, float], FloatArray]


def _note(
    found: Found,
    direction: Direction,
    alphas: list[float],
    streams: IntArray,
    log_e: FloatArray,
    period: int,
) -> None:
    for alpha in alphas:
        crossed = streams[log_e >= math.log(1 / alpha)]
        first = found[direction, alpha]
        first[crossed] = np.minimum(first[crossed], period)


def _near(
    treatment: Shares,
    control: Shares,
    latency: Latency,
    direction: Direction,
    streams: IntArray,
    alpha: float,
) -> IntArray:
    """Those of the streams that cross the threshold at each of a few brackets."""
    low, high = (treatment, control) if direction == "FAIL" else (control, treatment)
    low, high = _at(low, streams, _SCREEN + 1), _at(high, streams, _SCREEN)
    if latency.blocks:
        p = np.asarray(P95)
        log_e = log_e_mean_below(low.n, low.below, low.squares, p)
        if direction == "FAIL":
            log_e = _with_normal_mixture(log_e, low)
        log_e = log_e + log_e_mean_above(high.n, high.below, high.squares, p)
    else:
        rate = round(1.0 - P95, 12)
        prior = BetaPrior.around(rate, PRIOR_COUNT)
        log_e = _by_counts(log_e_above, low, rate, prior) + _by_counts(
            log_e_below, high, rate, prior
        )
    return np.asarray(streams[log_e.min(axis=1) >= math.log(1 / alpha)], np.int64)


def _with_normal_mixture(bets: FloatArray, low: Shares) -> FloatArray:
    """What the engine adds to the bets of a FAIL from 30 blocks on, or more than that."""
    mean = low.below / low.n
    variance = np.maximum(low.squares / low.n - mean * mean, 0.0)
    able = (low.n >= MIN_BATCHES) & (variance > 0)
    spread = np.sqrt(np.where(able, variance, 1.0))
    n = np.broadcast_to(low.n, mean.shape)
    told = one_sided_normal_logs((n * P95 - low.below) / spread, n, RHO)
    told = np.where(able, told, np.where(low.n >= MIN_BATCHES, np.inf, 0.0))
    return np.asarray(np.logaddexp(bets, told) - math.log(2.0), np.float64)


def _at(shares: Shares, streams: IntArray, edges: IntArray) -> Shares:
    picked = np.ix_(streams, edges)
    return Shares(shares.n[streams], shares.below[picked], shares.squares[picked])


def _by_counts(
    test: Callable[..., FloatArray], shares: Shares, rate: float, prior: BetaPrior
) -> FloatArray:
    above, n = np.broadcast_arrays(shares.n - shares.below, shares.n)
    return np.asarray(test(above.ravel(), n.ravel(), rate, prior).reshape(above.shape), np.float64)


def _streams(shares: Shares, streams: IntArray) -> Shares:
    return Shares(shares.n[streams], shares.below[streams], shares.squares[streams])


def arms_of(rng: np.random.Generator, latency: Latency, streams: int) -> tuple[_Arm, _Arm]:
    """Treatment and control before the first period."""
    return (
        _Arm(rng, latency, latency.workers[0], streams, math.log(latency.slower), 0),
        _Arm(rng, latency, latency.workers[1], streams, 0.0, latency.margin_bins),
    )


class _Arm:
    """Running sums of one arm at its edges."""

    def __init__(
        self,
        rng: np.random.Generator,
        latency: Latency,
        workers: int,
        streams: int,
        shift: float,
        margin_bins: int,
    ) -> None:
        self._rng, self._latency = rng, latency
        self._streams, self._workers = streams, workers
        edges = control_edges(_EDGES, margin_bins)
        log_x = pooled_quantile(latency) + (edges - _ANCHOR) * BIN - shift
        log_x[edges <= ZERO_BIN] = -np.inf
        log_x[edges >= FINITE] = np.inf
        self._edges = log_x
        self._n = np.zeros((streams, 1))
        self._below = np.zeros((streams, len(_EDGES)))
        self._squares = np.zeros((streams, len(_EDGES)))
        self._last = [rng.standard_normal(streams) for _ in range(workers)]

    def next_period(self) -> Shares:
        """The sums after one more period."""
        for worker in range(self._workers):
            counts = self._counts(worker)
            if self._latency.blocks:
                share = counts / self._latency.requests
                self._n += 1
                self._below += share
                self._squares += share * share
            else:
                self._n += self._latency.requests
                self._below += counts
        squares = self._squares if self._latency.blocks else self._below
        return Shares(self._n, self._below, squares)

    def _counts(self, worker: int) -> IntArray:
        """Requests of one block at or below each edge, shape (S, K)."""
        if self._latency.phi == 0:
            parts = np.diff(norm.cdf(self._edges / SIGMA), prepend=0.0, append=1.0)
            drawn = self._rng.multinomial(self._latency.requests, parts, self._streams)
            return np.asarray(np.cumsum(drawn, axis=1)[:, :-1], np.int64)
        z = autoregressive(self._rng, self._latency.phi, self._latency.requests, self._last[worker])
        self._last[worker] = z[:, -1]
        size = len(_EDGES) + 1
        at = np.searchsorted(self._edges, (SIGMA * z).ravel()).reshape(z.shape)
        flat = at + np.arange(self._streams)[:, None] * size
        drawn = np.bincount(flat.ravel(), minlength=self._streams * size)
        table = drawn.reshape(self._streams, size)
        return np.asarray(np.cumsum(table, axis=1)[:, :-1], np.int64)


def pooled_quantile(latency: Latency) -> float:
    """Log p95 of both arms together, which the engine anchors its edges at (from its first block)."""
    shift = math.log(latency.slower)

    def missing(x: float) -> float:
        treatment, control = norm.cdf((x - shift) / SIGMA), norm.cdf(x / SIGMA)
        return float(latency.share * treatment + (1 - latency.share) * control - P95)

    low = SIGMA * float(norm.ppf(P95))
    return float(brentq(missing, low - 1e-9, low + shift + 1e-9))


def autoregressive(
    rng: np.random.Generator, phi: float, length: int, last: FloatArray
) -> FloatArray:
    """Stationary AR(1) series of unit variance that go on from `last`, shape (S, length)."""
    noise = rng.standard_normal((len(last), length)) * math.sqrt(1 - phi * phi)
    series, _ = lfilter([1.0], [1.0, -phi], noise, axis=1, zi=(phi * last)[:, None])
    return np.asarray(series, np.float64)


def fixed_latency(slower: float, margin_bins: int, share: float, alpha: float) -> float:
    """Treatment requests of a one-look normal test of log p95 with 80 % power.

    The variance of a sample quantile of n requests is p (1 - p) / (n f(q)^2).
    """
    apart = math.log(slower) - margin_bins * BIN
    variance = P95 * (1 - P95) * (SIGMA / float(norm.pdf(norm.ppf(P95)))) ** 2
    reach = float(norm.isf(alpha) + norm.isf(0.2))
    return variance / (1 - share) * (reach / apart) ** 2


@dataclass(frozen=True, slots=True)
class Cost:
    """Streams of costs, log-normal and capped at 8 times the control's mean.

    Attributes:
        dearer: mean of the treatment over that of the control.
        margin: ratio that is allowed.
        requests: of each arm between two looks; one block where blocks are units.
        periods: looks.
        blocks: whether worker blocks are units.
    """

    dearer: float
    margin: float
    requests: int
    periods: int
    blocks: bool = True


def first_cost_periods(
    rng: np.random.Generator, cost: Cost, streams: int, tests: dict[Direction, list[float]]
) -> Found:
    """As `first_periods`, for the mean of capped costs."""
    found: Found = {
        (direction, alpha): np.full(streams, np.inf)
        for direction, alphas in tests.items()
        for alpha in alphas
    }
    margin = Margin(ratio=cost.margin)
    sums = np.zeros((2, 2, streams))
    paired = np.zeros((streams, 3))
    for period in range(1, cost.periods + 1):
        blocks: list[FloatArray] = []
        for arm, mean in enumerate((cost.dearer, 1.0)):
            draws = rng.lognormal(-(COST_SIGMA**2) / 2, COST_SIGMA, (streams, cost.requests))
            seen = np.minimum(mean * draws / COST_CAP, 1.0)
            if cost.blocks:
                seen = seen.mean(axis=1, keepdims=True)
            sums[arm] += seen.sum(axis=1), (seen * seen).sum(axis=1)
            blocks.append(seen[:, 0])
        gap = blocks[0] - cost.margin * blocks[1]
        paired += np.stack([np.ones(streams), gap, gap * gap], axis=1)
        n = period * (1 if cost.blocks else cost.requests)
        for direction, alphas in tests.items():
            some = np.flatnonzero(np.isinf(found[direction, min(alphas)]))
            pair = [_moments(n, *sums[arm][:, some]) for arm in (0, 1)]
            log_e = log_e_mean(pair[0], pair[1], margin, direction, plain=True)
            if cost.blocks and direction == "FAIL":
                log_e = np.logaddexp(log_e, log_e_asymptotic(paired[some])) - math.log(2.0)
            _note(found, direction, alphas, some, log_e, period)
    return found


def _moments(n: int, a: FloatArray, aa: FloatArray) -> Moments:
    units = np.full(len(a), float(n))
    return Moments(n=units, a=a, b=units, aa=aa, ab=a, bb=units)


def fixed_cost(cost: Cost, alpha: float) -> float:
    """Treatment requests of a one-look normal test of the mean at share 0.5 with 80 % power."""
    relative = math.exp(COST_SIGMA**2) - 1
    variance = relative * (cost.dearer**2 + cost.margin**2)
    reach = float(norm.isf(alpha) + norm.isf(0.2))
    return variance * (reach / (cost.dearer - cost.margin)) ** 2


def kayenta_on_points(rng: np.random.Generator, phi: float, streams: int) -> FloatArray:
    """Whether Kayenta's judge, asked at 2 to 60 points a minute apart, ever says High or Low."""
    streams = min(streams, LONG_STREAMS)
    arms = [autoregressive(rng, phi, 60, rng.standard_normal(streams)) for _ in range(2)]
    wrong = np.zeros(streams, np.bool_)
    for n in range(2, 61):
        high, low = mann_whitney(arms[0][:, :n], arms[1][:, :n])
        wrong |= high | low
    return np.where(wrong, 1.0, np.inf)


def repeated_share_test(rng: np.random.Generator, latency: Latency, streams: int) -> FloatArray:
    """Period at which a z-test of "above the pooled p95", requests as units, first says worse at 5 %."""
    streams = min(streams, LONG_STREAMS)
    first = np.full(streams, np.inf)
    last = [rng.standard_normal(streams) for _ in range(2)]
    limit = float(norm.ppf(P95))
    above = np.zeros((2, streams))
    for period in range(1, latency.periods + 1):
        for arm in (0, 1):
            z = autoregressive(rng, latency.phi, latency.requests, last[arm])
            last[arm] = z[:, -1]
            above[arm] += (z > limit).sum(axis=1)
        n = period * latency.requests
        rate = above.sum(axis=0) / (2 * n)
        spread = np.sqrt(np.maximum(rate * (1 - rate) * 2 / n, 1e-12))
        now = (above[0] - above[1]) / n >= norm.isf(0.05) * spread
        first[now & np.isinf(first)] = period
    return first
