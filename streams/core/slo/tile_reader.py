"""Reads the two integers of many objectives off a tile at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..slices import Slice, SliceRegistry
from ..tiles import SLICE_BITS, Tile
from .readings import Reading

Ints = npt.NDArray[np.int64]
_NOWHERE = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


class TileReader:
    """Finds every counter that some objective needs with one search.

    Args:
        readings: what is read, and the slice it is read from where a term names none; at least one.
        registry: numbers the slices of the tiles.
    """

    def __init__(self, readings: Sequence[tuple[Slice, Reading]], registry: SliceRegistry) -> None:
        places: dict[tuple[Slice, int], int] = {}
        sums: list[tuple[int, int, int]] = []
        for number, (home, reading) in enumerate(readings):
            for side, terms in enumerate((reading.left, reading.right)):
                for term in terms:
                    place = (term.slice or home, term.key)
                    at = places.setdefault(place, len(places))
                    sums.append((2 * number + side, at, term.weight))
        self._registry = registry
        self._known = 0
        self._places = list(places)
        self._codes = np.full(len(places), _NOWHERE)
        self._size = len(readings)
        self._rows, self._at, self._weights = (
            np.array(column, np.int64) for column in zip(*sums, strict=True)
        )

    def read(self, tile: Tile) -> Ints:
        """Left and right integer of each reading, shape (readings, 2)."""
        read = np.zeros(2 * self._size, np.int64)
        if len(tile) == 0:
            return read.reshape(-1, 2)
        if len(self._registry.slices) > self._known:
            self._find_slices()
        at = np.minimum(np.searchsorted(tile.codes, self._codes), len(tile) - 1)
        values = np.where(tile.codes[at] == self._codes, tile.counts[at], 0)
        np.add.at(read, self._rows, self._weights * values[self._at])
        return read.reshape(-1, 2)

    def _find_slices(self) -> None:
        """Look up slices that were not met before; numbers that are known never change."""
        self._known = len(self._registry.slices)
        missing = {
            place for at, (place, _) in enumerate(self._places) if self._codes[at] == _NOWHERE
        }
        heads = {place: self._number(place) for place in missing}
        for at, (place, key) in enumerate(self._places):
            number = heads.get(place)
            if number is not None:
                self._codes[at] = np.uint64(number << SLICE_BITS | key)

    def _number(self, place: Slice) -> int | None:
        given = {name: value for name, value in place.dimensions().items() if value}
        found = [
            number
            for number in self._registry.matching(place.grouping, given).tolist()
            if self._registry.slices[number] == place
        ]
        return found[0] if found else None
