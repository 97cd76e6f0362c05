"""Frames read back: round trips of any rows, and any damage ends in InvalidFrame or in a batch."""

from __future__ import annotations

import math
import struct
import zlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.schemas.errors import InvalidFrame
from penstock.schemas.events import EVENT_TYPES, EventName, fields_of
from penstock.schemas.fields import SCALES, FieldSpec, Kind, stored_name
from penstock.schemas.frames import FrameHeader, encode_frame, open_frame
from penstock.streams.core.decode import ARROW_TYPES, Batch, decode_frame

TS = 1_767_225_600_000_000
IDENTITY = ("worker_id", "boot_id", "seq")
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
NAMES = st.sampled_from(["a", "b", "größe", "", "name with blanks"])
LONG = st.integers(-(2**63), 2**63 - 1)

VALUES: dict[Kind, st.SearchStrategy[Any]] = {
    "label": st.one_of(st.sampled_from(["x", "y", "ü"]), TEXT),
    "text": st.one_of(TEXT, st.binary(min_size=4, max_size=4).map(bytes.hex)),
    "int": st.one_of(st.integers(0, 300), LONG),
    "float": st.floats(),
    "bool": st.booleans(),
    "ms": st.floats(-1e12, 1e12),
    "usd": st.floats(-1e6, 1e6),
    "time": st.one_of(st.integers(TS, TS + 10**6), LONG),
    "labels": st.one_of(st.frozensets(TEXT, max_size=3), st.lists(TEXT, max_size=3)),
    "floats": st.dictionaries(NAMES, st.floats(allow_nan=False), max_size=3),
    "texts": st.dictionaries(NAMES, TEXT, max_size=3),
}


def header(kind: Any, count: int, seq0: int = 5) -> FrameHeader:
    return FrameHeader(
        kind=kind,
        worker_id="w",
        boot_id="b",
        seq0=seq0,
        count=count,
        next_seq=seq0 + count,
        clock_us=TS,
    )


def expected(spec: FieldSpec, value: Any) -> Any:
    """What a decoded cell must be; written without the codec."""
    if value is None:
        return None
    kind = spec.doc.kind
    if kind in SCALES:
        return math.floor(value * SCALES[kind] + 0.5)
    if kind == "labels":
        return sorted(value) if isinstance(value, frozenset) else list(value)
    return list(value.items()) if kind in ("floats", "texts") else value


def same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return struct.pack("<d", left) == struct.pack("<d", right) or (
            left != left and right != right
        )
    return bool(left == right)


@st.composite
def events(draw: st.DrawFn) -> tuple[EventName, list[dict[str, Any]]]:
    kind: EventName = draw(st.sampled_from(list(EVENT_TYPES)))
    specs = [s for s in fields_of(kind) if s.name not in (*IDENTITY, "ts")]
    chosen = draw(st.lists(st.sampled_from(specs), unique_by=lambda s: s.name, max_size=8))
    cells = {spec.name: st.none() | VALUES[spec.doc.kind] for spec in chosen}
    required = {"ts": VALUES["time"]}
    uniform = st.fixed_dictionaries({**required, **cells})
    mixed = st.fixed_dictionaries(required, optional=cells)
    return kind, draw(st.lists(draw(st.sampled_from([uniform, mixed])), max_size=20))


@settings(max_examples=300, deadline=None)
@given(events(), st.sampled_from([0, 1]))
def test_any_rows_come_back(data: tuple[EventName, list[dict[str, Any]]], level: int) -> None:
    kind, rows = data
    batch = decode_frame(encode_frame(header(kind, len(rows)), rows, level=level))
    batch.table.validate(full=True)
    assert batch.bad == ()
    assert batch.table["seq"].to_pylist() == list(range(5, 5 + len(rows)))
    present = {name for row in rows for name, value in row.items() if value is not None}
    for spec in fields_of(kind):
        name = stored_name(spec)
        assert (name in batch.table.column_names) == (
            spec.name in present or spec.name in (*IDENTITY, "ts")
        )
        if spec.name in present:
            assert batch.table.schema.field(name).type == ARROW_TYPES[spec.doc.kind]
            found = batch.table[name].to_pylist()
            wanted = [expected(spec, row.get(spec.name)) for row in rows]
            assert all(map(same, found, wanted)), (found, wanted)


ROWS: list[dict[str, Any]] = [
    {
        "ts": TS + i * 997,
        "request_id": f"{i:032x}",
        "error_message": "äöü" * (i % 3) or None,
        "payload": f"text {i}",
        "model": "m",
        "route": [None, "/a", "/b"][i % 3],
        "input_tokens": i * 1_000 if i % 4 else None,
        "latency_ms": i / 7,
        "quality": 0.5 if i % 2 else None,
        "output_score": 0.25,
        "cache_hit": i % 2 == 0 if i % 5 else None,
        "safety_flags": ["pii", "x"][: i % 3],
        "features": {"a": i / 3, "b": 1.0} if i % 2 else None,
        "categories": {"c": f"v{i}"},
    }
    for i in range(40)
]
PLAIN = encode_frame(header("request", len(ROWS)), ROWS, level=0)
BAD = encode_frame(header("request", 3), [*ROWS[:2], {"ts": TS, "model": 3}], level=0)


def seal(payload: bytes, flags: int = 0) -> bytes:
    """A record with a checksum that holds, whatever the payload."""
    return b"PSF1" + struct.pack("<BII", flags, len(payload), zlib.crc32(payload)) + payload


def outcome(frame: bytes) -> Batch | None:
    """The batch, read to its last cell, or None for InvalidFrame; any other exception fails."""
    try:
        batch = decode_frame(frame)
    except InvalidFrame:
        return None
    batch.table.validate(full=True)
    batch.table.to_pylist()
    return batch


@settings(max_examples=600, deadline=None)
@given(st.sampled_from([PLAIN, BAD]), st.data())
def test_damage_behind_the_checksum(frame: bytes, data: st.DataObject) -> None:
    payload = bytearray(frame[13:])
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    outcome(seal(bytes(payload[: data.draw(st.integers(0, len(payload)) | st.just(len(payload)))])))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_damage_in_transit_is_found(position: int, flip: int) -> None:
    frame = bytearray(encode_frame(header("request", len(ROWS)), ROWS))
    frame[position % len(frame)] ^= flip
    found = outcome(bytes(frame))
    assert found is None or position % len(frame) == 4  # the flags are outside the checksum


@given(st.binary(max_size=200))
def test_noise(noise: bytes) -> None:
    assert outcome(noise) is None
    outcome(seal(noise))
    outcome(seal(noise, flags=1))


def test_every_truncation() -> None:
    frame = encode_frame(header("request", len(ROWS)), ROWS)
    assert all(outcome(frame[:size]) is None for size in range(len(frame)))
    assert all(outcome(seal(PLAIN[13:][:size])) is None for size in range(len(PLAIN) - 13))


def test_checksum_holds_for_the_payload() -> None:
    assert open_frame(PLAIN).header.count == len(ROWS)
