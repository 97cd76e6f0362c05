from __future__ import annotations

import numpy as np
import pyarrow as pa
from penstock.streams.core.boots import LedgerEntry
from penstock.streams.core.pipeline import WindowRows
from penstock.streams.core.slices import Slice, SliceRegistry, stored_slice
from penstock.streams.core.tiles import EMPTY, Span, merge, tile_of
from penstock.streams.core.tracker import BootTracker
from penstock.streams.core.windows import rows_of
from penstock.streams.storage.publish import (
    coverage_rows,
    event_rows,
    ledger_rows,
    quarantine_rows,
    tile_rows,
    tiles_from,
    timestamps,
    version_of,
    window_rows,
)

S = 1_000_000


def registry() -> SliceRegistry:
    found = SliceRegistry(10, 10)
    found.number(Slice("model", ("m",)))
    return found


def test_tiles_survive_their_rows() -> None:
    slices = registry()
    a = tile_of(np.array([5, 2 << 32 | 7, 2 << 32 | 9], np.uint64), np.array([-2, 2**60, 3]))
    b = tile_of(np.array([8], np.uint64), np.array([1]))
    rows = tile_rows([(Span(10, 20), a), (Span(60, 0), b)], slices.slices, 0, 7)
    assert rows is not None
    # Coverage always has a row: of nothing where nothing came, so that a filled hole is gone.
    assert rows.num_rows == 5
    assert set(rows["version"].to_pylist()) == {7}

    def number(grouping: str, row: dict[str, str]) -> int:
        return slices.number(stored_slice(grouping, row))

    starts = rows["pane_start"].cast(pa.int64())
    back = tiles_from(rows.append_column("start_s", starts), number)
    assert back == {Span(10, 20): a, Span(60, 0): b}
    both = pa.concat_tables([rows, rows]).append_column(  # of two partitions
        "start_s", pa.concat_arrays([starts.combine_chunks()] * 2)
    )
    assert tiles_from(both, number)[Span(10, 20)] == merge([a, a])


def test_a_pane_amended_to_nothing_is_written_as_an_empty_row_of_coverage() -> None:
    assert tile_rows([(Span(1, 20), EMPTY)], registry().slices, 0, 7) is None
    rows = tile_rows([(Span(10, 20), EMPTY)], registry().slices, 0, 7)
    assert rows is not None
    (row,) = rows.to_pylist()
    assert (row["grouping"], row["keys"], row["counts"]) == ("coverage", [], [])


def test_windows_say_null_for_nothing() -> None:
    slices, columns = rows_of(EMPTY, 60, 1, False)
    rows = window_rows([WindowRows(60, 120, slices, columns)], registry().slices, 3)
    assert rows is not None
    (row,) = rows.to_pylist()
    assert row["error_rate"] is None
    assert row["requests"] == 0
    assert row["errors_by_type"] == []
    assert window_rows([], registry().slices, 3) is None


def entry() -> LedgerEntry:
    return LedgerEntry(
        incarnation=1, partition=0, offset=4, kind="request", worker_id="w", boot_id="b",
        ranges=[(0, 5), (7, 9)], gaps=[(5, 6)], next_seq=9, clock_us=3 * S, closing=True,
        identified=True, stored=6, duplicate=1, rejected=1, late=2, append_us=4 * S,
        body_hash=2**56 - 1,
    )  # fmt: skip


def test_the_ledger_and_coverage_as_rows() -> None:
    (row,) = ledger_rows([entry()], 0).to_pylist()
    assert row["ranges"] == [{"1": 0, "2": 5}, {"1": 7, "2": 9}]
    assert row["gaps"] == [{"1": 5, "2": 6}]
    tracker = BootTracker(S, S)
    tracker.apply(entry())
    (boot,) = coverage_rows(tracker.changed(), {(1, 0): 9}).to_pylist()
    assert (boot["expected"], boot["received"], boot["missing"], boot["gap"]) == (9, 7, 1, 1)
    assert boot["seen"] == [{"1": 0, "2": 5, "3": 3 * S}, {"1": 7, "2": 9, "3": 3 * S}]
    assert (boot["state"], boot["closed"], boot["late"]) == ("partial", True, 2)


def test_versions_order_by_incarnation_and_cut() -> None:
    assert version_of(1, 5) < version_of(1, 6) < version_of(2, 0)


def test_times_become_timestamps() -> None:
    table = event_rows(pa.table({"ts": [1_500_000], "other": [1]}))
    assert table["ts"].type == pa.timestamp("us", "UTC")
    assert table["other"].type == pa.int64()
    assert timestamps([5]).cast(pa.int64()).to_pylist() == [5]
    rows = quarantine_rows([{"append_ts": 5, "body": b"x"}])
    assert rows["append_ts"].type == pa.timestamp("us", "UTC")
