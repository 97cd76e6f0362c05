"""Results as rows: closed tiles, windows, coverage and checkpoints, for the store's tables.

Every row is keyed and versioned, so that writing it again changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..core.boots import Boot, LedgerEntry
from ..core.delta import Cuts
from ..core.intervals import Intervals
from ..core.pipeline import WindowRows
from ..core.shard import Shard
from ..core.shards import Takes
from ..core.slices import COVERAGE, DIMENSIONS, Slice
from ..core.tiles import CELL_S, SLICE_BITS, Span, Tile, tile_of

_MICROS = pa.timestamp("us", "UTC")
_SECONDS = pa.timestamp("s", "UTC")
_RANGES = pa.list_(pa.struct([("1", pa.uint64()), ("2", pa.uint64())]))
_CUTS = pa.list_(pa.struct([("1", pa.uint32()), ("2", pa.uint32()), ("3", pa.uint64())]))
_LOSSES = pa.list_(
    pa.struct([("1", pa.string()), ("2", pa.uint32()), ("3", pa.uint16()), ("4", pa.int64())])
)
_MARKED = pa.list_(pa.struct([("1", pa.uint64()), ("2", pa.uint64()), ("3", pa.int64())]))


OFFSET_BITS = 40
OFFSET_MASK = (1 << OFFSET_BITS) - 1


def version_of(incarnation: int, cut: int) -> int:
    """The version of a derived row: a later life of the topic, or a later cut, is higher."""
    return incarnation << OFFSET_BITS | cut


def timestamps(micros: Sequence[int] | npt.NDArray[np.int64]) -> Any:
    """Integer microseconds as an Arrow timestamp column."""
    return pa.array(micros, pa.int64()).cast(_MICROS)


def event_rows(table: pa.Table) -> pa.Table:
    """Decoded rows with their times as timestamps, as the tables of events want them."""
    for name in ("ts", "append_ts", "start_us"):
        if name in table.column_names:
            column = table[name].cast(pa.int64()).cast(_MICROS)
            table = table.set_column(table.column_names.index(name), name, column)
    return table


def quarantine_rows(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rejected rows for `quarantine_rows`."""
    table = pa.Table.from_pylist(list(rows))
    return event_rows(table)


def ledger_rows(entries: Sequence[LedgerEntry], epoch: int) -> pa.Table:
    """Applied frames for `frames_rows`."""
    plain: dict[str, Any] = {
        name: [getattr(entry, name) for entry in entries]
        for name in (
            "incarnation", "partition", "offset", "kind", "worker_id", "boot_id", "next_seq",
            "closing", "identified", "stored", "duplicate", "rejected", "late", "body_hash", "part",
        )
    }  # fmt: skip
    plain["body_hash"] = pa.array(plain["body_hash"], pa.uint64())
    return pa.table(
        plain
        | {
            "ranges": _pairs([entry.ranges for entry in entries]),
            "gaps": _pairs([entry.gaps for entry in entries]),
            "clock_ts": timestamps([entry.clock_us for entry in entries]),
            "append_ts": timestamps([entry.append_us for entry in entries]),
            "epoch": [epoch] * len(entries),
        }
    )


def _pairs(values: Iterable[Sequence[tuple[int, int]]]) -> Any:
    return pa.array([[{"1": low, "2": high} for low, high in value] for value in values], _RANGES)


def _dimensions(slices: Sequence[Slice], numbers: npt.NDArray[np.int64]) -> dict[str, Any]:
    """The grouping set and dimension columns of rows that belong to slices."""
    known = [(slices[number].grouping, slices[number].dimensions()) for number in numbers.tolist()]
    columns: dict[str, Any] = {"grouping": pa.array([grouping for grouping, _ in known])}
    return columns | {name: pa.array([dims[name] for _, dims in known]) for name in DIMENSIONS}


