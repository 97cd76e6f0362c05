"""Has a measure with a good direction become worse, for several values in a row?"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import ClassVar

from .base import Detector, Severity, require
from .robust import smallest_spread


@dataclass
class Performance(Detector):
    """Losses should go down, rewards up: alarms when values stay worse than a band around the baseline.

    The baseline is the median of the warm-up. An alarm is raised by the last of `consecutive` values
    beyond `tolerance`, a critical one by the last of as many beyond `critical_tolerance`; each once per
    stretch.

    Args:
        lower_is_better: True for losses, False for rewards.
        warm_up: values of the baseline.
        tolerance: width of the band, relative to the baseline's size.
        critical_tolerance: the same for critical.
        tolerance_abs: smallest width of the band, in the unit of the values; for a baseline near 0.
        consecutive: values in a row.

    >>> detector = Performance(warm_up=3, consecutive=2)
    >>> for value in (1.0, 1.1, 0.9, 1.0, 2.0):
    ...     detector.update(value)
    >>> detector.drift_detected
    False
    >>> detector.update(2.1)
    >>> detector.severity
    'critical'
    """

    name: ClassVar[str] = "performance"

    lower_is_better: bool = True
    warm_up: int = 50
    tolerance: float = 0.1
    critical_tolerance: float = 0.2
    tolerance_abs: float = 0.0
    consecutive: int = 5

    first: list[float] = field(default_factory=list, init=False)
    baseline: float | None = field(default=None, init=False)
    worse: int = field(default=0, init=False)
    much_worse: int = field(default=0, init=False)

    def _check(self) -> None:
        require(self.warm_up >= 1 and self.consecutive >= 1, "counts must be at least 1")
        require(
            0 < self.tolerance <= self.critical_tolerance and self.tolerance_abs >= 0,
            "0 < tolerance <= critical_tolerance and tolerance_abs >= 0 must hold",
        )

    def _update(self, value: float) -> Severity | None:
        if self.baseline is None:
            self.first.append(value)
            if len(self.first) == self.warm_up:
                self.baseline, self.first = statistics.median(self.first), []
            return None
        loss = value - self.baseline if self.lower_is_better else self.baseline - value
        size = abs(self.baseline) or smallest_spread(0.0)
        self.worse = self.worse + 1 if loss > self._band(self.tolerance, size) else 0
        far = loss > self._band(self.critical_tolerance, size)
        self.much_worse = self.much_worse + 1 if far else 0
        if self.much_worse == self.consecutive:
            return "critical"
        return "warning" if self.worse == self.consecutive else None

    def _band(self, tolerance: float, size: float) -> float:
        return max(tolerance * size, self.tolerance_abs * tolerance / self.tolerance)
