"""Columns of a decoded batch as numpy arrays, with what is missing told apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def _array(table: pa.Table, name: str) -> Any:  # pyarrow's stubs lose the element type here
    column: Any = table[name]
    if pa.types.is_dictionary(column.type) and column.num_chunks != 1:
        column = column.unify_dictionaries()
    if column.num_chunks == 1:
        return column.chunk(0)
    whole = column.combine_chunks()
    # An empty chunked array combines to a chunked array in some versions of pyarrow.
    return whole if not isinstance(whole, pa.ChunkedArray) else pa.array([], column.type)


def integers(table: pa.Table, name: str) -> tuple[Ints, Mask]:
    """An integer column, shape (n,), 0 where missing, and where it is present; absent: all missing."""
    if name not in table.column_names:
        return np.zeros(table.num_rows, np.int64), np.zeros(table.num_rows, bool)
    array = _array(table, name)
    if array.null_count == 0:
        return array.to_numpy().astype(np.int64, copy=False), np.ones(len(array), bool)
    valid = pc.is_valid(array).to_numpy(zero_copy_only=False)
    return pc.fill_null(array, 0).to_numpy().astype(np.int64, copy=False), valid


def floats(table: pa.Table, name: str) -> tuple[Floats, Mask]:
    """A float column, 0.0 where missing, and where it is present; absent: all missing."""
    if name not in table.column_names:
        return np.zeros(table.num_rows), np.zeros(table.num_rows, bool)
    array = _array(table, name)
    valid = pc.is_valid(array).to_numpy(zero_copy_only=False)
    return pc.fill_null(array, 0.0).to_numpy(), valid


def booleans(table: pa.Table, name: str) -> tuple[Mask, Mask]:
    """A boolean column, False where missing, and where it is present; absent: all missing."""
    if name not in table.column_names:
        return np.zeros(table.num_rows, bool), np.zeros(table.num_rows, bool)
    array = _array(table, name)
    valid = pc.is_valid(array).to_numpy(zero_copy_only=False)
    return pc.fill_null(array, False).to_numpy(zero_copy_only=False), valid


def dictionary(table: pa.Table, name: str) -> tuple[Ints, list[str]]:
    """A label column as codes, shape (n,), and the value of each code; missing is the empty string."""
    if name not in table.column_names:
        return np.zeros(table.num_rows, np.int64), [""]
    array = _array(table, name)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    values = [value or "" for value in array.dictionary.to_pylist()]
    codes = array.indices
    if codes.null_count:
        values.append("")
        codes = pc.fill_null(codes, len(values) - 1)
    return codes.to_numpy().astype(np.int64, copy=False), values


def codes_in(table: pa.Table, name: str, known: Sequence[str]) -> Ints:
    """Position of each label in a closed list, shape (n,); -1 where it is missing or not in it."""
    codes, values = dictionary(table, name)
    positions = {value: position for position, value in enumerate(known)}
    return np.array([positions.get(value, -1) for value in values], np.int64)[codes]


def list_members(table: pa.Table, name: str) -> tuple[Ints, list[str]]:
    """Members of a list column: the row of each, shape (k,), and the member."""
    if name not in table.column_names:
        return np.empty(0, np.int64), []
    array = _array(table, name)
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
    return np.repeat(np.arange(len(array)), lengths), list(pc.list_flatten(array).to_pylist())