def tile_rows(
    tiles: Iterable[tuple[Span, Tile]],
    slices: Sequence[Slice],
    shard: int,
    version: int,
    state: str = "complete",
    mine: Takes | None = None,
) -> pa.Table | None:
    """Closed tiles for `panes_rows`, a row per slice, of all or of the shard's own; None for nothing.

    A pane that was amended to nothing (a hole was filled) is written as an empty row of coverage.
    """
    own = [(span, _own(tile, slices, mine)) for span, tile in tiles]
    parts = [
        _tile_rows(span, tile, slices) for span, tile in own if len(tile) or span.length_s > CELL_S
    ]
    if not parts:
        return None
    table = pa.concat_tables(parts)
    size = table.num_rows
    table = table.append_column("partition", pa.array(np.full(size, shard, np.uint32)))
    table = table.append_column("version", pa.array(np.full(size, version, np.uint64)))
    return table.append_column("state", pa.array([state] * size))


def _own(tile: Tile, slices: Sequence[Slice], mine: Takes | None) -> Tile:
    if mine is None:
        return tile
    present = np.unique(tile.slices)
    return tile.only(np.array([n for n in present.tolist() if mine(slices[n])], np.int64))


def _tile_rows(span: Span, tile: Tile, slices: Sequence[Slice]) -> pa.Table:
    numbers, starts = np.unique(tile.slices, return_index=True)
    if span.length_s > CELL_S and COVERAGE not in numbers:
        # Perhaps a hole was filled: what was written of it before is replaced by nothing.
        numbers, starts = np.append(numbers, COVERAGE), np.append(starts, len(tile))
    offsets = pa.array(np.append(starts, len(tile)), pa.int32())
    size = len(numbers)
    return pa.table(
        {
            "pane_s": pa.array(np.full(size, span.length_s, np.uint32)),
            "pane_start": pa.array(np.full(size, span.start_s, np.int64)).cast(_SECONDS),
            **_dimensions(slices, numbers),
            "keys": pa.ListArray.from_arrays(offsets, pa.array(tile.keys)),
            "counts": pa.ListArray.from_arrays(offsets, pa.array(tile.counts)),
        }
    )


def tiles_from(table: pa.Table, number: Any) -> dict[Span, Tile]:
    """Stored tiles read back: the inverse of `tile_rows`, summed over partitions.

    Args:
        table: columns pane_s, start_s, grouping, the dimensions, keys and counts.
        number: gives the number of (grouping, {dimension: value}).
    """
    codes: dict[Span, list[npt.NDArray[np.uint64]]] = {}
    counts: dict[Span, list[npt.NDArray[np.int64]]] = {}
    plain = table.drop_columns(["keys", "counts"]).to_pylist()
    keys, values = table["keys"].combine_chunks(), table["counts"].combine_chunks()
    for at, row in enumerate(plain):
        span = Span(int(row["pane_s"]), int(row["start_s"]))
        head = np.uint64(number(row["grouping"], row) << SLICE_BITS)
        codes.setdefault(span, []).append(
            np.asarray(keys[at].values.to_numpy(zero_copy_only=False), np.uint64) | head
        )
        counts.setdefault(span, []).append(
            np.asarray(values[at].values.to_numpy(zero_copy_only=False), np.int64)
        )
    return {
        span: tile_of(np.concatenate(codes[span]), np.concatenate(counts[span])) for span in codes
    }


def window_rows(
    windows: Sequence[WindowRows],
    slices: Sequence[Slice],
    version: int,
    mine: Takes | None = None,
) -> pa.Table | None:
    """Windows for `windows_rows`, a row per slice, of all or of the shard's own; None for nothing."""
    parts = []
    for window in windows:
        size = len(window.slices)
        columns: dict[str, Any] = {
            "window_s": pa.array(np.full(size, window.length_s, np.uint32)),
            "end": pa.array(np.full(size, window.end_s, np.int64)).cast(_SECONDS),
            **_dimensions(slices, window.slices),
        }
        for name, values in window.columns.items():
            columns[name] = _window_column(name, values)
        columns["version"] = pa.array(np.full(size, version, np.uint64))
        table = pa.table(columns)
        if mine is not None:
            keep = [mine(slices[number]) for number in window.slices.tolist()]
            table = table.filter(pa.array(keep, pa.bool_()))
        if table.num_rows:
            parts.append(table)
    return pa.concat_tables(parts) if parts else None


