"""Columns of a frame, reading side: specs and buffers to Arrow arrays, every bound checked.

The writing side is schemas/columns.py; docs/frames.md specifies each code. Whatever the bytes are,
the outcome is an array or InvalidFrame. No loop here runs over rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...schemas.columns import MAX_MEMBERS
from ...schemas.errors import InvalidFrame

MAX_EXPANDED_BYTES = 512 * 2**20  # that the columns of a frame may take in memory

LABEL = pa.dictionary(pa.int32(), pa.string())

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Column:
    """A decoded column.

    Attributes:
        array: as Arrow has it; integers are still scaled by 10 ** exponent.
        code: the encoding: i, f, b, d, s, l or m.
        exponent: decimal exponent of integers.
    """

    array: Any  # pa.Array; pyarrow's stubs make it generic over types known only at run time
    code: str
    exponent: int = 0


def wrong(what: str) -> NoReturn:
    """Raise InvalidFrame."""
    raise InvalidFrame(f"the columns are damaged: {what}")


class ColumnReader:
    """Reads columns from the buffers of one frame, in the order in which they were written."""

    def __init__(self, buffers: memoryview) -> None:
        self._buffers = buffers
        self._position = 0
        self._budget = MAX_EXPANDED_BYTES

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._buffers) - self._position

    def read(self, spec: object, count: int) -> Column:
        """The column of `count` values that `spec` describes.

        Raises:
            InvalidFrame: the spec or its buffers are wrong.
        """
        if not isinstance(spec, list) or not spec or not isinstance(spec[0], str):
            wrong("a spec is no list")
        reader = _READERS.get(spec[0])
        if reader is None:
            wrong(f"unknown encoding {spec[0]!r}")
        return reader(self, spec, count)

    def _take(self, size: int) -> memoryview:
        if size > self.left:
            wrong("a buffer is cut off")
        start = self._position
        self._position += size
        return self._buffers[start : self._position]

    def _spend(self, size: int) -> None:
        self._budget -= size
        if self._budget < 0:
            wrong(f"over {MAX_EXPANDED_BYTES} bytes when expanded")

    def _bits(self, count: int) -> npt.NDArray[np.bool_]:
        packed = np.frombuffer(self._take((count + 7) // 8), np.uint8)
        return np.unpackbits(packed, count=count, bitorder="little").view(np.bool_)

    def _validity(self, flag: object, count: int) -> tuple[npt.NDArray[np.bool_] | None, int]:
        if flag not in (0, 1):
            wrong("validity is neither 0 nor 1")
        if flag == 0:
            return None, count
        valid = self._bits(count)
        return valid, int(np.count_nonzero(valid))

    def _planes(self, count: int, width: int) -> npt.NDArray[np.uint64]:
        planes = np.frombuffer(self._take(count * width), np.uint8)
        if width == 1:
            return planes.astype(np.uint64)
        out = np.zeros((count, 8), np.uint8)
        out[:, :width] = planes.reshape(width, count).T
        return out.view("<u8").reshape(count).astype(np.uint64, copy=False)

    def ints(self, spec: Any, count: int) -> tuple[Ints, npt.NDArray[np.bool_] | None, int]:
        """Integers (0 where missing), where they are present (None: everywhere), and the exponent.

        Raises:
            InvalidFrame: the spec or its buffers are wrong.
        """
        if not isinstance(spec, list) or set(map(type, spec[1:])) != {int}:
            wrong("a spec of integers")
        if (spec[0], len(spec)) not in (("i", 5), ("j", 6)):
            wrong("a spec of integers")
        exponent, base, width = spec[2], spec[-2], spec[-1]
        if not 0 <= width <= 8 or not 0 <= exponent <= 18:
            wrong("exponent or width of integers")
        self._spend(8 * count)
        valid, dense = self._validity(spec[1], count)
        if spec[0] == "i" or not dense:
            values = self._planes(dense, width) + np.uint64(base % 2**64)
        else:
            values = np.empty(dense, np.uint64)
            values[0] = spec[3] % 2**64
            values[1:] = self._planes(dense - 1, width) + np.uint64(base % 2**64)
            np.cumsum(values, out=values)
        return _spread(values.view(np.int64), valid, count), valid, exponent

    def _integers(self, spec: Any, count: int) -> Column:
        values, valid, exponent = self.ints(spec, count)
        return Column(primitive(pa.int64(), values, valid), "i", exponent)

    def _floats(self, spec: Any, count: int) -> Column:
        if len(spec) != 3 or spec[2] not in (0, 1):
            wrong("a spec of floats")
        self._spend(8 * count)
        valid, dense = self._validity(spec[1], count)
        if spec[2]:
            values = np.repeat(np.frombuffer(self._take(8), "<u8"), dense)
        else:
            values = self._planes(dense, 8)
        floats = _spread(values.astype(np.uint64, copy=False).view(np.int64), valid, count)
        return Column(primitive(pa.float64(), floats, valid), "f")

    def _bools(self, spec: Any, count: int) -> Column:
        if len(spec) != 2:
            wrong("a spec of booleans")
        valid, dense = self._validity(spec[1], count)
        values = self._bits(dense)
        if valid is not None:
            whole = np.zeros(count, np.bool_)
            whole[valid] = values
            values = whole
        mask = None if valid is None else ~valid
        return Column(pa.array(values, pa.bool_(), mask=mask), "b")

    def _dictionary(self, spec: Any, count: int) -> Column:
        if len(spec) != 4 or not isinstance(spec[1], list) or type(spec[3]) is not int:
            wrong("a spec of a dictionary")
        _, names, missing, width = spec
        if missing not in (0, 1) or not 0 <= width <= 4 or not all(map(_is_text, names)):
            wrong("values of a dictionary")
        self._spend(4 * count)
        codes = self._codes(count, width, len(names) + missing)
        valid = codes < len(names) if missing else None
        return Column(label(codes, valid, names), "d")

    def _codes(self, count: int, width: int, limit: int) -> npt.NDArray[np.int32]:
        if not width:  # a constant column, the most frequent one
            if count and not limit:
                wrong("a code out of range")
            return np.zeros(count, np.int32)
        codes = self._planes(count, width)
        if count and int(codes.max()) >= limit:
            wrong("a code out of range")
        return codes.astype(np.int32)

    def _strings(self, spec: Any, count: int) -> Column:
        if len(spec) != 2:
            wrong("a spec of strings")
        lengths, valid, _ = self.ints(spec[1], count)
        offsets = _offsets(lengths, self.left)
        data = self._take(int(offsets[-1]))
        return Column(text(count, valid, offsets, pa.py_buffer(data)), "s")

    def _hex(self, spec: Any, count: int) -> Column:
        if len(spec) != 3 or type(spec[2]) is not int or not 0 < spec[2] <= 2**20:
            wrong("a spec of hexadecimal strings")
        valid, dense = self._validity(spec[1], count)
        packed = self._take(dense * spec[2])
        self._spend(2 * len(packed))
        lengths = np.full(count, 2 * spec[2]) if valid is None else valid * (2 * spec[2])
        offsets = _offsets(lengths.astype(np.int64, copy=False), 2 * len(packed))
        data = pa.py_buffer(packed.hex().encode("ascii"))
        return Column(text(count, valid, offsets, data, ascii_only=True), "s")

    def _members(self, spec: Any, count: int) -> tuple[Any, npt.NDArray[np.int32], int]:
        lengths, valid, _ = self.ints(spec, count)
        offsets = _offsets(lengths, MAX_MEMBERS)
        return _bitmap(valid), offsets, int(offsets[-1])

    def _lists(self, spec: Any, count: int) -> Column:
        if len(spec) != 3:
            wrong("a spec of lists")
        bitmap, offsets, total = self._members(spec[1], count)
        members = self.strings(spec[2], total)
        kind = pa.list_(pa.string())
        parts = [bitmap, pa.py_buffer(offsets.data)]
        return Column(pa.Array.from_buffers(kind, count, parts, children=[members]), "l")

    def _maps(self, spec: Any, count: int) -> Column:
        if len(spec) != 4:
            wrong("a spec of maps")
        bitmap, offsets, total = self._members(spec[1], count)
        keys = self.strings(spec[2], total)
        found = self.read(spec[3], total)
        items = found.array if found.code == "f" else self._plain(found)
        if items.null_count:
            wrong("a missing value in a map")
        kind = pa.map_(pa.string(), items.type)
        entries = pa.StructArray.from_arrays(
            [keys, items], fields=[kind.key_field, kind.item_field]
        )
        parts = [bitmap, pa.py_buffer(offsets.data)]
        return Column(pa.Array.from_buffers(kind, count, parts, children=[entries]), "m")

    def strings(self, spec: object, count: int) -> Any:
        """Present strings of any encoding, as a plain string array.

        Raises:
            InvalidFrame: the spec or its buffers are wrong, or a string is missing.
        """
        array = self._plain(self.read(spec, count))
        if array.null_count:
            wrong("a missing member")
        return array

    def _plain(self, column: Column) -> Any:
        if column.code == "s":
            return column.array
        if column.code != "d":
            wrong("strings expected")
        return self.expand(column.array)

    def expand(self, array: Any) -> Any:
        """A dictionary array as a plain string array, within the budget.

        Raises:
            InvalidFrame: it would take too much memory.
        """
        lengths = np.diff(np.frombuffer(array.dictionary.buffers()[1], np.int32))
        codes = np.frombuffer(array.indices.buffers()[1], np.int32)[: len(array)]
        counts = np.bincount(codes[codes < len(lengths)], minlength=len(lengths))
        self._spend(int(counts @ lengths.astype(np.int64)))
        return array.dictionary_decode()


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _spread(values: Ints, valid: npt.NDArray[np.bool_] | None, count: int) -> Ints:
    if valid is None:
        return values
    whole = np.zeros(count, np.int64)
    whole[valid] = values
    return whole


def _bitmap(valid: npt.NDArray[np.bool_] | None) -> Any:
    return None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little").data)


def _offsets(lengths: Ints, limit: int) -> npt.NDArray[np.int32]:
    if len(lengths) and (int(lengths.min()) < 0 or int(lengths.max()) > limit):
        wrong("a length out of range")
    ends = np.cumsum(lengths)
    if len(ends) and int(ends[-1]) > limit:
        wrong("lengths beyond their data")
    offsets = np.zeros(len(lengths) + 1, np.int32)
    offsets[1:] = ends
    return offsets


def primitive(kind: Any, values: Ints, valid: npt.NDArray[np.bool_] | None) -> Any:
    """An array of 8-byte values from their bits; missing where `valid` is false."""
    return pa.Array.from_buffers(kind, len(values), [_bitmap(valid), pa.py_buffer(values.data)])


def label(
    codes: npt.NDArray[np.int32], valid: npt.NDArray[np.bool_] | None, names: list[str]
) -> Any:
    """A dictionary array from codes that are in range wherever they are valid."""
    parts = [_bitmap(valid), pa.py_buffer(codes.data)]
    values: Any = pa.array(names, pa.string())
    return pa.DictionaryArray.from_buffers(LABEL, len(codes), parts, values)


def text(
    count: int,
    valid: npt.NDArray[np.bool_] | None,
    offsets: npt.NDArray[np.int32],
    data: Any,
    *,
    ascii_only: bool = False,
) -> Any:
    """A string array from its parts.

    Raises:
        InvalidFrame: a string is no UTF-8.
    """
    array: Any = pa.StringArray.from_buffers(
        count, pa.py_buffer(offsets.data), data, _bitmap(valid)
    )
    if not ascii_only and not bytes(data).isascii():
        try:
            array.validate(full=True)
        except pa.ArrowInvalid as error:
            raise InvalidFrame(f"a text is no UTF-8: {error}") from error
    return array


_READERS: dict[str, Callable[[ColumnReader, Any, int], Column]] = {
    "i": ColumnReader._integers,
    "j": ColumnReader._integers,
    "f": ColumnReader._floats,
    "b": ColumnReader._bools,
    "d": ColumnReader._dictionary,
    "s": ColumnReader._strings,
    "x": ColumnReader._hex,
    "l": ColumnReader._lists,
    "m": ColumnReader._maps,
}
