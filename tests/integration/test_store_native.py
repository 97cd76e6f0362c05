"""Blocks for clients of the native protocol, for every type that can be walked over.

What is expected comes from the engine too: the bytes of a column alone are those of the column beside
another one.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from penstock.tests.support.chstore import StoreServer

INFO = bytes((1, 0, 2, 255, 255, 255, 255, 0))
ROWS = 40
EXPRESSIONS = [
    "toUInt8(number)",
    "toInt16(number)",
    "toUInt32(number)",
    "number",
    "toInt128(number)",
    "toUInt256(number)",
    "toFloat32(number)",
    "toFloat64(number)",
    "toBFloat16(number)",
    "number % 2 = 0",
    "CAST(number % 2, 'Bool')",
    "toString(number)",
    "repeat('é', number * 5)",
    "toFixedString(toString(number), 5)",
    "toDate(number)",
    "toDate32(number)",
    "toDateTime(number, 'UTC')",
    "toDateTime64(number, 6, 'Europe/Berlin')",
    "toDecimal32(number, 2)",
    "toDecimal64(number, 4)",
    "toDecimal128(number, 4)",
    "toDecimal256(number, 4)",
    "reinterpretAsUUID(number)",
    "toIPv4(toUInt32(number))",
    "toIPv6(IPv4NumToString(toUInt32(number)))",
    "toIntervalDay(number)",
    "CAST('b,)\\'`', 'Enum8(\\'a(\\' = 1, \\'b,)\\\\\\'`\\' = 2)')",
    "CAST('b', 'Enum16(\\'a\\' = 1, \\'b\\' = 1000)')",
    "toNullable(number)",
    "if(number % 3 = 0, NULL, toString(number))",
    "NULL",
    "toLowCardinality(toString(number % 5))",
    "toLowCardinality(if(number % 3 = 0, NULL, toString(number)))",
    "CAST(toString(number % 300), 'LowCardinality(FixedString(4))')",
    "CAST(number % 7, 'LowCardinality(UInt16)')",
    "range(number % 4)",
    "emptyArrayString()",
    "[[toString(number)], []]",
    "arrayMap(x -> toLowCardinality(toString(x)), range(number % 4))",
    "arrayMap(x -> toNullable(x), range(number % 4))",
    "(number, toString(number))",
    "CAST((number, toString(number)), 'Tuple(a UInt64, `b c)` String)')",
    "[(number, number, toInt64(number))]",
    "map(toString(number), number)",
    "CAST(map('a', ['b', NULL]), 'Map(LowCardinality(String), Array(Nullable(String)))')",
    "map(toLowCardinality('k'), toString(number))",
    "CAST([(1, 'x')], 'Nested(a UInt8, b LowCardinality(String))')",
    "(toFloat64(number), 1.5)::Point",
    "[(0., 1.), (2., 3.)]::Ring",
    "[[(0., 1.), (2., 3.)]]::Polygon",
    "(1, (2, [toLowCardinality('x')]), map('a', [NULL, 1]))",
]


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    server = StoreServer(tmp_path_factory.mktemp("native"))
    server.start()
    client = httpx.Client(
        base_url=server.http_url,
        auth=("reader", "pw"),
        headers={"Accept-Encoding": "identity"},
        timeout=60,
    )
    try:
        yield client
    finally:
        client.close()
        server.stop()


def native(http: httpx.Client, sql: str, version: str = "") -> bytes:
    query = {"allow_suspicious_low_cardinality_types": "1", "allow_experimental_bfloat16_type": "1"}
    query |= {"client_protocol_version": version} if version else {}
    answer = http.post("/", params=query, content=f"{sql} FORMAT Native")
    assert answer.status_code == 200, answer.text
    return answer.content


def split(block: bytes) -> tuple[bytes, bytes, bytes]:
    """A block of one column and fewer than 128 rows: its head, name and type, values."""
    at = 2
    for _ in range(2):
        size, shift = 0, 0
        while True:
            byte = block[at]
            at += 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        at += size
    return block[:2], block[2:at], block[at:]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_columns_of_every_type(http: httpx.Client, expression: str) -> None:
    source = f"FROM numbers({ROWS})"
    head, named, values = split(native(http, f"SELECT {expression} AS x {source}"))
    assert head == bytes((1, ROWS))
    _, other, numbers = split(native(http, f"SELECT number AS y {source}"))
    both = native(http, f"SELECT {expression} AS x, number AS y {source}", "54460")
    assert both == INFO + bytes((2, ROWS)) + named + b"\0" + values + other + b"\0" + numbers
    older = native(http, f"SELECT {expression} AS x, number AS y {source}", "54453")
    assert older == INFO + bytes((2, ROWS)) + named + values + other + numbers


def test_several_blocks_and_none(http: httpx.Client) -> None:
    many = native(
        http, "SELECT toString(number) FROM numbers(100) SETTINGS max_block_size = 7", "54460"
    )
    assert many.count(INFO) == 15
    assert native(http, "SELECT 1 WHERE 0", "54460") == b""


@pytest.mark.parametrize(
    "expression",
    ["sumState(number)", "any('{}'::JSON)", "any(1::Dynamic)", "any(1::Variant(UInt8))"],
)
def test_types_that_cannot_be_walked_over_are_told(http: httpx.Client, expression: str) -> None:
    answer = http.post(
        "/",
        params={"client_protocol_version": "54460"},
        content=f"SELECT {expression} FROM numbers(3) FORMAT Native",
    )
    assert answer.status_code == 501
    assert "convert it in the query" in answer.text
