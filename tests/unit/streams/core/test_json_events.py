"""JSON events: forms of the body, identities, times, aliases, and rows that are rejected."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.schemas.errors import InvalidFrame
from penstock.schemas.frames import FrameHeader, encode_frame
from penstock.streams.core.decode import decode_frame
from penstock.streams.core.json_events import JsonEvents, read_json
from penstock.streams.core.validate import REASONS

TS = 1_767_225_600_000_000
ROW = {"event": "request", "ts": TS, "status": "ok", "model": "m", "latency_ms": 1.5}


def read(body: bytes) -> JsonEvents:
    return read_json(body, default_boot_id="post-1", default_worker_id="http")


def one(**changes: Any) -> dict[str, Any]:
    found = read(orjson.dumps({**ROW, **changes}))
    assert found.rejected == []
    ((batch,), ((index,),)) = found.batches, found.indices
    assert index == 0
    row: dict[str, Any] = batch.table.to_pylist()[0]
    return row


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (orjson.dumps(ROW), 1),
        (orjson.dumps(ROW, option=orjson.OPT_INDENT_2), 1),
        (b"\xef\xbb\xbf \n" + orjson.dumps([ROW, ROW]), 2),
        (b"[]", 0),
        (orjson.dumps(ROW) + b"\n" + orjson.dumps(ROW), 2),
        (b"\r\n\n" + orjson.dumps(ROW) + b"\r\n\r\n" + orjson.dumps(ROW) + b"\n", 2),
    ],
)
def test_forms_of_a_body(body: bytes, count: int) -> None:
    found = read(body)
    assert (found.count, found.rejected) == (count, [])
    assert sum(batch.table.num_rows for batch in found.batches) == count


@pytest.mark.parametrize(
    "body", [b"", b"  ", b"3", b'"x"', b"null", b"[{]", b"{", b"a\nb", b"\xff"]
)
def test_no_json_at_all(body: bytes) -> None:
    with pytest.raises(InvalidFrame):
        read(body)


@given(st.binary(max_size=60))
def test_noise(noise: bytes) -> None:
    try:
        found = read(noise)
    except InvalidFrame:
        return
    assert all(row.reason in REASONS for row in found.rejected)


def test_columns_equal_those_of_a_frame() -> None:
    rows = [{**ROW, "ts": TS + i, "input_tokens": i, "safety_flags": ["pii"]} for i in range(9)]
    batch = read(orjson.dumps(rows)).batches[0]
    header = FrameHeader(
        kind="request",
        worker_id="http",
        boot_id="post-1",
        seq0=0,
        count=9,
        next_seq=9,
        clock_us=TS + 8,
    )
    bare = [{name: value for name, value in row.items() if name != "event"} for row in rows]
    assert batch.header == header
    assert batch.table.equals(decode_frame(encode_frame(header, bare)).table)


def test_identity() -> None:
    rows: list[dict[str, Any]] = [
        {**ROW, "worker_id": "w", "boot_id": "b", "seq": 9},
        {**ROW, "worker_id": "w", "boot_id": "b", "seq": 4.0},
        ROW,
        {**ROW, "boot_id": "b"},
        {**ROW, "worker_id": "w", "seq": 7},
        {**ROW, "event": "step", "status": None},
    ]
    found = read(orjson.dumps(rows))
    told = {
        (batch.header.kind, batch.header.worker_id, batch.header.boot_id): (
            batch.table["seq"].to_pylist(),
            indices,
        )
        for batch, indices in zip(found.batches, found.indices, strict=True)
    }
    assert told == {
        ("request", "w", "b"): ([9, 4], [0, 1]),
        ("request", "http", "post-1"): ([2, 3], [2, 3]),
        ("request", "w", "post-1"): ([4], [4]),
        ("step", "http", "post-1"): ([5], [5]),
    }
    assert (found.batches[0].header.seq0, found.batches[0].header.next_seq) == (4, 10)


@pytest.mark.parametrize(
    ("given_ts", "ts"),
    [
        (TS, TS),
        (float(TS), TS),
        ("2026-01-01T00:00:00Z", TS),
        ("2026-01-01T00:00:00.000250Z", TS + 250),
        ("2026-01-01T01:00:00+01:00", TS),
        ("2026-01-01 00:00:00", TS),
        ("2026-01-01T00:00:00.000250999Z", TS + 250),
    ],
)
def test_times(given_ts: Any, ts: int) -> None:
    assert one(ts=given_ts)["ts"] == ts


def test_aliases() -> None:
    span = {"event": "span", "ts": TS, "trace_id": "t", "parent": "p", "duration": 2.5}
    batch = read(orjson.dumps({**span, "start": "2026-01-01T00:00:00Z"})).batches[0]
    row = batch.table.to_pylist()[0]
    assert (row["parent_span_id"], row["duration_us"], row["start_us"]) == ("p", 2_500, TS)
    both = {"event": "release", "ts": TS, "release": "r", "version": "1", "model_version": "2"}
    row = read(orjson.dumps(both)).batches[0].table.to_pylist()[0]
    assert (row["model_version"], dict(row["attributes"])) == ("2", {"version": "1"})


def test_unknown_fields_and_nulls() -> None:
    row = one(colour="red", depth={"a": 1}, nothing=None, input_tokens=12.0, tenant=None)
    assert dict(row["attributes"]) == {"colour": "red", "depth": '{"a": 1}'}
    assert row["input_tokens"] == 12
    assert "tenant" not in row


@pytest.mark.parametrize(
    ("changes", "reason", "told"),
    [
        ({"event": None}, "unknown_event", "event"),
        ({"event": "reqest"}, "unknown_event", "reqest"),
        ({"event": ["request"]}, "unknown_event", "event"),
        ({"ts": None}, "missing_field", "ts"),
        ({"ts": "2026-01-01"}, "bad_value", "ts"),
        ({"ts": "1767225600000000"}, "bad_value", "ts"),
        ({"ts": "2026-13-01T00:00:00Z"}, "bad_value", "ts"),
        ({"ts": "2026-01-01T00:00:00+99:00"}, "bad_value", "ts"),
        ({"ts": True}, "bad_value", "ts"),
        ({"ts": TS + 0.5}, "bad_value", "ts"),
        ({"worker_id": 3}, "bad_value", "worker_id"),
        ({"worker_id": "w" * 300}, "bad_value", "worker_id"),
        ({"boot_id": ""}, "bad_value", "boot_id"),
        ({"seq": -1}, "bad_value", "seq"),
        ({"seq": "1"}, "bad_value", "seq"),
        ({"seq": True}, "bad_value", "seq"),
        ({"latency_ms": "12"}, "bad_value", 'latency_ms = "12" is not a number of milliseconds'),
        ({"latency_ms": True}, "bad_value", "latency_ms = true"),
        ({"latency_ms": 1e300}, "bad_value", "latency_ms"),
        ({"input_tokens": 1.5}, "bad_value", "input_tokens"),
        ({"input_tokens": 2**63}, "bad_value", "input_tokens"),
        ({"input_tokens": False}, "bad_value", "input_tokens"),
        ({"cache_hit": 1}, "bad_value", "cache_hit"),
        ({"model": 3}, "bad_value", "model"),
        ({"request_id": {}}, "bad_value", "request_id"),
        ({"safety_flags": "pii"}, "bad_value", "safety_flags"),
        ({"features": {"a": "1"}}, "bad_value", "features"),
        ({"features": [1]}, "bad_value", "features"),
        ({"categories": {"a": 1}}, "bad_value", "categories"),
        ({"attributes": "x"}, "bad_value", "attributes"),
    ],
)
def test_rejected_rows_leave_their_neighbours(
    changes: dict[str, Any], reason: str, told: str
) -> None:
    wrong = {**ROW, "boot_id": "b", "seq": 3, **changes}
    found = read(orjson.dumps([ROW, wrong, ROW]))
    (row,) = found.rejected
    assert (row.index, row.reason) == (1, reason)
    assert row.reason in REASONS
    assert told in row.detail
    assert orjson.loads(row.body) == wrong
    assert row.kind == ("request" if reason != "unknown_event" else "")
    assert [index for indices in found.indices for index in indices] == [0, 2]
    assert [batch.table["latency_us"].to_pylist() for batch in found.batches] == [[1_500, 1_500]]


def test_lines_and_elements_that_are_no_objects() -> None:
    found = read(orjson.dumps(ROW) + b"\n{broken\n3\n" + orjson.dumps(ROW))
    assert [(row.index, row.reason, row.body) for row in found.rejected] == [
        (1, "malformed", b"{broken"),
        (2, "malformed", b"3"),
    ]
    assert found.indices == [[0, 3]]
    assert [row.index for row in read(b"[1, null, []]").rejected] == [0, 1, 2]


def test_rejected_keeps_its_identity() -> None:
    row = {**ROW, "worker_id": "w", "boot_id": "b", "seq": 7, "model": 3}
    (found,) = read(orjson.dumps(row)).rejected
    assert (found.worker_id, found.boot_id, found.seq) == ("w", "b", 7)


def test_many_rows_go_in_several_batches() -> None:
    found = read(orjson.dumps([{**ROW, "ts": TS + i} for i in range(12_000)]))
    assert [batch.header.count for batch in found.batches] == [5_000, 5_000, 2_000]
    assert [i for indices in found.indices for i in indices] == list(range(12_000))


def test_more_members_than_a_frame_holds() -> None:
    row = {**ROW, "features": {f"n{i}": i for i in range(300)}}
    found = read(orjson.dumps([row] * 2_000))
    assert (sum(batch.header.count for batch in found.batches), found.rejected) == (2_000, [])


def test_row_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.schemas.rows.MAX_FRAME_BYTES", 10_000)
    found = read(orjson.dumps([ROW, {**ROW, "payload": "x" * 20_000}, ROW]))
    assert [(row.index, row.reason) for row in found.rejected] == [(1, "too_long")]
    assert sorted(index for indices in found.indices for index in indices) == [0, 2]
