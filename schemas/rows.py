"""Rows of one kind to the columns of a frame, and what to do with a row that does not fit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .columns import Spec, encode_column, write_ints, write_labels, write_strings
from .errors import TooLarge
from .events import EventName, field_kinds
from .fields import Kind

BAD_ROWS = "!"
MAX_FRAME_BYTES = 64 * 2**20  # of a frame's body, before compression
MAX_BAD_BODY = 64 * 2**10  # characters of a bad row's JSON that travel

# What a cell of the wrong type or range raises when its column is encoded.
_BAD_CELL = (TypeError, ValueError, OverflowError)
_IDENTITY = frozenset({"worker_id", "boot_id", "seq"})


def _transpose(rows: Sequence[Mapping[str, Any]]) -> dict[str, Sequence[Any]]:
    keys = tuple(rows[0])
    if all([tuple(row) == keys for row in rows]):  # noqa: C419  a list is faster here
        return dict(zip(keys, zip(*[row.values() for row in rows], strict=True), strict=True))
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def encode_rows(
    event: EventName, rows: Sequence[Mapping[str, Any]], clock_us: int, buffers: list[bytes]
) -> dict[str, Spec]:
    """Encode rows as columns; see `encode_frame`.

    Args:
        event: kind of all rows.
        rows: at least one.
        clock_us: stands in for a `ts` that cannot be read, in microseconds.
        buffers: the columns' buffers are appended here, in the order of the directory.

    Returns:
        The directory: name of the field -> spec; BAD_ROWS -> rows that cannot be told in columns.

    Raises:
        TooLarge: the rows are over the limits of a frame; encode fewer.
    """
    kinds = field_kinds(event)
    columns = _fold_unknown(_transpose(rows), kinds, len(rows))
    directory: dict[str, Spec] = {}
    bad: dict[int, str] = {}
    for name, column in columns.items():
        mark = len(buffers)
        try:
            spec = encode_column(kinds[name], column, buffers, required=name == "ts")
        except _BAD_CELL:
            del buffers[mark:]
            found = _bad_cells(kinds[name], name, column)
            bad = {**(found or dict.fromkeys(range(len(rows)), name)), **bad}
        else:
            if spec:
                directory[name] = spec
    if bad:
        buffers.clear()
        return _encode_around(event, rows, clock_us, bad, buffers)
    size = sum(map(len, buffers))
    if size > MAX_FRAME_BYTES:
        raise TooLarge(f"{len(rows)} rows take {size} bytes; encode fewer")
    return directory


def encode_oversized(
    event: EventName, row: Mapping[str, Any], clock_us: int, buffers: list[bytes]
) -> dict[str, Spec]:
    """Encode one row that is too large for a frame by itself as a bad row, cut off.

    Args and returns: as `encode_rows`.
    """
    largest = max(row, key=lambda name: len(_json(row[name])))
    dated = {**row, "ts": row["ts"] if type(row.get("ts")) is int else clock_us}
    return _encode_around(event, [dated], clock_us, {0: largest}, buffers)


def _fold_unknown(
    columns: dict[str, Sequence[Any]], kinds: Mapping[str, Kind], count: int
) -> dict[str, Sequence[Any]]:
    wanted = kinds.keys() - _IDENTITY
    # ts comes first, so that a row whose ts is bad is known by that.
    known: dict[str, Sequence[Any]] = {"ts": columns.get("ts", [None] * count)}
    known.update({name: columns[name] for name in columns if name in wanted})
    unknown = [name for name in columns if name not in kinds]
    if not unknown and "attributes" not in known:
        return known
    given = known.get("attributes") or [None] * count
    known["attributes"] = [
        _attributes(own, {name: columns[name][row] for name in unknown})
        for row, own in enumerate(given)
    ]
    return known


def _attributes(own: Any, unknown: Mapping[str, Any]) -> Any:
    extra = {key: value for key, value in unknown.items() if value is not None}
    if own is not None and not isinstance(own, Mapping):
        return own  # the column's encoder finds it
    both = {**extra, **(own or {})}
    if not both:
        return own
    return {str(key): _as_text(value) for key, value in both.items() if value is not None}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else _json(value, ensure_ascii=False)


def _json(value: Any, *, ensure_ascii: bool = True) -> str:
    try:
        return json.dumps(value, default=repr, ensure_ascii=ensure_ascii)
    except (TypeError, ValueError, RecursionError):  # keys of any type, circles, depth
        return json.dumps(f"<{type(value).__name__} that is no JSON>")


def _bad_cells(kind: Kind, name: str, column: Sequence[Any]) -> dict[int, str]:
    """Rows whose cell of the column does not encode by itself, with the column's name."""
    found = {}
    for row, value in enumerate(column):
        try:
            encode_column(kind, [value], [], required=name == "ts")
        except _BAD_CELL:
            found[row] = name
    return found


def _encode_around(
    event: EventName,
    rows: Sequence[Mapping[str, Any]],
    clock_us: int,
    bad: Mapping[int, str],
    buffers: list[bytes],
) -> dict[str, Spec]:
    """Encode with every cell of the bad rows null but ts, and the rows themselves as JSON."""
    order = sorted(bad)
    good = [
        {"ts": clock_us if bad[i] == "ts" else row["ts"]} if i in bad else row
        for i, row in enumerate(rows)
    ]
    directory = encode_rows(event, good, clock_us, buffers)
    bodies = [_body(rows[i], bad[i]) for i in order]
    directory[BAD_ROWS] = [
        len(order),
        write_ints(np.array(order, np.int64), None, buffers),
        write_labels([bad[i] for i in order], buffers),
        write_strings(bodies, None, buffers),
    ]
    return directory


def _body(row: Mapping[str, Any], name: str) -> str:
    # The bad value as its repr: NaN and objects are no JSON, and a text can hold half a character.
    return _json({**row, name: repr(row.get(name))})[:MAX_BAD_BODY]
