"""A run as series of numbers, and the blocks it is cut into."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import stats

from .....schemas.gates.offline import SeriesMetric
from ..dependence import TIMES, autocorrelation_time
from ..eprocess import FloatArray

IntArray = npt.NDArray[np.int64]

TOOK = "took_ms"
"""What the time between steps is called beside the series."""
_LARGEST_PHI = 0.98
_PARTS = 4


@dataclass(frozen=True, slots=True)
class Run:
    """What a benchmark or a training run measured, in the order of time.

    Attributes:
        series: name -> values, float64, NaN where a step or request did not measure it; all of one
            shape (N,).
        took_ms: wall-clock time that each of them took, shape (N,); None if unknown.
        expected: how many there should be; None if the file does not say.
        failed: how many of them failed, beside those in `series`.
        conditions: what the run was made under: model, concurrency, request rate, ...
        summaries: numbers of the whole run that no block is behind: told, never tested.
    """

    series: Mapping[str, FloatArray]
    took_ms: FloatArray | None = None
    expected: int | None = None
    failed: int = 0
    conditions: Mapping[str, str] = field(default_factory=dict)
    summaries: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return max((len(values) for values in self.series.values()), default=0)

    @property
    def missing(self) -> int:
        """Steps or requests that failed or never came."""
        return max((self.expected or 0) - len(self), self.failed, 0)

    def timing(self, name: str) -> FloatArray:
        """A series of times, or `took_ms`; empty if the run has none."""
        found = self.took_ms if name == TOOK else self.series.get(name)
        return np.empty(0) if found is None else found


@dataclass(frozen=True, slots=True)
class Blocks:
    """One series cut into blocks: the units of a test.

    Attributes:
        values: the statistic of each block, shape (B,).
        length: values of a block; the last one also has what was left over.
        measured: values that were there.
        phi: lag-1 autocorrelation of the values, 0 where it is within noise.
    """

    values: FloatArray
    length: int
    measured: int
    phi: float


def blocks_of(
    run: Run, metric: SeriesMetric, warmup: int = 0, length: int | None = None
) -> Blocks | None:
    """The blocks of a metric; None if the run has no such series.

    Values that were not measured are left out before. What is left over at the end goes into the
    last block: the last step of a benchmark is the one that stalls.
    """
    found = run.series.get(metric.metric)
    per_s = metric.statistic == "per_s"
    if found is None or (per_s and run.took_ms is None):
        return None
    values = found[warmup:]
    there = np.isfinite(values)
    took_ms = run.took_ms[warmup:][there] if per_s and run.took_ms is not None else None
    values = values[there]
    if not values.size:
        return None
    phi = autocorrelation(values if took_ms is None else took_ms)
    size = length or block_length(phi)
    starts = np.arange(max(values.size // size, 1), dtype=np.int64) * size
    return Blocks(_statistics(values, took_ms, starts, metric.statistic), size, values.size, phi)


def _statistics(
    values: FloatArray, took_ms: FloatArray | None, starts: IntArray, statistic: str
) -> FloatArray:
    if took_ms is not None:
        sums = np.add.reduceat(values, starts)
        return np.asarray(1000.0 * sums / np.add.reduceat(took_ms, starts), np.float64)
    parts = np.split(values, starts[1:])
    if statistic == "mean":
        return np.array([part.mean() for part in parts])
    q = 0.5 if statistic == "median" else float(statistic[1:]) / 100.0
    return np.array([np.quantile(part, q, method="higher") for part in parts])


def autocorrelation(values: FloatArray) -> float:
    """Lag-1 autocorrelation of the ranks, so that a few outliers do not hide it.

    Each quarter is taken against its own mean: a change of level is what gates look for, and not
    dependence. Within two standard errors of none it is 0: blocks need not be longer for noise.
    """
    if values.size < 3 or values.min() == values.max():
        return 0.0
    ranks = stats.rankdata(values)
    parts = [part - part.mean() for part in np.array_split(ranks, _PARTS) if part.size]
    product = sum(float(part[:-1] @ part[1:]) for part in parts)
    phi = product / max(sum(float(part @ part) for part in parts), 1e-300)
    return min(phi, _LARGEST_PHI) if phi > 2.0 / math.sqrt(values.size) else 0.0


def block_length(phi: float) -> int:
    """Values of a block: ten autocorrelation times.

    >>> block_length(0.0), block_length(0.9)
    (10, 190)
    """
    return math.ceil(round(TIMES * autocorrelation_time(phi), 6))
