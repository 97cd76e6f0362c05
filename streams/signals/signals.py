"""The signals of one shard in the store: alerts, objectives, budgets, and the log of their changes.

**Each change once, whatever crashes.** A checkpoint is one row, so it is there whole or not at all. It
holds what closed, the states as of that moment, and the changes of alerts that led to them. One
publication is, in this order:

1. tiles and windows;
2. evaluation, in memory only; looks of drift monitors and spend limits are stored (drift.py);
3. the checkpoint, with states and changes;
4. changes and their entries of the audit log; then status rows.

A crash before 3 leaves the former checkpoint: what was published since is removed and closes again,
perhaps with other rows, and nobody was told of a change. A crash after 3 leaves changes that may not
all be stored: whoever takes the shard over stores those of the checkpoint first, before anything else
is evaluated. Their ids and bodies are what the checkpoint says, so that storing them twice changes
nothing; and no later checkpoint takes their place before they are stored. Nothing is evaluated twice,
so rows that came late in between cannot make another story of it.

Two owners of one shard (one of them paused, and not aware that it lost it) would tell two stories.
Before changes are stored, the checkpoint that counts must be one's own; the other one gives up.

Status rows say how things stand, each replaces nothing but itself, and the next minute brings new
ones: one that a crash lost is not written later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import orjson
import pyarrow as pa

from ...schemas.config import Configuration
from ...schemas.errors import StoreError
from ..core.alerts.audit import Entry, append, entry_rows
from ..core.alerts.signals import SignalReading
from ..core.alerts.transition import Transition
from ..core.costs.saturation import read_metrics, slice_of_forecast
from ..core.pipeline import Closing
from ..core.shard import Shard
from ..core.signals import Found, Saved, SignalKeeper
from ..core.slices import CELL_GROUPINGS
from ..core.tiles import SECOND_US, Span, Tile
from ..core.watched import Watched, read_by, watched_by
from ..drift.detectors import DetectorLooks
from ..drift.monitors import DriftLooks
from ..storage.publish import version_of
from ..storage.readback import cells_between, signal_tiles, stored_signals
from ..storage.store import Store
from .rows import budget_rows, forecast_rows, objective_rows, transition_rows
from .spend import SpendLooks

Insert = Callable[[str, pa.Table], None]


def signals_of(
    store: Store, configuration: Configuration, shard: Shard, shards: int, insert: Insert
) -> Signals | None:
    """The signals of a shard, going on from its checkpoint; None where there is nothing to evaluate.

    Args:
        store: has the checkpoint that `shard` was rebuilt from.
        configuration: what is evaluated.
        shard: rebuilt.
        shards: how many there are.
        insert: puts rows into a table.

    Raises:
        StoreError: the store is away, or somebody else has taken the shard over meanwhile.
    """
    found = stored_signals(store, shard.number)
    if found is not None and found.closed_s != shard.pipeline.closed_s:
        raise StoreError(f"shard {shard.number} was taken over meanwhile", retryable=True)
    text = "" if found is None else found.text
    if not text and not configuration.has_signals:
        return None
    watched = watched_by(configuration, shard.number, shards)
    saved = orjson.loads(text) if text else {}
    drift = detectors = spend = None
    if watched.monitors:
        looked = saved.get("drift", {})
        drift = DriftLooks(store, watched.monitors, configuration.drift, insert, looked)
    if watched.detectors:
        detectors = DetectorLooks(
            store, watched.detectors, shard, watched.owns, insert, saved.get("detectors")
        )
    if watched.limits:
        spend = SpendLooks(store, watched.limits, insert, saved.get("spend"))
    return Signals(store, watched, shard, insert, saved, drift, detectors, spend)


class Signals:
    """What one shard watches, and what is to be stored of it. Not for several threads at once.

    Args:
        store: as above.
        watched: what is evaluated.
        shard: rebuilt.
        insert: puts rows into a table.
        saved: what the checkpoint says; empty to begin.
        drift, detectors, spend: those that are evaluated here; None without any.
    """

    def __init__(
        self,
        store: Store,
        watched: Watched,
        shard: Shard,
        insert: Insert,
        saved: Mapping[str, Any],
        drift: DriftLooks | None = None,
        detectors: DetectorLooks | None = None,
        spend: SpendLooks | None = None,
    ) -> None:
        self._store = store
        self._drift = drift
        self._detectors = detectors
        self._spend = spend
        self._watched = watched
        self._shard = shard
        self._insert = insert
        self._keeper: SignalKeeper | None = None
        self._cells: list[tuple[Span, Tile]] = []
        self._found = Found()
        self._recorded_us = 0
        self._last = _entry(saved.get("last"))
        # Of grouping sets that cells are not always kept by, how far back they are.
        known, closed_s = saved.get("cells", {}), shard.pipeline.closed_s
        self._cells_from = {
            name: int(known.get(name, closed_s or 0))
            for name in shard.pipeline.cell_groupings
            if name not in CELL_GROUPINGS
        }
        if saved:
            self._found.transitions = [Transition(**item) for item in saved["told"]]
            self._recorded_us = int(saved["recorded_us"])
            self._store_changes()
        if closed_s is not None:
            state = saved.get("state")
            self._begin(closed_s, None if state is None else Saved.from_dict(state))

    @property
    def lags(self) -> bool:
        """Whether more has closed than is evaluated."""
        keeper, closed_s = self._keeper, self._shard.pipeline.closed_s
        return keeper is not None and closed_s is not None and keeper.evaluated_s < closed_s

    def evaluate(self, closing: Closing, now_us: int) -> str:
        """Evaluate what closed, in memory.

        Args:
            closing: what the last move of the watermark brought about.
            now_us: the clock, integer microseconds.

        Returns:
            What the checkpoint must hold.
        """
        pipeline = self._shard.pipeline
        assert pipeline.closed_s is not None
        if self._keeper is None:
            starts = (span.start_s for span in (*(s for s, _ in closing.cells), *closing.tiles))
            self._begin(min(starts, default=pipeline.closed_s), None)
        assert self._keeper is not None
        told = self._looks(self._keeper, pipeline.closed_s, now_us)
        self._found = self._keeper.evaluate(closing, pipeline, self._cells, told)
        self._cells = []
        self._recorded_us = now_us
        if not (self._watched.anything or self._found.transitions or self._last):
            return ""  # once there was a change, the end of the chain is kept for good
        last = None if self._last is None else [self._last.index, self._last.hash]
        return orjson.dumps(
            {
                "state": self._keeper.saved,
                "told": self._found.transitions,
                "recorded_us": now_us,
                "last": last,
            }
            | ({"drift": self._drift.saved} if self._drift else {})
            | ({"detectors": self._detectors.saved_s} if self._detectors else {})
            | ({"spend": self._spend.saved_s} if self._spend else {})
            | ({"cells": self._cells_from} if self._cells_from else {})
        ).decode()

    def _looks(self, keeper: SignalKeeper, closed_s: int, now_us: int) -> list[SignalReading]:
        """What monitors, detectors and spend limits say of the stretch that is evaluated next."""
        told: list[SignalReading] = []
        after_s, end_s, shard = keeper.evaluated_s, keeper.until(closed_s), self._shard
        if self._drift is not None:
            told += self._drift.look(after_s, end_s, shard.applied, shard.version, now_us)
        if self._detectors is not None:
            told += self._detectors.look(after_s, end_s)
        if self._spend is not None:
            told += self._spend.look(after_s, end_s, shard.applied, shard.version)
        return told

    def commit(self) -> int:
        """Store what was found; the checkpoint that holds it is stored.

        Returns:
            How many changes of alerts there were.

        Raises:
            StoreError: not everything was stored, or the shard has another owner: assign it again.
        """
        found, version = self._found, version_of(*self._shard.version)
        if found.transitions:
            stored = stored_signals(self._store, self._shard.number)
            if stored is None or stored.at_us != self._recorded_us:
                raise StoreError(f"shard {self._shard.number} has another owner", retryable=True)
        told = self._store_changes()
        if found.objectives:
            self._insert("slo_status_rows", objective_rows(found.objectives, version))
        if found.budgets:
            self._insert("cost_status_rows", budget_rows(found.budgets, version))
        if found.forecasts:
            self._insert("capacity_forecasts_rows", forecast_rows(found.forecasts, version))
        self._found = Found()
        return told

    def _store_changes(self) -> int:
        """Store changes of alerts and their entries of the audit log; again, it changes nothing."""
        changes, number = self._found.transitions, self._shard.number
        if changes:
            entries = list(_entries(self._last, changes, self._recorded_us // SECOND_US))
            self._insert(
                "alert_transitions_rows", transition_rows(changes, number, self._recorded_us)
            )
            self._insert("audit_log_rows", entry_rows(entries, f"shard-{number}"))
            self._last = entries[-1]
        self._found.transitions = []
        return len(changes)

    def _begin(self, start_s: int, saved: Saved | None) -> None:
        """Build memory from what is stored."""
        pipeline = self._shard.pipeline
        registry = pipeline.combos.registry
        keeper = SignalKeeper(self._watched, registry, start_s, saved, self._cells_from)
        closed_s = pipeline.closed_s
        assert closed_s is not None
        slices, keys = read_by(self._watched)
        for length_s, first_s, end_s in keeper.needs(closed_s):
            for tiles in signal_tiles(
                self._store, registry, self._shard.number, slices, keys, length_s, first_s, end_s
            ):
                keeper.catch_up(tiles)
        wanted = [slice_of_forecast(spec) for spec in self._watched.forecasts]
        for length_s, first_s, end_s in keeper.forecast_needs(closed_s):
            for tiles in signal_tiles(
                self._store, registry, self._shard.number, wanted, (), length_s, first_s, end_s,
                read_metrics(),
            ):  # fmt: skip
                keeper.catch_up_forecasts(tiles)
        cells_from_s = keeper.needs_cells_from_s
        if cells_from_s is not None and cells_from_s < closed_s:
            self._cells = cells_between(
                self._store, registry, cells_from_s, closed_s, self._shard.number
            )
        self._keeper = keeper


def _entry(last: Sequence[Any] | None) -> Entry | None:
    """The end of the chain, as far as the next entry asks."""
    return None if last is None else Entry(int(last[0]), 0, "", "", {}, "", str(last[1]))


def _entries(last: Entry | None, changes: Sequence[Transition], at_s: int) -> Iterator[Entry]:
    for item in changes:
        last = append(last, at_s, "alert", "penstock", asdict(item))
        yield last
