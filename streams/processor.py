"""What one processor does with durable rows: count them, close what is complete, publish, judge."""

from __future__ import annotations

import itertools
import logging
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import orjson
import pyarrow as pa

from ..schemas.config import Configuration
from ..schemas.events import EventName
from .core import metrics as m
from .core.columns import dictionary, integers
from .core.gates.absolute import CoverageState
from .core.gating import GateKeeper, Marker, current_epoch, keeper_for
from .core.ingest import DAY_US, Flush, counted
from .core.pipeline import Closing
from .core.slices import FLEET
from .core.tally import measure_feedback
from .core.tiles import SECOND_US
from .core.windows import MINUTE
from .publish import coverage_rows, tile_rows, timestamps, version_of, window_rows
from .readback import cells_between, joined_feedback
from .recovery import Recovered
from .store import Store

log = logging.getLogger("penstock")

INCARNATION, PARTITION = 1, 0
GATE_DIMENSIONS = ("model", "model_version", "release", "variant")
STORE_VERDICT_S = 10  # an unchanged verdict is stored this often, in event time


class Processor:
    """Pipeline, gates and their rows in the store.

    Args:
        store: migrated.
        configuration: gates and limits.
        counters: what the gates need counted.
        recovered: the pipeline as rebuilt from the store.
        totals: counters of the process, added to.
    """

    def __init__(
        self,
        store: Store,
        configuration: Configuration,
        counters: Sequence[m.Threshold | m.CostScore],
        recovered: Recovered,
        totals: Counter[str],
    ) -> None:
        self.pipeline = recovered.pipeline
        self.next_offset = recovered.next_offset
        self._store = store
        self._configuration = configuration
        self._counters = counters
        self._totals = totals
        self.life = uuid.uuid4().hex  # of this memory: rebuilt, it is another
        self._serial = itertools.count()
        self._append_us = 0
        self._judged: set[str] = self._feedback_ids()
        self._day = 0
        self._markers = self._stored_markers()
        self._keepers = [self._keeper(gate.id) for gate in configuration.gates]
        self._stored_verdicts: dict[str, tuple[str, int]] = {}
        self._published_cut = -1
        self._complete_cut = recovered.cut
        self._published_s = -1

    def take_offset(self) -> int:
        """The next offset; accepted frames are numbered as if they came from one partition."""
        self.next_offset += 1
        return self.next_offset - 1

    def first_offset(self, flush: Flush) -> int:
        """Lowest offset of a flush."""
        return min((entry.offset for entry in flush.entries), default=self.next_offset)

    def append_time(self, now_us: int) -> int:
        """Append times never go back, whatever the clock does."""
        self._append_us = max(self._append_us, now_us)
        return self._append_us

    def count(self, flush: Flush, tables: Mapping[EventName, pa.Table], first_offset: int) -> None:
        """Add durable rows to the tiles.

        Raises:
            StoreError: feedback could not be joined.
        """
        kinds: tuple[EventName, ...] = ("request", "step")
        for kind in kinds:
            if kind in tables:
                self.pipeline.count(counted(self.pipeline, kind, tables[kind], self._counters))
        self.pipeline.cover(flush.coverage)
        self._totals["late"] += sum(entry.late for entry in flush.entries)
        self._join(tables, first_offset)
        if "release" in tables:
            self._markers += _markers(tables["release"])
            self._enter_epochs()

    def _join(self, tables: Mapping[EventName, pa.Table], first_offset: int) -> None:
        """Feedback amends its request's panes, whichever of the two came first."""
        ids: set[str] = set()
        if "feedback" in tables:
            ids |= _texts(tables["feedback"]["request_id"])
            self._judged |= ids
        if self._judged and "request" in tables and "request_id" in tables["request"].column_names:
            ids |= self._judged & _texts(tables["request"]["request_id"])
        if not ids:
            return
        joined = joined_feedback(self._store, sorted(ids), first_offset)
        if joined.num_rows:
            measured = measure_feedback(joined)
            self.pipeline.count(counted(self.pipeline, "request", joined, (), measured))

    def publish(self, now_us: int, final: bool = False) -> None:
        """Close what the watermark passed and store the results, the checkpoint last.

        Args:
            now_us: the processor's clock.
            final: no later call comes, so nothing is put off.

        Raises:
            StoreError: not everything was stored; rebuild from the store.
        """
        if (
            now_us // DAY_US != self._day
        ):  # feedback that is too old to join is forgotten once a day
            self._day, self._judged = now_us // DAY_US, self._feedback_ids()
        closing = self.pipeline.close(now_us, final)
        closed_s = self.pipeline.closed_s
        if closed_s is None:
            return
        cut = self.next_offset - 1
        if (closed_s, cut) == (self._published_s, self._published_cut) and not final:
            return
        version = version_of(INCARNATION, max(cut, 0))
        self._store_tiles(closing, version)
        boots = self.pipeline.tracker.changed()
        if boots:
            self._insert("coverage_rows", coverage_rows(boots, version))
        if not self.pipeline.waiting:
            self._complete_cut = max(cut, 0)
        self._checkpoint(closed_s, max(self._complete_cut, 0), now_us)
        # Last: a verdict that was lost is told again from the stored cells.
        self._judge(closing, version)
        self.pipeline.stored()
        retention_us = self._configuration.retention.warm_days * DAY_US
        self.pipeline.tracker.forget(now_us, retention_us)
        self._published_s, self._published_cut = closed_s, cut

    def _store_tiles(self, closing: Closing, version: int) -> None:
        slices = self.pipeline.registry.slices
        tiles = [*closing.cells, *closing.tiles.items()]
        rows = tile_rows(tiles, slices, PARTITION, version)
        if rows is not None:
            self._insert("panes_rows", rows)
            self._totals["panes_published"] += rows.num_rows
        rows = window_rows(closing.windows, slices, version)
        if rows is not None:
            self._insert("windows_rows", rows)
            self._totals["windows_written"] += rows.num_rows

    def _checkpoint(self, closed_s: int, cut: int, now_us: int) -> None:
        row = {
            "partition": [PARTITION],
            "incarnation": [INCARNATION],
            "cut": [cut],
            "closed_ts": pa.array([closed_s]).cast(pa.timestamp("s", "UTC")),
            "epoch": [0],
            "stale_s": pa.array([list(self.pipeline.stale or ())], pa.list_(pa.uint32())),
            "at": timestamps([now_us]),
            "version": pa.array(
                [version_of(INCARNATION, max(self.next_offset - 1, 0))], pa.uint64()
            ),
        }
        self._insert("checkpoints_rows", pa.table(row))

    def _insert(self, name: str, rows: pa.Table) -> None:
        # Derived rows replace themselves: the token only has to differ from every other insert's.
        self._store.insert(name, rows, f"{name}-{self.life}-{next(self._serial)}")

    def _judge(self, closing: Closing, version: int) -> None:
        """Let every gate count the cells that closed, and store the verdicts that say something new."""
        if not self._keepers:
            return
        watermark_us = self.pipeline.tracker.watermark_us
        coverage, state = self._coverage()
        rows: list[dict[str, Any]] = []
        for keeper in self._keepers:
            before = None if keeper.verdict is None else keeper.verdict.verdict
            verdict = keeper.evaluate(
                closing.cells, self.pipeline.registry, watermark_us, coverage, state
            )
            gate = keeper.spec.id
            told, at_s = self._stored_verdicts.get(gate, ("", 0))
            closed_s = watermark_us // SECOND_US
            if verdict.verdict in (before, told) and closed_s - at_s < STORE_VERDICT_S:
                continue
            self._stored_verdicts[gate] = (verdict.verdict, closed_s)
            rows.append(self._verdict_row(keeper, version))
        if rows:
            as_of = timestamps([row.pop("as_of") for row in rows])
            table = pa.Table.from_pylist(rows)
            self._insert("verdicts_rows", table.append_column("as_of", as_of))

    def _verdict_row(self, keeper: GateKeeper, version: int) -> dict[str, Any]:
        verdict, state = keeper.verdict, keeper.state
        assert verdict is not None
        assert state is not None
        return {
            "gate_id": keeper.spec.id,
            "epoch": verdict.epoch,
            "as_of": verdict.watermark_us,
            "version": version,
            "kind": keeper.spec.kind,
            "verdict": verdict.verdict,
            "action": verdict.action,
            "reasons": list(verdict.reasons),
            "n": verdict.n,
            "n_needed": verdict.n_needed,
            "evidence": orjson.dumps(verdict.to_dict()).decode(),
            "state": state.to_json(),
            "spec_hash": verdict.spec_hash,
            "engine": verdict.engine,
            "digest": verdict.digest,
        }

    def _coverage(self) -> tuple[float | None, CoverageState]:
        """Coverage of the last closed minute."""
        end_s = self.pipeline.closed_pane_s or 0
        if end_s < MINUTE:
            return None, "no_data"
        columns = self.pipeline.window(MINUTE, end_s, np.array([FLEET])).columns
        share = float(columns["coverage"][0])  # type: ignore[arg-type]
        state = cast(CoverageState, columns["coverage_state"][0])
        return (None if share != share else share), state

    def _keeper(self, gate_id: str) -> GateKeeper:
        spec = next(gate for gate in self._configuration.gates if gate.id == gate_id)
        epoch = current_epoch(self._markers, spec.filter.given())
        rows = self._store.query(
            "SELECT state FROM penstock.verdicts WHERE gate_id = {gate:String}"
            " ORDER BY epoch DESC, as_of DESC LIMIT 1",
            {"gate": gate_id},
        )
        keeper = keeper_for(spec, rows[0]["state"] if rows else None, epoch)
        self._catch_up(keeper)
        return keeper

    def _enter_epochs(self) -> None:
        for keeper in self._keepers:
            if keeper.begin(current_epoch(self._markers, keeper.spec.filter.given())):
                self._catch_up(keeper)

    def _catch_up(self, keeper: GateKeeper) -> None:
        """Give a gate the stored cells that it has not counted."""
        closed_s = self.pipeline.closed_s
        if closed_s is None:
            return
        start_s = max(keeper.counted_to_s, keeper.epoch.start_us // SECOND_US)
        if start_s < closed_s:
            cells = cells_between(self._store, self.pipeline.registry, start_s, closed_s)
            coverage, state = self._coverage()
            keeper.evaluate(cells, self.pipeline.registry, closed_s * SECOND_US, coverage, state)

    def _stored_markers(self) -> list[Marker]:
        columns = ", ".join(GATE_DIMENSIONS)
        rows = self._store.query(
            f"SELECT toUnixTimestamp64Micro(t.ts) AS ts, {columns} FROM penstock.releases AS t"
        )
        return [Marker(int(row["ts"]), _stated(row)) for row in rows]

    def _feedback_ids(self) -> set[str]:
        days = self._configuration.time.feedback_days
        rows = self._store.query(
            "SELECT DISTINCT request_id FROM penstock.feedback_rows"
            " WHERE ts >= now() - toIntervalDay({days:UInt32})",
            {"days": days},
        )
        return {str(row["request_id"]) for row in rows}


def _texts(column: Any) -> set[str]:
    return {str(value) for value in column.to_pylist()}


def _markers(table: pa.Table) -> list[Marker]:
    columns = {}
    for name in GATE_DIMENSIONS:
        codes, values = dictionary(table, name)
        columns[name] = [values[code] for code in codes.tolist()]
    return [
        Marker(ts, _stated({name: columns[name][at] for name in GATE_DIMENSIONS}))
        for at, ts in enumerate(integers(table, "ts")[0].tolist())
    ]


def _stated(row: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(row[name]) for name in GATE_DIMENSIONS if row[name]}
