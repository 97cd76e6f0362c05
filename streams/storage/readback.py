"""What the processor reads back from the store: tiles, rows to count again, and the ledger."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ...schemas.events import EventName
from ..core.boots import Boot, LedgerEntry
from ..core.delta import Cuts, Source
from ..core.history import Load
from ..core.ingest import TABLES
from ..core.metrics import BIN_BITS, REQUEST_SKETCHES
from ..core.slices import DIMENSIONS, Slice, SliceRegistry, stored_slice
from ..core.tiles import SECOND_US, Span, Tile
from .publish import tiles_from
from .store import Store

TILES_AT_ONCE = 1440  # of signals: a day of minutes, two months of hours

_DIMENSIONS = ", ".join(DIMENSIONS)
_STEP_DIMENSIONS = "model, model_version, adapter, release, variant"
_TIME = "toUnixTimestamp64Micro(t.ts) AS ts"
_REQUEST_COLUMNS = ", ".join(
    [
        _DIMENSIONS,
        "overflow, late, status, error_type, overdue, cached_tokens, reasoning_tokens",
        "cost_nanousd, cache_hit, safety_flags, quality",
        *[sketch.column for sketch in REQUEST_SKETCHES],
    ]
)
_STEP_COLUMNS = (
    f"{_STEP_DIMENSIONS}, overflow, late, preemptions, decode_tokens, prefill_tokens,"
    " cache_evictions, batch_size, batch_capacity, backend_fallback, step_us, queue_prefill,"
    " queue_decode, kv_cache_usage, gpu_utilization, gpu_memory_used_bytes, gpu_memory_total_bytes,"
    " gpu_temperature_c, cpu_utilization, running, retry_rate, model_load_s, healthy_replicas,"
    " expected_replicas, host_memory_bytes, host_memory_total_bytes"
)
_COLUMNS: dict[EventName, str] = {"request": _REQUEST_COLUMNS, "step": _STEP_COLUMNS}


# Sources as numbers, so that SQL can look their cuts up.
_SOURCE = "toUInt64({t}incarnation) * 65536 + {t}partition"


def _cut(name: str, cuts: Cuts, alias: str = "t.") -> tuple[str, dict[str, Any]]:
    """SQL of the cut of a row's source, -1 where it has none; and its parameters."""
    keys = [incarnation << 16 | partition for incarnation, partition in cuts]
    sql = (
        f"transform({_SOURCE.format(t=alias)}, {{{name}_sources:Array(UInt64)}},"
        f" {{{name}_cuts:Array(Int64)}}, toInt64(-1))"
    )
    if not keys:
        return "toInt64(-1)", {}
    return sql, {f"{name}_sources": keys, f"{name}_cuts": list(cuts.values())}


def applied_sql(cuts: Cuts, alias: str = "t.") -> tuple[str, dict[str, Any]]:
    """SQL condition that a row was applied, and its parameters; `alias` is the table's, with a dot."""
    sql, parameters = _cut("upto", cuts, alias)
    return f"toInt64({alias}offset) <= {sql}", parameters


def between_sql(after: Cuts, upto: Cuts, alias: str = "t.") -> str:
    """SQL condition: the row was applied, and not yet at the cuts before."""
    parts = [
        f"({alias}incarnation = {source[0]} AND {alias}partition = {source[1]}"
        f" AND {alias}offset >= {after.get(source, -1) + 1} AND {alias}offset <= {cut})"
        for source, cut in upto.items()
        if cut > after.get(source, -1)
    ]
    return f"({' OR '.join(parts)})" if parts else "0"


