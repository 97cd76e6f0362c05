"""A simulated fleet: a load that grows with a daily cycle, and utilisation that follows it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from penstock.streams.core.costs.series import LOAD, Series
from penstock.streams.core.tiles import Span

Floats = npt.NDArray[np.float64]
START_S = 1_767_225_600  # a midnight


@dataclass(frozen=True)
class Fleet:
    """Requests per second at step t: (level + slope t) (1 + swing sin(2 pi t / 24)), in steps."""

    step_s: int = 3600
    level: float = 20.0
    slope: float = 0.05
    swing: float = 0.0
    noise: float = 0.1
    autocorrelation: float = 0.5
    capacity: float = 40.0
    base: float = 0.05
    utilisation_noise: float = 0.02

    def expected(self, steps: npt.NDArray[np.int64]) -> Floats:
        cycle = 1 + self.swing * np.sin(2 * np.pi * (steps + 0.5) / 24)
        return (self.level + self.slope * (steps + 0.5)) * cycle

    def crossing(self, after: int, most: int) -> float:
        """Steps from `after` until the expected load reaches the capacity."""
        above = self.expected(after + np.arange(most)) >= self.capacity
        return float(np.argmax(above)) if above.any() else np.inf

    def series(self, rng: np.random.Generator, steps: int) -> Series:
        """`steps` of it, full at a KV-cache usage of 0.9."""
        noise = ar1(rng, steps, self.autocorrelation) * self.noise
        rate = np.maximum(self.expected(np.arange(steps)) * (1 + noise), 0)
        usage = self.base + (0.9 - self.base) * rate / self.capacity
        usage = np.clip(usage + rng.normal(0, self.utilisation_noise, steps), 0, 1)
        series = Series(LOAD)
        for step in range(steps):
            requests = round(rate[step] * self.step_s)
            kv_sum = round(float(usage[step]) * 100 * 1_000_000)
            named = {
                "requests": requests, "tokens": 300 * requests, "steps": 100,
                "batch_size": requests, "batch_capacity": 64 * 100,
                "kv_cache_usage_sum": kv_sum, "kv_cache_usage_count": 100,
            }  # fmt: skip
            values = [named.get(name, 0) for name in LOAD]
            series.put(Span(self.step_s, START_S + step * self.step_s), values)
        return series


def ar1(rng: np.random.Generator, n: int, autocorrelation: float) -> Floats:
    """Noise of variance 1."""
    innovations = rng.normal(0, np.sqrt(1 - autocorrelation**2), n)
    values = np.empty(n)
    values[0] = rng.normal()
    for at in range(1, n):
        values[at] = autocorrelation * values[at - 1] + innovations[at]
    return values
