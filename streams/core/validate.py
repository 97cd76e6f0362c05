"""The rules that a row must keep; one that breaks a rule goes to quarantine with a reason.

Rules run on whole columns, and labels are looked at once per distinct value, so that a batch in which
all is well costs next to nothing. Nothing is ever repaired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ...schemas.events import EventName, fields_of
from ...schemas.fields import FieldSpec, Kind, stored_name
from .decode import BadRow

Reason = Literal[
    "malformed",
    "unknown_event",
    "bad_value",
    "missing_field",
    "unknown_value",
    "out_of_range",
    "not_finite",
    "too_long",
    "ts_out_of_range",
    "inconsistent",
]
REASONS: tuple[Reason, ...] = get_args(Reason)
MEANINGS: dict[Reason, str] = {
    "malformed": "A line or an element that is no JSON object.",
    "unknown_event": "`event` is missing or names no kind of event.",
    "bad_value": "A value of a type that its field cannot hold.",
    "missing_field": "A field that every such event needs is null or absent.",
    "unknown_value": "A value outside the field's closed list.",
    "out_of_range": "A number below the field's minimum, above its maximum, or too large to store.",
    "not_finite": "NaN or infinity.",
    "too_long": "A label over 256 bytes, a text over 64 KiB, or a payload over 256 KiB.",
    "ts_out_of_range": "Event time before 2000 or after 2100.",
    "inconsistent": "Two fields contradict each other.",
}

MAX_LABEL_BYTES = 256
MAX_TEXT_BYTES = 64 * 2**10
MAX_PAYLOAD_BYTES = 256 * 2**10
MIN_TS_US = 946_684_800_000_000  # 2000-01-01
MAX_TS_US = 4_102_444_800_000_000  # 2100-01-01
_MAX_UINT32 = 2**32 - 1
_WIDE_UNITS = ("bytes", "step")  # stored in 64 bits; see schemas/migrations
_IDENTITY = ("worker_id", "boot_id", "seq")

Finding = tuple[int, Reason, str]
Rows = npt.NDArray[np.int64]
_Check = Callable[[FieldSpec, Any], Iterator[Finding]]


def validate(kind: EventName, table: pa.Table, *, bad: Sequence[BadRow] = ()) -> list[Finding]:
    """The rows that must not be stored: (row, reason, detail), ascending, at most one per row.

    Args:
        kind: of event.
        table: as `Batch.table`.
        bad: as `Batch.bad`; these rows are reported as bad_value whatever their cells say.
    """
    found: dict[int, Finding] = {}
    for cell in bad:
        found[cell.index] = (cell.index, "bad_value", f"{cell.field} cannot hold its value")
    names = set(table.column_names)
    for name, spec in _specs(kind):
        if name in names:
            array = _whole(table, name)
            for finding in _CHECKS[spec.doc.kind](spec, array):
                found.setdefault(finding[0], finding)
            if not spec.required:
                continue
        if spec.required:
            for row in _missing(table, name):
                found.setdefault(row, (row, "missing_field", f"{spec.name} is missing"))
    if kind == "request":
        for finding in _request_rules(table, names):
            found.setdefault(finding[0], finding)
    return [found[row] for row in sorted(found)]


@cache
def _specs(kind: EventName) -> tuple[tuple[str, FieldSpec], ...]:
    return tuple((stored_name(s), s) for s in fields_of(kind) if s.name not in _IDENTITY)


def _whole(table: pa.Table, name: str) -> Any:  # pyarrow's stubs lose the element type here
    column: Any = table[name]
    if column.num_chunks == 1:
        return column.chunk(0)
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    whole = column.combine_chunks()
    return whole if not isinstance(whole, pa.ChunkedArray) else pa.array([], column.type)


def _where(mask: Any) -> list[int]:
    rows: list[int] = np.flatnonzero(mask).tolist()
    return rows


def _missing(table: pa.Table, name: str) -> list[int]:
    if name not in table.column_names:
        return list(range(table.num_rows))
    array = _whole(table, name)
    if pa.types.is_integer(array.type):
        return _where(_nulls(array)) if array.null_count else []
    # The store holds a missing text as the empty one, so the empty one is missing.
    if pa.types.is_dictionary(array.type):
        empty = [i for i, value in enumerate(array.dictionary.to_pylist()) if not value]
        return _where(np.isin(pc.fill_null(array.indices, -1).to_numpy(), [-1, *empty]))
    return _where(pc.fill_null(pc.binary_length(array), 0).to_numpy() == 0)


def _nulls(array: Any) -> npt.NDArray[np.bool_]:
    mask: npt.NDArray[np.bool_] = pc.is_null(array).to_numpy(zero_copy_only=False)
    return mask


def _numbers(array: Any) -> Any:
    return (pc.fill_null(array, 0) if array.null_count else array).to_numpy()


def _time(spec: FieldSpec, array: Any) -> Iterator[Finding]:
    values = _numbers(array)
    wrong = (values < MIN_TS_US) | (values >= MAX_TS_US)
    if wrong.any():
        nulls = _nulls(array)
        for row in _where(wrong & ~nulls):
            yield row, "ts_out_of_range", f"{spec.name} = {values[row]}"


def _integer(spec: FieldSpec, array: Any) -> Iterator[Finding]:
    narrow = spec.doc.kind == "int" and spec.doc.unit not in _WIDE_UNITS
    limit = _MAX_UINT32 if narrow else 2**63 - 1
    values = _numbers(array)
    # As unsigned, a negative number is above every limit: one pass tells both.
    if len(values) and int(values.view(np.uint64).max()) > limit:
        for row in _where(values.view(np.uint64) > limit):
            yield row, "out_of_range", f"{stored_name(spec)} = {values[row]}"


def _float(spec: FieldSpec, array: Any) -> Iterator[Finding]:
    least, most = spec.doc.minimum, spec.doc.maximum
    values = _present_floats(array)
    if not len(values):
        return
    low, high = float(values.min()), float(values.max())  # NaN when one is
    below = least is not None and not low >= least
    above = most is not None and not high <= most
    if np.isfinite(low) and np.isfinite(high) and not below and not above:
        return
    rows = np.flatnonzero(~_nulls(array))
    for row, value in zip(rows.tolist(), values.tolist(), strict=True):
        if not np.isfinite(value):
            yield row, "not_finite", f"{spec.name} = {value}"
        elif (least is not None and value < least) or (most is not None and value > most):
            yield row, "out_of_range", f"{spec.name} = {value}"


def _present_floats(array: Any) -> Any:
    return (array.drop_null() if array.null_count else array).to_numpy()


def _label(spec: FieldSpec, array: Any) -> Iterator[Finding]:
    for code, value in enumerate(array.dictionary.to_pylist()):
        reason: Reason
        if len(value) * 4 > MAX_LABEL_BYTES and len(value.encode()) > MAX_LABEL_BYTES:
            reason, detail = "too_long", f"{spec.name} is over {MAX_LABEL_BYTES} bytes"
        elif spec.doc.values and value not in spec.doc.values:
            reason, detail = "unknown_value", f"{spec.name} = {value[:64]!r}"
        else:
            continue
        for row in _where(pc.fill_null(array.indices, -1).to_numpy() == code):
            yield row, reason, detail


def _text(spec: FieldSpec, array: Any) -> Iterator[Finding]:
    limit = MAX_PAYLOAD_BYTES if spec.name == "payload" else MAX_TEXT_BYTES
    for row in _long(array, limit):
        yield row, "too_long", f"{spec.name} is over {limit} bytes"


def _long(array: Any, limit: int) -> list[int]:
    if array.nbytes <= limit:
        return []
    return _where(pc.fill_null(pc.binary_length(array), 0).to_numpy() > limit)


def _bool(spec: FieldSpec, array: Any) -> Iterator[Finding]:
    yield from ()


def _rows_of(array: Any, members: list[int]) -> list[int]:
    parents = pc.list_parent_indices(array).to_numpy()
    rows: list[int] = np.unique(parents[members]).tolist()
    return rows


def _set(spec: FieldSpec, array: Any) -> Iterator[Finding]:
    members = _long(array.flatten(), MAX_LABEL_BYTES)
    for row in _rows_of(array, members) if members else []:
        yield row, "too_long", f"a member of {spec.name} is over {MAX_LABEL_BYTES} bytes"


def _map(spec: FieldSpec, array: Any) -> Iterator[Finding]:
    offsets = array.offsets.to_numpy()
    first, size = int(offsets[0]), int(offsets[-1] - offsets[0])
    keys, items = array.keys.slice(first, size), array.items.slice(first, size)

    def parents(member: int) -> int:
        return int(np.searchsorted(offsets, member + first, side="right")) - 1

    for member in _long(keys, MAX_LABEL_BYTES):
        yield parents(member), "too_long", f"a name in {spec.name} is over {MAX_LABEL_BYTES} bytes"
    if pa.types.is_floating(items.type):
        values = items.to_numpy()
        if not np.isfinite(values).all():
            for member in _where(~np.isfinite(values)):
                name = keys[member].as_py()
                yield parents(member), "not_finite", f"{spec.name}[{name!r}] = {values[member]}"
        return
    for member in _long(items, MAX_TEXT_BYTES):
        yield parents(member), "too_long", f"a text in {spec.name} is over {MAX_TEXT_BYTES} bytes"


def _request_rules(table: pa.Table, names: set[str]) -> Iterator[Finding]:
    count = table.num_rows
    overdue = np.zeros(count, bool)
    no_status, ok = np.ones(count, bool), np.zeros(count, bool)
    if "status" in names:
        status = _whole(table, "status")
        no_status = _nulls(status)
        codes = [i for i, name in enumerate(status.dictionary.to_pylist()) if name == "ok"]
        ok = np.isin(pc.fill_null(status.indices, -1).to_numpy(), codes)
    if no_status.any() and "overdue" in names:
        overdue = pc.fill_null(_whole(table, "overdue"), False).to_numpy(zero_copy_only=False)
    if no_status.any():
        for row in _where(no_status & ~overdue):
            yield row, "missing_field", "status is missing, and the request is not overdue"
    if "error_type" in names:
        for row in _where(ok & ~_nulls(_whole(table, "error_type"))):
            yield row, "inconsistent", "status is ok, and there is an error_type"


_CHECKS: dict[Kind, _Check] = {
    "label": _label,
    "text": _text,
    "int": _integer,
    "float": _float,
    "bool": _bool,
    "ms": _integer,
    "usd": _integer,
    "time": _time,
    "labels": _set,
    "floats": _map,
    "texts": _map,
}