def tile_loader(store: Store, registry: SliceRegistry, shard: int = 0) -> Load:
    """Fetches a shard's stored tiles, numbered by `registry`, with one query."""

    def number(grouping: str, dimensions: Mapping[str, str]) -> int:
        return registry.number(stored_slice(grouping, dimensions))

    def load(spans: Sequence[Span]) -> Mapping[Span, Tile]:
        wanted = [(span.length_s, span.start_s) for span in spans]
        # The range lets the primary key do the work; the pairs pick out what is wanted.
        table = store.arrow(
            f"SELECT pane_s, toUnixTimestamp(pane_start) AS start_s, grouping, {_DIMENSIONS},"
            " keys, counts FROM penstock.panes_rows FINAL"
            " WHERE pane_s IN {tiers:Array(UInt32)} AND pane_start >= toDateTime({low:UInt32})"
            " AND pane_start <= toDateTime({high:UInt32}) AND partition = {shard:UInt32}"
            " AND (pane_s, toUnixTimestamp(pane_start)) IN {spans:Array(Tuple(UInt32, UInt32))}",
            {
                "tiers": sorted({length for length, _ in wanted}),
                "low": max(min(start for _, start in wanted), 0),
                "high": max(start for _, start in wanted),
                "spans": wanted,
                "shard": shard,
            },
        )
        return tiles_from(table, number)

    return load


def cells_between(
    store: Store, registry: SliceRegistry, start_s: int, end_s: int, shard: int | None = None
) -> list[tuple[Span, Tile]]:
    """Closed 1 s cells of all shards, or of one, within [start_s, end_s), ascending."""
    mine = "" if shard is None else " AND partition = {shard:UInt32}"
    table = store.arrow(
        f"SELECT pane_s, toUnixTimestamp(pane_start) AS start_s, grouping, {_DIMENSIONS},"
        " keys, counts FROM penstock.panes_rows FINAL"
        " WHERE pane_s = 1 AND pane_start >= toDateTime({low:UInt32})"
        f" AND pane_start < toDateTime({{high:UInt32}}){mine}",
        {"low": max(start_s, 0), "high": end_s, "shard": shard or 0},
    )
    tiles = tiles_from(table, lambda grouping, row: registry.number(stored_slice(grouping, row)))
    return sorted(tiles.items())


