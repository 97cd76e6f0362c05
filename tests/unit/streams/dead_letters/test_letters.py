from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.schemas.errors import (
    InvalidQuery,
)
from penstock.streams.core.ingest import Arrival, Flush
from penstock.streams.core.json_events import read_json
from penstock.streams.core.tracker import BootTracker
from penstock.streams.dead_letters.letters import (
    Filters,
    LetterId,
    dead_letter_message,
    seal_rows,
)
from penstock.streams.dead_letters.seal import Sealer, SealError
from penstock.streams.storage.publish import quarantine_rows

TS_US = 1_767_225_600_000_000
SEALER = Sealer(bytes(32))
ID = LetterId(1, 0, 17, 3)
ROW: dict[str, Any] = {
    "append_ts": TS_US,
    "incarnation": 1,
    "partition": 0,
    "offset": 17,
    "row_index": 3,
    "kind": "request",
    "worker_id": "w-1",
    "boot_id": "b-1",
    "seq": 5,
    "reason": "bad_value",
    "detail": 'latency_ms = "ann@example.com" is not a number of milliseconds',
    "body": b'{"event":"request","latency_ms":"ann@example.com"}',
    "source": "kafka",
}


# ---- ids


@given(*[st.integers(0, 2**32 - 1)] * 2, st.integers(0, 2**63 - 1), st.integers(0, 2**32 - 1))
def test_ids_come_back(incarnation: int, partition: int, offset: int, row: int) -> None:
    one = LetterId(incarnation, partition, offset, row)
    assert LetterId.parse(str(one)) == one
    assert one.boot_id == f"redrive-{incarnation}-{partition}-{offset}-{row}"
    assert one.about("t") == f"t/{incarnation}/{partition}/{offset}/{row}".encode()


@pytest.mark.parametrize("text", ["", "1-0-17", "1-0-17-3-4", "a-0-17-3", "1-0--17-3", "1-0-17-3'"])
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(InvalidQuery, match="such as 1-0-17-3"):
        LetterId.parse(text)


# ---- sealing


def test_sealed_rows_hold_nothing_readable_but_their_preview() -> None:
    row = seal_rows([ROW], SEALER, "penstock.events")[0]
    assert SEALER.open(row["body"], ID.about("penstock.events")) == ROW["body"]
    assert row["preview"] == '{"event":"request","latency_ms":"[email]"}'
    assert row["detail"] == 'latency_ms = "[email]" is not a number of milliseconds'
    assert (row["sealed"], row["topic"]) == (True, "penstock.events")
    assert b"ann@" not in orjson.dumps({k: v for k, v in row.items() if k != "body"})
    assert row.keys() == ROW.keys() | {"preview", "topic", "sealed"}
    assert "sealed" not in ROW  # the row given is not changed
    assert seal_rows([row], SEALER, "other") == [row]
    assert quarantine_rows([row]).num_rows == 1


def test_sealed_bytes_cannot_be_moved_to_another_row() -> None:
    row = seal_rows([ROW], SEALER, "penstock.events")[0]
    with pytest.raises(SealError):
        SEALER.open(row["body"], LetterId(1, 0, 17, 4).about("penstock.events"))
    with pytest.raises(SealError):
        SEALER.open(row["body"], ID.about("elsewhere"))


def test_rows_of_a_flush_can_be_sealed() -> None:
    """What ingestion yields has what is needed, whatever made it reject."""
    from penstock.streams.core.intake import Intake
    from penstock.streams.core.slices import Combos, SliceRegistry

    tracker = BootTracker(2_000_000, 30_000_000)
    flush = Flush(Intake(tracker, Combos(SliceRegistry(500, 1000))), 10**15)
    body = b'[{"event":"request","ts":%d,"latency_ms":-1},{"event":"nothing"}]' % TS_US
    found = read_json(body, default_boot_id="b", default_worker_id="w")
    arrival = Arrival(incarnation=1, partition=0, offset=4, append_us=TS_US)
    for batch in found.batches:
        flush.admit(batch, arrival)
    for rejected in found.rejected:
        flush.refuse(rejected, arrival)
    rows = seal_rows(flush.quarantine(), SEALER, "")
    assert sorted(row["reason"] for row in rows) == ["out_of_range", "unknown_event"]
    for row in rows:
        assert SEALER.open(row["body"], LetterId.of(row).about(""))


def test_the_message_of_a_dead_letter() -> None:
    row = seal_rows([ROW], SEALER, "penstock.events")[0]
    key, value, headers = dead_letter_message(row)
    assert key == b"b-1"
    assert value == row["body"]
    assert headers == {
        "reason": b"bad_value",
        "detail": b'latency_ms = "[email]" is not a number of milliseconds',
        "topic": b"penstock.events",
        "incarnation": b"1",
        "partition": b"0",
        "offset": b"17",
        "row_index": b"3",
        "worker": b"w-1",
        "boot": b"b-1",
    }
    assert dead_letter_message({**row, "boot_id": ""})[0] == b"1-0-17-3"
    with pytest.raises(ValueError, match="sealed before it leaves"):
        dead_letter_message(ROW)


def test_filters_are_parameters() -> None:
    where, parameters = Filters(
        reason="x' OR 1", topic="", partition=2, since_us=5, waiting=True
    ).where()
    assert "OR 1" not in where
    assert parameters == {"reason": "x' OR 1", "topic": "", "partition": 2, "since": 5}
    assert "NOT IN" in where
    assert Filters().where() == ("1", {})
