"""JSON events, reading side: an object, an array or one object per line, to batches.

Values are taken by the same code as the emitter's (schemas/rows.py), so both ways in agree on every
rule. A bad row never blocks its neighbours, and no value is ever repaired.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, cast, get_args

import numpy as np
import orjson
import pyarrow as pa

from ...schemas.errors import InvalidEvent, InvalidFrame, TooLarge
from ...schemas.events import ALIASES, EventName, field_kinds
from ...schemas.fields import Kind
from ...schemas.frames import MAX_FRAME_EVENTS, FrameHeader
from ...schemas.rows import encode_rows
from .decode import Batch, decode_columns

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MAX_NAME = 256
_MAX_BODY = 64 * 2**10  # bytes of a rejected row that are kept
_EXPECTED: dict[Kind, str] = {
    "label": "a string",
    "text": "a string",
    "int": "a whole number of 63 bits",
    "float": "a number",
    "bool": "true or false",
    "ms": "a number of milliseconds",
    "usd": "a number of US dollars",
    "time": "microseconds since 1970 UTC or an ISO 8601 time",
    "labels": "an array of strings",
    "floats": "an object of numbers",
    "texts": "an object of strings",
}


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that is not stored.

    Attributes:
        index: position in the body, from 0 (lines that hold nothing are not counted).
        reason: one of validate.REASONS.
        detail: which field, which value.
        body: the row as JSON (or the line as it came), cut off after 64 KiB.
        kind: of event, "" where it could not be told.
        worker_id: as the row says, or the default.
        boot_id: as the row says, or the default.
        seq: the row's number; None where it could not be told.
    """

    index: int
    reason: str
    detail: str
    body: bytes
    kind: str
    worker_id: str
    boot_id: str
    seq: int | None


@dataclass(frozen=True, slots=True)
class JsonEvents:
    """What a JSON body holds.

    Attributes:
        count: rows in the body, rejected ones included.
        batches: per kind, worker and boot, at most MAX_FRAME_EVENTS rows each, in the body's order.
            `seq` of the table is explicit: it need not be contiguous or ascending.
        indices: for each batch, the position in the body of each of its rows.
        rejected: rows that could not be read, by position.
    """

    count: int
    batches: list[Batch] = field(default_factory=list)
    indices: list[list[int]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Row:
    index: int
    seq: int
    source: Any
    values: dict[str, Any]


_Group = tuple[EventName, str, str]


def read_json(body: bytes, *, default_boot_id: str, default_worker_id: str) -> JsonEvents:
    """Read a body of JSON events.

    A row that has `boot_id` and `seq` keeps them. One without both has no identity of its own: it
    gets `default_boot_id` and its position in the body as `seq`. The headers' `clock_us` is the
    highest ts of the batch, and `next_seq` one past its highest seq.

    Args:
        body: one object, an array of objects, or one object per line (UTF-8).
        default_boot_id: stands for the POST.
        default_worker_id: of rows that name none.

    Raises:
        InvalidFrame: the body as a whole is no JSON.
    """
    sources = _parse(body)
    rejected: list[Rejected] = []
    groups: dict[_Group, list[_Row]] = {}
    defaults = (default_worker_id, default_boot_id)
    for index, source in enumerate(sources):
        try:
            group, row = _row(index, source, defaults)
        except InvalidEvent as error:
            rejected.append(_rejected(index, source, error, defaults))
        else:
            groups.setdefault(group, []).append(row)
    result = JsonEvents(len(sources), rejected=rejected)
    for group, rows in groups.items():
        for start in range(0, len(rows), MAX_FRAME_EVENTS):
            _add_batch(result, group, rows[start : start + MAX_FRAME_EVENTS])
    rejected.sort(key=lambda row: row.index)
    return result


def _parse(body: bytes) -> list[Any]:
    text = body.removeprefix(b"\xef\xbb\xbf").strip()
    try:
        whole = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if text[:1] == b"[" or b"\n" not in text:
            raise InvalidFrame(f"the body is no JSON: {error}") from error
        return _parse_lines(text)
    if isinstance(whole, list):
        return whole
    if isinstance(whole, dict):
        return [whole]
    raise InvalidFrame("the body is neither an object nor an array nor lines of objects")


def _parse_lines(text: bytes) -> list[Any]:
    rows: list[Any] = []
    for line in text.split(b"\n"):
        stripped = line.strip()
        if stripped:
            try:
                rows.append(orjson.loads(stripped))
            except orjson.JSONDecodeError:
                rows.append(stripped)
    if all(isinstance(row, bytes) for row in rows):
        raise InvalidFrame("no line of the body is JSON")
    return rows


def _row(index: int, source: Any, defaults: tuple[str, str]) -> tuple[_Group, _Row]:
    if not isinstance(source, dict):
        raise InvalidEvent("malformed", "not a JSON object")
    kind = source.get("event")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise InvalidEvent("unknown_event", f"event = {kind!r}"[:200])
    event = cast(EventName, kind)
    values = dict(source)
    del values["event"]
    for alias, name in ALIASES[event].items():
        if alias in values and name not in values:
            values[name] = values.pop(alias)
    if values.get("ts") is None:
        raise InvalidEvent("missing_field", "ts is missing")
    for name in _times(event):
        if type(values.get(name)) is str:
            values[name] = _iso_us(name, values[name])
    worker_id = _name("worker_id", values.get("worker_id")) or defaults[0]
    boot_id = _name("boot_id", values.get("boot_id"))
    seq = _sequence(values.get("seq"))
    if boot_id is None or seq is None:
        boot_id, seq = defaults[1], index
    return (event, worker_id, boot_id), _Row(index, seq, source, values)


_KINDS = frozenset(get_args(EventName))


@cache
def _times(kind: EventName) -> tuple[str, ...]:
    return tuple(name for name, held in field_kinds(kind).items() if held == "time")


def _iso_us(name: str, text: str) -> int:
    try:
        if text[10:11] not in ("T", "t", " "):  # a date or a number alone tells no moment
            raise ValueError("no time of day")
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError) as error:
        raise InvalidEvent("bad_value", f"{name} = {text!r}"[:200]) from error


