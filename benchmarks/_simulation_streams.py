"""Streams of counts of two arms, pane by pane, thousands of them beside each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

PANE_S = 10
PANES = 300
MINUTE = 60 // PANE_S


@dataclass(frozen=True, slots=True)
class Pane:
    """One closed pane of every stream: units and bad units of treatment and control, shape (S,)."""

    n1: IntArray
    n0: IntArray
    bad1: IntArray
    bad0: IntArray

    def first(self, streams: int) -> Pane:
        """The first streams only."""
        return Pane(*(v[:streams] for v in (self.n1, self.n0, self.bad1, self.bad0)))


@dataclass(frozen=True, slots=True)
class Shape:
    """What traffic looks like; arrays have one entry per pane.

    Attributes:
        name: for the table.
        rate: bad units of the control.
        units: of both arms together.
        share: of the treatment.
        ratio: rate of the treatment over that of the control.
        burst: mean number of requests in which a bad unit is seen (its retries), 1 for none.
        as_requests: count each of those requests as a unit, as a rule that does not know units does.
    """

    name: str
    rate: FloatArray
    units: FloatArray
    share: FloatArray
    ratio: float = 1.0
    burst: float = 1.0
    as_requests: bool = False

    @property
    def panes(self) -> int:
        """Length of a stream."""
        return len(self.rate)

    @property
    def horizon(self) -> str:
        """Length of a stream in words."""
        return f"{self.panes} panes, {self.units.mean():g} units each"


def flat(name: str, rate: float, units: float, share: float, panes: int = PANES) -> Shape:
    """The same rate, traffic and share throughout."""
    return Shape(name, np.full(panes, rate), np.full(panes, units), np.full(panes, share))


def diurnal(rate: float, units: float, share: float, panes: int = PANES) -> Shape:
    """Two days: traffic moves by 80 %, and the rate by half, out of step with it."""
    day = 2 * np.pi * np.arange(panes) / (panes / 2)
    shape = flat(f"errors {rate:.1%}, daily load", rate, units, share, panes)
    return replace(
        shape,
        rate=rate * (1 + 0.5 * np.sin(day + 1.0)),
        units=units * (1 + 0.8 * np.sin(day)),
    )


def ramp(rate: float, units: float, panes: int = PANES) -> Shape:
    """The share goes from 10 to 50 % while the rate of both arms halves."""
    part = np.linspace(0.0, 1.0, panes)
    shape = flat(f"errors {rate:.1%} halving, ramp", rate, units, 0.1, panes)
    return replace(shape, share=0.1 + 0.4 * part, rate=rate * (1 - 0.5 * part))


def panes(rng: np.random.Generator, shape: Shape, streams: int) -> Iterator[Pane]:
    """The panes of `streams` streams; the split of each pane is drawn unit by unit."""
    worse = np.minimum(shape.rate * shape.ratio, 1.0)
    for rate, rate1, units, share in zip(shape.rate, worse, shape.units, shape.share, strict=True):
        total = rng.poisson(units, streams)
        n1 = rng.binomial(total, share)
        n0 = total - n1
        bad1, bad0 = rng.binomial(n1, rate1), rng.binomial(n0, rate)
        if shape.burst > 1:
            seen1, seen0 = _requests(rng, bad1, shape.burst), _requests(rng, bad0, shape.burst)
            if shape.as_requests:
                n1, n0 = n1 - bad1 + seen1, n0 - bad0 + seen0
                bad1, bad0 = seen1, seen0
        yield Pane(n1, n0, bad1, bad0)


def _requests(rng: np.random.Generator, bad: IntArray, mean: float) -> IntArray:
    """Requests in which so many bad units are seen: a geometric number each."""
    more = rng.negative_binomial(np.maximum(bad, 1), 1.0 / mean)
    return np.asarray(bad + np.where(bad > 0, more, 0), np.int64)
