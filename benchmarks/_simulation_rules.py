"""What judges two arms of counts, pane by pane: our e-process, and the rules people use today."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from penstock.benchmarks._simulation_streams import MINUTE, FloatArray, IntArray, Pane
from penstock.benchmarks._simulation_table import OURS
from penstock.streams.core.gates.two_arm import (
    Direction,
    grid_of,
    log_e_ratio,
    log_likelihood_steps,
)
from scipy.stats import norm

LONG_STREAMS = 1000
LAST_MINUTE = 60
FIRST_LOOK = 30  # treatment units before a z-test is first looked at


Thresholds = Mapping[float | None, float]


class Rule(Protocol):
    """A statistic after each pane, and the value that decides, by stated error rate."""

    name: str
    thresholds: Thresholds

    def add(self, pane: Pane) -> FloatArray:
        """The statistic after one more pane, shape (S,)."""


class TwoArm:
    """The engine: the likelihood at every node of the prior, and the log of its mean.

    A pane without a bad unit says nothing, and the mean is below the largest node: streams that cannot
    have crossed a threshold in this pane are not looked at any closer.
    """

    name = OURS

    def __init__(
        self, streams: int, alphas: Sequence[float], margin: float, direction: Direction
    ) -> None:
        self.thresholds: Thresholds = {alpha: math.log(1 / alpha) for alpha in alphas}
        self._grid = grid_of(margin, direction)
        self._log = np.zeros((streams, len(self._grid.ratio)))

    def add(self, pane: Pane) -> FloatArray:
        """Log e-value after one more pane; minus infinity where it is surely below every threshold."""
        some = np.flatnonzero(pane.bad1 + pane.bad0)
        log = self._log[some] + log_likelihood_steps(
            pane.bad1[some], pane.bad0[some], pane.n1[some], pane.n0[some], self._grid
        )
        self._log[some] = log
        near = log.max(axis=1) >= min(self.thresholds.values())
        log_e = np.full(len(self._log), -np.inf)
        log_e[some[near]] = log_e_ratio(log[near], self._grid)
        return log_e


class Totals:
    """Running totals of both arms."""

    def __init__(self, streams: int) -> None:
        self.n1, self.n0, self.bad1, self.bad0 = np.zeros((4, streams), np.int64)

    def add(self, pane: Pane) -> None:
        """Count one more pane."""
        self.n1 += pane.n1
        self.n0 += pane.n0
        self.bad1 += pane.bad1
        self.bad0 += pane.bad0


class RepeatedZ:
    """A two-proportion z-test of RR <= m (PASS: RR >= m), asked again at every pane.

    With m = 1 the variance is pooled, as most scripts do; else each arm has its own.
    """

    name = "z-test, repeated"

    def __init__(
        self, streams: int, alphas: Sequence[float], margin: float, direction: Direction
    ) -> None:
        self.thresholds: Thresholds = {alpha: float(norm.isf(alpha)) for alpha in alphas}
        self._margin = margin
        self._sign = 1.0 if direction == "FAIL" else -1.0
        self.totals = Totals(streams)

    def add(self, pane: Pane) -> FloatArray:
        """z after one more pane."""
        self.totals.add(pane)
        return self.z()

    def z(self) -> FloatArray:
        """z of the totals; minus infinity before the first look."""
        t, m = self.totals, self._margin
        n1, n0 = np.maximum(t.n1, 1), np.maximum(t.n0, 1)
        p1, p0 = t.bad1 / n1, t.bad0 / n0
        if m == 1.0:
            p1v = p0v = (t.bad1 + t.bad0) / (n1 + n0)
        else:
            p1v, p0v = p1, p0
        variance = p1v * (1 - p1v) / n1 + m * m * p0v * (1 - p0v) / n0
        known = (variance > 0) & (t.n1 >= FIRST_LOOK)
        z = self._sign * (p1 - m * p0) / np.sqrt(np.where(known, variance, 1.0))
        return np.asarray(np.where(known, z, -np.inf), np.float64)


class FixedTest(RepeatedZ):
    """The same z-test with m = 1, looked at once, when the treatment has its planned units."""

    def __init__(self, streams: int, alpha: float, planned: float) -> None:
        super().__init__(streams, (alpha,), 1.0, "FAIL")
        self.name = f"z-test, once at n = {planned:,.0f}"
        self._planned = planned
        self._looked = np.zeros(streams, np.bool_)

    def add(self, pane: Pane) -> FloatArray:
        """z at the planned size, minus infinity before and after."""
        z = super().add(pane)
        now = (self.totals.n1 >= self._planned) & ~self._looked
        self._looked |= now
        return np.asarray(np.where(now, z, -np.inf), np.float64)


class Minutes:
    """Error rates of both arms per full minute."""

    def __init__(self, streams: int) -> None:
        self._minute = Totals(streams)
        self._panes = 0

    def add(self, pane: Pane) -> tuple[FloatArray, FloatArray] | None:
        """(treatment, control) rates at the end of a minute, NaN without units; else None."""
        self._minute.add(pane)
        self._panes += 1
        if self._panes % MINUTE:
            return None
        full = self._minute
        self._minute = Totals(len(full.n1))
        return _rate(full.bad1, full.n1), _rate(full.bad0, full.n0)


def _rate(bad: IntArray, n: IntArray) -> FloatArray:
    rates: FloatArray = np.divide(bad, n, out=np.full(len(n), np.nan), where=n > 0)
    return rates


class FiveMinutes:
    """The treatment's error rate above a fixed limit for five minutes on end (Argo, Flagger)."""

    name = "limit for 5 minutes"

    def __init__(self, streams: int, limit: float) -> None:
        self.thresholds: Thresholds = {None: 5.0}
        self._limit = limit
        self._minutes = Minutes(streams)
        self._above = np.zeros(streams)

    def add(self, pane: Pane) -> FloatArray:
        """Minutes on end above the limit."""
        minute = self._minutes.add(pane)
        if minute is not None:
            self._above = np.where(minute[0] > self._limit, self._above + 1, 0.0)
        return self._above