def checkpoint_rows(
    shards: Sequence[Shard], now_us: int, signals: Sequence[str] | None = None
) -> pa.Table:
    """How far publication has come, for `checkpoints_rows`, with the signals of each shard."""
    versions = [shard.version for shard in shards]
    losses = [
        [
            {"1": boot_id, "2": pane, "3": metric, "4": count}
            for boot_id, found in shard.fleet.losses().items()
            for (pane, metric), count in found.items()
        ]
        for shard in shards
    ]
    cuts = [
        [{"1": i, "2": p, "3": cut} for (i, p), cut in shard.complete.items() if cut >= 0]
        for shard in shards
    ]
    return pa.table(
        {
            "partition": pa.array([shard.number for shard in shards], pa.uint32()),
            "incarnation": pa.array([incarnation for incarnation, _ in versions], pa.uint32()),
            "cut": [max(shard.complete.values(), default=0) for shard in shards],
            "closed_ts": pa.array([shard.pipeline.closed_s for shard in shards]).cast(_SECONDS),
            "epoch": [0] * len(shards),
            "stale_s": pa.array(
                [list(shard.pipeline.stale or ()) for shard in shards], pa.list_(pa.uint32())
            ),
            "cuts": pa.array(cuts, _CUTS),
            "losses": pa.array(losses, _LOSSES),
            "signals": signals or [""] * len(shards),
            "at": timestamps([now_us] * len(shards)),
            "version": pa.array([version_of(*version) for version in versions], pa.uint64()),
        }
    )


def verdict_rows(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Verdicts for `verdicts_rows`; `as_of` in integer microseconds."""
    table = pa.Table.from_pylist([dict(row) for row in rows])
    at = table.column_names.index("as_of")
    return table.set_column(at, "as_of", timestamps([row["as_of"] for row in rows]))


def _window_column(name: str, values: Any) -> Any:
    if name == "errors_by_type":
        pairs = [list(value.items()) for value in values]
        return pa.array(pairs, pa.map_(pa.string(), pa.uint64()))
    if isinstance(values, list):
        return pa.array(values)
    # NaN means "nothing to say", which the store calls NULL.
    return pa.array(values, from_pandas=values.dtype.kind == "f")


def coverage_rows(boots: Sequence[Boot], cuts: Cuts) -> pa.Table:
    """What each boot sent and what arrived, for `coverage_rows`, as of the cut of its source."""
    versions = [
        version_of(boot.incarnation, max(cuts.get((boot.incarnation, boot.partition), 0), 0))
        for boot in boots
    ]
    totals = ("received", "stored", "duplicate", "rejected", "late")
    columns: dict[str, Any] = {
        "worker_id": [boot.worker_id for boot in boots],
        "boot_id": [boot.boot_id for boot in boots],
        "partition": pa.array([boot.partition for boot in boots], pa.uint32()),
        "version": pa.array(versions, pa.uint64()),
        "first_ts": timestamps([boot.first_clock_us for boot in boots]),
        "last_ts": timestamps([boot.clock_us for boot in boots]),
        "last_append_ts": timestamps([boot.append_us for boot in boots]),
        "next_seq": [boot.next_seq for boot in boots],
        "expected": [boot.expected for boot in boots],
        "missing": [boot.missing for boot in boots],
        "gap": [boot.gap for boot in boots],
        "state": [boot.state for boot in boots],
        "closed": [boot.closed for boot in boots],
        "identified": [boot.identified for boot in boots],
        "body_hash": pa.array([boot.body_hash for boot in boots], pa.uint64()),
        "seen": _marked([boot.seen for boot in boots]),
        "dropped": _marked([boot.dropped for boot in boots]),
    }
    return pa.table(columns | {name: [boot.totals[name] for boot in boots] for name in totals})


def _marked(values: Iterable[Intervals]) -> Any:
    rows = [
        [{"1": low, "2": high, "3": mark} for low, high, mark in value.ranges()] for value in values
    ]
    return pa.array(rows, _MARKED)
