"""Closed tiles: a bounded memory in front of the store, and sums over any stretch of event time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from .tiles import EMPTY, TIERS_S, Span, Tile, cover, merge

HOUR_S = 3600
SUMS = (
    16  # sums of whole hours that are remembered: one for each long window, and room for rewrites
)

Load = Callable[[Sequence[Span]], Mapping[Span, Tile]]
"""Fetches stored tiles; a span that is not stored is left out."""


class History:
    """Every closed tile, as far as it is kept.

    Args:
        load: fetches what memory does not hold.
        capacity: integers kept in memory (16 bytes each); the least recently used go first.
    """

    def __init__(self, load: Load, capacity: int = 8_000_000) -> None:
        self._load = load
        self._capacity = capacity
        self._held: OrderedDict[Span, Tile] = OrderedDict()
        self._size = 0
        self._evicted: set[Span] = set()
        self._sums: OrderedDict[tuple[int, int], Tile] = OrderedDict()
        self.oldest_s: int | None = None
        self.fresh_s: int | None = None  # what starts at or after it was put here, or is empty

    def put(self, span: Span, tile: Tile) -> None:
        """Hold a closed tile, replacing what was held for its span."""
        self._size += len(tile) + 8 - (len(self._held.pop(span)) + 8 if span in self._held else 0)
        self._held[span] = tile
        if len(tile) and (self.oldest_s is None or span.start_s < self.oldest_s):
            self.oldest_s = span.start_s

    def trim(self) -> None:
        """Let go of what is over capacity; call when everything that was put is stored."""
        while self._size > self._capacity and len(self._held) > 1:
            span, tile = self._held.popitem(last=False)
            self._size -= len(tile) + 8
            if len(tile):
                self._evicted.add(span)

    def get(self, spans: Sequence[Span]) -> list[Tile]:
        """The tiles of closed spans, empty where nothing happened."""
        absent = [span for span in spans if span not in self._held and self._may_be_stored(span)]
        if absent:
            loaded = self._load(absent)
            for span in absent:
                self.put(span, loaded.get(span, EMPTY))
        found = []
        for span in spans:
            if span in self._held:
                self._held.move_to_end(span)
            found.append(self._held.get(span, EMPTY))
        return found

    def _may_be_stored(self, span: Span) -> bool:
        if self.oldest_s is None or span.end_s <= self.oldest_s:
            return False
        return self.fresh_s is None or span.start_s < self.fresh_s or span in self._evicted

    def total(self, start_s: int, end_s: int) -> Tile:
        """The sum over [start_s, end_s), which must be closed and aligned to panes.

        The whole hours within are summed once and remembered: of a long window only the edges move
        from tick to tick.
        """
        if self.oldest_s is not None:
            start_s = max(start_s, self.oldest_s)
        low_s, high_s = -(-start_s // HOUR_S) * HOUR_S, end_s // HOUR_S * HOUR_S
        if high_s - low_s < 2 * HOUR_S:
            return merge(self.get(cover(start_s, end_s))) if start_s < end_s else EMPTY
        edges = [*cover(start_s, low_s), *cover(high_s, end_s)]
        return merge([self._hours(low_s, high_s), *self.get(edges)])

    def _hours(self, low_s: int, high_s: int) -> Tile:
        known = self._sums.get((low_s, high_s))
        if known is None:
            known = self._sums[low_s, high_s] = merge(self.get(cover(low_s, high_s)))
            if len(self._sums) > SUMS:
                self._sums.popitem(last=False)
        else:
            self._sums.move_to_end((low_s, high_s))
        return known

    def amended(self, pane: Span, change: Tile) -> None:
        """Add what late rows changed in a closed pane to the remembered sums."""
        for (low_s, high_s), tile in self._sums.items():
            if low_s <= pane.start_s < high_s:
                self._sums[low_s, high_s] = merge([tile, change])

    def recounted(self) -> None:
        """Forget the remembered sums: closed panes were replaced."""
        self._sums.clear()

    def rolled_up(self, span: Span) -> Tile:
        """A longer tile as the sum of the tiles one tier below."""
        child = TIERS_S[TIERS_S.index(span.length_s) - 1]
        return merge(self.get([Span(child, at) for at in range(span.start_s, span.end_s, child)]))
