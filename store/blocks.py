"""ClickHouse's own compression over HTTP: `compress=1` in answers, `decompress=1` in bodies.

A block is a checksum (CityHash128, 16 bytes), the method (1 byte), the size with these 9 bytes, the
size without compression (4 bytes each, little endian), and the compressed bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import lz4.block  # type: ignore[import-untyped]
import zstandard

from .cityhash import cityhash128
from .errors import QueryFailed

_NONE, _LZ4, _ZSTD = 0x02, 0x82, 0x90
_HEAD = struct.Struct("<BII")
_CHECKSUM = struct.Struct("<QQ")
_BLOCK_BYTES = 1 << 20
_LONGEST_BYTES = 1 << 30


class BlockEncoder:
    """Packs an answer into blocks; the same interface as an encoder of Content-Encoding."""

    def __init__(self, method: str) -> None:
        self._zstd = zstandard.ZstdCompressor(level=1) if method.upper() == "ZSTD" else None
        self._waiting = bytearray()

    def compress(self, data: bytes) -> bytes:
        """The next blocks, often none yet."""
        self._waiting += data
        made = []
        while len(self._waiting) >= _BLOCK_BYTES:
            made.append(self._block(bytes(self._waiting[:_BLOCK_BYTES])))
            del self._waiting[:_BLOCK_BYTES]
        return b"".join(made)

    def flush(self) -> bytes:
        """The last block."""
        rest, self._waiting = bytes(self._waiting), bytearray()
        return self._block(rest) if rest else b""

    def _block(self, data: bytes) -> bytes:
        if self._zstd is not None:
            method, packed = _ZSTD, self._zstd.compress(data)
        else:
            method, packed = _LZ4, lz4.block.compress(data, store_size=False)
        body = _HEAD.pack(method, len(packed) + _HEAD.size, len(data)) + packed
        return _CHECKSUM.pack(*cityhash128(body)) + body


def unpacked(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The contents of a body of blocks.

    Raises:
        QueryFailed: 271: the body is damaged or cut off.
    """
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        while (size := _whole_block(waiting)) is not None:
            yield _content(bytes(waiting[:size]))
            del waiting[:size]
    if waiting:
        raise QueryFailed(271, "Cannot decompress: the last block is cut off")


def _whole_block(waiting: bytearray) -> int | None:
    """Bytes of the first block, None while it is not all there."""
    if len(waiting) < _CHECKSUM.size + _HEAD.size:
        return None
    _, packed, plain = _HEAD.unpack_from(waiting, _CHECKSUM.size)
    if packed < _HEAD.size or max(packed, plain) > _LONGEST_BYTES:
        raise QueryFailed(271, "Cannot decompress: these are no compressed blocks of ClickHouse")
    size = _CHECKSUM.size + int(packed)
    return size if len(waiting) >= size else None


def _content(block: bytes) -> bytes:
    body = block[_CHECKSUM.size :]
    if _CHECKSUM.unpack_from(block) != cityhash128(body):
        raise QueryFailed(271, "Cannot decompress: the checksum of a block does not match")
    method, _, size = _HEAD.unpack_from(body)
    packed = body[_HEAD.size :]
    try:
        if method == _NONE:
            return packed
        if method == _LZ4:
            return bytes(lz4.block.decompress(packed, uncompressed_size=size))
        if method == _ZSTD:
            return zstandard.ZstdDecompressor().decompress(packed, max_output_size=size)
    except (lz4.block.LZ4BlockError, zstandard.ZstdError) as error:
        raise QueryFailed(271, f"Cannot decompress a block: {error}") from error
    raise QueryFailed(271, f"Cannot decompress: unknown method {method:#x}")
