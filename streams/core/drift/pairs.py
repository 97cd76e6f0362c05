"""Two sets of sketches laid side by side, so that thousands of series are compared at once.

A series is the upper part of a tile's code and its bin the lower 16 bits: for a tile of windows the
series is (slice, metric), for tiles made here it is the position in a list.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..metrics import BIN_BITS
from ..tiles import EMPTY, Tile, tile_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_BIN_MASK = np.uint64((1 << BIN_BITS) - 1)


def tile_of_sketches(sketches: Iterable[tuple[npt.ArrayLike, npt.ArrayLike]]) -> Tile:
    """One tile of several sketches, each (bins, counts); the first is series 0.

    >>> tile_of_sketches([([7, 9], [1, 2]), ([9], [5])]).counts.tolist()
    [1, 2, 5]
    """
    codes, counts = [], []
    for series, (bins, numbers) in enumerate(sketches):
        codes.append(np.asarray(bins, np.uint64) | np.uint64(series << BIN_BITS))
        counts.append(np.asarray(numbers, np.int64))
    return tile_of(np.concatenate(codes), np.concatenate(counts)) if codes else EMPTY


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """The bins that either side of each series uses, in order of (series, bin).

    Attributes:
        series: of the upper parts of codes, ascending, shape (s,).
        starts: first row of each series, shape (s,).
        owner: position of each row's series, shape (r,).
        bins: shape (r,).
        reference, current: counts of each row, shape (r,).
        n_reference, n_current: totals of each series, shape (s,).
    """

    series: npt.NDArray[np.uint64]
    starts: Ints
    owner: Ints
    bins: Ints
    reference: Ints
    current: Ints
    n_reference: Ints
    n_current: Ints

    def __len__(self) -> int:
        return len(self.series)

    def sums(self, values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Sum of a row value over each series, shape (s,)."""
        if not len(self):
            return values[:0]
        return np.asarray(np.add.reduceat(values, self.starts))

    def largest(self, values: Floats) -> Floats:
        """Maximum of a row value over each series, shape (s,)."""
        return np.asarray(np.maximum.reduceat(values, self.starts) if len(self) else values[:0])

    def running(self, counts: Ints) -> Ints:
        """Counts up to and with each row, within its series, shape (r,)."""
        total = np.cumsum(counts)
        before = np.concatenate([np.zeros(1, np.int64), total])[self.starts]
        return np.asarray(total - before[self.owner], np.int64)

    def distance(self) -> Floats:
        """F_reference - F_current at the upper edge of each row's bin, shape (r,)."""
        above = self.running(self.reference) / np.maximum(self.n_reference, 1)[self.owner]
        below = self.running(self.current) / np.maximum(self.n_current, 1)[self.owner]
        return np.asarray(above - below, np.float64)


def pair(reference: Tile, current: Tile) -> Pairs:
    """Lay two tiles side by side. A series that only one of them holds has a total of 0 in the other."""
    codes = np.union1d(reference.codes, current.codes)
    upper = codes >> np.uint64(BIN_BITS)
    series, starts, owner = np.unique(upper, return_index=True, return_inverse=True)
    sides = [np.zeros(len(codes), np.int64), np.zeros(len(codes), np.int64)]
    for side, tile in zip(sides, (reference, current), strict=True):
        side[np.searchsorted(codes, tile.codes)] = tile.counts
    starts = starts.astype(np.int64)
    totals = [
        np.add.reduceat(side, starts) if len(starts) else np.zeros(0, np.int64) for side in sides
    ]
    return Pairs(
        series=series,
        starts=starts,
        owner=owner.astype(np.int64),
        bins=(codes & _BIN_MASK).astype(np.int64),
        reference=sides[0],
        current=sides[1],
        n_reference=totals[0],
        n_current=totals[1],
    )


def quantile_bins(pairs: Pairs, bins: int) -> tuple[Ints, Ints]:
    """Counts in bins of about equal reference mass, made of whole sketch bins.

    A sketch bin goes where the middle of its reference mass falls, so that each bin is off by at
    most half a sketch bin's mass at either end. What lies below or above the whole reference goes
    into the first or last bin.

    Returns:
        Counts of reference and current, shape (s, bins) each.
    """
    cell = _cells(pairs, bins)
    shape = (len(pairs), bins)
    sides = [
        np.bincount(cell, weights=side, minlength=len(pairs) * bins).astype(np.int64).reshape(shape)
        for side in (pairs.reference, pairs.current)
    ]
    return sides[0], sides[1]


def bin_ranges(pairs: Pairs, bins: int) -> Ints:
    """First and last sketch bin with a value in each of `quantile_bins`, shape (s, bins, 2).

    They lead from a bin of PSI to its rows: those whose value falls into these sketch bins. -1 and
    -1 where a bin holds nothing.
    """
    cell = _cells(pairs, bins)
    ranges = np.full((len(pairs) * bins, 2), -1, np.int64)
    starts = np.flatnonzero(np.diff(cell, prepend=-1))
    ends = np.flatnonzero(np.diff(cell, append=-1))
    ranges[cell[starts], 0] = pairs.bins[starts]
    ranges[cell[ends], 1] = pairs.bins[ends]
    return ranges.reshape(len(pairs), bins, 2)


def _cells(pairs: Pairs, bins: int) -> Ints:
    """Position of each row's quantile bin among those of all series, ascending."""
    middle = 2 * pairs.running(pairs.reference) - pairs.reference
    total = 2 * np.maximum(pairs.n_reference, 1)[pairs.owner]
    group = np.minimum(middle * bins // total, bins - 1)
    return np.asarray(pairs.owner * bins + group, np.int64)
