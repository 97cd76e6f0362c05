"""Latency quantiles: independent requests, and worker blocks of dependent ones.

A stream is a sequence of periods. In each, every worker serves one block of requests whose log
latency is an AR(1) series that goes on from block to block. Leaving out one worker, which a FAIL also
needs, is not simulated: it makes a FAIL rarer. Quantile edges are those near the true quantile, every
second bin of those the engine has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from penstock.benchmarks._simulation_rules import LONG_STREAMS, mann_whitney
from penstock.benchmarks._simulation_streams import FloatArray, IntArray
from penstock.schemas.gates.metrics import BIN_SHARE
from penstock.streams.core.gates.interface import fine_bins_of
from penstock.streams.core.gates.quantiles import (
    FINITE,
    Shares,
    control_edges,
    edges_around,
    least_blocks,
    log_e_brackets,
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
        stalls: chance that a block of control is all slow.
    """

    phi: float
    requests: int
    periods: int
    workers: tuple[int, int] = (1, 1)
    slower: float = 1.0
    margin_bins: int = 2
    blocks: bool = True
    stalls: float = 0.0

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
            note(found, direction, alphas, some, log_e, period)
    return found


Found = dict[tuple[Direction, float], FloatArray]


def note(
    found: Found,
    direction: Direction,
    alphas: list[float],
    streams: IntArray,
    log_e: FloatArray,
    period: int,
) -> None:
    """Keep the period in which these streams first decide."""
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
    upper, lower = _SCREEN + 1, _SCREEN
    at = (upper, lower) if direction == "FAIL" else (lower, upper)
    pair = _at(treatment, streams, at[0]), _at(control, streams, at[1])
    log_e = log_e_brackets(*pair, P95, direction, latency.blocks)
    return np.asarray(streams[log_e.min(axis=1) >= math.log(1 / alpha)], np.int64)


def _at(shares: Shares, streams: IntArray, edges: IntArray) -> Shares:
    picked = np.ix_(streams, edges)
    least = shares.least[picked] if len(shares.least) > 1 else shares.least
    return Shares(shares.n[streams], shares.below[picked], shares.squares[picked], least)


def _streams(shares: Shares, streams: IntArray) -> Shares:
    return _at(shares, streams, np.arange(len(_EDGES)))


def arms_of(rng: np.random.Generator, latency: Latency, streams: int) -> tuple[_Arm, _Arm]:
    """Treatment and control before the first period."""
    return (
        _Arm(rng, latency, latency.workers[0], streams, math.log(latency.slower), 0, 0.0),
        _Arm(rng, latency, latency.workers[1], streams, 0.0, latency.margin_bins, latency.stalls),
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
        stalls: float,
    ) -> None:
        self._rng, self._latency = rng, latency
        self._streams, self._workers = streams, workers
        self._stalls = stalls
        edges = control_edges(_EDGES, margin_bins)
        log_x = pooled_quantile(latency) + (edges - _ANCHOR) * BIN - shift
        log_x[edges <= ZERO_BIN] = -np.inf
        log_x[edges >= FINITE] = np.inf
        self._edges = log_x
        self._n = np.zeros((streams, 1))
        self._below = np.zeros((streams, len(_EDGES)))
        self._squares = np.zeros((streams, len(_EDGES)))
        self._least = np.ones((streams, len(_EDGES)))
        self._last = [rng.standard_normal(streams) for _ in range(workers)]

    def next_period(self) -> Shares:
        """The sums after one more period."""
        for worker in range(self._workers):
            counts = self._counts(worker)
            if self._stalls:
                stalled = self._rng.random(self._streams) < self._stalls
                counts[np.ix_(stalled, self._edges < np.inf)] = 0
            if self._latency.blocks:
                share = counts / self._latency.requests
                self._n += 1
                self._below += share
                self._squares += share * share
                self._least = np.minimum(self._least, share)
            else:
                self._n += self._latency.requests
                self._below += counts
        if not self._latency.blocks:
            return Shares(self._n, self._below, self._below)
        return Shares(self._n, self._below, self._squares, self._least)

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


def stalls_of(slower: float, margin_bins: int) -> float:
    """Chance of a stall with which control's p95 is the treatment's over the margin, though it is not seen."""
    return 1.0 - P95 / _beyond(slower, margin_bins)


def _beyond(slower: float, margin_bins: int) -> float:
    """Share of control's requests at or below the treatment's p95 over the margin."""
    z = float(norm.ppf(P95)) + (math.log(slower) - margin_bins * BIN) / SIGMA
    return float(norm.cdf(z))


def block_test(
    rng: np.random.Generator, latency: Latency, streams: int, alpha: float
) -> tuple[int, FloatArray]:
    """A one-look normal test of block shares, planned with 80 % power: blocks of the treatment, and who fails.

    It looks at the mean gap between the treatment's share above x and control's above x / m, at an x
    halfway between the two quantiles, and who fails is of as many blocks of control.
    """
    apart = (math.log(latency.slower) - latency.margin_bins * BIN) / SIGMA
    z = float(norm.ppf(P95)) + apart / 2
    planned = _block_shares(rng, latency, 4000, z, stalls=0.0)
    gap = float((planned[0] - planned[1]).mean())
    reach = float(norm.isf(alpha) + norm.isf(0.2))
    one, other = planned.var(axis=1).tolist()
    scatter = one + other * latency.workers[0] / latency.workers[1]
    n = max(math.ceil((reach / gap) ** 2 * scatter), 2)
    treatment, control = _block_shares(rng, latency, streams * n, z, latency.stalls)
    gaps = (treatment - control).reshape(streams, n)
    spread = np.maximum(gaps.std(axis=1, ddof=1), 1e-12) / math.sqrt(n)
    return n, np.where(gaps.mean(axis=1) >= norm.isf(alpha) * spread, 1.0, np.inf)


def _block_shares(
    rng: np.random.Generator, latency: Latency, blocks: int, z: float, stalls: float
) -> FloatArray:
    """Shares above of independent blocks, the treatment's and the control's, shape (2, blocks)."""
    apart = (math.log(latency.slower) - latency.margin_bins * BIN) / SIGMA
    out = np.zeros((2, blocks))
    for arm, limit in enumerate((z - apart, z)):
        start = rng.standard_normal(blocks)
        series = autoregressive(rng, latency.phi, latency.requests, start)
        out[arm] = (series > limit).mean(axis=1)
    out[1, rng.random(blocks) < stalls] = 1.0
    return out


def fixed_blocks(normal: int, latency: Latency, alpha: float) -> float:
    """Treatment's blocks of a fixed sample of 80 % power: the normal test's, or those of any valid one."""
    beyond = _beyond(latency.slower, latency.margin_bins)
    least = least_blocks(P95, beyond, alpha, 0.8) * latency.workers[0] / latency.workers[1]
    return max(normal, least)


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
