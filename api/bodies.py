"""The body of a POST: which form it is in, and its bytes, never more than the limit."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Literal, Protocol

import zstandard

from ..schemas.errors import InvalidFrame, TooLarge, UnsupportedMediaType

Form = Literal["frames", "json"]
FORMS: dict[str, Form] = {
    "application/vnd.penstock.frames": "frames",
    "application/json": "json",
    "application/x-ndjson": "json",
}
ENCODINGS = ("identity", "gzip", "zstd")
# Pieces of these sizes can grow to 32 and 16 MiB before the limit is looked at.
_ZSTD_PIECE = 1024
_GZIP_PIECE = 16 * 1024
# Each member costs a decoder; a body of nothing but empty members must not cost minutes.
_MAX_MEMBERS = 10_000
# What RFC 8878 asks every decoder to support.
_ZSTD_WINDOW = 8 * 1024 * 1024


def form_of(headers: Mapping[str, str]) -> Form:
    """The form that Content-Type names.

    Raises:
        UnsupportedMediaType: none, or one that is not read here.
    """
    name, _, parameters = headers.get("content-type", "").partition(";")
    form = FORMS.get(name.strip().lower())
    if form is None:
        raise UnsupportedMediaType(
            f"Content-Type must be one of {', '.join(FORMS)}, not {name.strip() or 'absent'!r}"
        )
    key, _, charset = parameters.strip().lower().partition("=")
    if key == "charset" and charset.strip('"') not in ("utf-8", "utf8"):
        raise UnsupportedMediaType("JSON is UTF-8")
    return form


def encoding_of(headers: Mapping[str, str]) -> str:
    """The Content-Encoding.

    Raises:
        UnsupportedMediaType: one that is not read here, or several.
    """
    name = headers.get("content-encoding", "").strip().lower() or "identity"
    if name not in ENCODINGS:
        raise UnsupportedMediaType(f"Content-Encoding must be one of {', '.join(ENCODINGS)}")
    return name


async def read_bounded(
    pieces: AsyncIterator[bytes], declared: str | None, limit_bytes: int
) -> bytes:
    """The bytes of a body.

    Args:
        pieces: as they come in.
        declared: the header Content-Length, absent for a chunked body.
        limit_bytes: largest body.

    Raises:
        TooLarge: it is larger; nothing beyond the limit was kept.
    """
    if declared is not None and declared.isdecimal() and int(declared) > limit_bytes:
        raise _too_large(limit_bytes)
    kept: list[bytes] = []
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        kept.append(piece)
    return kept[0] if len(kept) == 1 else b"".join(kept)


def decompress(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """Undo a Content-Encoding.

    Raises:
        InvalidFrame: the bytes are damaged or end too early.
        TooLarge: it would be larger than the limit.
    """
    if encoding == "gzip":
        return _inflate(body, limit_bytes, _gzip_decoder, _GZIP_PIECE)
    if encoding == "zstd":
        # Not a stream_reader: that one takes a body that ends too early for a short one.
        window = max(limit_bytes, _ZSTD_WINDOW)
        make = zstandard.ZstdDecompressor(max_window_size=window).decompressobj
        return _inflate(body, limit_bytes, make, _ZSTD_PIECE)
    return body


class _Decoder(Protocol):
    """What zlib's and zstandard's decompression objects have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def _gzip_decoder() -> _Decoder:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)


def _inflate(body: bytes, limit_bytes: int, make: Callable[[], _Decoder], piece: int) -> bytes:
    """Decompress every member of a body, in pieces so small that none can grow beyond reason."""
    parts: list[bytes] = []
    at = size = 0
    for _ in range(_MAX_MEMBERS):
        if at == len(body):
            return b"".join(parts)
        decoder = make()
        while not decoder.eof:
            taken = body[at : at + piece]
            if not taken:
                raise InvalidFrame("the compressed body ends too early")
            try:
                parts.append(decoder.decompress(taken))
            except (zlib.error, zstandard.ZstdError) as error:
                raise InvalidFrame(f"the body cannot be decompressed: {error}") from error
            at += len(taken)
            size += len(parts[-1])
            if size > limit_bytes:
                raise _too_large(limit_bytes)
        at -= len(decoder.unused_data)
    raise InvalidFrame(f"the compressed body has more than {_MAX_MEMBERS} members")


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(
        f"the body is larger than {limit_bytes // 2**20} MiB (limits.max_body_mb); "
        "send fewer events at once"
    )
