"""Every rule and every reason, on batches as they are decoded."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import penstock.schemas
import pyarrow as pa
import pytest
from penstock.schemas.events import EVENT_TYPES, EventName, fields_of
from penstock.schemas.frames import FrameHeader, encode_frame
from penstock.streams.core.decode import BadRow, Batch, decode_frame
from penstock.streams.core.validate import MEANINGS, REASONS, validate

TS = 1_767_225_600_000_000
GOOD: dict[EventName, dict[str, Any]] = {
    "request": {"ts": TS, "status": "ok", "latency_ms": 3.5, "model": "m", "input_tokens": 2},
    "step": {"ts": TS, "kind": "engine", "step_ms": 1.0, "extra": {"a": -1.0}},
    "feedback": {"ts": TS, "request_id": "r", "accepted": True, "value": -3.0},
    "release": {"ts": TS, "release": "r1", "variant_share": 0.2},
    "span": {"ts": TS, "trace_id": "t", "duration_ms": 2.0, "start_us": TS},
}


def batch_of(kind: EventName, rows: list[dict[str, Any]]) -> Batch:
    header = FrameHeader(
        kind=kind,
        worker_id="w",
        boot_id="b",
        seq0=0,
        count=len(rows),
        next_seq=len(rows),
        clock_us=TS,
    )
    return decode_frame(encode_frame(header, rows))


def findings(kind: EventName, *changes: dict[str, Any]) -> list[tuple[int, str, str]]:
    batch = batch_of(kind, [{**GOOD[kind], **change} for change in changes])
    return list(validate(kind, batch.table, bad=batch.bad))


@pytest.mark.parametrize("kind", list(EVENT_TYPES))
def test_all_is_well(kind: EventName) -> None:
    assert findings(kind, {}, {}) == []


def test_every_reason_has_a_meaning() -> None:
    assert tuple(MEANINGS) == REASONS


@pytest.mark.parametrize(
    ("kind", "change", "reason", "told"),
    [
        ("request", {"status": None}, "missing_field", "status"),
        ("request", {"status": None, "overdue": False}, "missing_field", "status"),
        ("feedback", {"request_id": None}, "missing_field", "request_id"),
        ("feedback", {"request_id": ""}, "missing_field", "request_id"),
        ("release", {"release": None}, "missing_field", "release"),
        ("release", {"release": ""}, "missing_field", "release"),
        ("span", {"trace_id": None}, "missing_field", "trace_id"),
        ("request", {"status": "fine"}, "unknown_value", "status = 'fine'"),
        ("request", {"status": "error", "error_type": "boom"}, "unknown_value", "error_type"),
        ("request", {"sample_reason": "mood"}, "unknown_value", "sample_reason"),
        ("step", {"kind": "cooking"}, "unknown_value", "kind"),
        ("step", {"backend_fallback": "x"}, "unknown_value", "backend_fallback"),
        ("request", {"latency_ms": -1.0}, "out_of_range", "latency_us = -1000"),
        ("request", {"cost_usd": -1.0}, "out_of_range", "cost_nanousd"),
        ("request", {"input_tokens": -1}, "out_of_range", "input_tokens"),
        ("request", {"input_tokens": 2**32}, "out_of_range", "input_tokens"),
        ("request", {"http_status": 2**32}, "out_of_range", "http_status"),
        ("step", {"gpu_memory_used_bytes": -1}, "out_of_range", "gpu_memory_used_bytes"),
        ("request", {"output_score": 1.5}, "out_of_range", "output_score = 1.5"),
        ("request", {"output_score": -0.5}, "out_of_range", "output_score"),
        ("request", {"sample_rate": 2.0}, "out_of_range", "sample_rate"),
        ("release", {"variant_share": 1.01}, "out_of_range", "variant_share"),
        ("request", {"quality": math.nan}, "not_finite", "quality"),
        ("request", {"output_score": math.inf}, "not_finite", "output_score"),
        ("step", {"loss": -math.inf}, "not_finite", "loss"),
        ("step", {"extra": {"a": 1.0, "b": math.nan}}, "not_finite", "extra['b']"),
        ("request", {"model": "m" * 257}, "too_long", "model"),
        ("request", {"model": "ä" * 129}, "too_long", "model"),
        ("request", {"error_message": "x" * 65_537}, "too_long", "error_message"),
        ("request", {"payload": "x" * (2**18 + 1)}, "too_long", "payload"),
        ("request", {"safety_flags": ["pii", "x" * 257]}, "too_long", "safety_flags"),
        ("request", {"categories": {"k" * 257: "v"}}, "too_long", "categories"),
        ("request", {"attributes": {"k": "v" * 65_537}}, "too_long", "attributes"),
        ("request", {"ts": 5}, "ts_out_of_range", "ts = 5"),
        ("request", {"ts": TS * 1_000}, "ts_out_of_range", "ts"),
        ("span", {"start_us": -1}, "ts_out_of_range", "start_us"),
        ("request", {"error_type": "oom"}, "inconsistent", "error_type"),
        ("request", {"model": 3}, "bad_value", "model"),
    ],
)
def test_one_row_breaks_a_rule(
    kind: EventName, change: dict[str, Any], reason: str, told: str
) -> None:
    found = findings(kind, {}, change, {})
    assert [(row, why) for row, why, _ in found] == [(1, reason)]
    assert told in found[0][2]
    assert reason in REASONS


@pytest.mark.parametrize(
    "change",
    [
        {"status": None, "overdue": True},
        {"status": "ok", "overdue": True},
        {"status": "error", "error_type": "oom"},
        {"ttft_ms": 9.0, "latency_ms": 1.0},
        {"input_tokens": 2**32 - 1},
        {"input_bytes": 2**62, "first_step": 2**62},
        {"model": "m" * 256, "payload": "x" * 2**18, "error_message": "x" * 2**16},
        {"quality": -5.0, "latency_ms": None, "output_score": None},
        {"safety_flags": ["own name"], "model": "größe"},
        {"latency_ms": 0.0, "output_score": 1.0, "features": {"a": 1.5}},
    ],
)
def test_allowed(change: dict[str, Any]) -> None:
    assert findings("request", {}, change) == []


def test_absent_columns_of_required_fields() -> None:
    table = batch_of("feedback", [GOOD["feedback"]]).table
    assert [f[:2] for f in validate("feedback", table.drop(["request_id"]))] == [
        (0, "missing_field")
    ]
    table = batch_of("request", [GOOD["request"]]).table
    assert [f[:2] for f in validate("request", table.drop(["status"]))] == [(0, "missing_field")]


def test_at_most_one_finding_per_row_in_order() -> None:
    found = findings(
        "request", {"latency_ms": -1.0}, {}, {"ts": 5, "model": "m" * 300, "quality": math.nan}
    )
    assert [row for row, _, _ in found] == [0, 2]


def test_members_are_told_by_row() -> None:
    long = "x" * 300
    found = findings(
        "request",
        {"safety_flags": ["a", "b"], "categories": {"a": "b"}},
        {"safety_flags": None, "categories": None},
        {"safety_flags": [long, long], "categories": {"a": "1", "b": "2"}},
        {"safety_flags": [], "categories": {long: "1"}},
    )
    assert [(row, reason) for row, reason, _ in found] == [(2, "too_long"), (3, "too_long")]


def test_slices_and_chunks() -> None:
    rows = [{**GOOD["request"], "quality": 0.5, "categories": {"a": "b"}} for _ in range(6)]
    rows[4] = {**rows[4], "quality": math.nan}
    rows[5] = {**rows[5], "categories": {"k" * 300: "v"}}
    table = batch_of("request", rows).table
    assert [f[0] for f in validate("request", table.slice(3))] == [1, 2]
    both = pa.concat_tables([table, table])
    assert [f[0] for f in validate("request", both)] == [4, 5, 10, 11]


def test_bad_rows_come_first() -> None:
    table = batch_of("request", [{"ts": TS}]).table
    found = validate("request", table, bad=(BadRow(0, "model", b"{}"),))
    assert [(row, reason) for row, reason, _ in found] == [(0, "bad_value")]


def test_no_rows() -> None:
    assert validate("request", batch_of("request", []).table) == []


def test_narrow_integers_are_those_of_the_store() -> None:
    folder = Path(penstock.schemas.__file__).parent / "migrations"
    sql = "".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.sql")))
    for kind in EVENT_TYPES:
        for spec in fields_of(kind):
            if spec.doc.kind == "int" and spec.name != "seq":
                (width,) = set(re.findall(rf"`{spec.name}` Nullable\(UInt(\d+)\)", sql))
                found = findings(kind, {spec.name: 2**32})
                assert bool(found) == (width == "32"), spec.name
