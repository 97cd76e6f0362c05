"""How much blocks depend on each other, and how many independent units they are worth.

Blocks of latencies or means are taken as independent, which holds where a block is long against the
time that load is correlated: for an AR(1) series with coefficient phi the autocorrelation time is
(1 + phi) / (1 - phi) steps, and ten of them make neighbouring blocks nearly independent. The design
effect (Kish) is the variance of a rate over blocks, over that of independent units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

TIMES = 10.0
"""Autocorrelation times that a block should span."""


@dataclass(frozen=True, slots=True)
class Series:
    """Running sums of the blocks of one arm.

    Attributes:
        blocks: blocks with observations.
        y, yy: sum of their values and of the squares.
        lagged: sum of products of neighbours.
        first, last: values at the ends.
        units: observations in all blocks.
        weighted: sum of observations times value, so that `weighted / units` is the pooled mean.
        spread: sum of observations times the squared value.
    """

    blocks: int = 0
    y: float = 0.0
    yy: float = 0.0
    lagged: float = 0.0
    first: float = 0.0
    last: float = 0.0
    units: int = 0
    weighted: float = 0.0
    spread: float = 0.0

    def add(self, value: float, units: int) -> Series:
        """One more block; a block without units is none."""
        if units == 0:
            return self
        return replace(
            self,
            blocks=self.blocks + 1,
            y=self.y + value,
            yy=self.yy + value * value,
            lagged=self.lagged + (value * self.last if self.blocks else 0.0),
            first=self.first if self.blocks else value,
            last=value,
            units=self.units + units,
            weighted=self.weighted + units * value,
            spread=self.spread + units * value * value,
        )

    @property
    def autocorrelation(self) -> float | None:
        """Lag-1 autocorrelation of the blocks; None below 10 of them or without any spread."""
        if self.blocks < 10:
            return None
        mean = self.y / self.blocks
        variance = self.yy - self.blocks * mean * mean
        if variance <= 1e-12 * max(self.yy, 1e-300):
            return None
        ends = 2.0 * self.y - self.first - self.last
        return (self.lagged - mean * ends + (self.blocks - 1) * mean * mean) / variance

    @property
    def too_short(self) -> bool:
        """Whether neighbouring blocks are correlated by more than chance (two standard errors)."""
        phi = self.autocorrelation
        return phi is not None and phi > 0.1 + 2.0 / math.sqrt(self.blocks)

    def design_effect(self) -> float | None:
        """Variance of the blocks' rate over the binomial one; None where nothing can vary."""
        if self.blocks < 2 or self.units == 0:
            return None
        rate = self.weighted / self.units
        expected = rate * (1.0 - rate)
        if expected <= 0.0:
            return None
        found = (self.spread - self.units * rate * rate) / (self.blocks - 1)
        return max(found, 0.0) / expected


def autocorrelation_time(phi: float) -> float:
    """Autocorrelation time of an AR(1) series, in steps; at least 1.

    >>> round(autocorrelation_time(0.9))
    19
    """
    phi = min(max(phi, 0.0), 0.9999)
    return (1.0 + phi) / (1.0 - phi)


def block_length(phi: float, step_s: float) -> float:
    """Seconds that a block should last: ten autocorrelation times.

    Args:
        phi: lag-1 autocorrelation of a series of steps.
        step_s: length of a step.

    >>> round(block_length(0.9, 1.0))
    190
    """
    return TIMES * autocorrelation_time(phi) * step_s


def effective_n(n: int, design_effect: float | None) -> float | None:
    """Independent units that `n` dependent ones are worth, at most n."""
    return None if design_effect is None else n / max(design_effect, 1.0)
