"""A POST as messages: what a processor reads out of them is what one process would have read."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.schemas.errors import InvalidFrame, TooLarge
from penstock.schemas.frames import FrameHeader, encode_frame
from penstock.schemas.ports import Rejection
from penstock.schemas.topics import HEADER_BOOT, HEADER_FORM, HEADER_KEY, HEADER_WORKER, home_of
from penstock.streams.core.json_events import read_json
from penstock.streams.ingest import parcels
from penstock.streams.ingest.parcels import (
    Identity,
    Layout,
    identity_of,
    pack_frames,
    pack_json,
)
from penstock.streams.kafka.messages import Outgoing

TS = 1_767_225_600_000_000
LAYOUT = Layout(homes=4, partitions=4)
POST = Identity("post-1")


def request(**fields: Any) -> dict[str, Any]:
    return {"event": "request", "ts": TS, "status": "ok", **fields}


def boot_at(home: int) -> str:
    return next(name for i in range(100) if home_of(name := f"boot-{i}", 4) == home)


def read(value: bytes, headers: Any) -> tuple[Counter[str], Counter[str]]:
    """Rows and rejections as a processor reads them from a message (or from a whole body)."""
    found = read_json(
        value,
        default_boot_id=headers[HEADER_BOOT].decode(),
        default_worker_id=headers[HEADER_WORKER].decode(),
    )
    rows: Counter[str] = Counter()
    for batch in found.batches:
        assert batch.header.boot_id in {row["boot_id"] for row in batch.table.to_pylist()}
        for row in batch.table.to_pylist():
            present = {name: cell for name, cell in row.items() if cell is not None}
            rows[f"{batch.header.kind} {json.dumps(present, sort_keys=True)}"] += 1
    rejected = Counter(
        f"{row.reason} {row.detail} {row.kind} {row.worker_id} {row.boot_id} {row.seq}"
        for row in found.rejected
    )
    return rows, rejected


def reread(messages: list[Outgoing] | Any) -> tuple[Counter[str], Counter[str]]:
    rows: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    for message in messages:
        found = read(message.value, message.headers)
        rows += found[0]
        rejected += found[1]
    return rows, rejected


def in_one(body: bytes, identity: Identity = POST) -> tuple[Counter[str], Counter[str]]:
    headers = {HEADER_BOOT: identity.boot_id.encode(), HEADER_WORKER: b"http"}
    return read(body, headers)


# ---- JSON


def test_rows_without_a_boot_go_as_they_came() -> None:
    body = b' [{"event": "request", "ts": 1767225600000000}, 7] '
    parcel = pack_json(body, POST, LAYOUT, 0)
    (message,) = parcel.messages
    assert message.value is body
    assert message.partition == home_of("post-1", 4)
    assert message.key == b"post-1"
    assert message.headers == {
        HEADER_FORM: b"json",
        HEADER_BOOT: b"post-1",
        HEADER_WORKER: b"http",
    }
    assert (parcel.receipt.accepted, parcel.receipt.rejected, parcel.events) == (1, 1, 2)


def test_rows_go_home_with_their_boots() -> None:
    boots = [boot_at(home) for home in (0, 1)]
    rows = [
        request(boot_id=boots[0], seq=7),
        request(model="mine"),
        request(boot_id=boots[1], seq=3),
        request(boot_id=boots[0], seq=8),
        request(boot_id=boots[0]),  # without a number it is the POST's
        request(model="mine too"),
    ]
    body = orjson.dumps(rows)
    identity = Identity(boot_at(3))
    parcel = pack_json(body, identity, LAYOUT, 0)
    assert [(m.partition, m.key) for m in parcel.messages] == [
        (0, boots[0].encode()),
        (1, boots[1].encode()),
        (3, identity.boot_id.encode()),
    ]
    sent = [orjson.loads(message.value) for message in parcel.messages]
    assert sent[0] == [rows[0], rows[3]]
    assert [row["seq"] for row in sent[2]] == [1, 4, 5]
    assert {row["boot_id"] for row in sent[2]} == {identity.boot_id}
    assert reread(parcel.messages) == in_one(body, identity)
    assert parcel.receipt.accepted == 6


def test_rows_that_break_a_rule_are_told_and_sent() -> None:
    rows = [
        request(latency_ms="fast", boot_id=boot_at(2), seq=1),
        request(),
        "no object",
        request(boot_id=boot_at(1), seq=1, status="fine"),
        {"event": "nothing"},
        request(ts=TS - 10**13),
        request(ts=10),
    ]
    body = b"\n".join(map(orjson.dumps, rows)) + b"\n{broken \xff\n"
    parcel = pack_json(body, POST, LAYOUT, oldest_us=TS - 1)
    told = [(item.index, item.reason) for item in parcel.receipt.rejections]
    assert told == [
        (0, "bad_value"),
        (2, "malformed"),
        (3, "unknown_value"),
        (4, "unknown_event"),
        (5, "too_late"),
        (6, "ts_out_of_range"),
        (7, "malformed"),
    ]
    assert (parcel.receipt.accepted, parcel.receipt.rejected) == (1, 7)
    assert len(parcel.messages) == 2, "post-1 and one of the boots share a home"
    assert reread(parcel.messages) == in_one(body)


def test_a_body_without_rows_sends_nothing() -> None:
    parcel = pack_json(b"[]", POST, LAYOUT, 0)
    assert (parcel.messages, parcel.receipt.accepted) == ([], 0)
    with pytest.raises(InvalidFrame):
        pack_json(b"<html>", POST, LAYOUT, 0)


def test_a_key_names_the_boot_and_travels_with_the_hash_of_the_body() -> None:
    body = orjson.dumps([request(), request(boot_id=boot_at(0), seq=1)])
    first, second = (identity_of(body, "job-1") for _ in range(2))
    assert first == second
    assert first.boot_id.startswith("key-")
    assert identity_of(body + b" ", "job-1").boot_id == first.boot_id
    assert identity_of(body + b" ", "job-1").key != first.key
    assert identity_of(body, None).boot_id != identity_of(body, None).boot_id
    sent = pack_json(body, first, LAYOUT, 0).messages
    assert sent == pack_json(body, second, LAYOUT, 0).messages
    assert {message.headers[HEADER_KEY] for message in sent} == {first.key}


def test_large_bodies_are_cut_and_numbered_on() -> None:
    rows = [request(request_id=f"r{i}", payload="x" * 2000) for i in range(5001)]
    body = orjson.dumps(rows)
    parcel = pack_json(body, POST, LAYOUT, 0)
    assert len(parcel.messages) == 3
    assert all(len(message.value) <= parcels.MAX_JSON_BYTES for message in parcel.messages)
    assert reread(parcel.messages) == in_one(body)
    few = pack_json(orjson.dumps([request()] * 5001), POST, LAYOUT, 0)
    assert [len(orjson.loads(message.value)) for message in few.messages] == [5000, 1]


def test_deep_rows_are_passed_on() -> None:
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    body = json.dumps([request(extra=deep), request(boot_id=boot_at(0), seq=1)]).encode()
    identity = Identity(boot_at(1))
    parcel = pack_json(body, identity, LAYOUT, 0)
    assert len(parcel.messages) == 2
    assert reread(parcel.messages) == in_one(body, identity)
    depth = 1000
    body = body.replace(b"[" * 400 + b"1" + b"]" * 400, b"[" * depth + b"1" + b"]" * depth)
    with pytest.raises(InvalidFrame, match="nested too deeply"):
        pack_json(body, identity, LAYOUT, 0)


def test_what_no_topic_takes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parcels, "MAX_MESSAGE_BYTES", 100_000)
    with pytest.raises(TooLarge, match="100000"):
        pack_json(orjson.dumps(request(payload="x" * 100_000)), POST, LAYOUT, 0)


_ROWS = st.fixed_dictionaries(
    {},
    optional={
        "event": st.sampled_from(["request", "step", "feedback", "release", "span", "odd", 7]),
        "ts": st.sampled_from([TS, TS + 0.0, "2026-01-01T00:00:00Z", "noon", None, -1]),
        "boot_id": st.sampled_from(["boot-0", "boot-1", "boot-2", "boot-3", "", 5, None, "post-1"]),
        "seq": st.sampled_from([0, 1, 2, 3.0, -1, "x", None, 2**63]),
        "worker_id": st.sampled_from(["w", "", None, 3]),
        "latency_ms": st.sampled_from([1.5, "slow", None, 2**64, 1e300]),
        "status": st.sampled_from(["ok", "fine", None]),
        "more": st.recursive(st.integers() | st.text(max_size=3), st.lists, max_leaves=3),
    },
)
_LINES = st.lists(_ROWS | st.sampled_from([1, "s", None, [], [1]]), min_size=1, max_size=12)


@settings(max_examples=200, deadline=None)
@given(_LINES, st.booleans(), st.lists(st.sampled_from([b"{", b"\xff", b"nul"]), max_size=3))
def test_any_body_is_read_alike_in_one_piece_and_in_several(
    rows: list[Any], lines: bool, broken: list[bytes]
) -> None:
    texts = [json.dumps(row).encode() for row in rows]
    body = b"\n".join([*texts, *broken]) if lines else b"[" + b",".join(texts) + b"]"
    try:
        whole = in_one(body)
    except InvalidFrame:
        with pytest.raises(InvalidFrame):
            pack_json(body, POST, LAYOUT, 0)
        return
    parcel = pack_json(body, POST, LAYOUT, 0)
    assert reread(parcel.messages) == whole
    assert parcel.events == sum(map(Counter.total, whole))
    assert parcel.receipt.accepted + parcel.receipt.rejected == parcel.events
    assert parcel == pack_json(body, POST, LAYOUT, 0)


# ---- frames


def header(boot: str, count: int = 1, **more: Any) -> FrameHeader:
    found = FrameHeader(
        kind="request",
        worker_id="w",
        boot_id=boot,
        seq0=0,
        count=count,
        next_seq=count,
        clock_us=TS,
    )
    return replace(found, **more)


def test_frames_go_unchanged_to_their_homes() -> None:
    frames = [
        encode_frame(header("boot-0"), [request()]),
        encode_frame(header("boot-0", 2, home=3), [request(), request(status="fine")]),
        encode_frame(header("boot-0", 0, kind="control", home=9), []),
        encode_frame(header("boot-1"), [request(latency_ms="slow")]),
    ]
    parcel = pack_frames(b"".join(frames), LAYOUT, 0)
    assert [message.value for message in parcel.messages] == frames
    assert {message.key for message in parcel.messages} == {b"boot-0", b"boot-1"}
    homes = [message.partition for message in parcel.messages]
    assert homes == [home_of("boot-0", 4), 3, 9 % 4, home_of("boot-1", 4)]
    assert parcel.highest_home == 9
    assert (parcel.receipt.accepted, parcel.receipt.rejected) == (2, 2)
    assert [(item.index, item.reason) for item in parcel.receipt.rejections] == [
        (2, "unknown_value"),
        (3, "bad_value"),
    ]
    assert isinstance(parcel.receipt.rejections[0], Rejection)


def test_a_damaged_frame_sends_nothing_of_its_neighbours() -> None:
    good = encode_frame(header("boot-0"), [request()])
    damaged = bytearray(good)
    damaged[-1] ^= 1
    with pytest.raises(InvalidFrame, match="checksum"):
        pack_frames(good + bytes(damaged), LAYOUT, 0)


def test_homes_do_not_move_when_partitions_are_added() -> None:
    boots = [f"boot-{i}" for i in range(100)]
    before, after = Layout(8, 8), Layout(8, 20)
    assert [before.home(boot) for boot in boots] == [after.home(boot) for boot in boots]
    assert after.home("boot-1", 15) == 15
