"""Has the mean of the newest values moved away from the baseline?"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from .base import Detector, Severity, require
from .robust import smallest_spread


@dataclass
class ZScore(Detector):
    """z-score of a window's mean against the mean and spread of a warm-up.

    z = (window mean - baseline mean) / (sd sqrt(1/window + 1/warm_up)). It alarms when |z| reaches the
    threshold and once more only after it fell below half of it. The baseline stays until `reset`.

    Args:
        warm_up: values of the baseline.
        window: newest values whose mean is taken.
        threshold: |z| of an alarm.

    >>> detector = ZScore(warm_up=50, window=5)
    >>> alarms = []
    >>> for at in range(100):
    ...     detector.update(at % 5 + (10 if at >= 80 else 0))
    ...     alarms += [at] if detector.drift_detected else []
    >>> alarms
    [81]
    """

    name: ClassVar[str] = "zscore"

    warm_up: int = 200
    window: int = 30
    threshold: float = 5.0

    mean: float = field(default=0.0, init=False)
    squares: float = field(default=0.0, init=False)
    recent: list[float] = field(default_factory=list, init=False)
    active: bool = field(default=False, init=False)

    def _check(self) -> None:
        require(self.warm_up >= 2 and self.window >= 1, "warm_up >= 2 and window >= 1 must hold")
        require(self.threshold > 0, "threshold must be positive")

    def _update(self, value: float) -> Severity | None:
        if self.seen <= self.warm_up:  # Welford's recurrence
            step = value - self.mean
            self.mean += step / self.seen
            self.squares += step * (value - self.mean)
            return None
        self.recent.append(value)
        del self.recent[: -self.window]
        size = abs(self.z)
        if self.active:
            self.active = size >= self.threshold / 2
            return None
        self.active = size >= self.threshold
        return "warning" if self.active else None

    @property
    def z(self) -> float:
        """z-score of the window's mean; 0 until the window is full."""
        if len(self.recent) < self.window:
            return 0.0
        deviation = math.sqrt(self.squares / (self.warm_up - 1)) or smallest_spread(self.mean)
        error = deviation * math.sqrt(1 / self.window + 1 / self.warm_up)
        return (math.fsum(self.recent) / self.window - self.mean) / error