def signal_tiles(
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
    """Some keys of some slices of a shard's tiles of one length that start within [start_s, end_s).

    `metrics` asks for all keys of these metrics beside `keys`: the bins of a sketch.
    """
    wanted = (
        f"(has({{keys:Array(UInt32)}}, key)"
        f" OR has({{metrics:Array(UInt32)}}, bitShiftRight(key, {BIN_BITS})))"
    )
    for low_s in range(start_s, end_s, length_s * TILES_AT_ONCE):
        table = store.arrow(
            f"SELECT pane_s, toUnixTimestamp(pane_start) AS start_s, grouping, {_DIMENSIONS},"
            f" arrayFilter((key) -> {wanted}, keys) AS keys,"
            f" arrayFilter((count, key) -> {wanted}, t.counts, t.keys) AS counts"
            " FROM penstock.panes_rows AS t FINAL WHERE pane_s = {length:UInt32}"
            " AND pane_start >= toDateTime({low:UInt32}) AND pane_start < toDateTime({high:UInt32})"
            f" AND partition = {{shard:UInt32}} AND (grouping, {_DIMENSIONS}) IN {{slices:Array(Tuple("
            f"{', '.join(['String'] * (len(DIMENSIONS) + 1))}))}}",
            {
                "keys": list(keys),
                "metrics": list(metrics),
                "length": length_s,
                "low": max(low_s, 0),
                "high": min(low_s + length_s * TILES_AT_ONCE, end_s),
                "shard": shard,
                "slices": [(item.grouping, *item.dimensions().values()) for item in slices],
            },
        )
        yield tiles_from(table, lambda grouping, row: registry.number(stored_slice(grouping, row)))


@dataclass(frozen=True, slots=True)
class StoredSignals:
    """What the checkpoint of a shard says of its signals, when it was written and for which moment."""

    text: str
    closed_s: int
    at_us: int


def stored_signals(store: Store, shard: int) -> StoredSignals | None:
    """The signals of the checkpoint that counts; None where a shard has none."""
    rows = store.query(
        "SELECT signals, toUnixTimestamp(closed_ts) AS closed_s, toUnixTimestamp64Micro(at) AS at_us"
        " FROM penstock.checkpoints_rows FINAL WHERE partition = {shard:UInt32}",
        {"shard": shard},
    )
    if not rows:
        return None
    row = rows[0]
    return StoredSignals(row["signals"], int(row["closed_s"]), int(row["at_us"]))


def rows_between(
    store: Store, kind: EventName, start_s: int, end_s: int | None, upto: Cuts
) -> pa.Table:
    """Applied rows of a kind with event time in [start_s, end_s), as far as counting needs them."""
    until = "" if end_s is None else " AND t.ts < fromUnixTimestamp64Micro({high:Int64})"
    applied, parameters = applied_sql(upto)
    return store.arrow(
        f"SELECT {_TIME}, {_COLUMNS[kind]} FROM penstock.{TABLES[kind]}_rows AS t FINAL"
        f" WHERE t.ts >= fromUnixTimestamp64Micro({{low:Int64}}){until} AND {applied}",
        {"low": start_s * SECOND_US, "high": (end_s or 0) * SECOND_US} | parameters,
    )


def rows_above(store: Store, kind: EventName, after: Cuts, upto: Cuts) -> pa.Table:
    """Rows of a kind that were applied since the cuts before."""
    return store.arrow(
        f"SELECT {_TIME}, {_COLUMNS[kind]} FROM penstock.{TABLES[kind]}_rows AS t FINAL"
        f" WHERE {between_sql(after, upto)}"
    )


_JOINED = (
    "SELECT toUnixTimestamp64Micro(r.ts) AS ts, "
    + ", ".join(f"r.{name} AS {name}" for name in DIMENSIONS)
    + ", r.overflow AS overflow, f.label AS label, f.predicted AS predicted, f.accepted AS accepted,"
    " f.satisfaction AS satisfaction, f.quality AS quality, f.value AS value"
    " FROM (SELECT * FROM penstock.feedback_rows FINAL WHERE {feedback}) AS f"
    " INNER JOIN (SELECT * FROM penstock.requests_rows FINAL WHERE {requests}) AS r"
    " USING (request_id) WHERE r.status != ''"
)


def joined_feedback(store: Store, after: Cuts, upto: Cuts) -> pa.Table:
    """Pairs of feedback and request, both applied, of which at least one was not at the cuts before."""
    new = between_sql(after, upto, "")
    applied, parameters = applied_sql(upto, "")
    # Two questions, so that in each an index finds the rows.
    named = f"request_id IN (SELECT request_id FROM penstock.feedback_rows WHERE {new})"
    of_new_feedback = _JOINED.replace("{feedback}", new).replace(
        "{requests}", f"{applied} AND {named}"
    )
    named = f"request_id IN (SELECT request_id FROM penstock.requests_rows WHERE {new})"
    of_new_requests = _JOINED.replace("{feedback}", f"{applied} AND NOT {new} AND {named}").replace(
        "{requests}", new
    )
    return pa.concat_tables(
        [store.arrow(of_new_feedback, parameters), store.arrow(of_new_requests, parameters)]
    )


def joined_feedback_between(store: Store, start_s: int, end_s: int | None, upto: Cuts) -> pa.Table:
    """Applied pairs of feedback and request whose request lies in [start_s, end_s)."""
    applied, parameters = applied_sql(upto, "")
    within = f"ts >= fromUnixTimestamp64Micro({{low:Int64}}) AND {applied}"
    if end_s is not None:
        within += " AND ts < fromUnixTimestamp64Micro({high:Int64})"
    return store.arrow(
        _JOINED.replace("{feedback}", applied).replace("{requests}", within),
        {"low": start_s * SECOND_US, "high": (end_s or 0) * SECOND_US} | parameters,
    )


def panes_touched(store: Store, after: Cuts, upto: Cuts, closed_s: int) -> set[int]:
    """Starts of closed panes in which a row, feedback or coverage was applied since some cuts."""
    pane = "intDiv(toUnixTimestamp({}), 10) * 10"
    new = between_sql(after, upto, "")
    of_feedback, of_request = between_sql(after, upto, "f."), between_sql(after, upto, "r.")
    request = (
        f"SELECT request_id, {pane.format('ts')} AS pane, offset, incarnation, partition"
        " FROM penstock.requests_rows"
    )
    rows = store.query(
        f"SELECT DISTINCT pane FROM ("
        f" SELECT {pane.format('ts')} AS pane FROM penstock.requests_rows WHERE {new}"
        f" UNION ALL SELECT {pane.format('ts')} FROM penstock.steps_rows WHERE {new}"
        f" UNION ALL SELECT {pane.format('clock_ts')} FROM penstock.frames_rows WHERE {new}"
        f" UNION ALL SELECT r.pane FROM penstock.feedback_rows AS f INNER JOIN ({request}) AS r"
        f" USING (request_id) WHERE ({of_feedback}) OR ({of_request})"
        ") WHERE pane < {closed:UInt32}",
        {"closed": closed_s},
    )
    return {int(row["pane"]) for row in rows}


def ledger_cuts(store: Store) -> dict[Source, int]:
    """The highest offset of every source in the ledger."""
    rows = store.query(
        "SELECT incarnation, partition, max(offset) AS cut FROM penstock.frames_rows"
        " GROUP BY incarnation, partition"
    )
    return {(int(r["incarnation"]), int(r["partition"])): int(r["cut"]) for r in rows}


_ORDER = "ORDER BY incarnation, partition, offset, part"
_LEDGER = (
    "SELECT incarnation, partition, offset, kind, worker_id, boot_id, ranges, gaps, next_seq,"
    " toUnixTimestamp64Micro(clock_ts) AS clock_us, closing, identified, stored, duplicate,"
    " rejected, late, toUnixTimestamp64Micro(append_ts) AS append_us, body_hash, part"
    " FROM penstock.frames_rows FINAL"
)


def ledger_above(store: Store, after: Cuts, upto: Cuts) -> list[LedgerEntry]:
    """Frames that were applied since the cuts before, in order."""
    rows = store.query(f"{_LEDGER} WHERE {between_sql(after, upto, '')} {_ORDER}")
    return [LedgerEntry(**_ranged(row)) for row in rows]


def ledger_between(store: Store, start_s: int, end_s: int | None, upto: Cuts) -> list[LedgerEntry]:
    """Applied frames whose clock lies in [start_s, end_s)."""
    until = "" if end_s is None else " AND clock_ts < fromUnixTimestamp64Micro({high:Int64})"
    applied, parameters = applied_sql(upto, "")
    rows = store.query(
        f"{_LEDGER} WHERE clock_ts >= fromUnixTimestamp64Micro({{low:Int64}}){until}"
        f" AND {applied} {_ORDER}",
        {"low": start_s * SECOND_US, "high": (end_s or 0) * SECOND_US} | parameters,
    )
    return [LedgerEntry(**_ranged(row)) for row in rows]


def _ranged(row: dict[str, Any]) -> dict[str, Any]:
    ranges = {
        name: [(int(low), int(high)) for low, high in row[name]] for name in ("ranges", "gaps")
    }
    return row | ranges


def stored_boots(
    store: Store, since_us: int, partitions: Collection[int] | None = None
) -> list[tuple[Boot, int]]:
    """Boots as last written, of all partitions or some, with the version up to which they count."""
    some = "" if partitions is None else " AND partition IN {partitions:Array(UInt32)}"
    rows = store.query(
        "SELECT *, toUnixTimestamp64Micro(first_ts) AS first_us,"
        " toUnixTimestamp64Micro(last_ts) AS last_us,"
        " toUnixTimestamp64Micro(last_append_ts) AS append_us FROM penstock.coverage_rows FINAL"
        f" WHERE last_append_ts >= fromUnixTimestamp64Micro({{since:Int64}}){some}",
        {"since": since_us} | ({} if partitions is None else {"partitions": list(partitions)}),
    )
    return [(_boot(row), int(row["version"])) for row in rows]


def _boot(row: Mapping[str, Any]) -> Boot:
    boot = Boot(row["worker_id"], row["boot_id"], int(row["partition"]))
    for target, ranges in ((boot.seen, row["seen"]), (boot.dropped, row["dropped"])):
        for low, high, mark in ranges:
            target.add(int(low), int(high), int(mark))
    boot.totals.update(
        {name: int(row[name]) for name in ("received", "stored", "duplicate", "rejected", "late")}
    )
    boot.next_seq = int(row["next_seq"])
    boot.first_clock_us, boot.clock_us = int(row["first_us"]), int(row["last_us"])
    boot.append_us, boot.body_hash = int(row["append_us"]), int(row["body_hash"])
    boot.closed, boot.identified = bool(row["closed"]), bool(row["identified"])
    return boot
