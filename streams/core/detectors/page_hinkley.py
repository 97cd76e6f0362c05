"""Page-Hinkley: has the level moved by more than an allowance, summed over values?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from .base import Detector, Severity, require
from .robust import middle_and_spread


@dataclass
class PageHinkley(Detector):
    """The cumulative test of Page (1954) and Hinkley (1971), both ways, on standardised values.

    A warm-up gives median and spread. Values are standardised by them and clipped, so that neither
    the unit matters nor can one outlier alarm. After an alarm a new warm-up begins.

    Args:
        warm_up: values of the baseline.
        allowance: standard deviations that a change may have unseen; changes of twice that size are
            found fastest.
        threshold: sum of an alarm, in standard deviations.
        clip: largest standardised value; less than the threshold.

    >>> detector = PageHinkley(warm_up=50)
    >>> alarms = []
    >>> for at in range(200):
    ...     detector.update(at * 7 % 11 + (6.0 if at >= 150 else 0.0))
    ...     alarms += [at] if detector.drift_detected else []
    >>> alarms
    [168]
    """

    name: ClassVar[str] = "page_hinkley"

    warm_up: int = 200
    allowance: float = 0.5
    threshold: float = 15.0
    clip: float = 4.0

    first: list[float] = field(default_factory=list, init=False)
    middle: float = field(default=0.0, init=False)
    spread: float = field(default=0.0, init=False)
    up: float = field(default=0.0, init=False)
    down: float = field(default=0.0, init=False)

    def _check(self) -> None:
        require(self.warm_up >= 2, "warm_up >= 2 must hold")
        require(
            0 <= self.allowance < self.clip < self.threshold,
            "0 <= allowance < clip < threshold must hold",
        )

    def _update(self, value: float) -> Severity | None:
        if self.spread == 0:
            self.first.append(value)
            if len(self.first) == self.warm_up:
                self.middle, self.spread = middle_and_spread(self.first)
                self.first = []
            return None
        z = max(-self.clip, min(self.clip, (value - self.middle) / self.spread))
        self.up = max(0.0, self.up + z - self.allowance)
        self.down = max(0.0, self.down - z - self.allowance)
        if max(self.up, self.down) < self.threshold:
            return None
        self.up = self.down = self.spread = 0.0
        return "warning"
