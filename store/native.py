"""Native blocks as clients of the native protocol read them over HTTP.

With `client_protocol_version` a block begins with its block info, and each column says after its type
whether its serialization is custom. The embedded engine writes blocks without either, so they are put in
here; for that the columns are walked over, type by type. See
https://clickhouse.com/docs/native-protocol/server and https://clickhouse.com/docs/interfaces/formats/Native.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache

from .errors import QueryFailed

# DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION; block info is older.
_WITH_CUSTOM_SERIALIZATION = 54454
_BLOCK_INFO = bytes((1, 0, 2, 255, 255, 255, 255, 0))
_WORD = struct.Struct("<Q")
_FIXED_BYTES = {
    **dict.fromkeys(("UInt8", "Int8", "Bool", "Enum8", "Nothing"), 1),
    **dict.fromkeys(("UInt16", "Int16", "Date", "Enum16", "BFloat16"), 2),
    **dict.fromkeys(("UInt32", "Int32", "Float32", "Date32", "DateTime", "IPv4", "Time"), 4),
    **dict.fromkeys(("UInt64", "Int64", "Float64", "DateTime64", "Time64"), 8),
    **dict.fromkeys(("UInt128", "Int128", "UUID", "IPv6", "Point"), 16),
    **dict.fromkeys(("UInt256", "Int256"), 32),
}
_GEO = {
    "LineString": "Array(Point)",
    "MultiLineString": "Array(Array(Point))",
    "MultiPolygon": "Array(Array(Array(Point)))",
    "Polygon": "Array(Array(Point))",
    "Ring": "Array(Point)",
}
# Of LowCardinality: the width of its indexes in the low byte of a word.
_INDEX_BYTES = (1, 2, 4, 8)


class _Type:
    """How to walk over a column of one type: first its prefix, then its values."""

    def prefix(self, block: bytes, at: int) -> int:
        """Past what stands before all values."""
        return at

    def skip(self, block: bytes, at: int, rows: int) -> int:
        """Past so many values."""
        raise NotImplementedError


class _Fixed(_Type):
    def __init__(self, width: int) -> None:
        self._width = width

    def skip(self, block: bytes, at: int, rows: int) -> int:
        return at + rows * self._width


class _String(_Type):
    def skip(self, block: bytes, at: int, rows: int) -> int:
        for _ in range(rows):
            size = block[at]
            if size < 128:
                at += 1 + size
            else:
                size, at = _number(block, at)
                at += size
        return at


class _Sequence(_Type):
    """Several types one behind the other: Tuple; Nullable is a mask and its values."""

    def __init__(self, *inner: _Type) -> None:
        self._inner = inner

    def prefix(self, block: bytes, at: int) -> int:
        for inner in self._inner:
            at = inner.prefix(block, at)
        return at

    def skip(self, block: bytes, at: int, rows: int) -> int:
        for inner in self._inner:
            at = inner.skip(block, at, rows)
        return at


class _Array(_Type):
    def __init__(self, inner: _Type) -> None:
        self._inner = inner

    def prefix(self, block: bytes, at: int) -> int:
        return self._inner.prefix(block, at)

    def skip(self, block: bytes, at: int, rows: int) -> int:
        if not rows:
            return at
        at += 8 * rows
        return self._inner.skip(block, at, _WORD.unpack_from(block, at - 8)[0])


class _LowCardinality(_Type):
    def __init__(self, keys: _Type) -> None:
        self._keys = keys

    def prefix(self, block: bytes, at: int) -> int:
        return at + 8

    def skip(self, block: bytes, at: int, rows: int) -> int:
        if not rows:
            return at
        width = _INDEX_BYTES[_WORD.unpack_from(block, at)[0] & 0xFF]
        keys = _WORD.unpack_from(block, at + 8)[0]
        at = self._keys.skip(block, at + 16, keys)
        return at + 8 + width * int(_WORD.unpack_from(block, at)[0])


def _number(block: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits per byte, and the position behind it."""
    value = shift = 0
    while True:
        byte = block[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _arguments(text: str) -> list[str]:
    """The arguments between a type's brackets, split at its own commas."""
    found, depth, quote, begin, at = [], 0, "", 0, 0
    while at < len(text):
        sign = text[at]
        if quote:
            at += sign == "\\"
            quote = "" if sign == quote else quote
        elif sign in "'`":
            quote = sign
        elif sign in "()":
            depth += 1 if sign == "(" else -1
        elif sign == "," and not depth:
            found.append(text[begin:at].strip())
            begin = at + 1
        at += 1
    return [*found, text[begin:].strip()] if text.strip() else []


def _element(text: str) -> _Type:
    """An element of a Tuple or Nested, with its name or without."""
    name, quoted = text, text.startswith("`")
    if quoted:
        end = 1
        while text[end] != "`":
            end += 2 if text[end] == "\\" else 1
        return _type(text[end + 1 :].strip())
    head, _, rest = name.partition(" ")
    return _type(rest if rest and "(" not in head else text)


@lru_cache(maxsize=1024)
def _type(text: str) -> _Type:
    name, bracket, inner = text.partition("(")
    arguments = _arguments(inner.rstrip()[:-1]) if bracket else []
    if name == "Decimal":
        digits = int(arguments[0])
        return _Fixed(next(width for width, most in _DECIMALS if digits <= most))
    if name.startswith("Decimal"):
        return _Fixed(int(name[7:]) // 8)
    if name in _FIXED_BYTES:
        return _Fixed(_FIXED_BYTES[name])
    if name.startswith("Interval"):
        return _Fixed(8)
    if made := _NESTED.get(name):
        return made(arguments)
    if name in _GEO:
        return _type(_GEO[name])
    raise QueryFailed(
        48,
        f"A column of type {text} cannot be answered with client_protocol_version: "
        "convert it in the query",
    )


_DECIMALS = ((4, 9), (8, 18), (16, 38), (32, 76))
_NESTED: dict[str, Callable[[list[str]], _Type]] = {
    "Array": lambda arguments: _Array(_type(arguments[0])),
    "FixedString": lambda arguments: _Fixed(int(arguments[0])),
    "LowCardinality": lambda arguments: _LowCardinality(_dictionary(arguments[0])),
    "Map": lambda arguments: _Array(_Sequence(_type(arguments[0]), _type(arguments[1]))),
    "Nested": lambda arguments: _Array(_Sequence(*map(_element, arguments))),
    "Nullable": lambda arguments: _Sequence(_Fixed(1), _type(arguments[0])),
    "SimpleAggregateFunction": lambda arguments: _type(arguments[1]),
    "String": lambda _: _String(),
    "Tuple": lambda arguments: _Sequence(*map(_element, arguments)),
}


def _dictionary(text: str) -> _Type:
    """The keys of LowCardinality: those of a nullable one stand without their mask."""
    return _type(text.removeprefix("Nullable(")[:-1] if text.startswith("Nullable(") else text)


def with_protocol(block: bytes, version: int) -> bytes:
    """One or several blocks of the engine as a client of this protocol version reads them.

    Raises:
        QueryFailed: 48: a column has a type that cannot be walked over.
    """
    made: list[bytes] = []
    at = 0
    while at < len(block):
        at = _convert(block, at, version, made)
    return b"".join(made)


def _convert(block: bytes, at: int, version: int, made: list[bytes]) -> int:
    """Append one block, return the position behind it."""
    made.append(_BLOCK_INFO)
    begin = at
    columns, at = _number(block, at)
    rows, at = _number(block, at)
    for _ in range(columns):
        size, at = _number(block, at)
        size, start = _number(block, at + size)
        at = start + size
        if version >= _WITH_CUSTOM_SERIALIZATION:
            made.append(block[begin:at])
            made.append(b"\0")
            begin = at
        if rows:
            column = _type(block[start : start + size].decode())
            at = column.skip(block, column.prefix(block, at), rows)
    made.append(block[begin:at])
    return at
