"""The pure pipeline: applied rows in, closed tiles and windows out. Event time and the store's tiles
come in as arguments, so that the embedded runner, the stream processors and the tests share it.

A pane is open until the watermark passes its end. Open panes are kept by combination, closed ones by
slice. A row that comes later amends its pane and the roll-ups above it at once. The newest row of every
window is written again when the next pane closes, and the rows up to `AMEND_S` back once a minute of
event time, because there are many of them. The 1 s cells stay as they closed, because verdicts were read off
them: a late row counts in the cell that closes next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from . import metrics as m
from .fleet import Fleet
from .history import History, Load
from .slices import CELL_GROUPINGS, COVERAGE, Combos
from .tiles import CELL_S, PANE_S, SECOND_US, SLICE_BITS, TIERS_S, Span, Tile, merge, tile_of
from .windows import WINDOWS, Column, Ints, rows_of, tick_s

AMEND_S = 600  # how far back stored windows are rewritten when late rows come
REWRITE_S = 60  # and how often
CATCH_UP_TICKS = 400  # after a long silence, so many of the newest ticks are written

CoverageChange = Mapping[tuple[int, int], int]


@dataclass(frozen=True, slots=True)
class WindowRows:
    """One window of every slice: the slices, shape (s,), and the columns, each of shape (s,)."""

    length_s: int
    end_s: int
    slices: Ints
    columns: Mapping[str, Column]


@dataclass(slots=True)
class Closing:
    """What one move of the watermark brought about, to be stored."""

    cells: list[tuple[Span, Tile]] = field(default_factory=list)
    tiles: dict[Span, Tile] = field(default_factory=dict)
    windows: list[WindowRows] = field(default_factory=list)

    @property
    def anything(self) -> bool:
        """Whether there is something to store."""
        return bool(self.cells or self.tiles or self.windows)


class Pipeline:
    """Tiles and windows of one shard.

    Args:
        combos: its slices.
        fleet: the boots of all processors.
        load: fetches stored tiles, numbered by the registry of `combos`.
        cell_groupings: the grouping sets that cells are kept by.
    """

    def __init__(
        self,
        combos: Combos,
        fleet: Fleet,
        load: Load,
        cell_groupings: Sequence[str] = CELL_GROUPINGS,
    ) -> None:
        self.combos = combos
        self.fleet = fleet
        self.cell_groupings = cell_groupings
        self.history = History(load)
        self._open: dict[Span, list[Tile]] = {}  # by combination
        self._late: list[Tile] = []  # of closed cells, by combination
        self._coverage: dict[Span, list[Tile]] = {}  # by slice
        self._amended: dict[Span, list[Tile]] = {}  # by slice
        self._replaced: dict[Span, Tile] = {}  # by slice
        self.stale: tuple[int, int] | None = None  # amended, and its window rows not yet rewritten
        self.stalled = False  # what closes lacks a source
        self.closed_s: int | None = None  # every cell that ends at or before it is closed

    @property
    def waiting(self) -> bool:
        """Whether late rows wait for a cell to close: what is published does not hold them yet."""
        return bool(self._late)

    @property
    def closed_pane_s(self) -> int | None:
        """Every pane that ends at or before it is closed."""
        return None if self.closed_s is None else self.closed_s // PANE_S * PANE_S

    def count(self, placed: Mapping[Span, Tile]) -> None:
        """Take in what rows add, by combination, as `tally.place` gives it."""
        for span, tile in placed.items():
            if span.length_s == CELL_S:
                if self.closed_s is None or span.end_s > self.closed_s:
                    self._keep(self._open, span, tile)
                else:
                    self._late.append(tile)
            elif self._is_open(span):
                self._keep(self._open, span, tile)
            else:
                self._amended.setdefault(span, []).append(self.combos.project(tile))

    def cover(self, change: CoverageChange) -> None:
        """Take in the fleet's coverage counters: (pane start in s, metric) -> integer."""
        by_pane: dict[int, list[tuple[int, int]]] = {}
        for (start_s, metric), value in change.items():
            if value:
                by_pane.setdefault(start_s, []).append((metric, value))
        for start_s, values in by_pane.items():
            codes = np.array(
                [COVERAGE << SLICE_BITS | m.key(metric) for metric, _ in values], np.uint64
            )
            tile = tile_of(codes, np.array([value for _, value in values], np.int64))
            span = Span(PANE_S, start_s)
            target = self._coverage if self._is_open(span) else self._amended
            target.setdefault(span, []).append(tile)

    def resume(
        self, closed_s: int, oldest_s: int | None, stale: tuple[int, int] | None = None
    ) -> None:
        """Go on after a restart: what was closed, the earliest stored pane, and `stale` as it was."""
        self.closed_s = closed_s
        self.stale = stale
        self.history.oldest_s = oldest_s
        self.history.fresh_s = closed_s // PANE_S * PANE_S

    def replace(self, pane: Span, tile: Tile) -> None:
        """Put a closed pane that was counted again in place of the stored one."""
        self._replaced[pane] = tile

    def drain(self, pane: Span) -> Tile:
        """Take an open pane out, as slices."""
        rows = self.combos.project(merge(self._open.pop(pane, [])))
        return merge([rows, *self._coverage.pop(pane, [])])

    def close(self, watermark_us: int, final: bool = False) -> Closing:
        """Close what the watermark passed.

        Args:
            watermark_us: event time up to which everything is taken as complete.
            final: write everything that late rows changed now, because no later call may come.
        """
        watermark_s = watermark_us // SECOND_US
        closing = Closing()
        if watermark_s <= 0:
            return closing
        before_s = self._start() if self.closed_s is None else self.closed_s
        if before_s is None:
            return closing
        if self.closed_s is None:
            self.history.fresh_s = before_s
        self.closed_s = max(before_s, watermark_s)
        if self.closed_s > before_s:
            self._close_cells(closing)
        first_pane_s, last_pane_s = before_s // PANE_S * PANE_S, self.closed_s // PANE_S * PANE_S
        self._close_panes(closing, first_pane_s, last_pane_s)
        self._amend(closing)
        amended = self.stale is not None and (final or last_pane_s > first_pane_s)
        rewrite = None
        if final or last_pane_s // REWRITE_S > first_pane_s // REWRITE_S:
            rewrite, self.stale = self.stale, None
        self._evaluate(closing, first_pane_s, last_pane_s, amended, rewrite)
        return closing

    def stored(self) -> None:
        """Say that everything `close` returned is stored."""
        self.history.trim()

    def _start(self) -> int | None:
        starts = [span.start_s for span in (*self._open, *self._coverage)]
        return min(starts) // PANE_S * PANE_S if starts else None

    def _is_open(self, span: Span) -> bool:
        closed = self.closed_pane_s
        return closed is None or span.end_s > closed

    def _keep(self, where: dict[Span, list[Tile]], span: Span, tile: Tile) -> None:
        parts = where.setdefault(span, [])
        parts.append(tile)
        if len(parts) >= 64:
            where[span] = [merge(parts)]

    def _close_cells(self, closing: Closing) -> None:
        assert self.closed_s is not None
        if self._late:
            self._open.setdefault(Span(CELL_S, self.closed_s - 1), []).extend(self._late)
            self._late.clear()
        done = [s for s in self._open if s.length_s == CELL_S and s.end_s <= self.closed_s]
        for span in sorted(done):
            tile = self.combos.project(merge(self._open.pop(span)), self.cell_groupings)
            closing.cells.append((span, tile))

    def _close_panes(self, closing: Closing, first_s: int, last_s: int) -> None:
        """Close 10 s panes, then every longer tile whose end was passed."""
        done = {s for s in (*self._open, *self._coverage) if s.length_s == PANE_S}
        for span in sorted(s for s in done if s.end_s <= last_s):
            self._put(closing, span, self.drain(span))
        panes = list(closing.tiles)
        for length_s in TIERS_S[1:]:
            # What ended holds a pane that closed just now, or began before the last close.
            spans = {pane.parent(length_s) for pane in panes} | {
                Span(PANE_S, first_s).parent(length_s)
            }
            for span in sorted(span for span in spans if span.end_s <= last_s):
                self._put(closing, span, self.history.rolled_up(span))

    def _put(self, closing: Closing, span: Span, tile: Tile) -> None:
        self.history.put(span, tile)
        if len(tile):
            closing.tiles[span] = tile

    def _amend(self, closing: Closing) -> None:
        """Add late rows to closed tiles of every tier."""
        if not self._amended and not self._replaced:
            return
        assert self.closed_s is not None
        closed_pane_s = self.closed_s // PANE_S * PANE_S
        touched = (*self._amended, *self._replaced)
        low, high = self.stale or (min(touched).start_s, max(touched).end_s)
        self.stale = min(low, min(touched).start_s), max(high, max(touched).end_s)
        self._recount(closing, closed_pane_s)
        changes: dict[Span, list[Tile]] = {}
        for pane, parts in self._amended.items():
            self.history.amended(pane, merge(parts))
            for length_s in TIERS_S:
                span = pane.parent(length_s)
                # A tile that closed in this very call was rolled up from panes not amended yet.
                if span.end_s <= closed_pane_s:
                    changes.setdefault(span, []).extend(parts)
        for span, tile in zip(changes, self.history.get(list(changes)), strict=True):
            amended = merge([tile, *changes[span]])
            self.history.put(span, amended)
            closing.tiles[span] = amended
        self._amended.clear()

    def _recount(self, closing: Closing, closed_pane_s: int) -> None:
        """Put recounted panes in, and roll up anew what holds them."""
        if self._replaced:
            self.history.recounted()
        for pane, tile in self._replaced.items():
            self.history.put(pane, tile)
            closing.tiles[pane] = tile
        for length_s in TIERS_S[1:]:
            for span in sorted({pane.parent(length_s) for pane in self._replaced}):
                if span.end_s <= closed_pane_s:
                    closing.tiles[span] = self.history.rolled_up(span)
                    self.history.put(span, closing.tiles[span])
        self._replaced.clear()

    def _evaluate(
        self,
        closing: Closing,
        first_s: int,
        last_s: int,
        amended: bool,
        rewrite: tuple[int, int] | None,
    ) -> None:
        """Windows at each tick that closed, the newest one again where late rows came since, and
        older ones again within `rewrite`.
        """
        for length_s in WINDOWS.values():
            tick = tick_s(length_s)
            after = max(first_s, last_s - CATCH_UP_TICKS * tick)
            ends = set(range(after // tick * tick + tick, last_s + 1, tick))
            if amended:
                ends.add(last_s // tick * tick)
            if rewrite:
                low = max(rewrite[0] + 1, last_s - AMEND_S)
                high = min(last_s, rewrite[1] + length_s)
                ends |= set(range(-(-low // tick) * tick, high + 1, tick))
            for end_s in sorted(ends):
                closing.windows.append(self.window(length_s, end_s))

    def window(self, length_s: int, end_s: int, slices: Ints | None = None) -> WindowRows:
        """One window of every slice, or of some; it must be closed."""
        tile = self.history.total(end_s - length_s, end_s)
        if slices is not None:
            tile = tile.only(slices)
        start_us, end_us = (end_s - length_s) * SECOND_US, end_s * SECOND_US
        present, columns = rows_of(
            tile,
            length_s,
            self.fleet.workers(end_us - PANE_S * SECOND_US, end_us),
            self.stalled or self.fleet.any_vanished(start_us, end_us),
        )
        return WindowRows(length_s, end_s, present, columns)


def matching(tile: Tile, slices: Ints) -> Tile:
    """The sum over some slices of a tile, as one slice numbered 0."""
    part = tile.only(slices)
    return tile_of(part.codes & np.uint64((1 << SLICE_BITS) - 1), part.counts)


def keep_only(cells: Iterable[tuple[Span, Tile]], slices: Ints) -> Sequence[tuple[Span, Tile]]:
    """Cells reduced to some slices, each as one slice numbered 0; empty ones are left out."""
    reduced = [(span, matching(tile, slices)) for span, tile in cells]
    return [(span, tile) for span, tile in reduced if len(tile)]
