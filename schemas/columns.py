"""Columns of a frame, writing side: Python values of one field to a spec and its buffers.

A spec is a small list that says how to read the column; its buffers are appended to one list and are
read back in the same order, so that no offset or length of a buffer is ever written. docs/frames.md
specifies each code. All encoders raise TypeError, ValueError or OverflowError for a value that the
field cannot hold, and TooLarge for a column over the limits of a frame.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import TooLarge
from .fields import SCALES, Kind

MAX_MEMBERS = 500_000  # of all sets or maps of a column together
MAX_MEMBER_CHARS = 8 * 2**20  # of all their names together

Spec = list[Any]
Ints = npt.NDArray[np.int64]
Validity = npt.NDArray[np.bool_]

_EXPONENTS = {"ms": 3, "usd": 9}
_LIMIT = 2.0**63
_BOOLS = frozenset((bool, np.bool_))
_MAX_DICTIONARY = 8 * 2**10  # characters of all values; a larger one would swell the directory
_MAX_REPEATED = 4 * 2**20  # characters: what a reader expands is bounded
_SAMPLE = 64  # values looked at to guess whether a text column repeats itself


def encode_column(
    kind: Kind, values: Sequence[Any], buffers: list[bytes], *, required: bool = False
) -> Spec | None:
    """Encode one column; None is a missing value.

    Args:
        kind: of the field.
        values: one per row.
        buffers: the column's buffers are appended here.
        required: a missing value is an error (TypeError).

    Returns:
        The spec, or None when every value is missing: such a column is not written.
    """
    first = values[0]
    if first is None and not required and values.count(None) == len(values):
        return None
    if kind in ("int", "time"):
        return _integer_column(values, buffers, required)
    return _ENCODERS[kind](values, buffers)


def write_ints(
    values: Ints,
    valid: Validity | None,
    buffers: list[bytes],
    *,
    exponent: int = 0,
    steps: bool = False,
) -> Spec:
    """Integers as base + byte planes; `values` holds the present ones only.

    With `steps`, differences are written where they take fewer bytes (times, counters).
    """
    if valid is not None:
        buffers.append(np.packbits(valid, bitorder="little").tobytes())
    present = int(valid is not None)
    if not len(values):
        return ["i", present, exponent, 0, 0]
    low, high = int(values.min()), int(values.max())
    width = ((high - low).bit_length() + 7) // 8
    if steps and width > 1 and high - low < 2**62:
        differences = np.diff(values)
        least, most = int(differences.min()), int(differences.max())
        narrow = ((most - least).bit_length() + 7) // 8
        if narrow < width:
            _planes(differences, least, narrow, buffers)
            return ["j", present, exponent, int(values[0]), least, narrow]
    _planes(values, low, width, buffers)
    return ["i", present, exponent, low, width]


def _planes(values: Ints, base: int, width: int, buffers: list[bytes]) -> None:
    # All first bytes, then all second bytes, ...: high bytes repeat, and zstd finds that.
    if width:
        above = values - base if base else values
        planes = above.astype("<i8", copy=False).view(np.uint8).reshape(-1, 8)[:, :width]
        buffers.append(planes.T.tobytes())


def _present(values: Sequence[Any]) -> tuple[list[Any], Validity]:
    valid = np.array([value is not None for value in values])
    return [value for value in values if value is not None], valid


def _doubles(values: Sequence[Any]) -> npt.NDArray[np.float64]:
    # array() refuses texts, which numpy would parse.
    floats = np.frombuffer(array("d", values), np.float64)
    _refuse_booleans(floats, values)
    return floats


def _refuse_booleans(numbers: npt.NDArray[Any], values: Sequence[Any]) -> None:
    # Python takes True for 1. Types are looked at only where the smallest number could be one.
    if len(numbers) and not numbers.min() > 1 and not _BOOLS.isdisjoint(map(type, values)):
        raise TypeError("a boolean where a number belongs")


def _whole(values: Sequence[Any]) -> Ints:
    try:
        whole = np.frombuffer(array("q", values), np.int64)
    except TypeError:
        floats = _doubles(values)
        if not ((np.abs(floats) <= 2.0**53) & (np.floor(floats) == floats)).all():
            raise ValueError("not a whole number") from None
        return floats.astype(np.int64)
    _refuse_booleans(whole, values)
    return whole


def _integer_column(values: Sequence[Any], buffers: list[bytes], required: bool) -> Spec:
    try:
        return write_ints(_whole(values), None, buffers, steps=True)
    except TypeError:
        if required:
            raise
    dense, valid = _present(values)
    return write_ints(_whole(dense), valid, buffers, steps=True)


def _scaled(kind: Kind) -> Callable[[Sequence[Any], list[bytes]], Spec]:
    exponent, scale = _EXPONENTS[kind], SCALES[kind]

    def encode(values: Sequence[Any], buffers: list[bytes]) -> Spec:
        valid = None
        try:
            floats = _doubles(values)
        except TypeError:
            dense, valid = _present(values)
            floats = _doubles(dense)
        with np.errstate(over="ignore"):  # told below
            scaled = np.floor(floats * scale + 0.5)
        if not (np.abs(scaled) < _LIMIT).all():  # NaN compares false
            raise ValueError("not finite, or too large")
        return write_ints(scaled.astype(np.int64), valid, buffers, exponent=exponent)

    return encode


def _floats(values: Sequence[Any], buffers: list[bytes]) -> Spec:
    valid = None
    try:
        floats = _doubles(values)
    except TypeError:
        dense, valid = _present(values)
        floats = _doubles(dense)
        buffers.append(np.packbits(valid, bitorder="little").tobytes())
    bits = floats.view(np.int64)
    if (bits == bits[0]).all():
        buffers.append(bits[:1].astype("<i8").tobytes())
        return ["f", int(valid is not None), 1]
    _planes(bits, 0, 8, buffers)
    return ["f", int(valid is not None), 0]


def _bools(values: Sequence[Any], buffers: list[bytes]) -> Spec:
    kinds = set(map(type, values))
    if not kinds <= _BOOLS | {type(None)}:
        raise TypeError("not a boolean")
    present = 0
    dense: Sequence[Any] = values
    if type(None) in kinds:
        dense, valid = _present(values)
        buffers.append(np.packbits(valid, bitorder="little").tobytes())
        present = 1
    buffers.append(np.packbits(np.array(dense, bool), bitorder="little").tobytes())
    return ["b", present]


def write_labels(values: Sequence[Any], buffers: list[bytes]) -> Spec:
    """Strings as a dictionary of distinct values and one code per row; None is the last code."""
    distinct = dict.fromkeys(values)
    missing = None in distinct
    if missing:
        del distinct[None]
    if len("".join(distinct)) > _MAX_DICTIONARY:
        return _plain_labels(values, buffers)
    known: dict[Any, int] = {value: code for code, value in enumerate(distinct)}
    if missing:
        known[None] = len(distinct)
    width = 0 if len(known) < 2 else 1 if len(known) <= 256 else 2
    if width:
        codes = map(known.__getitem__, values)
        if width == 1:
            buffers.append(bytes(codes))
        else:
            _planes(np.fromiter(codes, np.int64, len(values)), 0, 2, buffers)
    names = [
        value.encode().decode() for value in distinct
    ]  # UnicodeEncodeError for half characters
    return ["d", names, int(missing), width]


def _plain_labels(values: Sequence[Any], buffers: list[bytes]) -> Spec:
    dense, valid = _present(values)
    return write_strings(dense, None if valid.all() else valid, buffers)


def write_strings(values: Sequence[str], valid: Validity | None, buffers: list[bytes]) -> Spec:
    """Strings one after another, after their lengths in bytes; `values` holds the present ones."""
    joined = "".join(values)
    if joined.isascii():
        lengths = _whole(list(map(len, values)))
        data = joined.encode("ascii")
    else:
        encoded = [value.encode() for value in values]
        lengths = _whole(list(map(len, encoded)))
        data = b"".join(encoded)
    spec = write_ints(lengths, valid, buffers)
    buffers.append(data)
    return ["s", spec]


def _texts(values: Sequence[Any], buffers: list[bytes]) -> Spec:
    valid = None
    dense = values
    try:
        joined = "".join(values)
    except TypeError:
        dense, valid = _present(values)
        joined = "".join(dense)
    size = len(dense[0])
    if size and size % 2 == 0 and len(joined) == size * len(dense):
        packed = _packed_hex(dense, joined, size)
        if packed is not None:
            if valid is not None:
                buffers.append(np.packbits(valid, bitorder="little").tobytes())
            buffers.append(packed)
            return ["x", int(valid is not None), size // 2]
    repeats = len(set(values[:_SAMPLE])) * 4 <= min(len(values), _SAMPLE)
    if repeats and len(joined) <= _MAX_REPEATED:
        return write_labels(values, buffers)
    return write_strings(dense, valid, buffers)


def _packed_hex(values: Sequence[str], joined: str, size: int) -> bytes | None:
    try:
        packed = bytes.fromhex(joined)
    except ValueError:
        return None
    # fromhex takes capitals and blanks too, which would not come back.
    if packed.hex() != joined or set(map(len, values)) != {size}:
        return None
    return packed


def _members(values: Sequence[Any], kinds: tuple[type, ...], buffers: list[bytes]) -> list[Any]:
    dense, valid = _present(values)
    if not all(isinstance(value, kinds) for value in dense):
        raise TypeError("not a collection of the right kind")
    lengths = write_ints(_whole(list(map(len, dense))), None if valid.all() else valid, buffers)
    return [lengths, dense]


def _sets(values: Sequence[Any], buffers: list[bytes]) -> Spec:
    lengths, dense = _members(values, (frozenset, set, list, tuple), buffers)
    flat = [
        member
        for value in dense
        for member in (sorted(value) if isinstance(value, frozenset | set) else value)
    ]
    return ["l", lengths, _member_labels(flat, buffers)]


def _member_labels(flat: list[Any], buffers: list[bytes]) -> Spec:
    if None in flat:
        raise TypeError("a member is missing")
    if len(flat) > MAX_MEMBERS or len("".join(flat)) > MAX_MEMBER_CHARS:
        raise TooLarge(f"{len(flat)} members in one column; send fewer rows per frame")
    return write_labels(flat, buffers)


def _float_maps(values: Sequence[Any], buffers: list[bytes]) -> Spec:
    lengths, dense = _members(values, (Mapping,), buffers)
    keys = _member_labels([key for value in dense for key in value], buffers)
    flat = [item for value in dense for item in value.values()]
    if None in flat:
        raise TypeError("a value is missing")
    return ["m", lengths, keys, _floats(flat, buffers) if flat else ["f", 0, 0]]


def _text_maps(values: Sequence[Any], buffers: list[bytes]) -> Spec:
    lengths, dense = _members(values, (Mapping,), buffers)
    keys = _member_labels([key for value in dense for key in value], buffers)
    flat = [item for value in dense for item in value.values()]
    if None in flat:
        raise TypeError("a value is missing")
    return ["m", lengths, keys, _texts(flat, buffers) if flat else write_labels(flat, buffers)]


_ENCODERS: dict[Kind, Callable[[Sequence[Any], list[bytes]], Spec]] = {
    "label": write_labels,
    "text": _texts,
    "ms": _scaled("ms"),
    "usd": _scaled("usd"),
    "float": _floats,
    "bool": _bools,
    "labels": _sets,
    "floats": _float_maps,
    "texts": _text_maps,
}
