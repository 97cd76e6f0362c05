"""Content-Encoding and ClickHouse's own blocks, whole and in pieces, right and damaged."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator

import lz4.frame  # type: ignore[import-untyped]
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from penstock.store.blocks import BlockEncoder, unpacked
from penstock.store.cityhash import cityhash128
from penstock.store.coding import chosen, decoded, encoder
from penstock.store.errors import QueryFailed

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "lz4": lz4.frame.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}
TEXT = b"".join(b"line %d\n" % number for number in range(50_000))


def pieces(body: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at : at + size]


@pytest.mark.parametrize("name", COMPRESS)
@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_bodies_are_decoded_however_they_are_cut(name: str, size: int) -> None:
    assert b"".join(decoded(pieces(COMPRESS[name](TEXT), size), name)) == TEXT


@pytest.mark.parametrize("name", ["gzip", "lz4", "zstd"])
def test_several_frames_are_one_body(name: str) -> None:
    body = COMPRESS[name](b"one ") + COMPRESS[name](b"two")
    for size in (1, 7, 1000):
        assert b"".join(decoded(pieces(body, size), name)) == b"one two"


@pytest.mark.parametrize("name", COMPRESS)
def test_a_body_that_breaks_off_is_damaged(name: str) -> None:
    body = COMPRESS[name](TEXT)
    for end in (5, len(body) // 2, len(body) - 1):
        with pytest.raises(QueryFailed) as caught:
            list(decoded(pieces(body[:end], 1000), name))
        assert caught.value.code == 271


@pytest.mark.parametrize("name", COMPRESS)
def test_nonsense_is_damaged(name: str) -> None:
    with pytest.raises(QueryFailed) as caught:
        list(decoded(iter([b"this is nothing compressed"]), name))
    assert caught.value.code == 271


def test_an_unknown_encoding() -> None:
    with pytest.raises(QueryFailed) as caught:
        decoded(iter([b"x"]), "br")
    assert caught.value.code == 48
    assert list(decoded(iter([b"x"]), " Identity ")) == [b"x"]


@pytest.mark.parametrize("name", ["gzip", "deflate", "lz4", "zstd"])
def test_answers_are_encoded_in_pieces(name: str) -> None:
    made = encoder(name)
    body = b"".join([made.compress(piece) for piece in pieces(TEXT, 10_000)]) + made.flush()
    assert len(body) < len(TEXT) / 2
    assert b"".join(decoded(iter([body]), name)) == TEXT
    assert b"".join(decoded(iter([encoder(name).flush()]), name)) == b""


@pytest.mark.parametrize(
    ("accepted", "name"),
    [
        ("", ""),
        ("identity", ""),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("br", ""),
        ("LZ4;q=0.5", "lz4"),
        ("zstd;q=0, gzip", "gzip"),
    ],
)
def test_the_encoding_of_an_answer(accepted: str, name: str) -> None:
    assert chosen(accepted) == name


# Of another implementation (github.com/go-faster/city, CH128): byte n of the input is n * 7 mod 256.
HASHES = {
    0: ("3df09dfc64c09a2b", "3cb540c392e51e29"),
    1: ("a04b71ab61de6422", "f768684937e23970"),
    5: ("8a33b16f15c5be9f", "6e561cb3e46be953"),
    8: ("4f8f9be1d179c9b5", "7ae37c19937d40e6"),
    12: ("80614ff5054dbf6a", "04eef7733ab7b4c0"),
    16: ("83ec0fac4964837b", "d275575faba34852"),
    20: ("8e1a6ada0d4f1dfc", "0b945d73fe8b0524"),
    32: ("fc63f6c038692042", "1150d302127410d7"),
    33: ("460b9320df3e669c", "07849d860850e2a4"),
    127: ("92014b33a50c9fa1", "90fe7c076ed61607"),
    128: ("7742777150cd6e44", "35eeafd9d16b93d8"),
    143: ("befd988d63110637", "794a5b6c2ec5832b"),
    144: ("692e4b2ca634b28a", "4fa73d4eedd250cd"),
    160: ("c912dbf1c38f1862", "7f7a96bb314aa17d"),
    200: ("d86306e495af33e1", "dbf9f01063782843"),
    272: ("89ab024739e14973", "057124f84dcf1dbb"),
    1000: ("4253c6e06639463e", "2df1aea0eb8329d7"),
    70000: ("1af3557ccc955845", "b9d696bc2b4efaff"),
}


@pytest.mark.parametrize("size", HASHES)
def test_the_hash_is_that_of_clickhouse(size: int) -> None:
    low, high = cityhash128(bytes(at * 7 % 256 for at in range(size)))
    assert (f"{low:016x}", f"{high:016x}") == HASHES[size]


@given(st.binary(max_size=300), st.integers(0, 299))
def test_the_hash_sees_every_byte(data: bytes, at: int) -> None:
    if at < len(data):
        other = bytearray(data)
        other[at] ^= 1
        assert cityhash128(data) != cityhash128(bytes(other))


@pytest.mark.parametrize("method", ["LZ4", "ZSTD"])
@pytest.mark.parametrize("size", [1, 100_000, 1 << 22])
def test_blocks_come_back(method: str, size: int) -> None:
    data = (TEXT * 8)[:size]
    made = BlockEncoder(method)
    body = b"".join([made.compress(piece) for piece in pieces(data, 30_000)]) + made.flush()
    assert b"".join(unpacked(pieces(body, 5_000))) == data
    assert b"".join(unpacked(iter([body]))) == data


def test_no_rows_are_no_block() -> None:
    made = BlockEncoder("LZ4")
    assert made.compress(b"") + made.flush() == b""
    assert list(unpacked(iter([]))) == []


@pytest.mark.parametrize("at", [0, 15, 16, 17, 21, 30])
def test_a_damaged_block_is_refused(at: int) -> None:
    made = BlockEncoder("LZ4")
    body = bytearray(made.compress(TEXT) + made.flush())
    body[at] ^= 0x41
    with pytest.raises(QueryFailed) as caught:
        list(unpacked(iter([bytes(body)])))
    assert caught.value.code == 271


def test_a_block_that_breaks_off_is_refused() -> None:
    made = BlockEncoder("LZ4")
    body = made.compress(TEXT) + made.flush()
    with pytest.raises(QueryFailed):
        list(unpacked(iter([body[:-1]])))
