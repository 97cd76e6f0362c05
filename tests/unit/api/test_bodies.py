from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import AsyncIterator, Callable

import pytest
import zstandard
from penstock.api.bodies import decompress, encoding_of, form_of, read_bounded
from penstock.schemas.errors import InvalidFrame, TooLarge, UnsupportedMediaType

LIMIT = 1 << 20
BODY = os.urandom(5000) * 3 + b"a" * 200_000


def zstd(body: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(body)


COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd}
ENCODINGS = sorted(COMPRESS)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_round_trip_of_one_and_of_several_members(encoding: str) -> None:
    packed = COMPRESS[encoding](BODY)
    assert decompress(packed, encoding, LIMIT) == BODY
    assert decompress(packed + packed, encoding, LIMIT) == BODY + BODY
    assert decompress(COMPRESS[encoding](b""), encoding, LIMIT) == b""
    assert decompress(COMPRESS[encoding](BODY), encoding, len(BODY)) == BODY


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_bomb_is_stopped(encoding: str) -> None:
    bomb = COMPRESS[encoding](b"\0" * 200_000_000)
    assert len(bomb) < LIMIT
    with pytest.raises(TooLarge):
        decompress(bomb, encoding, LIMIT)
    with pytest.raises(TooLarge):
        decompress(COMPRESS[encoding](BODY), encoding, len(BODY) - 1)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_body_of_nothing_but_members_is_refused_soon(encoding: str) -> None:
    with pytest.raises(InvalidFrame, match="members"):
        decompress(COMPRESS[encoding](b"") * 200_000, encoding, LIMIT)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_body_cut_anywhere_is_never_taken_for_a_whole_one(encoding: str) -> None:
    packed = COMPRESS[encoding](BODY)
    for length in [*range(1, 40), *range(40, len(packed), 997), len(packed) - 1]:
        with pytest.raises(InvalidFrame):
            decompress(packed[:length], encoding, LIMIT)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("body", [b"x", b"plain text", bytes(range(1, 101))])
def test_what_is_not_compressed_is_refused(encoding: str, body: bytes) -> None:
    with pytest.raises(InvalidFrame):
        decompress(body, encoding, LIMIT)


def test_a_huge_zstd_window_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = packer.compress(b"a" * 1000) + packer.flush()
    with pytest.raises(InvalidFrame):
        decompress(packed, "zstd", LIMIT)


@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("application/json", "json"),
        ("Application/JSON; charset=UTF-8", "json"),
        ("application/x-ndjson", "json"),
        ("application/vnd.penstock.frames", "frames"),
    ],
)
def test_forms(header: str, form: str) -> None:
    assert form_of({"content-type": header}) == form


@pytest.mark.parametrize("header", ["", "text/plain", "application/json; charset=latin-1", "json"])
def test_other_forms_are_refused(header: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        form_of({"content-type": header})


def test_encodings() -> None:
    assert encoding_of({}) == "identity"
    assert encoding_of({"content-encoding": " GZIP "}) == "gzip"
    for other in ("br", "gzip, zstd", "deflate"):
        with pytest.raises(UnsupportedMediaType):
            encoding_of({"content-encoding": other})


async def pieces(sizes: list[int], seen: list[int]) -> AsyncIterator[bytes]:
    for size in sizes:
        seen.append(size)
        yield b"x" * size


def test_the_limit_holds_for_streams_without_a_length() -> None:
    seen: list[int] = []
    assert asyncio.run(read_bounded(pieces([3, 4, 3], seen), None, 10)) == b"x" * 10
    seen.clear()
    with pytest.raises(TooLarge):
        asyncio.run(read_bounded(pieces([6, 5, 7, 8], seen), None, 10))
    assert seen == [6, 5]


def test_a_declared_length_over_the_limit_is_refused_unread() -> None:
    seen: list[int] = []
    with pytest.raises(TooLarge):
        asyncio.run(read_bounded(pieces([1], seen), "11", 10))
    assert seen == []
