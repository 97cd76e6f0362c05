"""The store as a dictionary, so that the processor and its recovery run unchanged in memory.

What readback.py asks of ClickHouse is answered here from the inserted rows, with the same meaning:
missing labels and texts are empty strings, replaced rows are gone, the highest version is shown.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, cast
from unittest import mock

import pyarrow as pa
from penstock.schemas.events import EventName
from penstock.streams import evaluator as evaluator_module
from penstock.streams.core.boots import Boot, LedgerEntry
from penstock.streams.core.delta import Cuts, Source
from penstock.streams.core.ingest import TABLES
from penstock.streams.core.shards import group_of, shard_of
from penstock.streams.core.slices import DIMENSIONS, Slice, SliceRegistry, stored_slice
from penstock.streams.core.tiles import SECOND_US, Span, Tile
from penstock.streams.gates import cells as cells_module
from penstock.streams.gates import judge as judge_module
from penstock.streams.ingest import ingestion as ingestion_module
from penstock.streams.signals import signals as signals_module
from penstock.streams.signals import spend as spend_module
from penstock.streams.storage import counter as counter_module
from penstock.streams.storage import recount as recount_module
from penstock.streams.storage import recovery as recovery_module
from penstock.streams.storage.publish import tiles_from
from penstock.streams.storage.readback import _COLUMNS, StoredSignals
from penstock.streams.storage.store import Store

Row = dict[str, Any]
_SLICE = ("grouping", *DIMENSIONS)
_TEXTS = frozenset((*DIMENSIONS, "status", "error_type", "backend_fallback"))
KEYS = {
    "panes_rows": ("pane_s", "pane_start", *_SLICE, "partition"),
    "windows_rows": ("window_s", "end", *_SLICE),
    "coverage_rows": ("worker_id", "boot_id"),
    "checkpoints_rows": ("partition",),
    "verdicts_rows": ("gate_id", "epoch", "as_of"),
    "gate_inputs_rows": ("gate_id", "epoch", "spec_hash", "end"),
    "alert_transitions_rows": ("id",),
    "audit_log_rows": ("chain", "seq"),
    "slo_status_rows": ("slo_id", "as_of"),
    "cost_status_rows": ("budget_id", "as_of"),
    "spend_status_rows": ("limit_id", "as_of"),
    "capacity_forecasts_rows": ("forecast_id", "as_of"),
    "drift_states_rows": ("monitor", "end"),
}


FACTS = {
    "frames_rows": ("incarnation", "partition", "offset", "part"),
    "quarantine_rows": ("incarnation", "partition", "offset", "row_index"),
}
READBACK = (
    "cells_between", "joined_feedback", "joined_feedback_between", "ledger_above", "ledger_between",
    "ledger_cuts", "panes_touched", "rows_above", "rows_between", "signal_tiles", "spent_by",
    "stored_boots", "stored_signals", "tile_loader",
)  # fmt: skip


class Crash(Exception):
    """The process dies here."""


class MemoryStore:
    """Tables as dictionaries; `crash_before` names an insert that does not happen any more."""

    def __init__(self) -> None:
        self.facts: dict[str, dict[tuple[Any, ...], Row]] = {}
        self.keyed: dict[str, dict[tuple[Any, ...], Row]] = {name: {} for name in KEYS}
        self.crash_before: str | None = None
        self.inserts = 0
        self.retries = 0

    @property
    def raw(self) -> dict[str, list[Row]]:
        """Tables of events and the ledger, each row once, as FINAL shows them."""
        return {name: list(rows.values()) for name, rows in self.facts.items()}

    def insert(self, name: str, rows: pa.Table, token: str) -> None:
        """As Store.insert."""
        if name == self.crash_before:
            self.crash_before = None
            raise Crash(name)
        self.inserts += 1
        if name not in KEYS:
            table = self.facts.setdefault(name, {})
            key_names = FACTS.get(name, ("boot_id", "seq"))
            for row in rows.to_pylist():
                table[tuple(row[part] for part in key_names)] = _micros(row)
            return
        table = self.keyed[name]
        for row in rows.to_pylist():
            key = tuple(row[part] for part in KEYS[name])
            known = table.get(key)
            version = "version" if "version" in row else "at"
            if known is None or row[version] >= known[version]:
                table[key] = row

    def expire(self, now_us: int) -> None:
        """Panes of 10 s are kept for two days."""
        limit = now_us // SECOND_US - 48 * 3600
        panes = self.keyed["panes_rows"]
        for key, row in list(panes.items()):
            if row["pane_s"] == 10 and row["pane_start"].timestamp() < limit:
                del panes[key]

    def command(self, sql: str) -> None:
        """Deletes of recovery."""
        name = sql.split()[2].removeprefix("penstock.")
        numbers = [int(found) for found in re.findall(r"(?:>|>=|=) (\d+)", sql)]
        if name in KEYS:
            time = "pane_start" if name == "panes_rows" else "end"
            closed_s, shard = numbers[0], numbers[-1]
            for key, row in list(self.keyed[name].items()):
                mine = row["partition"] if name == "panes_rows" else self.shard(row)
                if int(row[time].timestamp()) + row.get("pane_s", 0) > closed_s and mine == shard:
                    del self.keyed[name][key]
            return
        for key, row in list(self.facts[name].items()):
            if row["offset"] >= numbers[0]:
                del self.facts[name][key]

    def shard(self, row: Row) -> int:
        """The shard that owns a row of windows."""
        return shard_of(group_of(stored_slice(row["grouping"], row)), self.shards)

    shards = 1

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """The few questions that recovery and evaluation ask in SQL of their own."""
        shard = (parameters or {}).get("shard", 0)
        if "SELECT DISTINCT partition, offset" in sql:
            wanted = set((parameters or {})["wanted"])
            return [
                row
                for row in self.raw.get("frames_rows", [])
                if (row["partition"], row["offset"]) in wanted and row["part"] == 0
            ]
        if "max(offset) AS cut" in sql:
            offsets = [row["offset"] for row in self.raw.get("frames_rows", [])]
            return [{"n": len(offsets), "cut": max(offsets, default=0)}]
        if "max(version)" in sql:
            rows = self.keyed["checkpoints_rows"].values()
            return [{"version": max((row["version"] for row in rows), default=0)}]
        if "checkpoints_rows" in sql:
            return [
                {
                    "incarnation": row["incarnation"],
                    "cut": row["cut"],
                    "closed_s": int(row["closed_ts"].timestamp()),
                    "stale_s": row["stale_s"],
                    "cuts": [tuple(part.values()) for part in row["cuts"]],
                    "losses": [tuple(part.values()) for part in row["losses"]],
                    "version": row["version"],
                }
                for row in self.keyed["checkpoints_rows"].values()
                if row["partition"] == shard
            ]
        if "AS oldest_s" in sql:
            panes = [
                row
                for row in self.keyed["panes_rows"].values()
                if row["pane_s"] >= 10 and row["partition"] == shard
            ]
            oldest = min((int(row["pane_start"].timestamp()) for row in panes), default=0)
            return [{"n": len(panes), "oldest_s": oldest}]
        if "count() AS n" in sql and "closed" in (parameters or {}):
            return [{"n": 1}]
        if "count() AS n" in sql:
            name = sql.split("FROM penstock.")[1].split()[0]
            limit = (parameters or {})["next"]
            return [{"n": sum(row["offset"] >= limit for row in self.raw.get(name, []))}]
        if "min(pane_start) AS first" in sql:
            known = [r for r in self.keyed["panes_rows"].values() if r["pane_s"] >= 10]
            known.sort(key=lambda row: row["pane_start"])
            return [{name: row[name] for name in _SLICE} for row in known]
        if "feedback_rows" in sql:
            return self.raw.get("feedback_rows", [])[:1]
        if "penstock.drift_states WHERE" in sql:
            asked = parameters or {}
            return [
                row
                for row in self.keyed["drift_states_rows"].values()
                if (row["monitor"], row["end"].timestamp()) == (asked["monitor"], asked["at"])
            ]
        if "penstock.spend_status WHERE" in sql:
            asked = parameters or {}
            return [
                row
                for row in self.keyed["spend_status_rows"].values()
                if row["limit_id"] in asked["names"] and row["as_of"].timestamp() == asked["at"]
            ]
        if "penstock.gate_inputs AS i" in sql:
            asked = parameters or {}
            mine = self._of_gate("gate_inputs_rows", asked["gate"], asked["epoch"])
            return [row | {"end_us": at} for at, row in mine if at > asked["after"]]
        if "penstock.verdicts AS t" in sql:
            newest = self._of_gate("verdicts_rows", (parameters or {})["gate"])[-1:]
            return [row | {"told_us": at} for at, row in newest]
        if "penstock.settings" in sql or "penstock.drift_states_rows" in sql:
            return []
        if "penstock.releases" in sql:
            return []
        raise AssertionError(f"what is this? {sql}")

    def _of_gate(self, name: str, gate: str, epoch: int | None = None) -> list[tuple[int, Row]]:
        """(event time in us, row) of one gate, ascending."""
        time = "end" if name == "gate_inputs_rows" else "as_of"
        found = [
            (_micros(row)[time], row)
            for row in self.keyed[name].values()
            if row["gate_id"] == gate and epoch in (None, row["epoch"])
        ]
        return sorted(found, key=lambda pair: (pair[1]["epoch"], pair[0]))

    # What readback.py does with SQL.

    def tile_loader(self, store: Store, registry: SliceRegistry, shard: int = 0) -> Any:
        def load(spans: Sequence[Span]) -> Mapping[Span, Tile]:
            wanted = set(spans)
            rows = [
                row | {"start_s": int(row["pane_start"].timestamp())}
                for row in self.keyed["panes_rows"].values()
                if row["partition"] == shard
            ]
            return _tiles([r for r in rows if Span(r["pane_s"], r["start_s"]) in wanted], registry)

        return load

    def cells_between(
        self,
        store: Store,
        registry: SliceRegistry,
        start_s: int,
        end_s: int,
        shard: int | None = None,
    ) -> list[tuple[Span, Tile]]:
        rows = [
            row | {"start_s": int(row["pane_start"].timestamp())}
            for row in self.keyed["panes_rows"].values()
            if row["pane_s"] == 1 and shard in (None, row["partition"])
        ]
        return sorted(
            _tiles([r for r in rows if start_s <= r["start_s"] < end_s], registry).items()
        )

    def signal_tiles(
        self,
        store: Store,
        registry: SliceRegistry,
        shard: int,
        slices: Sequence[Slice],
        keys: Sequence[int],
        length_s: int,
        start_s: int,
        end_s: int,
        metrics: Sequence[int] = (),
    ) -> Iterator[Mapping[Span, Tile]]:
        load = self.tile_loader(store, registry, shard)
        yield load([Span(length_s, at) for at in range(start_s, end_s, length_s)])

    def stored_signals(self, store: Store, shard: int) -> StoredSignals | None:
        row = self.keyed["checkpoints_rows"].get((shard,))
        if row is None:
            return None
        at = _micros(row)
        return StoredSignals(row["signals"], at["closed_ts"] // SECOND_US, at["at"])

    def rows_between(
        self, store: Store, kind: EventName, start_s: int, end_s: int | None, upto: Cuts
    ) -> pa.Table:
        rows = self.raw.get(f"{TABLES[kind]}_rows", [])
        return _columns(
            kind, [r for r in rows if _within(r["ts"], start_s, end_s) and _new(r, {}, upto)]
        )

    def rows_above(self, store: Store, kind: EventName, after: Cuts, upto: Cuts) -> pa.Table:
        rows = self.raw.get(f"{TABLES[kind]}_rows", [])
        return _columns(kind, [row for row in rows if _new(row, after, upto)])

    def spent_by(self, store: Store, by: str, since_s: int, after: Cuts, upto: Cuts) -> pa.Table:
        spent: Counter[tuple[str, int]] = Counter()
        for row in self.raw.get("requests_rows", []):
            key, cost, minute = row.get(by), row.get("cost_nanousd"), row["ts"] // SECOND_US // 60
            if key and cost and _new(row, after, upto) and _within(row["ts"], since_s, None):
                spent[key, minute * 60] += cost
        found = sorted((key, at, cost) for (key, at), cost in spent.items())
        return pa.table(
            {
                "key": pa.array([key for key, _, _ in found], pa.string()),
                "minute": pa.array([at for _, at, _ in found], pa.int64()),
                "nanousd": pa.array([cost for _, _, cost in found], pa.int64()),
            }
        )

    def joined_feedback(self, store: Store, after: Cuts, upto: Cuts) -> pa.Table:
        return _joined(
            (f, r) for f, r in self._pairs(upto) if _new(f, after, upto) or _new(r, after, upto)
        )

    def joined_feedback_between(
        self, store: Store, start_s: int, end_s: int | None, upto: Cuts
    ) -> pa.Table:
        return _joined((f, r) for f, r in self._pairs(upto) if _within(r["ts"], start_s, end_s))

    def _pairs(self, upto: Cuts | None = None) -> Iterator[tuple[Row, Row]]:
        for judgement in self.raw.get("feedback_rows", []):
            for request in self.raw.get("requests_rows", []):
                if upto is not None and not (_new(judgement, {}, upto) and _new(request, {}, upto)):
                    continue
                if request.get("status") and request.get("request_id") == judgement["request_id"]:
                    yield judgement, request

    def panes_touched(self, store: Store, after: Cuts, upto: Cuts, closed_s: int) -> set[int]:
        times = [
            row["ts"]
            for name in ("requests_rows", "steps_rows")
            for row in self.raw.get(name, [])
            if _new(row, after, upto)
        ]
        times += [r["clock_ts"] for r in self.raw.get("frames_rows", []) if _new(r, after, upto)]
        times += [r["ts"] for f, r in self._pairs() if _new(f, after, upto) or _new(r, after, upto)]
        panes = {time // SECOND_US // 10 * 10 for time in times}
        return {pane for pane in panes if pane < closed_s}

    def ledger_cuts(self, store: Store) -> dict[Source, int]:
        cuts: dict[Source, int] = {}
        for row in self.raw.get("frames_rows", []):
            source = row["incarnation"], row["partition"]
            cuts[source] = max(cuts.get(source, -1), row["offset"])
        return cuts

    def ledger_above(self, store: Store, after: Cuts, upto: Cuts) -> list[LedgerEntry]:
        return [entry for entry, row in self._ledger() if _new(row, after, upto)]

    def ledger_between(
        self, store: Store, start_s: int, end_s: int | None, upto: Cuts
    ) -> list[LedgerEntry]:
        return [
            entry
            for entry, row in self._ledger()
            if _within(entry.clock_us, start_s, end_s) and _new(row, {}, upto)
        ]

    def _ledger(self) -> list[tuple[LedgerEntry, Row]]:
        entries = []
        found = sorted(self.facts.get("frames_rows", {}).items())
        for _, row in found:
            stored = row
            row = row | {"clock_us": row["clock_ts"], "append_us": row["append_ts"]}
            for name in ("ranges", "gaps"):
                row[name] = [(pair["1"], pair["2"]) for pair in row[name]]
            for name in ("clock_ts", "append_ts", "epoch"):
                del row[name]
            entries.append((LedgerEntry(**row), stored))
        return entries

    def stored_boots(
        self, store: Store, since_us: int, partitions: Collection[int] | None = None
    ) -> list[tuple[Boot, int]]:
        found = []
        for row in self.keyed["coverage_rows"].values():
            row = _micros(row)
            if row["last_append_ts"] < since_us:
                continue
            if partitions is not None and row["partition"] not in partitions:
                continue
            boot = Boot(row["worker_id"], row["boot_id"], row["partition"])
            for target, ranges in ((boot.seen, row["seen"]), (boot.dropped, row["dropped"])):
                for part in ranges:
                    target.add(part["1"], part["2"], part["3"])
            names = ("received", "stored", "duplicate", "rejected", "late")
            boot.totals.update({name: row[name] for name in names})
            boot.next_seq, boot.body_hash = row["next_seq"], row["body_hash"]
            boot.first_clock_us, boot.clock_us = row["first_ts"], row["last_ts"]
            boot.append_us = row["last_append_ts"]
            boot.closed, boot.identified = row["closed"], row["identified"]
            found.append((boot, row["version"]))
        return found

    @contextlib.contextmanager
    def installed(self) -> Iterator[Store]:
        """What the shells read back is answered from here."""
        with contextlib.ExitStack() as stack:
            for module in (
                cells_module,
                counter_module,
                recovery_module,
                evaluator_module,
                ingestion_module,
                judge_module,
                recount_module,
                signals_module,
                spend_module,
            ):
                for name in READBACK:
                    if hasattr(module, name):
                        stack.enter_context(mock.patch.object(module, name, getattr(self, name)))
            yield cast(Store, self)


def _new(row: Row, after: Cuts, upto: Cuts) -> bool:
    """Whether a row was applied, and not yet at the cuts before."""
    source = row["incarnation"], row["partition"]
    return bool(after.get(source, -1) < row["offset"] <= upto.get(source, -1))


def _within(time_us: int, start_s: int, end_s: int | None) -> bool:
    return start_s * SECOND_US <= time_us and (end_s is None or time_us < end_s * SECOND_US)


def _micros(row: Row) -> Row:
    """Times as integer microseconds, exactly."""
    return {
        name: (int(value.timestamp()) * SECOND_US + value.microsecond)
        if hasattr(value, "timestamp")
        else value
        for name, value in row.items()
    }


def _tiles(rows: Sequence[Row], registry: SliceRegistry) -> dict[Span, Tile]:
    if not rows:
        return {}
    columns = {name: [row[name] for row in rows] for name in ("pane_s", "start_s", *_SLICE)}
    table = pa.table(
        columns
        | {
            "keys": pa.array([row["keys"] for row in rows], pa.list_(pa.uint32())),
            "counts": pa.array([row["counts"] for row in rows], pa.list_(pa.int64())),
        }
    )
    return tiles_from(table, lambda grouping, row: registry.number(stored_slice(grouping, row)))


def _columns(kind: EventName, rows: Sequence[Row]) -> pa.Table:
    names = [name.strip() for name in _COLUMNS[kind].split(",")]
    floats = (
        "quality", "kv_cache_usage", "gpu_utilization", "cpu_utilization", "retry_rate",
        "gpu_temperature_c", "model_load_s",
    )  # fmt: skip
    bools = ("overdue", "cache_hit", "late")
    columns: dict[str, Any] = {}
    for name in ["ts", *names]:
        values = [row.get(name) for row in rows]
        if name in _TEXTS:
            columns[name] = pa.array([value or "" for value in values], pa.string())
        elif name == "safety_flags":
            columns[name] = pa.array([value or [] for value in values], pa.list_(pa.string()))
        else:
            kind_of = pa.float64() if name in floats else pa.int64()
            columns[name] = pa.array(values, pa.bool_() if name in bools else kind_of)
    return pa.table(columns)


def _joined(pairs: Any) -> pa.Table:
    found = list(pairs)
    columns: dict[str, Any] = {"ts": pa.array([r["ts"] for _, r in found], pa.int64())}
    for name in DIMENSIONS:
        columns[name] = pa.array([r.get(name) or "" for _, r in found], pa.string())
    columns["overflow"] = pa.array([r["overflow"] for _, r in found], pa.uint16())
    for name in ("label", "predicted"):
        columns[name] = pa.array([f.get(name) or "" for f, _ in found], pa.string())
    columns["accepted"] = pa.array([f.get("accepted") for f, _ in found], pa.bool_())
    for name in ("satisfaction", "quality", "value"):
        columns[name] = pa.array([f.get(name) for f, _ in found], pa.float64())
    return pa.table(columns)
