"""Audit of tiles: closed panes and cells against a recount of the raw rows, an hour at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..core.delta import Source
from ..core.metrics import CostScore, Threshold
from ..core.shards import owner
from ..core.slices import CELL_GROUPINGS, COVERAGE, DIMENSIONS
from ..core.tiles import CELL_S, EMPTY, KEY_MASK, PANE_S, SECOND_US, SLICE_BITS, Span, Tile, merge
from ..storage.counter import coverage_of
from ..storage.readback import ledger_between, panes_touched
from ..storage.recovery import PANES_KEPT_S
from ..storage.store import Store
from .algebra import (
    configured,
    covered,
    key_name,
    numbers,
    plain,
    slice_name,
    stored_tiles,
    value_at,
    where,
)
from .recount import HOUR_S, MINUTE_S, Recount
from .report import Checkpoint, Report, Scope, at
from .windows import Windows

_CELLS_KEPT_S = 6 * HOUR_S - 600
_ROLLED_S = (HOUR_S, 86_400)
_SOME = 4  # differing numbers that a finding lists
Cuts = tuple[tuple[Source, int], ...]


class TileAudit:
    """Recounts rows and compares; one pass over event time.

    Args:
        store: to read.
        counters: that the configuration asks for.
        scope: what is looked at.
        report: takes the findings.
        windows: told of every recounted pane.
        recount: counts rows.
    """

    def __init__(
        self,
        store: Store,
        counters: Sequence[Threshold | CostScore],
        scope: Scope,
        report: Report,
        windows: Windows,
        recount: Recount,
    ) -> None:
        self._store = store
        self._known = np.array([counter.number for counter in counters], np.int64)
        self._scope = scope
        self._report = report
        self._windows = windows
        self._recount = recount
        self._registry = recount.combos.registry
        self._low_s = scope.low_us // SECOND_US // HOUR_S * HOUR_S
        self._groups: dict[Cuts, list[Checkpoint]] = {}
        for checkpoint in scope.checkpoints.values():
            self._groups.setdefault(tuple(sorted(checkpoint.cuts.items())), []).append(checkpoint)
        self._touched = {
            cuts: panes_touched(store, dict(cuts), scope.cuts, max(c.closed_s for c in checkpoints))
            for cuts, checkpoints in self._groups.items()
        }
        self._rolled: dict[tuple[int, Span], list[Tile]] = {}
        self._children: dict[tuple[int, Span], list[Tile]] = {}
        self._cells: dict[int, list[Tile]] = {}
        last_s = max((c.closed_s for c in scope.checkpoints.values()), default=0)
        self._hours = recount.busy_hours(self._low_s, last_s)
        (row,) = store.query(
            "SELECT count() AS n, toUnixTimestamp(min(pane_start)) AS oldest_s"
            " FROM penstock.panes_rows WHERE pane_s >= 10"
        )
        self.oldest_s = int(row["oldest_s"]) if int(row["n"]) else None

    def run(self) -> None:
        """Look at everything.

        Raises:
            StoreError: the store is away or refuses.
        """
        for position, hour_s in enumerate(self._hours):
            for start_s, end_s in self._recount.chunks(hour_s):
                self._chunk(start_s, end_s)
            self._roll(hour_s + HOUR_S)
            rows, panes = self._recount.rows, self._report.checked["panes"]
            self._report.checked["rows counted"] = rows
            done = f"hour {position + 1} of {len(self._hours)}, from {at(hour_s)}"
            self._report.say(f"{done}: {rows} rows counted, {panes} panes compared")
        self._roll(None)
        self._check_cells()
        for cuts, touched in self._touched.items():
            if touched and cuts != tuple(sorted(self._scope.cuts.items())):
                self._report.note(f"{len(touched)} panes hold rows above a checkpoint's cuts")

    def touched(self) -> dict[int, set[int]]:
        """Panes that hold rows above the cuts of the shard's checkpoint, by shard."""
        return {c.shard: self._touched[cuts] for cuts, group in self._groups.items() for c in group}

    def _chunk(self, start_s: int, end_s: int) -> None:
        stored = self._stored(start_s, end_s, (PANE_S, MINUTE_S))
        for cuts, checkpoints in self._groups.items():
            panes, cells = self._recount.tiles(start_s, end_s, dict(cuts))
            known = coverage_of(ledger_between(self._store, start_s, end_s, dict(cuts)))
            for checkpoint in checkpoints:
                mine = self._mine(checkpoint)
                told = covered(known, checkpoint.losses, start_s, end_s)
                wanted = {
                    span: merge([panes.get(span, EMPTY).only(mine), told.get(span, EMPTY)])
                    for span in panes.keys() | told.keys()
                    if span.end_s <= checkpoint.pane_s
                }
                closed = [
                    tile.only(mine) for span, tile in cells if span.end_s <= checkpoint.closed_s
                ]
                self._cells[checkpoint.shard] = [
                    merge([*self._cells.get(checkpoint.shard, ()), *closed])
                ]
                self._windows.add(checkpoint.shard, wanted)
                touched = self._touched[cuts]
                self._compare_chunk(checkpoint, wanted, stored.get(checkpoint.shard, {}), touched)

    def _mine(self, checkpoint: Checkpoint) -> npt.NDArray[np.int64]:
        takes = owner(checkpoint.shard, self._scope.shards)
        slices = self._registry.slices
        return np.array(
            [n for n, one in enumerate(slices) if n != COVERAGE and takes(one)], np.int64
        )

    def _stored(
        self, start_s: int, end_s: int, tiers_s: Sequence[int]
    ) -> dict[int, dict[Span, tuple[Tile, int]]]:
        """Published tiles: shard -> span -> the tile and its highest version."""
        table = self._store.arrow(
            "SELECT partition, version, pane_s, toUnixTimestamp(pane_start) AS start_s, grouping,"
            f" {', '.join(DIMENSIONS)}, keys, counts FROM penstock.panes"
            f" WHERE pane_s IN {tuple(tiers_s)} AND pane_start >= toDateTime({start_s})"
            f" AND pane_start < toDateTime({end_s})"
        )
        return stored_tiles(table, self._registry)

    def _compare_chunk(
        self,
        checkpoint: Checkpoint,
        wanted: Mapping[Span, Tile],
        stored: Mapping[Span, tuple[Tile, int]],
        touched: set[int],
    ) -> None:
        """Panes of 10 s and of a minute; longer ones are added up for later."""
        minutes: dict[Span, list[Tile]] = {}
        children: dict[Span, list[Tile]] = {}
        for span, tile in wanted.items():
            minutes.setdefault(span.parent(MINUTE_S), []).append(tile)
        for span, (tile, _) in stored.items():
            if span.length_s == PANE_S:
                children.setdefault(span.parent(MINUTE_S), []).append(configured(tile))
        kept_s = self._scope.now_us // SECOND_US - PANES_KEPT_S
        for span in sorted(wanted.keys() | {s for s in stored if s.length_s == PANE_S}):
            if span.start_s >= kept_s:
                self._compare(checkpoint, span, wanted.get(span, EMPTY), stored, touched, None)
        for span in sorted(minutes.keys() | {s for s in stored if s.length_s == MINUTE_S}):
            tile = merge(minutes.get(span, ()))
            below = merge(children.get(span, ())) if span.start_s >= kept_s else None
            self._compare(checkpoint, span, tile, stored, touched, below)
            published = stored.get(span, (EMPTY, 0))[0]
            for length_s in _ROLLED_S:
                key = checkpoint.shard, span.parent(length_s)
                self._rolled.setdefault(key, []).append(tile)
                self._children.setdefault(key, []).append(configured(published))

    def _roll(self, upto_s: int | None) -> None:
        """Compare hours and days that end at or before a time, and forget them."""
        for shard, span in sorted(self._rolled):
            if upto_s is not None and span.end_s > upto_s:
                self._rolled[shard, span] = [merge(self._rolled[shard, span])]
                self._children[shard, span] = [merge(self._children[shard, span])]
                continue
            tile = merge(self._rolled.pop((shard, span)))
            below = merge(self._children.pop((shard, span)))
            checkpoint = self._scope.checkpoints[shard]
            if span.start_s >= self._low_s:
                stored = self._stored(span.start_s, span.start_s + 1, [span.length_s])
                touched = self._touched[tuple(sorted(checkpoint.cuts.items()))]
                self._compare(checkpoint, span, tile, stored.get(shard, {}), touched, below)

    def _compare(
        self,
        checkpoint: Checkpoint,
        span: Span,
        wanted: Tile,
        stored: Mapping[Span, tuple[Tile, int]],
        touched: set[int],
        below: Tile | None,
    ) -> None:
        """One tile; its counters of gates against `below`, where rows do not tell what was asked for."""
        if span.end_s > checkpoint.pane_s:
            return
        found, version = stored.get(span, (EMPTY, 0))
        self._report.checked["panes"] += 1
        if version > checkpoint.version:
            self._report.checked["panes written meanwhile"] += 1
            return
        expected = merge([plain(wanted), self._asked(wanted, found, span, below)])
        if expected == found:
            return
        if any(span.start_s <= pane < span.end_s for pane in touched):
            self._report.checked["panes with rows above a checkpoint"] += 1
            return
        self._differ(
            "panes", f"{span.length_s} s pane at {at(span.start_s)}", checkpoint, expected, found
        )

    def _asked(self, wanted: Tile, found: Tile, span: Span, below: Tile | None) -> Tile:
        """The counters of gates that a tile should hold."""
        if span.length_s > PANE_S:
            return configured(found) if below is None else below
        # A pane that closed under another configuration has other counters.
        foreign, asked = configured(found), configured(wanted)
        asked = where(asked, np.isin(numbers(asked), numbers(foreign)))
        foreign = where(foreign, ~np.isin(numbers(foreign), self._known))
        if len(foreign):
            self._report.note(
                "some panes hold counters of gates that the configuration does not have"
            )
        return merge([asked, foreign])

    def _differ(
        self, check: str, what: str, checkpoint: Checkpoint, expected: Tile, found: Tile
    ) -> None:
        """A finding for each slice that differs."""
        change = merge([found, Tile(expected.codes, -expected.counts)])
        where = f" (shard {checkpoint.shard})" if self._scope.shards > 1 else ""
        for number, keys, _ in change.by_slice():
            codes = np.uint64(number << SLICE_BITS) | keys.astype(np.uint64)
            some = codes[:_SOME]
            names = ", ".join(
                f"{key_name(int(code & KEY_MASK))} {value_at(found, code)} not {value_at(expected, code)}"
                for code in some
            )
            empty = len(found.only(np.array([number]))) == 0
            first = some[0]
            self._report.add(
                check,
                f"{what}, {slice_name(self._registry.slices[number])}{where}",
                f"{key_name(int(first & KEY_MASK))} = {value_at(expected, first)}",
                "no row" if empty else str(value_at(found, first)),
                f"{len(keys)} numbers differ: {names}",
            )

    def _check_cells(self) -> None:
        """The sum of all cells is the sum of all rows; a late one is in a later cell."""
        low_s = self._scope.now_us // SECOND_US - _CELLS_KEPT_S
        begins_s = self._hours[0] if self._hours else None
        if begins_s is None or self.oldest_s is None:
            return
        if self.oldest_s < max(low_s, self._scope.low_us // SECOND_US):
            self._report.note(
                "cells were not added up: the first ones have expired, or were not asked for"
            )
            return
        dimensions = ", ".join(DIMENSIONS)
        table = self._store.arrow(
            f"SELECT partition, newest AS version, toUInt32({CELL_S}) AS pane_s, 0 AS start_s,"
            f" grouping, {dimensions}, total.1 AS keys, total.2 AS counts FROM (SELECT partition,"
            f" grouping, {dimensions}, max(version) AS newest, sumMap(keys, counts) AS total"
            f" FROM penstock.panes WHERE pane_s = {CELL_S} AND grouping IN {CELL_GROUPINGS}"
            f" GROUP BY partition, grouping, {dimensions})"
        )
        stored = stored_tiles(table, self._registry)
        for checkpoint in self._scope.checkpoints.values():
            found, version = stored.get(checkpoint.shard, {}).get(Span(CELL_S, 0), (EMPTY, 0))
            expected = plain(merge(self._cells.get(checkpoint.shard, ())))
            self._report.checked["cells"] += 1
            if version <= checkpoint.version and plain(found) != expected:
                self._differ("cells", "sum of all 1 s cells", checkpoint, expected, plain(found))
