"""Bodies of `penstock store`, both ways: formats, compression, inserts, limits, bounded memory."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import lz4.frame  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard
from penstock.store.blocks import BlockEncoder, unpacked
from penstock.tests.support.chstore import Asker, code, running


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    with running(tmp_path_factory.mktemp("bodies"), "--max-body-mb", "32") as asker:
        asker.client.auth = ("writer", "pw")
        yield asker


def _rows_of_arrow(body: bytes) -> int:
    return int(pa.ipc.open_file(pa.BufferReader(body)).read_all().num_rows)


def _rows_of_parquet(body: bytes) -> int:
    return int(pyarrow.parquet.read_table(io.BytesIO(body)).num_rows)


FORMATS: dict[str, Callable[[bytes], int]] = {
    "JSON": lambda body: int(json.loads(body)["rows"]),
    "JSONEachRow": lambda body: body.count(b"\n"),
    "CSV": lambda body: body.count(b"\n"),
    "CSVWithNames": lambda body: body.count(b"\n") - 1,
    "TSVWithNamesAndTypes": lambda body: body.count(b"\n") - 2,
    "ArrowStream": lambda body: int(pa.ipc.open_stream(body).read_all().num_rows),
    "Arrow": _rows_of_arrow,
    "Parquet": _rows_of_parquet,
    "RowBinary": lambda body: len(body) // 8,
    "Values": lambda body: body.count(b"("),
    "Null": lambda body: 100_000 - len(body),
}


@pytest.mark.parametrize("form", FORMATS)
def test_large_answers_are_whole_in_every_format(ask: Asker, form: str) -> None:
    # Several blocks; formats with a head and a foot must have them once.
    sql = f"SELECT number FROM numbers(100000) FORMAT {form} SETTINGS max_block_size = 1000"
    answer = ask(sql)
    assert answer.headers["x-clickhouse-format"] == form
    assert FORMATS[form](answer.content) == 100_000


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "lz4": lz4.frame.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("name", ENCODERS)
def test_compressed_bodies(ask: Asker, name: str) -> None:
    ask(f"CREATE TABLE c_{name} (a UInt64) ENGINE = MergeTree ORDER BY a")
    rows = "".join(f"{number}\n" for number in range(200_000)).encode()
    half = len(rows) // 2
    # Two frames, one behind the other, are one body.
    body = ENCODERS[name](rows[:half]) + ENCODERS[name](rows[half:])
    if name == "deflate":
        body = ENCODERS[name](rows)
    query = {"query": f"INSERT INTO c_{name} FORMAT TSV"}
    headers = {"Content-Encoding": name}
    answer = ask.client.post("/", params=query, content=body, headers=headers)
    assert json.loads(answer.headers["x-clickhouse-summary"])["written_rows"] == "200000"
    assert ask(f"SELECT count(), sum(a) FROM c_{name}").text == "200000\t19999900000\n"
    cut = ask.client.post("/", params=query, content=body[: len(body) // 3], headers=headers)
    assert code(cut) == 271
    broken = ask.client.post("/", params=query, content=b"nonsense", headers=headers)
    assert (broken.status_code, code(broken)) == (500, 271)
    unknown = ask.client.post("/", params=query, content=b"x", headers={"Content-Encoding": "br"})
    assert (unknown.status_code, code(unknown)) == (501, 48)


DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "lz4": lz4.frame.decompress,
    "zstd": lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body),
}


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("rows", [1, 500_000])
def test_compressed_answers(ask: Asker, name: str, rows: int) -> None:
    query = {"query": f"SELECT number FROM numbers({rows})"}
    with ask.client.stream("POST", "/", params=query, headers={"Accept-Encoding": name}) as answer:
        assert answer.headers["content-encoding"] == name
        body = b"".join(answer.iter_raw())
    assert DECODERS[name](body).decode().splitlines()[-1] == str(rows - 1)
    off = {**query, "enable_http_compression": "0"}
    plain = ask.client.post("/", params=off, headers={"Accept-Encoding": name})
    assert "content-encoding" not in plain.headers


@pytest.mark.parametrize("method", ["LZ4", "ZSTD"])
def test_clickhouses_own_compression(ask: Asker, method: str) -> None:
    ask(f"CREATE TABLE b_{method} (a UInt64) ENGINE = MergeTree ORDER BY a")
    encoder = BlockEncoder(method)
    rows = "".join(f"{number}\n" for number in range(300_000)).encode()
    body = encoder.compress(rows) + encoder.flush()
    answer = ask(f"INSERT INTO b_{method} FORMAT TSV", body, decompress=1)
    assert answer.status_code == 200, answer.text
    read = ask(
        f"SELECT a FROM b_{method} ORDER BY a", compress=1, network_compression_method=method
    )
    assert b"".join(unpacked(iter([read.content]))) == rows
    damaged = bytearray(body)
    damaged[40] ^= 1
    refused = ask(f"INSERT INTO b_{method} FORMAT TSV", bytes(damaged), decompress=1)
    assert code(refused) == 271


def _native(numbers: list[int]) -> bytes:
    head = bytes((1, len(numbers), 1)) + b"a" + bytes((6,)) + b"UInt64"
    return head + struct.pack(f"<{len(numbers)}Q", *numbers)


def _arrow(stream: bool) -> bytes:
    table = pa.table({"a": pa.array([1, 2, 3], pa.uint64())})
    out = io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


INSERTS = {
    "TSV": b"1\n2\n3\n",
    "CSV": b"1\n2\n3\n",
    "JSONEachRow": b'{"a":1}\n{"a":2}\n{"a":3}',
    "Values": b"(1), (1 + 1), (3)",
    "RowBinary": struct.pack("<3Q", 1, 2, 3),
    "Native": _native([1, 2, 3]),
    "ArrowStream": _arrow(stream=True),
    "Arrow": _arrow(stream=False),
}


@pytest.mark.parametrize("form", INSERTS)
@pytest.mark.parametrize("where", ["url", "body"])
def test_inserts_of_every_format(ask: Asker, form: str, where: str) -> None:
    table = f"i_{form}_{where}"
    ask(f"CREATE TABLE {table} (a UInt64) ENGINE = MergeTree ORDER BY a")
    sql = f"INSERT INTO {table} (a) FORMAT {form}"
    if where == "url":
        answer = ask(sql, INSERTS[form])
    else:
        answer = ask.client.post("/", content=f"{sql}\n".encode() + INSERTS[form])
    assert (answer.status_code, answer.text) == (200, ""), answer.text
    summary = json.loads(answer.headers["x-clickhouse-summary"])
    assert summary["written_rows"] == "3"
    assert ask(f"SELECT groupArray(a) FROM {table}").text == "[1,2,3]\n"


def test_a_bad_row_stores_nothing(ask: Asker) -> None:
    ask("CREATE TABLE bad (a UInt64) ENGINE = MergeTree ORDER BY a")
    answer = ask("INSERT INTO bad FORMAT TSV", b"1\n2\nx\n")
    assert (answer.status_code, code(answer)) == (400, 27)
    assert ask("SELECT count() FROM bad").text == "0\n"


def test_settings_of_inserts_reach_the_engine(ask: Asker) -> None:
    ask(
        "CREATE TABLE d (a UInt64) ENGINE = MergeTree ORDER BY a"
        " SETTINGS non_replicated_deduplication_window = 10",
    )
    for _ in range(2):
        ask("INSERT INTO d FORMAT TSV", b"1\n", insert_deduplication_token="one")
        ask("INSERT INTO d SETTINGS insert_deduplication_token = 'two' FORMAT TSV", b"2\n")
        ask("INSERT INTO d SELECT 3", insert_deduplication_token="three", async_insert=0)
    assert ask("SELECT groupArray(a) FROM (SELECT a FROM d ORDER BY a)").text == "[1,2,3]\n"
    assert code(ask("INSERT INTO d FORMAT TSV", b"4\n", no_such_setting=1)) == 115


def test_bodies_have_a_limit(ask: Asker) -> None:
    ask("CREATE TABLE big (a String) ENGINE = Null")
    line = b"x" * 1023 + b"\n"
    assert ask("INSERT INTO big FORMAT TSV", line * (16 << 10)).status_code == 200
    over = ask("INSERT INTO big FORMAT TSV", line * (33 << 10))
    assert (over.status_code, code(over)) == (413, 229)
    packed = zstandard.ZstdCompressor().compress(line * (33 << 10))
    bomb = ask.client.post(
        "/",
        params={"query": "INSERT INTO big FORMAT TSV"},
        content=packed,
        headers={"Content-Encoding": "zstd"},
    )
    assert code(bomb) == 229


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@pytest.mark.slow
@pytest.mark.parametrize("form", ["Native", "JSON"])
def test_a_gigabyte_is_answered_in_bounded_memory(ask: Asker, form: str) -> None:
    sql = f"SELECT repeat('x', 1000) AS s FROM numbers(1000000) FORMAT {form}"
    before_mb = most_mb = _resident_mb(ask.server.pid)
    total = 0
    with ask.client.stream("POST", "/", params={"query": sql, "max_threads": 1}) as answer:
        for number, piece in enumerate(answer.iter_raw()):
            total += len(piece)
            if number % 200 == 0:
                most_mb = max(most_mb, _resident_mb(ask.server.pid))
    assert total > 1_000_000_000
    assert most_mb - before_mb < 500