class PolledMannWhitney:
    """Kayenta's judge on error rates per minute, asked at each of the minutes 2 to 60.

    It takes long, so it judges the first 1,000 streams only.
    """

    name = "Mann-Whitney, polled"

    def __init__(self, streams: int) -> None:
        self.thresholds: Thresholds = {None: 0.5}
        self._streams = min(streams, LONG_STREAMS)
        self._minutes = Minutes(self._streams)
        self._seen: list[tuple[FloatArray, FloatArray]] = []

    def add(self, pane: Pane) -> FloatArray:
        """1 where it says High at the end of a minute."""
        minute = self._minutes.add(pane.first(self._streams))
        none = np.zeros(self._streams)
        if minute is None or len(self._seen) == LAST_MINUTE:
            return none
        self._seen.append((np.nan_to_num(minute[0]), np.nan_to_num(minute[1])))
        if len(self._seen) < 2:
            return none
        treatment, control = (np.stack(arm, axis=1) for arm in zip(*self._seen, strict=True))
        return mann_whitney(treatment, control)[0].astype(np.float64)


def mann_whitney(
    treatment: FloatArray, control: FloatArray, confidence: float = 0.98, tolerance: float = 0.25
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Kayenta's classification at its defaults: High, Low; shape (S,) from (S, n) each.

    High: the lower end of the 98 % interval of the shift (order statistics of all differences, by
    the normal approximation with continuity correction, ties not corrected) is above a quarter of
    the Hodges-Lehmann estimate. The interval's ends are never beyond the smallest and largest
    difference, so that two against two can decide.
    """
    n, m = treatment.shape[1], control.shape[1]
    spread = math.sqrt(n * m * (n + m + 1) / 12)
    from_end = int(n * m / 2 - 0.5 - norm.isf((1 - confidence) / 2) * spread)
    low, high = max(from_end, 0), n * m - 1 - max(from_end, 0)
    picks = sorted({low, (n * m - 1) // 2, n * m // 2, high})
    flags = []
    for start in range(0, len(treatment), 500):
        part = slice(start, start + 500)
        apart = (treatment[part, :, None] - control[part, None, :]).reshape(-1, n * m)
        apart = np.partition(apart, picks, axis=1)
        middle = 0.5 * (apart[:, (n * m - 1) // 2] + apart[:, n * m // 2])
        bound = tolerance * np.abs(middle)
        flags.append((apart[:, low] > bound, apart[:, high] < -bound))
    highs, lows = zip(*flags, strict=True)
    return np.concatenate(highs), np.concatenate(lows)


def first_crossings(
    stream: Iterable[Pane], rules: Sequence[Rule]
) -> dict[tuple[str, float | None], FloatArray]:
    """Treatment units at which each rule first decides, infinite where it never does, shape (S,)."""
    found: dict[tuple[str, float | None], FloatArray] = {}
    units: FloatArray | None = None
    for pane in stream:
        units = pane.n1.astype(np.float64) if units is None else units + pane.n1
        for rule in rules:
            statistic = rule.add(pane)
            for alpha, threshold in rule.thresholds.items():
                first = found.setdefault((rule.name, alpha), np.full(len(statistic), np.inf))
                now = (statistic >= threshold) & np.isinf(first)
                first[now] = units[: len(first)][now]
    return found


def fixed_sample(
    rate: float, ratio: float, share: float, alpha: float, pooled: bool = False
) -> float:
    """Treatment units of a one-look z-test with 80 % power.

    Args:
        rate: of the control.
        ratio: treatment over control, above 1.
        share: of the treatment.
        alpha: one-sided.
        pooled: whether the variance under the null is that of both arms together.
    """
    worse, k = rate * ratio, share / (1 - share)
    under = worse * (1 - worse) + k * rate * (1 - rate)
    together = share * worse + (1 - share) * rate
    null = together * (1 - together) * (1 + k) if pooled else under
    spread = norm.isf(alpha) * math.sqrt(null) + norm.isf(0.2) * math.sqrt(under)
    return float((spread / (worse - rate)) ** 2)
