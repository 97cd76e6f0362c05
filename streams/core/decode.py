"""Frames, reading side: one record to a batch of columns, without a Python loop over rows.

docs/frames.md specifies the format. Damaged or hostile bytes raise InvalidFrame and nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import numpy as np
import pyarrow as pa
import zstandard

from ...schemas.errors import InvalidFrame
from ...schemas.events import EventName, fields_of
from ...schemas.fields import FieldSpec, Kind, stored_name
from ...schemas.frames import (
    FLAG_ZSTD,
    FrameHeader,
    open_frame,
    unpack,
)
from ...schemas.rows import BAD_ROWS, MAX_FRAME_BYTES
from .frame_columns import LABEL, Column, ColumnReader, label, wrong

MAX_DIRECTORY_BYTES = 2**20
MAX_COLUMNS = 512

ARROW_TYPES: dict[Kind, Any] = {
    "label": LABEL,
    "text": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "ms": pa.int64(),
    "usd": pa.int64(),
    "time": pa.int64(),
    "labels": pa.list_(pa.string()),
    "floats": pa.map_(pa.string(), pa.float64()),
    "texts": pa.map_(pa.string(), pa.string()),
}
_EXPONENTS: dict[Kind, int] = {"int": 0, "time": 0, "ms": 3, "usd": 9}
_IDENTITY = ("worker_id", "boot_id", "seq")


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row whose writer could not put it into columns; its cells in the table mean nothing.

    Attributes:
        index: row of the table.
        field: the first field that did not fit.
        body: the row as JSON, perhaps cut off.
    """

    index: int
    field: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one kind from one boot.

    Attributes:
        header: of the frame.
        table: `header.count` rows; columns named by `stored_name`, types as ARROW_TYPES; only
            columns that occur, besides ts, worker_id, boot_id and seq. Missing values are null.
        bad: rows to be put into quarantine with reason bad_value.
    """

    header: FrameHeader
    table: pa.Table
    bad: tuple[BadRow, ...] = ()


def decode_frame(frame: bytes) -> Batch:
    """Decode one frame (`split_frames` cuts a body of several).

    Raises:
        InvalidFrame: the bytes are no frame, or a damaged one.
    """
    raw = open_frame(frame)
    header = raw.header
    directory, buffers = _open_body(raw.body, raw.flags)
    if header.kind == "control":
        if directory or len(buffers):
            wrong("a control frame with columns")
        return Batch(header, _table(header, {}))
    return decode_columns(header, directory, buffers)


def decode_columns(header: FrameHeader, directory: dict[str, Any], buffers: memoryview) -> Batch:
    """Decode the columns of a frame that is no control frame.

    Args:
        header: of the frame; its count may be over MAX_FRAME_EVENTS here.
        directory: name of the field -> spec of its column.
        buffers: of the columns, one after another in the directory's order.

    Raises:
        InvalidFrame: directory and buffers do not describe `header.count` rows of this kind.
    """
    if len(directory) > MAX_COLUMNS:
        wrong(f"{len(directory)} columns, at most {MAX_COLUMNS} are read")
    reader = ColumnReader(buffers)
    kind = cast(EventName, header.kind)
    bad: tuple[BadRow, ...] = ()
    columns: dict[str, Any] = {}
    unknown: dict[str, Column] = {}
    specs = _specs(kind)
    for name, spec in directory.items():
        if name == BAD_ROWS:
            bad = _bad_rows(reader, spec, header.count)
            continue
        column = reader.read(spec, header.count)
        known = specs.get(name)
        if known is None:
            unknown[name] = column
        elif name not in _IDENTITY:
            columns[stored_name(known)] = _typed(reader, known, column)
    if reader.left:
        wrong(f"{reader.left} bytes too many")
    if header.count and ("ts" not in columns or columns["ts"].null_count):
        wrong("ts is missing")
    if unknown:
        columns["attributes"] = _fold(columns.get("attributes"), unknown, header.count)
    return Batch(header, _table(header, columns), bad)


def _table(header: FrameHeader, columns: dict[str, Any]) -> pa.Table:
    count = header.count
    codes = np.zeros(count, np.int32)
    arrays: dict[str, Any] = {
        "ts": pa.array([], pa.int64()),
        "worker_id": label(codes, None, [header.worker_id]),
        "boot_id": label(codes, None, [header.boot_id]),
        "seq": pa.array(np.arange(header.seq0, header.seq0 + count, dtype=np.int64)),
    }
    return pa.table({**arrays, **columns})


@cache
def _specs(event: EventName) -> dict[str, FieldSpec]:
    return {spec.name: spec for spec in fields_of(event)}


def _open_body(body: memoryview, flags: int) -> tuple[dict[str, Any], memoryview]:
    plain = memoryview(_decompress(body)) if flags & FLAG_ZSTD else body
    if not 4 <= len(plain) <= MAX_FRAME_BYTES:
        wrong("size of the body")
    size = int.from_bytes(plain[:4], "little")
    if size > min(len(plain) - 4, MAX_DIRECTORY_BYTES):
        wrong("size of the directory")
    return unpack(plain[4 : 4 + size]), plain[4 + size :]


def _decompress(body: memoryview) -> bytes:
    try:
        size = zstandard.frame_content_size(body)
        if not 0 <= size <= MAX_FRAME_BYTES:  # -1: not told
            wrong(f"{size} bytes when decompressed, at most {MAX_FRAME_BYTES} are read")
        return zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise InvalidFrame(f"zstd: {error}") from error


def _typed(reader: ColumnReader, spec: FieldSpec, column: Column) -> Any:
    kind = spec.doc.kind
    array = column.array
    if kind == "label" and column.code == "s":
        array = array.dictionary_encode()
    elif kind == "text" and column.code == "d":
        array = reader.expand(array)
    if array.type != ARROW_TYPES[kind] or column.exponent != _EXPONENTS.get(kind, 0):
        wrong(f"{spec.name} is no column of {kind}")
    return array


def _bad_rows(reader: ColumnReader, spec: object, count: int) -> tuple[BadRow, ...]:
    if not isinstance(spec, list) or len(spec) != 4 or type(spec[0]) is not int:
        wrong("the spec of bad rows")
    size = spec[0]
    if not 0 <= size <= count:
        wrong("number of bad rows")
    rows, valid, _ = reader.ints(spec[1], size)
    if valid is not None or (size and (rows[0] < 0 or rows[-1] >= count)):
        wrong("positions of bad rows")
    if (np.diff(rows) <= 0).any():
        wrong("order of bad rows")
    names = reader.strings(spec[2], size).to_pylist()
    bodies = reader.strings(spec[3], size).to_pylist()
    return tuple(
        BadRow(row, name, body.encode())
        for row, name, body in zip(rows.tolist(), names, bodies, strict=True)
    )


def _fold(attributes: Any, unknown: dict[str, Column], count: int) -> Any:
    """Columns of a newer writer as attributes; rare, so a loop over rows is fine here."""
    texts = {name: _as_texts(column) for name, column in unknown.items()}
    own = [None] * count if attributes is None else attributes.to_pylist()
    merged = []
    for row, given in enumerate(own):
        pairs = {
            name: cast(str, cells[row]) for name, cells in texts.items() if cells[row] is not None
        }
        pairs.update(given or [])
        merged.append(list(pairs.items()) if pairs or given is not None else None)
    return pa.array(merged, ARROW_TYPES["texts"])


def _as_texts(column: Column) -> list[str | None]:
    values = column.array.to_pylist()
    if column.code in ("d", "s"):
        return cast("list[str | None]", values)
    if column.code == "m":
        values = [None if value is None else dict(value) for value in values]
    if column.exponent:
        values = [None if value is None else value / 10**column.exponent for value in values]
    return [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
