"""Frames in a file, one after another as the emitter sends them, as rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...schemas.errors import InvalidFrame
from ...schemas.events import EventName, fields_of
from ...schemas.fields import FieldSpec, stored_name
from ...schemas.frames import split_frames
from ..core.decode import decode_frame
from .reading import InvalidFile, NoFile, Row, Rows, read_bytes, suffix_of

_SUFFIXES = (".frames", ".frame", ".bin")
_SCALE = {"ms": 1000.0, "usd": 1e9}


def is_frames(path: Path) -> bool:
    """Whether a file is one of frames, by its name."""
    return suffix_of(path) in _SUFFIXES


def read_frames(path: Path, event: EventName) -> Rows:
    """The events of one kind in a file of frames.

    Raises:
        InvalidFile: bytes that are no frame.
        NoFile: none of this kind.
    """
    names = {stored_name(spec): spec for spec in fields_of(event)}
    rows: list[Row] = []
    try:
        for frame in split_frames(read_bytes(path)):
            batch = decode_frame(frame)
            if batch.header.kind == event:
                rows += [_row(names, row) for row in batch.table.to_pylist()]
    except InvalidFrame as error:
        raise InvalidFile(f"{path}: after {len(rows)} events: {error}") from error
    if not rows:
        raise NoFile(f"{path}: has no {event} events")
    return Rows(path, rows, list(range(1, len(rows) + 1)))


def _row(names: dict[str, FieldSpec], row: Row) -> Row:
    return {names[n].name: _plain(names[n], value) for n, value in row.items() if n in names}


def _plain(spec: FieldSpec, value: Any) -> Any:
    if spec.doc.kind == "floats":
        return dict(value or ())
    scale = _SCALE.get(spec.doc.kind)
    return value if scale is None or value is None else value / scale