def _name(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME:
        detail = f"{name} is not a string of 1 to {_MAX_NAME} characters"
        raise InvalidEvent("bad_value", detail)
    return value


def _sequence(value: Any) -> int | None:
    if value is None:
        return None
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value < 2**63 - 1:
        raise InvalidEvent("bad_value", f"seq = {value!r}"[:200])
    return value


def _add_batch(result: JsonEvents, group: _Group, rows: list[_Row]) -> None:
    buffers: list[bytes] = []
    try:
        directory = encode_rows(group[0], [row.values for row in rows], 0, buffers)
    except TooLarge:
        _add_parts(result, group, rows)
        return
    header = _header(group, rows, 0)
    batch = decode_columns(header, directory, memoryview(b"".join(buffers)))
    table = batch.table.set_column(
        batch.table.column_names.index("seq"),
        "seq",
        pa.array([row.seq for row in rows], pa.int64()),
    )
    bad = {row.index: row.field for row in batch.bad}
    for position, name in bad.items():
        result.rejected.append(_misfit(group, rows[position], name))
    kept = [i for i in range(len(rows)) if i not in bad]
    if not kept:
        return
    if bad:
        table = table.take(pa.array(kept, pa.int64()))
    rows = [rows[i] for i in kept]
    clock_us = int(np.max(table["ts"].to_numpy()))
    result.batches.append(Batch(_header(group, rows, clock_us), table))
    result.indices.append([row.index for row in rows])


def _add_parts(result: JsonEvents, group: _Group, rows: list[_Row]) -> None:
    if len(rows) == 1:
        row, (kind, worker_id, boot_id) = rows[0], group
        body = _dump(row.source)[:_MAX_BODY]
        detail = "the row is too large for a frame"
        result.rejected.append(
            Rejected(row.index, "too_long", detail, body, kind, worker_id, boot_id, row.seq)
        )
        return
    half = len(rows) // 2
    _add_batch(result, group, rows[:half])
    _add_batch(result, group, rows[half:])


def _header(group: _Group, rows: list[_Row], clock_us: int) -> FrameHeader:
    kind, worker_id, boot_id = group
    return FrameHeader(
        kind=kind,
        worker_id=worker_id,
        boot_id=boot_id,
        seq0=min(row.seq for row in rows),
        count=len(rows),
        next_seq=max(row.seq for row in rows) + 1,
        clock_us=clock_us,
    )


def _misfit(group: _Group, row: _Row, name: str) -> Rejected:
    kind, worker_id, boot_id = group
    value = row.values.get(name)
    detail = f"{name} = {_dump(value)[:160].decode(errors='replace')}"
    expected = _EXPECTED[field_kinds(kind)[name]]
    detail = f"{detail} is not {expected}"
    body = _dump(row.source)[:_MAX_BODY]
    return Rejected(row.index, "bad_value", detail, body, kind, worker_id, boot_id, row.seq)


def _rejected(index: int, source: Any, error: InvalidEvent, defaults: tuple[str, str]) -> Rejected:
    row = source if isinstance(source, dict) else {}
    kind, seq = row.get("event"), row.get("seq")
    names = [
        given if isinstance(given, str) and 0 < len(given) <= _MAX_NAME else default
        for given, default in zip((row.get("worker_id"), row.get("boot_id")), defaults, strict=True)
    ]
    return Rejected(
        index=index,
        reason=error.reason,
        detail=error.detail,
        body=_dump(source)[:_MAX_BODY],
        kind=kind if isinstance(kind, str) and kind in _KINDS else "",
        worker_id=names[0],
        boot_id=names[1],
        seq=seq if type(seq) is int and 0 <= seq < 2**63 else None,
    )


def _dump(value: Any) -> bytes:
    if isinstance(value, bytes):  # a line that is no JSON
        return value
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # nested deeper than orjson writes
        return repr(value).encode(errors="replace")
