"""Tiles: sparse integer vectors of many slices at once, and their algebra.

A `Tile` holds what happened in one stretch of event time, for all slices: sorted unique codes
`slice << 32 | key` (see metrics.py for keys) and an integer for each. Merging adds, so that any order
and any grouping of merges gives the same tile.

>>> a = tile_of(np.array([5, 3, 5], dtype=np.uint64), np.array([1, 1, 1]))
>>> a.codes.tolist(), a.counts.tolist()
([3, 5], [1, 2])
>>> merge([a, a]).counts.tolist()
[2, 4]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]

SLICE_BITS = 32
KEY_MASK = np.uint64((1 << SLICE_BITS) - 1)

SECOND_US = 1_000_000
CELL_S = 1
PANE_S = 10
TIERS_S = (PANE_S, 60, 3600, 86400)


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Where a tile lies: its length and start in whole seconds of event time."""

    length_s: int
    start_s: int

    @property
    def end_s(self) -> int:
        """First second after it."""
        return self.start_s + self.length_s

    def parent(self, length_s: int) -> Span:
        """The longer tile that holds this one."""
        return Span(length_s, self.start_s // length_s * length_s)


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """Sorted unique codes, shape (n,), and their counts, shape (n,), none zero."""

    codes: Codes
    counts: Counts

    def __len__(self) -> int:
        return len(self.codes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tile):
            return NotImplemented
        return np.array_equal(self.codes, other.codes) and np.array_equal(self.counts, other.counts)

    @property
    def slices(self) -> npt.NDArray[np.int64]:
        """Slice of each code, ascending."""
        return (self.codes >> np.uint64(SLICE_BITS)).astype(np.int64)

    @property
    def keys(self) -> npt.NDArray[np.uint32]:
        """Key of each code."""
        return (self.codes & KEY_MASK).astype(np.uint32)

    def by_slice(self) -> Iterator[tuple[int, npt.NDArray[np.uint32], Counts]]:
        """Each slice with its ascending keys and counts."""
        slices, starts = np.unique(self.slices, return_index=True)
        ends = [*starts[1:].tolist(), len(self)]
        keys = self.keys
        for number, low, high in zip(slices.tolist(), starts.tolist(), ends, strict=True):
            yield number, keys[low:high], self.counts[low:high]

    def only(self, slices: npt.NDArray[np.int64]) -> Tile:
        """The part that belongs to some slices."""
        keep = np.isin(self.slices, slices)
        return Tile(self.codes[keep], self.counts[keep])


EMPTY = Tile(np.empty(0, np.uint64), np.empty(0, np.int64))


def tile_of(codes: Codes, counts: Counts) -> Tile:
    """The tile of unsorted, repeated codes; what adds up to zero is left out."""
    if len(codes) == 0:
        return EMPTY
    order = np.argsort(codes, kind="stable")
    codes, counts = codes[order], counts[order]
    first = np.empty(len(codes), bool)
    first[0] = True
    np.not_equal(codes[1:], codes[:-1], out=first[1:])
    starts = np.flatnonzero(first)
    sums = np.add.reduceat(counts, starts)
    keep = sums != 0
    return Tile(codes[starts[keep]], sums[keep])


def merge(tiles: Iterable[Tile]) -> Tile:
    """The sum of tiles."""
    some = [tile for tile in tiles if len(tile)]
    if not some:
        return EMPTY
    if len(some) == 1:
        return some[0]
    return tile_of(
        np.concatenate([tile.codes for tile in some]),
        np.concatenate([tile.counts for tile in some]),
    )


def cover(start_s: int, end_s: int, tiers_s: Sequence[int] = TIERS_S) -> list[Span]:
    """The fewest aligned tiles that fill [start_s, end_s) exactly.

    Raises:
        ValueError: an end is not a multiple of the shortest tier.

    >>> [(s.length_s, s.start_s) for s in cover(50, 130)]
    [(10, 50), (60, 60), (10, 120)]
    """
    shortest = tiers_s[0]
    if start_s % shortest or end_s % shortest:
        raise ValueError(f"window [{start_s}, {end_s}) is not aligned to {shortest} s")
    spans = []
    while start_s < end_s:
        length = max(t for t in tiers_s if start_s % t == 0 and start_s + t <= end_s)
        spans.append(Span(length, start_s))
        start_s += length
    return spans
