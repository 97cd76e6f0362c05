"""Redaction at ingestion: whole columns of decoded rows.

Every row passes here, so that what holds nothing must cost next to nothing: labels are looked at once
per distinct value, ids for a few bytes, and texts only where there are any.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ...schemas.events import EventName, fields_of
from ...schemas.redaction import RAW_IDENTITIES, Pattern, Place, Redaction, Redactor
from .preview import redact_preview

__all__ = ["IDS", "KEPT", "redact_preview", "redact_table"]

Form = Literal["name", "id", "text", "payload"]
Rows = npt.NDArray[np.int64]

# Rows are found again by these, or joined; who puts an address into them loses no join.
KEPT = frozenset(
    {
        "worker_id", "boot_id", "request_id", "trace_id", "span_id", "parent_span_id", "pair_id",
        "item_id", "input_hash",
    }
)  # fmt: skip
IDS = frozenset({"session_id", "user_hash", "client_ip_hash"})

_SCREENED = 256  # values from which on RE2 over the column is cheaper than Python over its values
_REMEMBERED = 256  # characters of a value up to which its outcome is remembered
_NOT_RE2 = re.compile(r"\\[wWsSbB]|\(\?[^:i]")  # means something else there, or nothing


@dataclass(frozen=True, slots=True)
class _Tool:
    """What cleans the values of one form.

    Attributes:
        redactor: with the patterns of the form.
        clean: a value without what they find.
        marks: bytes of which a value must contain one; None where that is not known.
        screen: what a value must contain, for RE2, in which \\d is a digit of ASCII; empty where that
            cannot be said.
    """

    redactor: Redactor
    clean: Callable[[str], str]
    marks: tuple[bytes, ...] | None = None
    screen: str = ""


def redact_table(kind: EventName, table: pa.Table, rules: Redaction) -> tuple[pa.Table, int]:
    """Rows without personal data and secrets, as far as the rules find them.

    Labels lose addresses and secrets only, because in a version or a tenant's number a telephone
    number is none. KEPT ids are left alone.

    Args:
        kind: of event.
        table: as `Batch.table`; returned as it is when there is nothing to redact.
        rules: what to look for.

    Returns:
        The table, and how many values were changed.
    """
    if not rules.enabled or table.num_rows == 0:
        return table, 0
    forms = _forms(kind)
    tools = _tools(rules)
    columns = [(i, forms[name]) for i, name in enumerate(table.column_names) if name in forms]
    labels = [i for i, form in columns if form == "name"]
    if not _suspect(table, labels, tools["name"].redactor):
        columns = [(i, form) for i, form in columns if form != "name"]
    changed = 0
    for i, form in columns:
        column, found = _column(table.column(i), tools[form])
        if found:
            table = table.set_column(i, table.column_names[i], column)
            changed += found
    return table, changed


@cache
def _forms(kind: EventName) -> dict[str, Form]:
    """What is looked at, and how; labels with a closed list of values are not."""
    found: dict[str, Form] = {}
    for spec in fields_of(kind):
        held = spec.doc.kind
        if spec.name in KEPT or spec.doc.values:
            continue
        if held == "label" and spec.name != "user_agent":
            found[spec.name] = "name"
        elif held in ("label", "text", "texts"):
            found[spec.name] = "id" if spec.name in IDS else "text"
    return found | ({"payload": "payload"} if "payload" in found else {})


@lru_cache(maxsize=8)
def _tools(rules: Redaction) -> dict[Form, _Tool]:
    fields = rules.fields | RAW_IDENTITIES
    # Whether anything is redacted was asked before; a preview always is.
    active = Redaction(patterns=rules.patterns, fields=fields)
    places: tuple[Place, ...] = ("name", "id", "text")
    tools: dict[Form, _Tool] = {place: _tool(Redactor(active, place)) for place in places}
    redactor = tools["text"].redactor
    return tools | {"payload": _Tool(redactor, redactor.payload)}


def _tool(redactor: Redactor) -> _Tool:
    patterns = redactor.patterns
    marks = {mark.encode() for pattern in patterns for mark in pattern.marks}
    known = all(pattern.marks for pattern in patterns)
    clean = _remembering(redactor.text)
    return _Tool(redactor, clean, tuple(marks) if known else None, _screen(patterns))


def _remembering(clean: Callable[[str], str]) -> Callable[[str], str]:
    """Labels and messages come again and again."""
    known = lru_cache(maxsize=4096)(clean)
    return lambda value: known(value) if len(value) <= _REMEMBERED else clean(value)


def _screen(patterns: Sequence[Pattern]) -> str:
    """The hints as one expression of RE2."""
    parts = []
    for pattern in patterns:
        hint = pattern.hint
        if hint.flags & ~(re.IGNORECASE | re.UNICODE) or _NOT_RE2.search(hint.pattern):
            return ""
        flag = "i" if hint.flags & re.IGNORECASE else ""
        parts.append(f"(?{flag}:{hint.pattern})")
    screen = "|".join(parts)
    try:
        pc.match_substring_regex(pa.array([""]), screen)
    except pa.ArrowInvalid:
        return ""
    return screen


def _suspect(table: pa.Table, labels: Sequence[int], redactor: Redactor) -> bool:
    """Whether any label may hold something: all distinct values at once."""
    values: list[str | None] = []
    for i in labels:
        column: Any = table.column(i)
        for distinct in [chunk.dictionary for chunk in column.chunks]:
            if len(distinct) >= _SCREENED:
                return True
            values += distinct.to_pylist()
    joined = "\n".join([value for value in values if value])
    return any(pattern.suspects(joined) for pattern in redactor.patterns)


def _column(column: Any, tool: _Tool) -> tuple[Any, int]:
    """A column, chunk by chunk, and how many of its values were changed."""
    work = _strings
    if pa.types.is_dictionary(column.type):
        work = _labels
    elif pa.types.is_map(column.type):
        work = _map
    done = [work(chunk, tool) for chunk in column.chunks]
    changed = sum(found for _, found in done)
    return (
        (pa.chunked_array([chunk for chunk, _ in done], column.type), changed)
        if changed
        else (column, 0)
    )


def _changes(array: Any, tool: _Tool) -> tuple[Rows, list[str]]:
    """Positions of the values that change, ascending, and what they become."""
    rows = _candidates(array, tool)
    if not len(rows):
        return rows, []
    known: dict[str, str] = {}
    found: list[int] = []
    cleaned: list[str] = []
    for row, value in zip(rows.tolist(), array.take(pa.array(rows)).to_pylist(), strict=True):
        clean = known.get(value)
        if clean is None:
            clean = known[value] = tool.clean(value)
        if clean != value:
            found.append(row)
            cleaned.append(clean)
    return np.array(found, np.int64), cleaned


def _candidates(array: Any, tool: _Tool) -> Rows:
    """Positions of the values that must be looked at."""
    present = len(array) - array.null_count
    if present == 0 or (tool.marks is not None and not _contains(array, tool.marks)):
        return np.empty(0, np.int64)
    if present >= _SCREENED and tool.screen:
        screen = tool.screen
        if not _held(array).isascii():  # it takes RE2 ten times as long to understand
            screen = screen.replace(r"\d", r"\p{Nd}")
        mask = pc.fill_null(pc.match_substring_regex(array, screen), False)
    else:
        mask = pc.is_valid(array)
    return np.flatnonzero(mask.to_numpy(zero_copy_only=False))


def _contains(array: Any, marks: Sequence[bytes]) -> bool:
    """Whether one of the bytes is anywhere in the values."""
    held = _held(array)
    return any(mark in held for mark in marks)


def _held(array: Any) -> bytes:
    """The bytes of all values, one after another."""
    _, offsets, data = array.buffers()
    if data is None:
        return b""
    bounds = np.frombuffer(offsets, np.int32)
    first, last = int(bounds[array.offset]), int(bounds[array.offset + len(array)])
    held: bytes = data.slice(first, last - first).to_pybytes()
    return held


def _strings(array: Any, tool: _Tool) -> tuple[Any, int]:
    rows, cleaned = _changes(array, tool)
    return (_replaced(array, rows, cleaned), len(rows)) if cleaned else (array, 0)


def _replaced(array: Any, rows: Rows, values: Sequence[str]) -> Any:
    mask = np.zeros(len(array), bool)
    mask[rows] = True
    return pc.replace_with_mask(array, pa.array(mask), pa.array(values, array.type))


def _labels(array: Any, tool: _Tool) -> tuple[Any, int]:
    codes, cleaned = _changes(array.dictionary, tool)
    if not len(codes):
        return array, 0
    rows = int(np.isin(pc.fill_null(array.indices, -1).to_numpy(), codes).sum())
    values = array.dictionary.to_pylist()
    for code, value in zip(codes.tolist(), cleaned, strict=True):
        values[code] = value
    # Two that are alike now are one: each code is a value of its own elsewhere.
    distinct = {value: code for code, value in enumerate(dict.fromkeys(values))}
    moved = pa.array([distinct[value] for value in values], array.indices.type)
    held = pa.array(list(distinct), array.dictionary.type)
    return pa.DictionaryArray.from_arrays(moved.take(array.indices), held), rows


def _map(array: Any, tool: _Tool) -> tuple[Any, int]:
    """Values of a map; those of certain names whole. Names are looked at too."""
    bounds = array.offsets.to_numpy()
    first, size = int(bounds[0]), int(bounds[-1] - bounds[0])
    if size == 0:
        return array, 0
    names, renamed = _labels(array.keys.slice(first, size).dictionary_encode(), tool)
    items = array.items.slice(first, size)
    held, changed = _labels(items.dictionary_encode(), tool)
    items = held.cast(items.type) if changed else items
    secret = [i for i, name in enumerate(names.dictionary.to_pylist()) if tool.redactor.names(name)]
    if secret:
        told = np.isin(names.indices.to_numpy(), secret)
        told &= ~pc.equal(items, pa.scalar("[redacted]")).fill_null(True).to_numpy(False)
        rows = np.flatnonzero(told)
        items = _replaced(items, rows, ["[redacted]"] * len(rows))
        changed += len(rows)
    if not changed and not renamed:
        return array, 0
    missing = np.append(pc.is_null(array).to_numpy(zero_copy_only=False), False)
    offsets: Any = pa.array(bounds - first, pa.int32(), mask=missing)
    keys = names.cast(array.keys.type) if renamed else array.keys.slice(first, size)
    return pa.MapArray.from_arrays(offsets, keys, items), changed + renamed
