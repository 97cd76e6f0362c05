"""Writing frames: what the header, the record and the choice of encodings promise."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from penstock.schemas import frames
from penstock.schemas.errors import InvalidFrame, TooLarge
from penstock.schemas.events import EventName
from penstock.schemas.frames import (
    FrameHeader,
    FrameKind,
    encode_frame,
    encode_frames,
    open_frame,
    read_header,
    split_frames,
)
from penstock.streams.core.decode import decode_frame

DOCS = Path(__file__).parents[3] / "docs"
TS = 1_767_225_600_000_000


def header(count: int, kind: FrameKind = "step", **changes: Any) -> FrameHeader:
    values: dict[str, Any] = {
        "kind": kind,
        "worker_id": "w1",
        "boot_id": "b7",
        "seq0": 40,
        "count": count,
        "next_seq": 40 + count,
        "clock_us": TS + 300_000,
    }
    return FrameHeader(**{**values, **changes})


def roundtrip(rows: list[dict[str, Any]], kind: EventName = "request") -> list[dict[str, Any]]:
    batch = decode_frame(encode_frame(header(len(rows), kind), rows))
    assert batch.bad == ()
    batch.table.validate(full=True)
    return batch.table.to_pylist()


def test_example_of_the_specification() -> None:
    text = (DOCS / "frames.md").read_text(encoding="utf-8")
    block = text.split("```hex\n")[1].split("```")[0]
    example = bytes.fromhex(" ".join(line.split("#")[0] for line in block.splitlines()))
    rows = [
        {"ts": TS, "model": "m", "step_ms": 12.5, "batch_size": 8},
        {"ts": TS + 100_000, "model": "m", "step_ms": 13.0, "batch_size": None},
        {"ts": TS + 200_300, "model": "n", "step_ms": 12.75, "batch_size": 9},
    ]
    assert encode_frame(header(3), rows, level=0) == example
    table = decode_frame(example).table
    assert table["ts"].to_pylist() == [row["ts"] for row in rows]
    assert table["model"].to_pylist() == ["m", "m", "n"]
    assert table["step_us"].to_pylist() == [12_500, 13_000, 12_750]
    assert table["batch_size"].to_pylist() == [8, None, 9]
    assert table["seq"].to_pylist() == [40, 41, 42]
    assert set(table["worker_id"].to_pylist()) == {"w1"}


def test_header_comes_back() -> None:
    given = header(0, "control", closing=True, gaps=((3, 9), (12, 13)))
    frame = encode_frame(given, [])
    assert read_header(frame) == given
    assert open_frame(frame).size_bytes == len(frame)
    assert decode_frame(frame).table.num_rows == 0


def test_no_rows_at_all() -> None:
    assert decode_frame(encode_frame(header(0), [])).table.num_rows == 0


def test_frames_follow_each_other() -> None:
    made = [encode_frame(header(1, seq0=i), [{"ts": TS + i}]) for i in range(3)]
    assert list(split_frames(b"".join(made))) == made
    assert list(split_frames(b"")) == []
    for damaged in (made[0][:-1], made[0] + b"PSF", b"x" + made[0]):
        with pytest.raises(InvalidFrame):
            list(split_frames(damaged))


@pytest.mark.parametrize(
    "wrong",
    [
        header(2),
        header(1, "control"),
        header(1, worker_id=""),
        header(1, boot_id="b" * 257),
        header(1, gaps=((1, 2),) * 1_001),
    ],
)
def test_headers_that_are_not_written(wrong: FrameHeader) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  the text differs
        encode_frame(wrong, [{"ts": TS}])


def test_rows_with_different_keys() -> None:
    rows = roundtrip([{"ts": TS, "status": "ok"}, {"ts": TS, "route": "/a", "input_tokens": 3}])
    assert [row["status"] for row in rows] == ["ok", None]
    assert [row["input_tokens"] for row in rows] == [None, 3]


def test_identity_of_the_row_does_not_count() -> None:
    (row,) = roundtrip([{"ts": TS, "seq": 7, "boot_id": "other", "worker_id": "other"}])
    assert (row["seq"], row["boot_id"], row["worker_id"]) == (40, "b7", "w1")


def test_unknown_fields_survive_in_attributes() -> None:
    rows = roundtrip(
        [
            {"ts": TS, "colour": "red", "depth": 3, "attributes": {"own": "x", "colour": "blue"}},
            {"ts": TS, "colour": None, "depth": {"a": [1]}, "attributes": None},
            {"ts": TS, "colour": None, "depth": None, "attributes": None},
        ]
    )
    assert dict(rows[0]["attributes"]) == {"own": "x", "colour": "blue", "depth": "3"}
    assert dict(rows[1]["attributes"]) == {"depth": '{"a": [1]}'}
    assert rows[2]["attributes"] is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("latency_ms", "12"),
        ("latency_ms", math.nan),
        ("latency_ms", math.inf),
        ("latency_ms", 1e300),
        ("latency_ms", True),
        ("input_tokens", 1.5),
        ("input_tokens", 2**64),
        ("input_tokens", "3"),
        ("cache_hit", 1),
        ("model", 7),
        ("model", "half \ud800"),
        ("model", ["m"]),
        ("request_id", b"bytes"),
        ("safety_flags", "pii"),
        ("safety_flags", [3]),
        ("features", {"a": "1"}),
        ("features", {"a": None}),
        ("features", {3: 1.0}),
        ("features", [("a", 1.0)]),
        ("categories", {"a": 1}),
        ("attributes", 3),
        ("quality", "good"),
        ("ts", "now"),
        ("ts", None),
    ],
)
def test_bad_value_takes_no_neighbour_with_it(field: str, value: Any) -> None:
    good = {"ts": TS, "model": "m", "latency_ms": 5.0, "input_tokens": 3, "status": "ok"}
    rows: list[dict[str, Any]] = [good, {**good, field: value}, good]
    batch = decode_frame(encode_frame(header(3, "request"), rows))
    ((bad),) = batch.bad
    assert (bad.index, bad.field) == (1, field)
    assert bad.body.startswith(b'{"ts"')
    table = batch.table.to_pylist()
    for row in (table[0], table[2]):
        assert (row["model"], row["latency_us"], row["status"]) == ("m", 5_000, "ok")
    assert table[1]["model"] is None
    assert table[1]["ts"] == (TS + 300_000 if field == "ts" else TS)


def test_two_bad_values_in_one_row() -> None:
    rows: list[dict[str, Any]] = [
        {"ts": None, "model": 3, "quality": "x"},
        {"ts": TS, "model": "m"},
    ]
    batch = decode_frame(encode_frame(header(2, "request"), rows))
    assert [(bad.index, bad.field) for bad in batch.bad] == [(0, "ts")]


def test_values_that_no_json_can_hold() -> None:
    circle: list[Any] = []
    circle.append(circle)
    rows: list[dict[str, Any]] = [{"ts": TS, "model": {(1, 2): 3}}, {"ts": TS, "other": circle}]
    batch = decode_frame(encode_frame(header(2, "request"), rows))
    assert [bad.index for bad in batch.bad] == [0]
    assert "no JSON" in dict(batch.table.to_pylist()[1]["attributes"])["other"]


def test_whole_floats_are_integers() -> None:
    (row,) = roundtrip([{"ts": float(TS), "input_tokens": 12.0}])
    assert row["input_tokens"] == 12


def test_negative_and_nan_travel_where_columns_hold_them() -> None:
    (row,) = roundtrip([{"ts": TS, "latency_ms": -1.5, "input_tokens": -3, "quality": math.nan}])
    assert (row["latency_us"], row["input_tokens"]) == (-1_500, -3)
    assert math.isnan(row["quality"])


def test_scaling_is_floor_of_half_up() -> None:
    rows = roundtrip([{"ts": TS, "latency_ms": 0.0005, "cost_usd": 1.5e-9}])
    assert (rows[0]["latency_us"], rows[0]["cost_nanousd"]) == (1, 2)


def test_too_much_for_one_frame_goes_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.schemas.rows.MAX_FRAME_BYTES", 10_000)
    rows = [{"ts": TS, "request_id": "r", "payload": f"{i}" * 3_000} for i in range(8)]
    rows.insert(5, {"ts": TS, "request_id": "big", "payload": "x" * 20_000})
    with pytest.raises(TooLarge):
        encode_frame(header(9, "request"), rows)
    made = encode_frames(header(9, "request", closing=True), rows)
    batches = [decode_frame(frame) for frame in made]
    assert [batch.header.closing for batch in batches] == [False] * (len(made) - 1) + [True]
    assert [n for batch in batches for n in batch.table["seq"].to_pylist()] == list(range(40, 49))
    assert [bad.field for batch in batches for bad in batch.bad] == ["payload"]


def test_more_rows_than_a_frame_holds() -> None:
    rows = [{"ts": TS + i} for i in range(frames.MAX_FRAME_EVENTS * 2 + 1)]
    batches = [decode_frame(frame) for frame in encode_frames(header(len(rows)), rows)]
    assert [ts for batch in batches for ts in batch.table["ts"].to_pylist()] == [
        row["ts"] for row in rows
    ]


def test_too_many_members() -> None:
    row = {"ts": TS, "extra": {f"n{i}": 1.0 for i in range(300)}}
    with pytest.raises(TooLarge):
        encode_frame(header(2_000), [row] * 2_000)
    made = encode_frames(header(2_000), [row] * 2_000)
    assert sum(decode_frame(frame).table.num_rows for frame in made) == 2_000


def test_large_dictionary_of_labels() -> None:
    rows = [{"ts": TS, "tenant": f"tenant-with-a-long-name-{i}"} for i in range(1_000)]
    rows.append({"ts": TS, "tenant": None})
    found = roundtrip(rows)
    assert [row["tenant"] for row in found] == [row["tenant"] for row in rows]
