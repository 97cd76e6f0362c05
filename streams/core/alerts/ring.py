"""The newest closed cells, as far as rules read them, and their sums over the last seconds."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np

from ..tiles import KEY_MASK, Span, Tile, merge

LONGEST_S = 300  # longest window that is summed from cells
_KEEP_S = 2 * LONGEST_S  # what leaves a window is still subtracted from its last sum


class CellRing:
    """Closed 1 s cells. They never change once they closed, so a repeated one is passed over.

    Args:
        keys: of the counters that are asked for; only these are held. None for all.

    >>> import numpy as np
    >>> from ..tiles import tile_of
    >>> one = tile_of(np.array([7], np.uint64), np.array([1]))
    >>> ring = CellRing()
    >>> ring.put([(Span(1, second), one) for second in range(100)])
    >>> ring.total(60, 100).counts.tolist(), ring.total(60, 130).counts.tolist()
    ([60], [30])
    """

    def __init__(self, keys: Collection[int] | None = None) -> None:
        self._keys = None if keys is None else np.array(sorted(keys), np.uint64)
        self._cells: dict[int, Tile] = {}
        self._sums: dict[int, tuple[int, Tile]] = {}

    def put(self, cells: Iterable[tuple[Span, Tile]]) -> None:
        """Hold cells. All of a second must be here before a sum over it is asked for."""
        for span, tile in cells:
            if span.end_s not in self._cells:
                self._cells[span.end_s] = self._read_of(tile)

    def total(self, length_s: int, end_s: int) -> Tile:
        """The sum over [end_s - length_s, end_s): what entered since the last one, less what left."""
        known_s, known = self._sums.get(length_s, (-1, None))
        if known is None or not 0 <= end_s - known_s < length_s:
            total = merge(self._between(end_s - length_s, end_s))
        else:
            left = self._between(known_s - length_s, end_s - length_s)
            total = merge(
                [
                    known,
                    *self._between(known_s, end_s),
                    *(Tile(tile.codes, -tile.counts) for tile in left),
                ]
            )
        self._sums[length_s] = end_s, total
        return total

    def trim(self, closed_s: int) -> None:
        """Let go of what no window that ends at or after `closed_s` needs."""
        for end_s in [end_s for end_s in self._cells if end_s <= closed_s - _KEEP_S]:
            del self._cells[end_s]

    def _read_of(self, tile: Tile) -> Tile:
        if self._keys is None:
            return tile
        here = np.isin(tile.codes & KEY_MASK, self._keys)
        return Tile(tile.codes[here], tile.counts[here])

    def _between(self, start_s: int, end_s: int) -> list[Tile]:
        ends = range(start_s + 1, end_s + 1)
        return [self._cells[end] for end in ends if end in self._cells]
