"""Change points on block medians, with a rate of false alarms that holds for any distribution.

If block medians come from one distribution, the rank of each among all before it and itself is
uniform and independent of the ranks before (Renyi 1962). For u = (rank - 1/2) / blocks a bet
k u^(k-1) then has mean at most 1, and the Shiryaev-Roberts sum R <- (1 + R) bet grows by at most 1
per block: with an alarm at R >= c there is at most one false alarm in c blocks on average.
"""

from __future__ import annotations

import bisect
import math
import statistics
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from .base import Detector, Severity, require

BETS = (2.0, 6.0)  # k: for a small and a large change


@dataclass
class ChangePoint(Detector):
    """Alarms when newer block medians rank too high or too low among all since the last change.

    Args:
        block: values of a block; longer than what makes neighbours alike.
        alarms_per_1000_blocks: false alarms accepted, on average.
        direction: changes that matter.
        memory: block medians kept; when full, the newer half stays and the sum starts again.

    >>> detector = ChangePoint(block=5)
    >>> alarms = []
    >>> for at in range(400):
    ...     detector.update(at * 7 % 11 + (20.0 if at >= 200 else 0.0))
    ...     alarms += [at] if detector.drift_detected else []
    >>> alarms, detector.changed_at
    ([224], 200)
    """

    name: ClassVar[str] = "change_point"

    block: int = 10
    alarms_per_1000_blocks: float = 1.0
    direction: Literal["both", "up", "down"] = "both"
    memory: int = 1000

    values: list[float] = field(default_factory=list, init=False)
    medians: list[float] = field(default_factory=list, init=False)
    log_r: list[float] = field(default_factory=list, init=False)  # ln(1 + R) of each bet
    began: list[int] = field(default_factory=list, init=False)  # value from which R of a bet grew
    changed_at: int | None = field(default=None, init=False)

    def _check(self) -> None:
        require(self.block >= 1 and self.memory >= 20, "block >= 1 and memory >= 20 must hold")
        require(self.alarms_per_1000_blocks > 0, "alarms_per_1000_blocks must be positive")
        require(self.direction in ("both", "up", "down"), "direction is both, up or down")

    def _update(self, value: float) -> Severity | None:
        self.values.append(value)
        if len(self.values) < self.block:
            return None
        median, self.values = statistics.median(self.values), []
        ordered = sorted(self.medians)
        below = bisect.bisect_left(ordered, median)
        ties = bisect.bisect_right(ordered, median) - below
        u = (below + ties / 2 + 0.5) / (len(ordered) + 1)
        self.medians.append(median)
        alarm = self._bet(u)
        if alarm:
            self.medians = []
        elif len(self.medians) >= self.memory:
            del self.medians[: self.memory // 2]
            self.log_r = []
        return "warning" if alarm else None

    def _bet(self, u: float) -> bool:
        sides = {"up": (u,), "down": (1 - u,), "both": (u, 1 - u)}[self.direction]
        bets = [math.log(k) + (k - 1) * math.log(side) for side in sides for k in BETS]
        if not self.log_r:
            self.log_r, self.began = [0.0] * len(bets), [self.seen - self.block] * len(bets)
        log_r = [before + bet for before, bet in zip(self.log_r, bets, strict=True)]
        mean = sum(map(math.exp, log_r)) / len(log_r)
        if mean >= 1000 / self.alarms_per_1000_blocks:
            self.changed_at = self.began[max(range(len(log_r)), key=log_r.__getitem__)]
            self.log_r = []
            return True
        for at, value in enumerate(log_r):
            if value < 0:  # R below 1: nothing grows from before here
                self.began[at] = self.seen
        self.log_r = [math.log1p(math.exp(value)) for value in log_r]
        return False
