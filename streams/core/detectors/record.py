"""Record: is this value further out than anything lately?"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from typing import ClassVar

from .base import Detector, Severity, require
from .robust import smallest_spread

SIXTH_TO_SD = (
    0.9674  # of a normal distribution, one sixth lies further from the mean on either side
)


@dataclass
class Record(Detector):
    """Alarms when a value is a record of oddness among the last ones.

    Oddness is the distance from the median of the last `window` values, in units of the spread of their
    middle two thirds. A value alarms when it exceeds `margin` times the largest oddness among the last
    `window` scores. If scores are exchangeable, that happens to at most one value in window + 1,
    whatever their distribution: spiky series set themselves a high bar. It finds spikes and steps,
    not slow drift.

    Args:
        window: values of the median and the spread, and scores of the bar.
        margin: by how much the largest score must be exceeded, at least 1.
        least: oddness below it is never an alarm.
        quiet: values after an alarm that cannot alarm again.

    >>> detector = Record(window=40)
    >>> alarms = []
    >>> for at in range(200):
    ...     detector.update(50.0 if at == 150 else at * 7 % 11)
    ...     alarms += [at] if detector.drift_detected else []
    >>> alarms
    [150]
    """

    name: ClassVar[str] = "record"

    window: int = 400
    margin: float = 1.1
    least: float = 3.0
    quiet: int = 100

    recent: list[float] = field(default_factory=list, init=False)
    ordered: list[float] = field(default_factory=list, init=False)
    scores: list[float] = field(default_factory=list, init=False)
    silent: int = field(default=0, init=False)

    def _check(self) -> None:
        require(self.window >= 10 and self.quiet >= 0, "window >= 10 and quiet >= 0 must hold")
        require(self.margin >= 1 and self.least >= 0, "margin >= 1 and least >= 0 must hold")

    def _update(self, value: float) -> Severity | None:
        alarm = False
        self.silent = max(self.silent - 1, 0)
        if len(self.recent) == self.window:
            score = self._oddness(value)
            if len(self.scores) == self.window:
                bar = max(self.least, self.margin * max(self.scores))
                alarm = score > bar and self.silent == 0
                self.scores.pop(0)
            self.scores.append(score)
            oldest = self.recent.pop(0)
            del self.ordered[bisect.bisect_left(self.ordered, oldest)]
        self.recent.append(value)
        bisect.insort(self.ordered, value)
        if alarm:
            self.silent = self.quiet + 1
        return "warning" if alarm else None

    def _oddness(self, value: float) -> float:
        middle = self.ordered[self.window // 2]
        sixth = self.window // 6
        spread = (self.ordered[-1 - sixth] - self.ordered[sixth]) / 2 / SIXTH_TO_SD
        return abs(value - middle) / max(spread, 1e-3 * abs(middle), smallest_spread(middle))
