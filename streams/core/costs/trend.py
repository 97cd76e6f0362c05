"""A robust trend of load, with a daily cycle where there are two days, for many resamples at once.

load(t) = (level + slope * t) * cycle(hour of the day), t in steps. The slope is the median of the
slopes of pairs of steps (Theil 1950; Sen 1968), with a cycle only of pairs at the same hour (as Hirsch,
Slack and Smith 1982 do for months), so that up to 29 % of wild steps do not move it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..windows import Floats, Ints

CYCLE_STEPS = 24
_HARMONICS = 4
_PASSES = 2
_LEAST_CYCLE = 0.05  # of the mean: quieter hours do not tell the trend
_CHUNK = 2_000_000


@dataclass(frozen=True, slots=True)
class Trend:
    """Fits of B series.

    Attributes:
        level: at step 0, shape (B,).
        slope: per step, shape (B,).
        cycle: factor by phase, mean 1, shape (B, p); p is 1 without a cycle.
    """

    level: Floats
    slope: Floats
    cycle: Floats

    def factor(self, steps: Ints) -> Floats:
        """The cycle at steps, shape (B, k)."""
        return self.cycle[:, steps % self.cycle.shape[1]]

    def straight(self, steps: Ints) -> Floats:
        """The line without the cycle, shape (B, k)."""
        return self.level[:, None] + self.slope[:, None] * steps

    def expected(self, steps: Ints) -> Floats:
        """Expected load, never below 0, shape (B, k)."""
        return np.maximum(self.straight(steps), 0.0) * self.factor(steps)

    def shrunk(self, steps: int) -> Trend:
        """The first fit, its slope as far as it can be told from none.

        The slope is multiplied by max(0, 1 - 2 / z^2), z its ratio to the spread of the other fits, and
        turns about the middle of the history: extrapolating a slope that is mostly noise is worse than
        none (measured in docs/costs.md).

        Args:
            steps: length of the history.
        """
        spread, slope = float(self.slope[1:].std()), float(self.slope[0])
        keep = max(0.0, 1.0 - 2.0 * spread**2 / slope**2) if slope else 0.0
        turned = self.level[:1] + (1.0 - keep) * slope * (steps - 1) / 2
        return Trend(turned, np.array([keep * slope]), self.cycle[:1])


def fit_line(values: Floats, steps: Ints) -> Trend:
    """Fit lines.

    Args:
        values: shape (B, n), n >= 2.
        steps: of the columns, ascending, shape (n,).
    """
    first, second = np.triu_indices(len(steps), 1)
    apart = (steps[second] - steps[first]).astype(np.float64)
    slope = np.empty(len(values))
    rows = max(_CHUNK // len(apart), 1)
    for at in range(0, len(values), rows):
        part = values[at : at + rows]
        slope[at : at + rows] = np.median((part[:, second] - part[:, first]) / apart, axis=1)
    level = np.median(values - slope[:, None] * steps, axis=1)
    return Trend(level, slope, np.ones((len(values), 1)))


def fit_cycle(values: Floats) -> Trend:
    """Fit lines with a daily cycle.

    Args:
        values: whole days in steps of an hour, shape (B, 24 * days), at least two days.
    """
    days = values.reshape(len(values), -1, CYCLE_STEPS)
    means = np.maximum(days.mean(axis=2, keepdims=True), np.finfo(float).tiny)
    trend = _fit_given(days, _normal(np.median(days / means, axis=1)))
    steps = np.arange(values.shape[1])
    for _ in range(_PASSES):  # without the trend within each day, which the means of days leave in
        line = np.maximum(trend.straight(steps).reshape(days.shape), means * _LEAST_CYCLE)
        trend = _fit_given(days, _normal(np.median(days / line, axis=1)))
    return trend


def _normal(cycle: Floats) -> Floats:
    """A smooth cycle of mean 1, four harmonics of the day; flat where there is no load at all.

    A rough one would have its peak where the noise was largest, and saturate too early.
    """
    waves = np.fft.rfft(cycle, axis=1)
    waves[:, _HARMONICS + 1 :] = 0
    cycle = np.maximum(np.fft.irfft(waves, CYCLE_STEPS, axis=1), 0.0)
    mean = cycle.mean(axis=1, keepdims=True)
    flat = mean <= 0
    return np.asarray(np.where(flat, 1.0, cycle / np.where(flat, 1.0, mean)))


def _fit_given(days: Floats, cycle: Floats) -> Trend:
    telling = np.maximum(cycle, _LEAST_CYCLE)[:, None, :]
    straight = days / telling
    first, second = np.triu_indices(days.shape[1], 1)
    apart = CYCLE_STEPS * (second - first).astype(np.float64)[None, :, None]
    pairs = (straight[:, second] - straight[:, first]) / apart
    slope = np.median(pairs.reshape(len(days), -1), axis=1)
    flat = straight.reshape(len(days), -1)
    level = np.median(flat - slope[:, None] * np.arange(flat.shape[1]), axis=1)
    return Trend(level, slope, cycle)
