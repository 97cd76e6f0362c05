"""ADWIN: a window that grows while its mean holds, and is cut where it changed.

Bifet and Gavalda, "Learning from time-changing data with adaptive windowing" (SDM 2007), the variant
with exponential buckets and the variance-based bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from .base import Detector, Severity, require


@dataclass
class Adwin(Detector):
    """Alarms when two parts of the window have means that differ by more than chance allows.

    The older part is then dropped, so that `mean` and `width` follow the new level.

    Args:
        delta: confidence of one check; smaller alarms less.
        span: width of the range of the values, which the bound needs (1 for shares and scores).
        clock: values between checks.
        buckets: buckets of one size before two are joined.
        least: values that either part must have.

    >>> detector = Adwin()
    >>> alarms = []
    >>> for at in range(1000):
    ...     detector.update((at * 7 % 11) / 20 + (0.4 if at >= 600 else 0.0))
    ...     alarms += [at] if detector.drift_detected else []
    >>> len(alarms) >= 1 and 600 <= alarms[0] <= 640
    True
    """

    name: ClassVar[str] = "adwin"

    delta: float = 0.002
    span: float = 1.0
    clock: int = 32
    buckets: int = 5
    least: int = 10

    # rows[i]: buckets of 2^i values, oldest first, each [mean, sum of squared deviations]
    rows: list[list[list[float]]] = field(default_factory=list, init=False)

    def _check(self) -> None:
        require(0 < self.delta < 1 and self.span > 0, "0 < delta < 1 and span > 0 must hold")
        require(min(self.clock, self.buckets, self.least) >= 1, "counts must be at least 1")

    @property
    def width(self) -> int:
        """Values in the window."""
        return sum(len(row) << at for at, row in enumerate(self.rows))

    @property
    def mean(self) -> float:
        """Mean of the window; 0 where it is empty."""
        return self._whole()[1]

    def _update(self, value: float) -> Severity | None:
        self._insert(value / self.span)
        if self.seen % self.clock:
            return None
        shrunk = False
        while self._changed():
            oldest = max(at for at, row in enumerate(self.rows) if row)
            self.rows[oldest].pop(0)
            shrunk = True
        return "warning" if shrunk else None

    def _insert(self, value: float) -> None:
        item, at = [value, 0.0], 0
        while True:
            if at == len(self.rows):
                self.rows.append([])
            row = self.rows[at]
            row.append(item)
            if len(row) <= self.buckets:
                return
            first, second = row.pop(0), row.pop(0)
            size = float(1 << at)
            at += 1
            _, mean, squares = _join((size, first[0], first[1]), (size, second[0], second[1]))
            item = [mean, squares]

    def _parts(self) -> list[tuple[float, float, float]]:
        """Buckets as (values, mean, squared deviations), oldest first."""
        return [
            (float(1 << at), mean, squares)
            for at in range(len(self.rows) - 1, -1, -1)
            for mean, squares in self.rows[at]
        ]

    def _whole(self) -> tuple[float, float, float]:
        total = (0.0, 0.0, 0.0)
        for part in self._parts():
            total = _join(total, part)
        return total

    def _changed(self) -> bool:
        """Whether some cut of the window has two different sides."""
        n, mean, squares = self._whole()
        if n < 2 * self.least:
            return False
        confidence = math.log(2 * math.log(n) / self.delta)
        variance = squares / n
        old = (0.0, 0.0, 0.0)
        for part in self._parts():
            old = _join(old, part)
            rest = n - old[0]
            if old[0] < self.least or rest < self.least:
                continue
            harmonic = 1 / old[0] + 1 / rest
            bound = math.sqrt(2 * harmonic * variance * confidence) + 2 / 3 * harmonic * confidence
            if abs(old[1] - (mean * n - old[1] * old[0]) / rest) > bound:
                return True
        return False


def _join(
    one: tuple[float, float, float], other: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Two groups (values, mean, squared deviations) as one (Chan, Golub, LeVeque 1983)."""
    n = one[0] + other[0]
    step = other[1] - one[1]
    mean = one[1] + step * other[0] / n
    return n, mean, one[2] + other[2] + step * step * one[0] * other[0] / n
