"""Content-Encoding of requests and answers: gzip, deflate, lz4, zstd, piece by piece."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, Protocol

import lz4.frame  # type: ignore[import-untyped]
import zstandard

from .errors import QueryFailed

_ERRORS = (zlib.error, zstandard.ZstdError, RuntimeError, EOFError)
# In the order in which they are preferred where a client takes several.
_ENCODINGS = ("zstd", "lz4", "gzip", "deflate")
_PIECE_BYTES = 1 << 20


class Encoder(Protocol):
    """Compresses an answer piece by piece."""

    def compress(self, data: bytes) -> bytes:
        """The next compressed bytes, often none yet."""
        ...

    def flush(self) -> bytes:
        """The end."""
        ...


class _Lz4Encoder:
    def __init__(self) -> None:
        self._inner = lz4.frame.LZ4FrameCompressor()
        self._begun = False

    def compress(self, data: bytes) -> bytes:
        begin = b"" if self._begun else self._inner.begin()
        self._begun = True
        return bytes(begin + self._inner.compress(data))

    def flush(self) -> bytes:
        begin = b"" if self._begun else self._inner.begin()
        return bytes(begin + self._inner.flush())


def encoder(name: str) -> Encoder:
    """An encoder of one of the names that `chosen` returns."""
    if name == "lz4":
        return _Lz4Encoder()
    if name == "zstd":
        made: Encoder = zstandard.ZstdCompressor(level=1).compressobj()
        return made
    return zlib.compressobj(3, zlib.DEFLATED, 31 if name == "gzip" else 15)


def chosen(accepted: str) -> str:
    """The encoding to answer with, empty for none.

    Example:
        >>> chosen("gzip, zstd;q=0, br")
        'gzip'
    """
    offers = [part.strip().lower().partition(";") for part in accepted.split(",")]
    named = {name.strip() for name, _, weight in offers if weight.strip() not in ("q=0", "q=0.0")}
    return next((name for name in _ENCODINGS if name in named), "")


def decoded(pieces: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """The pieces of a body without their Content-Encoding, a megabyte at a time where it can be.

    Raises:
        QueryFailed: 271 for damaged bytes, 48 for an unknown encoding.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return pieces
    if name not in _ENCODINGS:
        raise QueryFailed(48, f"Content-Encoding {encoding} is not supported: use gzip, lz4, zstd")
    return _decoded(pieces, name)


def _decoded(pieces: Iterator[bytes], name: str) -> Iterator[bytes]:
    decode = _zlib if name in ("gzip", "deflate") else _frames
    try:
        yield from decode(pieces, name)
    except _ERRORS as error:
        raise QueryFailed(271, f"Cannot decompress the body as {name}: {error}") from error


def _zlib(pieces: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    window = 31 if encoding == "gzip" else 15
    inner: Any = None
    for piece in pieces:
        rest = piece
        while rest:
            inner = inner or zlib.decompressobj(window)
            yield inner.decompress(rest, _PIECE_BYTES)
            rest = inner.unconsumed_tail
            if inner.eof:  # the next member of the file begins
                rest, inner = inner.unused_data, None
    if inner is not None:
        raise EOFError("its end is missing")


def _frames(pieces: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """One or several frames of lz4 or zstd, one behind the other."""
    inner: Any = None
    for piece in pieces:
        rest = piece
        while rest:
            if inner is None:
                inner = _frame(encoding)
            yield from _inflate(inner, rest)
            rest = b""
            if inner.eof:
                rest, inner = inner.unused_data or b"", None
    if inner is not None:
        raise EOFError("its end is missing")


def _frame(encoding: str) -> Any:
    if encoding == "lz4":
        return lz4.frame.LZ4FrameDecompressor()
    return zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()


def _inflate(inner: Any, data: bytes) -> Iterator[bytes]:
    if isinstance(inner, lz4.frame.LZ4FrameDecompressor):
        yield inner.decompress(data, _PIECE_BYTES)
        while not inner.needs_input and not inner.eof:
            yield inner.decompress(b"", _PIECE_BYTES)
    else:
        yield inner.decompress(data)
