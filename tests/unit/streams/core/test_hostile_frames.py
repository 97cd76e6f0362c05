"""Frames as a hostile, an older, a newer or a simple writer would make them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import msgpack  # type: ignore[import-untyped]  # has no type information
import pytest
import zstandard
from penstock.schemas.errors import InvalidFrame
from penstock.streams.core.decode import ARROW_TYPES, Batch, decode_frame

TS = 1_767_225_600_000_000


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


def forged(directory: Any, buffers: bytes = b"", flags: int = 0, **changes: Any) -> bytes:
    """A frame of two rows as a hostile or newer writer would make it."""
    head = {"v": 1, "k": "request", "w": "w", "b": "b", "s": 0, "n": 2, "h": 2, "t": 0}
    packed = msgpack.packb({**head, **changes})
    if isinstance(directory, dict) and "ts" not in directory:
        directory = {"ts": ["i", 0, 0, TS, 0], **directory}
    columns = msgpack.packb(directory)
    body = struct.pack("<I", len(columns)) + columns + buffers
    if flags:
        body = zstandard.ZstdCompressor().compress(body)
    return seal(struct.pack("<I", len(packed)) + packed + body, flags)


def test_forging_works() -> None:
    batch = outcome(forged({"model": ["d", ["m"], 0, 0], "latency_ms": ["i", 0, 3, 7, 0]}))
    assert batch is not None
    assert batch.table["latency_us"].to_pylist() == [7, 7]


def hostile() -> Iterator[tuple[str, bytes]]:
    specs: dict[str, Any] = {
        "model": [
            None,
            [],
            ["?"],
            [["d"]],
            ["d", [], 0, 0],
            ["d", ["m"], 2, 0],
            ["d", ["m"], 0, 5],
            ["d", [7], 0, 0],
            ["d", "m", 0, 0],
            ["i", 0, 0, 0, 0],
            ["d", ["m"], 0, 1],
        ],
        "input_tokens": [
            ["i", 0, 0, 0, 9],
            ["i", 0, 19, 0, 0],
            ["i", 0, 3, 0, 0],
            ["i", 2, 0, 0, 0],
            ["i", 0, 0, "0", 0],
            ["i", 0, 0, 0],
            ["i", True, 0, 0, 0],
            ["j", 0, 0, 0, 0],
            ["f", 0, 1],
            ["s", ["i", 0, 0, 0, 0]],
        ],
        "payload": [
            ["s", ["i", 0, 0, 2**62, 0]],
            ["s", ["i", 0, 0, -1, 0]],
            ["s", ["i", 0, 0, 10**6, 0]],
            ["s", None],
            ["s"],
            ["x", 0, 0],
            ["x", 0, 2**40],
            ["x", 0, "1"],
            ["d", ["x" * 2**19], 0, 4],
        ],
        "safety_flags": [
            ["l", ["i", 0, 0, 2**40, 0], ["d", ["a"], 0, 0]],
            ["l", ["i", 0, 0, 1, 0], ["d", [], 1, 0]],
            ["l", ["i", 0, 0, 1, 0]],
            ["l", 3, 4],
            ["m", ["i", 0, 0, 0, 0], ["d", [], 0, 0], ["f", 0, 0]],
        ],
        "features": [
            ["m", ["i", 0, 0, 200_000, 0], ["d", ["k" * 10_000], 0, 0], ["f", 0, 0]],
            ["m", ["i", 0, 0, 1, 0], ["d", ["k"], 0, 0], ["f", 1, 0]],
            ["m", ["i", 0, 0, 1, 0], ["d", ["k"], 0, 0], ["d", ["v"], 0, 0]],
            ["m", ["i", 0, 0, 1, 0], ["d", ["k"], 0, 0], ["i", 0, 0, 0, 0]],
            ["m", ["i", 0, 0, 1, 0], ["d", ["k"], 0, 0]],
        ],
        "!": [
            3,
            [3, ["i", 0, 0, 0, 0], ["d", ["f"], 0, 0], ["d", ["b"], 0, 0]],
            [2, ["i", 0, 0, 0, 0], ["d", ["f"], 0, 0], ["d", ["b"], 0, 0]],
            [1, ["i", 0, 0, 2, 0], ["d", ["f"], 0, 0], ["d", ["b"], 0, 0]],
            [1, ["i", 0, 0, 0, 0], ["d", [], 1, 0], ["d", ["b"], 0, 0]],
        ],
        "ts": [["i", 1, 0, 0, 0], ["f", 0, 1], ["d", ["x"], 0, 0]],
    }
    for name, wrong in specs.items():
        for number, spec in enumerate(wrong):
            yield f"{name} {number}", forged({name: spec})
    yield "bytes left over", forged({}, b"x")
    yield "no map", forged([])
    yield "keys of numbers", forged({3: ["i", 0, 0, 0, 0]})
    yield "columns", forged({f"c{i}": ["i", 0, 0, 0, 0] for i in range(600)})
    yield "large directory", forged({"model": ["d", ["x" * 2**20], 0, 0]})
    yield "no ts", forged({"ts": None})
    yield "not UTF-8", forged({"payload": ["s", ["i", 0, 0, 1, 0]]}, b"\xff\xfe")
    yield "half a character", forged({"payload": ["s", ["i", 0, 0, 1, 0]]}, "ä".encode())
    bomb = ["d", ["x" * 900_000], 0, 0]
    yield "expansion", forged({"payload": bomb, "session_id": bomb}, n=5_000)
    yield "control with columns", forged({}, k="control", n=0)
    for changes in (
        {"n": 5_001},
        {"n": -1},
        {"n": True},
        {"v": 3},
        {"v": None},
        {"k": "other"},
        {"k": ["request"]},
        {"w": ""},
        {"b": 7},
        {"s": 2**63 - 1},
        {"g": [[3, 3]]},
        {"g": [[1]]},
        {"g": 3},
        {"x": 1},
        {"t": "now"},
        {"pad": "x" * 2**19},
    ):
        yield f"header {str(changes)[:20]}", forged({}, **changes)
    yield "flags", forged({})[:4] + b"\x02" + forged({})[5:]
    yield "zstd without size", seal(_unsized_zstd(), 1)
    yield "zstd bomb", seal(_head() + zstandard.ZstdCompressor().compress(bytes(2**27)), 1)
    extra = zstandard.ZstdCompressor().compress(b"\x01\0\0\0\x80")
    yield "bytes behind zstd", seal(_head() + extra + extra, 1)
    yield "deep nesting", seal(_head() + struct.pack("<I", 5_000) + b"\x81\xa1a" + b"\x91" * 4_997)


def _head() -> bytes:
    head = {"v": 1, "k": "request", "w": "w", "b": "b", "s": 0, "n": 0, "h": 2, "t": 0}
    packed: bytes = msgpack.packb(head)
    return struct.pack("<I", len(packed)) + packed


def _unsized_zstd() -> bytes:
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    return _head() + compressor.compress(b"\x01\0\0\0\x80")


@pytest.mark.parametrize("frame", [pytest.param(frame, id=name) for name, frame in hostile()])
def test_hostile_frames(frame: bytes) -> None:
    with pytest.raises(InvalidFrame):
        decode_frame(frame)


def test_older_and_newer_writers() -> None:
    assert outcome(forged({}, v=0)) is not None
    newer = {
        "mood": ["d", ["good", "bad"], 1, 1],
        "wait_ms": ["i", 1, 3, 1_500, 0],
        "score": ["f", 0, 1],
        "flag": ["b", 0],
        "tags": ["l", ["i", 0, 0, 1, 0], ["d", ["t"], 0, 0]],
        "scores": ["m", ["i", 0, 0, 1, 0], ["d", ["k"], 0, 0], ["f", 0, 1]],
        "attributes": ["m", ["i", 0, 0, 1, 0], ["d", ["own"], 0, 0], ["d", ["kept"], 0, 0]],
    }
    buffers = b"\x00\x02" + b"\x01" + struct.pack("<d", 0.5) + b"\x01" + struct.pack("<d", 2.0)
    batch = outcome(forged(newer, buffers, v=2, later="ignored"))
    assert batch is not None
    first, second = (dict(cell or ()) for cell in batch.table["attributes"].to_pylist())
    assert first == {
        "mood": "good",
        "wait_ms": "1.5",
        "score": "0.5",
        "flag": "true",
        "tags": '["t"]',
        "scores": '{"k": 2.0}',
        "own": "kept",
    }
    assert second == {
        "score": "0.5",
        "flag": "false",
        "tags": '["t"]',
        "scores": '{"k": 2.0}',
        "own": "kept",
    }


def test_simple_writer() -> None:
    """Another language may write every string as `s`; labels become dictionaries all the same."""
    spec = ["s", ["i", 0, 0, 1, 0]]
    batch = outcome(forged({"model": spec, "request_id": ["d", ["r"], 0, 0]}, b"ab"))
    assert batch is not None
    assert batch.table.schema.field("model").type == ARROW_TYPES["label"]
    assert batch.table["model"].to_pylist() == ["a", "b"]
    assert batch.table["request_id"].to_pylist() == ["r", "r"]


def test_identity_of_a_column_does_not_count() -> None:
    batch = outcome(forged({"boot_id": ["d", ["other"], 0, 0], "seq": ["i", 0, 0, 9, 0]}))
    assert batch is not None
    assert batch.table["seq"].to_pylist() == [0, 1]
    assert batch.table["boot_id"].to_pylist() == ["b", "b"]
