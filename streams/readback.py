"""What the processor reads back from the store: tiles, rows to count again, and the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ..schemas.events import EventName
from .core.boots import Boot, LedgerEntry
from .core.history import Load
from .core.ingest import TABLES
from .core.metrics import REQUEST_SKETCHES
from .core.slices import DIMENSIONS, SliceRegistry, stored_slice
from .core.tiles import SECOND_US, Span, Tile
from .publish import tiles_from
from .store import Store

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
    " queue_decode, kv_cache_usage, gpu_utilization, gpu_memory_used_bytes, gpu_memory_total_bytes"
)
_COLUMNS: dict[EventName, str] = {"request": _REQUEST_COLUMNS, "step": _STEP_COLUMNS}


def tile_loader(store: Store, registry: SliceRegistry) -> Load:
    """Fetches stored tiles, numbered by `registry`, with one query."""

    def number(grouping: str, dimensions: Mapping[str, str]) -> int:
        return registry.number(stored_slice(grouping, dimensions))

    def load(spans: Sequence[Span]) -> Mapping[Span, Tile]:
        wanted = [(span.length_s, span.start_s) for span in spans]
        # The range lets the primary key do the work; the pairs pick out what is wanted.
        table = store.arrow(
            f"SELECT pane_s, toUnixTimestamp(pane_start) AS start_s, grouping, {_DIMENSIONS},"
            " keys, counts FROM penstock.panes_rows FINAL"
            " WHERE pane_s IN {tiers:Array(UInt32)} AND pane_start >= toDateTime({low:UInt32})"
            " AND pane_start <= toDateTime({high:UInt32})"
            " AND (pane_s, toUnixTimestamp(pane_start)) IN {spans:Array(Tuple(UInt32, UInt32))}",
            {
                "tiers": sorted({length for length, _ in wanted}),
                "low": max(min(start for _, start in wanted), 0),
                "high": max(start for _, start in wanted),
                "spans": wanted,
            },
        )
        return tiles_from(table, number)

    return load


def cells_between(
    store: Store, registry: SliceRegistry, start_s: int, end_s: int
) -> list[tuple[Span, Tile]]:
    """Closed 1 s cells within [start_s, end_s), ascending."""
    table = store.arrow(
        f"SELECT pane_s, toUnixTimestamp(pane_start) AS start_s, grouping, {_DIMENSIONS},"
        " keys, counts FROM penstock.panes_rows FINAL"
        " WHERE pane_s = 1 AND pane_start >= toDateTime({low:UInt32})"
        " AND pane_start < toDateTime({high:UInt32})",
        {"low": max(start_s, 0), "high": end_s},
    )
    tiles = tiles_from(table, lambda grouping, row: registry.number(stored_slice(grouping, row)))
    return sorted(tiles.items())


def rows_between(store: Store, kind: EventName, start_s: int, end_s: int | None) -> pa.Table:
    """Stored rows of a kind with event time in [start_s, end_s), as far as counting needs them."""
    until = "" if end_s is None else " AND t.ts < fromUnixTimestamp64Micro({high:Int64})"
    return store.arrow(
        f"SELECT {_TIME}, {_COLUMNS[kind]} FROM penstock.{TABLES[kind]}_rows AS t FINAL"
        f" WHERE t.ts >= fromUnixTimestamp64Micro({{low:Int64}}){until}",
        {"low": start_s * SECOND_US, "high": (end_s or 0) * SECOND_US},
    )


def late_rows_after(store: Store, kind: EventName, cut: int) -> pa.Table:
    """Rows of a kind above a cut that came after their cell had closed."""
    return store.arrow(
        f"SELECT {_TIME}, {_COLUMNS[kind]} FROM penstock.{TABLES[kind]}_rows AS t FINAL"
        " WHERE late AND offset > {cut:UInt64}",
        {"cut": cut},
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


def joined_feedback(store: Store, ids: Sequence[str], first_offset: int) -> pa.Table:
    """Pairs of feedback and request of which at least one came at or after an offset."""
    some = "request_id IN {ids:Array(String)}"
    return store.arrow(
        _JOINED.replace("{feedback}", some).replace("{requests}", some)
        + " AND (f.offset >= {first:UInt64} OR r.offset >= {first:UInt64})",
        {"ids": list(ids), "first": first_offset},
    )


def joined_feedback_between(store: Store, start_s: int, end_s: int | None) -> pa.Table:
    """Pairs of feedback and request whose request lies in [start_s, end_s)."""
    within = "ts >= fromUnixTimestamp64Micro({low:Int64})"
    if end_s is not None:
        within += " AND ts < fromUnixTimestamp64Micro({high:Int64})"
    return store.arrow(
        _JOINED.replace("{feedback}", "1").replace("{requests}", within),
        {"low": start_s * SECOND_US, "high": (end_s or 0) * SECOND_US},
    )


def panes_touched_after(store: Store, cut: int, closed_s: int) -> set[int]:
    """Starts of closed panes that hold a row, or feedback, or coverage of offsets above a cut."""
    pane = "intDiv(toUnixTimestamp({}), 10) * 10"
    request = f"SELECT request_id, {pane.format('ts')} AS pane, offset FROM penstock.requests_rows"
    rows = store.query(
        f"SELECT DISTINCT pane FROM ("
        f" SELECT {pane.format('ts')} AS pane FROM penstock.requests_rows WHERE offset > {{cut:UInt64}}"
        f" UNION ALL SELECT {pane.format('ts')} FROM penstock.steps_rows WHERE offset > {{cut:UInt64}}"
        f" UNION ALL SELECT {pane.format('clock_ts')} FROM penstock.frames_rows WHERE offset > {{cut:UInt64}}"
        f" UNION ALL SELECT r.pane FROM penstock.feedback_rows AS f INNER JOIN ({request}) AS r"
        " USING (request_id) WHERE f.offset > {cut:UInt64} OR r.offset > {cut:UInt64}"
        ") WHERE pane < {closed:UInt32}",
        {"cut": cut, "closed": closed_s},
    )
    return {int(row["pane"]) for row in rows}


_LEDGER = (
    "SELECT incarnation, partition, offset, kind, worker_id, boot_id, ranges, gaps, next_seq,"
    " toUnixTimestamp64Micro(clock_ts) AS clock_us, closing, identified, stored, duplicate,"
    " rejected, late, toUnixTimestamp64Micro(append_ts) AS append_us, body_hash"
    " FROM penstock.frames_rows FINAL"
)


def ledger_after(store: Store, cut: int) -> list[LedgerEntry]:
    """Applied frames above a cut (-1 for all), in order."""
    rows = store.query(
        f"{_LEDGER} WHERE offset >= {{first:UInt64}} ORDER BY offset", {"first": cut + 1}
    )
    return [LedgerEntry(**_ranged(row)) for row in rows]


def ledger_between(store: Store, start_s: int, end_s: int | None) -> list[LedgerEntry]:
    """Applied frames whose clock lies in [start_s, end_s)."""
    until = "" if end_s is None else " AND clock_ts < fromUnixTimestamp64Micro({high:Int64})"
    rows = store.query(
        f"{_LEDGER} WHERE clock_ts >= fromUnixTimestamp64Micro({{low:Int64}}){until} ORDER BY offset",
        {"low": start_s * SECOND_US, "high": (end_s or 0) * SECOND_US},
    )
    return [LedgerEntry(**_ranged(row)) for row in rows]


def _ranged(row: dict[str, Any]) -> dict[str, Any]:
    ranges = {
        name: [(int(low), int(high)) for low, high in row[name]] for name in ("ranges", "gaps")
    }
    return row | ranges


def stored_boots(store: Store, since_us: int) -> list[tuple[Boot, int]]:
    """Boots as last written, with the version up to which they count."""
    rows = store.query(
        "SELECT *, toUnixTimestamp64Micro(first_ts) AS first_us,"
        " toUnixTimestamp64Micro(last_ts) AS last_us,"
        " toUnixTimestamp64Micro(last_append_ts) AS append_us FROM penstock.coverage_rows FINAL"
        " WHERE last_append_ts >= fromUnixTimestamp64Micro({since:Int64})",
        {"since": since_us},
    )
    return [(_boot(row), int(row["version"])) for row in rows]


def _boot(row: Mapping[str, Any]) -> Boot:
    boot = Boot(row["worker_id"], row["boot_id"])
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
