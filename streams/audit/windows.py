"""Audit of windows: stored rows against the sum of recounted panes."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.pipeline import AMEND_S
from ..core.shards import owner
from ..core.slices import stored_slice
from ..core.tiles import PANE_S, SECOND_US, Span, Tile, merge
from ..core.windows import WINDOWS, rows_of, tick_s
from ..storage.publish import OFFSET_BITS, OFFSET_MASK
from ..storage.store import Store
from .algebra import slice_name
from .recount import Recount
from .report import Checkpoint, Report, Scope, at

# Which boots were alive, or silent, is stored as it was known when the row was written.
_KNOWN_THEN = ("workers", "coverage_state")
_COVERAGE = ("expected", "received", "missing", "late", "duplicate", "rejected", "gap", "coverage")
_LONGEST_SAMPLED_S = 6 * 3600
_MERGED_AT = 64
_SEED = 4


@dataclass(slots=True)
class _Wanted:
    """One window of one shard, and what was recounted of it."""

    shard: int
    length_s: int
    end_s: int
    newest: bool
    parts: list[Tile] = field(default_factory=list)

    @property
    def start_s(self) -> int:
        return self.end_s - self.length_s

    def add(self, panes: Mapping[Span, Tile]) -> None:
        self.parts += [t for s, t in panes.items() if self.start_s <= s.start_s < self.end_s]
        if len(self.parts) > _MERGED_AT:
            self.parts = [merge(self.parts)]


class Windows:
    """The windows that are compared: the newest of each length, and a sample of older ones.

    Args:
        store: to read.
        scope: what is looked at.
        report: takes the findings.
        recount: counts rows, and numbers their slices.
        sample: how many older windows.
    """

    def __init__(
        self, store: Store, scope: Scope, report: Report, recount: Recount, sample: int
    ) -> None:
        self._store = store
        self._scope = scope
        self._report = report
        self._recount = recount
        self._registry = recount.combos.registry
        self._wanted = [w for c in scope.checkpoints.values() for w in _newest(c)]
        taken = {(w.length_s, w.end_s) for w in self._wanted}
        ends = [end for end in self._ends() if end not in taken]
        some = random.Random(_SEED).sample(ends, min(sample, len(ends)))
        self._wanted += [
            _Wanted(shard, length_s, end_s, False)
            for length_s, end_s in some
            for shard, checkpoint in scope.checkpoints.items()
            if end_s <= checkpoint.pane_s
        ]

    def _ends(self) -> list[tuple[int, int]]:
        low_s = self._scope.low_us // SECOND_US // 3600 * 3600
        rows = self._store.query(
            "SELECT DISTINCT window_s, toUnixTimestamp(end) AS end_s FROM penstock.windows_rows"
            f" WHERE window_s <= {_LONGEST_SAMPLED_S} AND end >= toDateTime({low_s}) ORDER BY ALL"
        )
        return [(int(row["window_s"]), int(row["end_s"])) for row in rows]

    def add(self, shard: int, panes: Mapping[Span, Tile]) -> None:
        """Take recounted panes of a shard in."""
        if panes:
            low_s, high_s = min(panes).start_s, max(panes).end_s
            for wanted in self._wanted:
                if wanted.shard == shard and wanted.start_s < high_s and wanted.end_s > low_s:
                    wanted.add(panes)

    def check(self, oldest_s: int | None, touched: Mapping[int, set[int]]) -> None:
        """Compare, after everything was added.

        Args:
            oldest_s: start of the earliest stored pane.
            touched: shard -> panes that hold rows above its checkpoint's cuts.

        Raises:
            StoreError: the store is away or refuses.
        """
        low_s = self._scope.low_us // SECOND_US // 3600 * 3600
        for wanted in self._wanted:
            if oldest_s is None or max(wanted.start_s, oldest_s) < low_s:
                continue
            self._check(wanted, oldest_s, touched.get(wanted.shard, set()))
        self._report.say(f"{self._report.checked['windows']} windows compared")

    def _check(self, wanted: _Wanted, oldest_s: int, touched: set[int]) -> None:
        checkpoint = self._scope.checkpoints[wanted.shard]
        stored = self._stored(wanted)
        if not stored:
            due = wanted.newest and wanted.end_s - tick_s(wanted.length_s) >= oldest_s
            # Panes of the fleet's coverage alone give a shard nothing to publish.
            if due and wanted.parts and self._differing(wanted, merge(wanted.parts), {}, ()):
                self._report.add("windows", _name(wanted), "rows", "none")
            return
        version = max(int(row["version"]) for row in stored.values())
        if version > checkpoint.version:
            self._report.checked["windows written meanwhile"] += 1
            return
        self._report.checked["windows"] += 1
        differing = self._differing(wanted, merge(wanted.parts), stored, _KNOWN_THEN)
        if not differing:
            return
        pending = _pending(wanted, checkpoint, touched)
        if pending or not (wanted.newest or wanted.end_s >= checkpoint.pane_s - AMEND_S):
            # As of the version of its rows; what boots had lost then is not known.
            tile, source = merge(wanted.parts), self._only_source(version)
            if source is not None:
                cuts = {source: (version & OFFSET_MASK) - 1}
                panes, _ = self._recount.tiles(wanted.start_s, wanted.end_s, cuts)
                tile = merge(panes.values())
            elif pending or self._amended(wanted):
                self._report.checked["windows that late rows changed"] += 1
                return
            differing = self._differing(wanted, tile, stored, (*_KNOWN_THEN, *_COVERAGE))
        for name, expected, found in differing:
            self._report.add("windows", f"{_name(wanted)}: {name}", expected, found)

    def _stored(self, wanted: _Wanted) -> dict[int, dict[str, Any]]:
        """Rows of a window, by number of the slice; those that the shard owns."""
        takes = owner(wanted.shard, self._scope.shards)
        rows = self._store.query(
            "SELECT * FROM penstock.windows WHERE window_s = {length:UInt32}"
            " AND end = toDateTime({end:UInt32})",
            {"length": wanted.length_s, "end": wanted.end_s},
        )
        slices = [stored_slice(row["grouping"], row) for row in rows]
        return {
            self._registry.number(one): row
            for one, row in zip(slices, rows, strict=True)
            if takes(one)
        }

    def _differing(
        self,
        wanted: _Wanted,
        tile: Tile,
        stored: Mapping[int, Mapping[str, Any]],
        skipped: tuple[str, ...],
    ) -> list[tuple[str, str, str]]:
        """What differs: slice and column, what it should be, what it is."""
        numbers, columns = rows_of(tile, wanted.length_s, 0, False)
        slices = self._registry.slices
        takes = owner(wanted.shard, self._scope.shards)
        found = []
        expected = {n: i for i, n in enumerate(numbers.tolist()) if takes(slices[n])}
        for number in sorted(expected.keys() ^ stored.keys()):
            there = number in stored
            found.append(
                (
                    slice_name(slices[number]),
                    "no row" if there else "a row",
                    "a row" if there else "none",
                )
            )
        for number in sorted(expected.keys() & stored.keys()):
            for name, values in columns.items():
                right, told = _value(values[expected[number]]), _value(stored[number][name])
                if name not in skipped and right != told:
                    found.append((f"{slice_name(slices[number])}: {name}", str(right), str(told)))
        return found

    def _only_source(self, version: int) -> tuple[int, int] | None:
        """The source whose cut a version tells, None where there are several."""
        sources = [*self._scope.cuts]
        alone = len(sources) == 1 and sources[0][0] == version >> OFFSET_BITS
        return sources[0] if alone else None

    def _amended(self, wanted: _Wanted) -> bool:
        """Whether anything came late to a window: rows, frames or feedback."""
        low, high = wanted.start_s * SECOND_US, wanted.end_s * SECOND_US
        within = f"ts >= fromUnixTimestamp64Micro({low}) AND ts < fromUnixTimestamp64Micro({high})"
        return bool(
            self._store.query(
                f"SELECT 1 FROM penstock.requests WHERE late AND {within} LIMIT 1"
                f" UNION ALL SELECT 1 FROM penstock.steps WHERE late AND {within} LIMIT 1"
                " UNION ALL SELECT 1 FROM penstock.feedback LIMIT 1"
                f" UNION ALL SELECT 1 FROM penstock.panes WHERE state = 'partial' AND pane_s = {PANE_S}"
                f" AND pane_start >= toDateTime({wanted.start_s})"
                f" AND pane_start < toDateTime({wanted.end_s}) LIMIT 1"
            )
        )


def _newest(checkpoint: Checkpoint) -> list[_Wanted]:
    ends = {s: checkpoint.pane_s // tick_s(s) * tick_s(s) for s in WINDOWS.values()}
    return [_Wanted(checkpoint.shard, s, end, True) for s, end in ends.items()]


def _pending(wanted: _Wanted, checkpoint: Checkpoint, touched: set[int]) -> bool:
    """Whether something came late to a window, and its rows need not be written again yet."""
    if any(wanted.start_s <= pane < wanted.end_s for pane in touched):
        return True
    stale = checkpoint.stale_s
    return stale is not None and wanted.end_s > stale[0] and wanted.start_s < stale[1]


def _name(wanted: _Wanted) -> str:
    return f"{wanted.length_s} s window to {at(wanted.end_s)}"


def _value(value: Any) -> Any:
    """A number as Python has it; "nothing to say" is None."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value
