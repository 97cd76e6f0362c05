from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from penstock.schemas.frames import FrameHeader, encode_frame
from penstock.streams.core import metrics as m
from penstock.streams.core.decode import Batch, decode_frame
from penstock.streams.core.ingest import Arrival, Flush
from penstock.streams.core.intake import Intake
from penstock.streams.core.json_events import Rejected, read_json
from penstock.streams.core.slices import Combos, SliceRegistry
from penstock.streams.core.tracker import BootTracker

S = 1_000_000
START_US = 1_767_225_600 * S
DAY = 86_400 * S


@pytest.fixture
def flush() -> Flush:
    return Flush(Intake(BootTracker(2 * S, 30 * S), Combos(SliceRegistry(500, 500))), 30 * DAY)


def covered(flush: Flush, metric: int) -> int:
    """What the frames of a flush add to a counter of the first pane."""
    return sum(entry.coverage()[START_US // S, metric] for entry in flush.entries)


def batch(seq0: int, rows: list[dict[str, Any]], kind: Any = "request", **header: Any) -> Batch:
    return decode_frame(
        encode_frame(
            FrameHeader(
                kind=kind, worker_id="w", boot_id="b", seq0=seq0, count=len(rows),
                next_seq=seq0 + len(rows), clock_us=START_US + S, **header,
            ),
            rows,
        )
    )  # fmt: skip


def row(**fields: Any) -> dict[str, Any]:
    return {"ts": START_US, "status": "ok", "model": "m"} | fields


def arrival(offset: int = 0, **fields: Any) -> Arrival:
    base = {"incarnation": 1, "partition": 0, "offset": offset, "append_us": START_US + 2 * S}
    return Arrival(**(base | fields))


def test_every_row_is_accepted_or_a_duplicate_or_rejected(flush: Flush) -> None:
    first = flush.admit(batch(0, [row(), row(latency_ms=-1.0), row()]), arrival())
    assert (first.accepted, first.duplicate, first.rejected) == (2, 0, 1)
    assert [(r.index, r.reason) for r in first.rejections] == [(1, "out_of_range")]
    # Overlapping, the bad row among them: it is not rejected twice.
    second = flush.admit(batch(1, [row(latency_ms=-1.0), row(), row()]), arrival(1, first_index=10))
    assert (second.accepted, second.duplicate, second.rejected) == (1, 2, 0)
    assert flush.tables()["request"]["seq"].to_pylist() == [0, 2, 3]
    assert flush.tables()["request"]["row_index"].to_pylist() == [0, 2, 12]
    assert [entry.ranges for entry in flush.entries] == [[(0, 3)], [(3, 4)]]
    assert [item["seq"] for item in flush.quarantine()] == [1]
    assert (covered(flush, m.RECEIVED), covered(flush, m.REJECTED)) == (4, 1)
    assert flush.intake.tracker.boots["b"].missing == 0


def test_an_event_from_the_future_counts_now(flush: Flush) -> None:
    flush.admit(batch(0, [row(ts=START_US + 9 * S), row()]), arrival())
    table = flush.tables()["request"]
    assert table["ts"].to_pylist() == [START_US + 2 * S, START_US]
    assert table["clock_ahead_us"].to_pylist() == [7 * S, 0]


def test_a_row_older_than_raw_rows_are_kept_is_too_late(flush: Flush) -> None:
    found = flush.admit(batch(0, [row(ts=START_US - 31 * DAY), row()]), arrival())
    assert [(r.index, r.reason) for r in found.rejections] == [(0, "too_late")]


def test_late_rows_are_told(flush: Flush) -> None:
    flush.intake.tracker.watermark_us = START_US + S
    flush.admit(batch(0, [row(), row(ts=START_US + S)]), arrival())
    assert flush.tables()["request"]["late"].to_pylist() == [True, False]
    assert flush.entries[0].late == 1


def test_a_heartbeat_only_moves_the_clock(flush: Flush) -> None:
    found = flush.admit(batch(5, [], "control", closing=True), arrival())
    assert found.accepted == 0
    assert flush.tables() == {}
    assert flush.intake.tracker.boots["b"].closed
    assert flush.intake.tracker.boots["b"].missing == 5


def test_numbers_of_json_rows_may_come_in_any_order_and_twice(flush: Flush) -> None:
    seqs = [7, 3, 4, 7, 9]
    body = b"\n".join(
        b'{"event":"request","ts":%d,"status":"ok","boot_id":"b","seq":%d}' % (START_US, seq)
        for seq in seqs
    )
    events = read_json(body, default_boot_id="x", default_worker_id="http")
    (only,) = events.batches
    found = flush.admit(only, arrival(indices=np.array(events.indices[0])))
    assert (found.accepted, found.duplicate) == (4, 1)
    assert flush.entries[0].ranges == [(3, 5), (7, 8), (9, 10)]
    again = flush.admit(only, arrival(1, indices=np.array(events.indices[0])))
    assert (again.accepted, again.duplicate) == (0, 5)


def rejected(seq: int | None) -> Rejected:
    return Rejected(4, "malformed", "not a JSON object", b"[]", "", "http", "b", seq)


def test_a_row_that_cannot_be_read_is_in_the_ledger_and_in_quarantine(flush: Flush) -> None:
    flush.admit(batch(0, [row(), row()]), arrival())
    found = flush.refuse(rejected(2), arrival(1))
    assert (found.index, found.reason) == (4, "malformed")
    assert flush.entries[1].offset == 1  # so that recovery keeps what is in quarantine at it
    assert flush.entries[1].ranges == [(2, 3)]
    assert covered(flush, m.REJECTED) == 1
    assert len(flush.quarantine()) == 1


def test_a_refused_row_of_an_unknown_boot_does_not_hold_windows_back(flush: Flush) -> None:
    flush.refuse(rejected(None), arrival())
    assert flush.intake.tracker.active(START_US) == []
    assert covered(flush, m.REJECTED) == 1


def test_full_grouping_sets_are_decided_in_the_order_of_arrival() -> None:
    intake = Intake(BootTracker(2 * S, 30 * S), Combos(SliceRegistry(1, 1)))
    flush = Flush(intake, 30 * DAY)
    flush.admit(batch(0, [row(tenant="a"), row(tenant="b")]), arrival())
    assert flush.tables()["request"]["overflow"].to_pylist() == [0, 128]
    later = Flush(intake, 30 * DAY)
    later.admit(batch(2, [row(tenant="b"), row(tenant="a"), row(model="n")]), arrival(1))
    bits = later.tables()["request"]["overflow"].to_pylist()
    assert bits[:2] == [128, 0]
    assert bits[2] == 128 | 2 | 4 | 8 | 16 | 32  # another model, and no tenant
