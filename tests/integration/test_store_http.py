"""`penstock store` as curl sees it: paths, credentials, headers, codes, formats, compression, sessions."""

from __future__ import annotations

import gzip
import io
import json
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import lz4.frame  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard
from penstock.store.blocks import BlockEncoder, unpacked
from penstock.tests.support.chstore import StoreServer

MAX_QUERIES = 6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreServer]:
    flags = ("--max-queries", str(MAX_QUERIES), "--max-body-mb", "32")
    server = StoreServer(tmp_path_factory.mktemp("http"), *flags)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def http(server: StoreServer) -> Iterator[httpx.Client]:
    """A writer that asks for no compression."""
    with httpx.Client(
        base_url=server.http_url,
        auth=("writer", "pw"),
        headers={"Accept-Encoding": "identity"},
        timeout=60,
    ) as client:
        yield client


def ask(http: httpx.Client, sql: str, body: bytes = b"", **query: Any) -> httpx.Response:
    return http.post("/", params={"query": sql, **query}, content=body)


def code(answer: httpx.Response) -> int:
    return int(answer.headers.get("x-clickhouse-exception-code", 0))


def test_health_needs_no_user(server: StoreServer) -> None:
    for path in ("/ping", "/", "/replicas_status"):
        answer = httpx.get(f"{server.http_url}{path}")
        assert (answer.status_code, answer.text) == (200, "Ok.\n")
    assert httpx.head(f"{server.http_url}/ping").status_code == 200
    assert httpx.get(f"{server.http_url}/nowhere").status_code == 404
    assert httpx.options(server.http_url).status_code == 204


def test_credentials_in_each_way(server: StoreServer) -> None:
    url = f"{server.http_url}/"
    query = {"query": "SELECT 1"}
    own = {"X-ClickHouse-User": "reader", "X-ClickHouse-Key": "pw"}
    assert httpx.get(url, params=query, auth=("reader", "pw")).text == "1\n"
    assert httpx.get(url, params=query, headers=own).text == "1\n"
    assert httpx.get(url, params={**query, "user": "reader", "password": "pw"}).text == "1\n"
    without = httpx.get(url, params=query)
    assert (without.status_code, code(without)) == (401, 194)
    assert without.headers["www-authenticate"].startswith("Basic")
    for wrong in (("reader", "no"), ("nobody", "pw"), ("reader", "")):
        answer = httpx.get(url, params=query, auth=wrong)
        assert (answer.status_code, code(answer)) == (403, 516)
        assert "pw" not in answer.text
    twice = httpx.get(url, params=query, auth=("reader", "pw"), headers=own)
    assert code(twice) == 516
    damaged = httpx.get(url, params=query, headers={"Authorization": "Basic ###"})
    assert code(damaged) == 516


def test_headers_of_an_answer(http: httpx.Client) -> None:
    answer = ask(http, "SELECT number FROM numbers(5)", query_id="my-query")
    assert answer.status_code == 200
    assert answer.text == "0\n1\n2\n3\n4\n"
    headers = answer.headers
    assert headers["content-type"] == "text/tab-separated-values; charset=UTF-8"
    assert headers["x-clickhouse-format"] == "TabSeparated"
    assert headers["x-clickhouse-query-id"] == "my-query"
    assert headers["x-clickhouse-server-display-name"] == "penstock-store"
    assert headers["x-clickhouse-timezone"]
    assert len(headers["x-clickhouse-exception-tag"]) == 16
    summary = json.loads(headers["x-clickhouse-summary"])
    assert summary["read_rows"] == summary["result_rows"] == "5"
    assert int(summary["elapsed_ns"]) > 0


def test_the_statement_in_url_and_body(http: httpx.Client) -> None:
    assert http.get("/", params={"query": "SELECT 1"}).text == "1\n"
    assert http.post("/", content=b"SELECT 2").text == "2\n"
    assert ask(http, "SELECT", b"3").text == "3\n"
    assert ask(http, "SELECT 4 -- a comment", b"+ 1").text == "5\n"
    for end in (";", "; ", ";\n", "; -- done", "; /* done */ ;", " -- done"):
        assert ask(http, f"SELECT 1{end}").text == "1\n", end
    assert code(http.post("/", content=b"")) == 62
    assert code(http.post("/", content=b"SELECT '\xff'")) == 62
    assert code(http.post("/", content=b"SELECT 1 -- " + b"x" * 300_000)) == 62


def test_get_changes_nothing(http: httpx.Client) -> None:
    for sql in ("CREATE TABLE t (a UInt8) ENGINE = Memory", "INSERT INTO t VALUES (1)"):
        answer = http.get("/", params={"query": sql})
        assert (answer.status_code, code(answer)) == (500, 164)


@pytest.mark.parametrize(
    ("sql", "wanted", "status"),
    [
        ("SELEC 1", 62, 400),
        ("SELECT 1; SELECT 2", 62, 400),
        ("SELECT * FROM nowhere", 60, 404),
        ("SELECT nothing", 47, 404),
        ("SELECT nofunction(1)", 46, 404),
        ("SELECT * FROM nodb.t", 81, 404),
        ("SELECT 1 FORMAT Nothing", 73, 404),
        ("SELECT 1 SETTINGS nosetting = 1", 115, 404),
        ("SELECT toUInt8('x')", 6, 400),
        ("SELECT sleep(1) SETTINGS max_execution_time = 0.2", 159, 408),
        ("SELECT throwIf(1)", 395, 500),
        ("SELECT 1 INTO OUTFILE '/tmp/x'", 358, 500),
        ("INSERT INTO t FROM INFILE '/tmp/x' FORMAT TSV", 78, 404),
        ("SYSTEM SHUTDOWN", 497, 403),
    ],
)
def test_codes_of_errors(http: httpx.Client, sql: str, wanted: int, status: int) -> None:
    answer = ask(http, sql)
    assert (code(answer), answer.status_code) == (wanted, status), answer.text
    assert answer.text.startswith(f"Code: {wanted}. DB::Exception: ")
    assert "(version 26." in answer.text
    assert "formatQuery" not in answer.text


def test_settings_parameters_and_database_in_the_url(http: httpx.Client) -> None:
    shown = "SELECT getSetting('max_block_size'), {x:String}, {n:UInt8}, currentDatabase()"
    answer = ask(http, shown, max_block_size=77, param_x="it's\\t", param_n=5)
    assert answer.text == "77\tit\\'s\\t\t5\tpenstock\n"
    assert ask(http, "SELECT currentDatabase()", database="default").text == "default\n"
    assert code(ask(http, "SELECT 1", database="nowhere")) == 81
    missing = ask(http, "SELECT 1", no_such_setting=1)
    assert (missing.status_code, code(missing)) == (404, 115)
    odd: dict[str, Any] = {"max_threads = 1; --": 1}
    assert code(ask(http, "SELECT 1", **odd)) == 115
    assert code(ask(http, "SELECT 1", max_block_size="1' OR '1")) != 0


def test_default_format(http: httpx.Client) -> None:
    assert ask(http, "SELECT 1 AS a", default_format="JSONEachRow").text == '{"a":1}\n'
    named = http.post("/", content="SELECT 1 AS a", headers={"X-ClickHouse-Format": "CSV"})
    assert named.text == "1\n"
    assert named.headers["x-clickhouse-format"] == "CSV"
    assert code(ask(http, "SELECT 1", default_format="a b")) == 73
    assert ask(http, "SELECT 1 AS a FORMAT jsoneachrow").text == '{"a":1}\n'
    sql = "SELECT {a:String} AS a, {b:Array(UInt8)} AS b /* one */ SETTINGS max_threads = 1 FORMAT JSON"
    answer = ask(http, sql, param_a="it's\\n", param_b="[1,2]")
    assert answer.json()["data"] == [{"a": "it's\n", "b": [1, 2]}]


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
def test_large_answers_are_whole_in_every_format(http: httpx.Client, form: str) -> None:
    # Several blocks; formats with a head and a foot must have them once.
    sql = f"SELECT number FROM numbers(100000) FORMAT {form} SETTINGS max_block_size = 1000"
    answer = ask(http, sql)
    assert answer.headers["x-clickhouse-format"] == form
    assert FORMATS[form](answer.content) == 100_000


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "lz4": lz4.frame.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("name", ENCODERS)
def test_compressed_bodies(http: httpx.Client, name: str) -> None:
    ask(http, f"CREATE TABLE c_{name} (a UInt64) ENGINE = MergeTree ORDER BY a")
    rows = "".join(f"{number}\n" for number in range(200_000)).encode()
    half = len(rows) // 2
    # Two frames, one behind the other, are one body.
    body = ENCODERS[name](rows[:half]) + ENCODERS[name](rows[half:])
    if name == "deflate":
        body = ENCODERS[name](rows)
    query = {"query": f"INSERT INTO c_{name} FORMAT TSV"}
    headers = {"Content-Encoding": name}
    answer = http.post("/", params=query, content=body, headers=headers)
    assert json.loads(answer.headers["x-clickhouse-summary"])["written_rows"] == "200000"
    assert ask(http, f"SELECT count(), sum(a) FROM c_{name}").text == "200000\t19999900000\n"
    cut = http.post("/", params=query, content=body[: len(body) // 3], headers=headers)
    assert code(cut) == 271
    broken = http.post("/", params=query, content=b"nonsense", headers=headers)
    assert (broken.status_code, code(broken)) == (500, 271)
    unknown = http.post("/", params=query, content=b"x", headers={"Content-Encoding": "br"})
    assert (unknown.status_code, code(unknown)) == (501, 48)


DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "lz4": lz4.frame.decompress,
    "zstd": lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body),
}


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("rows", [1, 500_000])
def test_compressed_answers(http: httpx.Client, name: str, rows: int) -> None:
    query = {"query": f"SELECT number FROM numbers({rows})"}
    with http.stream("POST", "/", params=query, headers={"Accept-Encoding": name}) as answer:
        assert answer.headers["content-encoding"] == name
        body = b"".join(answer.iter_raw())
    assert DECODERS[name](body).decode().splitlines()[-1] == str(rows - 1)
    off = {**query, "enable_http_compression": "0"}
    plain = http.post("/", params=off, headers={"Accept-Encoding": name})
    assert "content-encoding" not in plain.headers


@pytest.mark.parametrize("method", ["LZ4", "ZSTD"])
def test_clickhouses_own_compression(http: httpx.Client, method: str) -> None:
    ask(http, f"CREATE TABLE b_{method} (a UInt64) ENGINE = MergeTree ORDER BY a")
    encoder = BlockEncoder(method)
    rows = "".join(f"{number}\n" for number in range(300_000)).encode()
    body = encoder.compress(rows) + encoder.flush()
    answer = ask(http, f"INSERT INTO b_{method} FORMAT TSV", body, decompress=1)
    assert answer.status_code == 200, answer.text
    read = ask(
        http, f"SELECT a FROM b_{method} ORDER BY a", compress=1, network_compression_method=method
    )
    assert b"".join(unpacked(iter([read.content]))) == rows
    damaged = bytearray(body)
    damaged[40] ^= 1
    refused = ask(http, f"INSERT INTO b_{method} FORMAT TSV", bytes(damaged), decompress=1)
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
def test_inserts_of_every_format(http: httpx.Client, form: str, where: str) -> None:
    table = f"i_{form}_{where}"
    ask(http, f"CREATE TABLE {table} (a UInt64) ENGINE = MergeTree ORDER BY a")
    sql = f"INSERT INTO {table} (a) FORMAT {form}"
    if where == "url":
        answer = ask(http, sql, INSERTS[form])
    else:
        answer = http.post("/", content=f"{sql}\n".encode() + INSERTS[form])
    assert (answer.status_code, answer.text) == (200, ""), answer.text
    summary = json.loads(answer.headers["x-clickhouse-summary"])
    assert summary["written_rows"] == "3"
    assert ask(http, f"SELECT groupArray(a) FROM {table}").text == "[1,2,3]\n"


def test_a_bad_row_stores_nothing(http: httpx.Client) -> None:
    ask(http, "CREATE TABLE bad (a UInt64) ENGINE = MergeTree ORDER BY a")
    answer = ask(http, "INSERT INTO bad FORMAT TSV", b"1\n2\nx\n")
    assert (answer.status_code, code(answer)) == (400, 27)
    assert ask(http, "SELECT count() FROM bad").text == "0\n"


def test_settings_of_inserts_reach_the_engine(http: httpx.Client) -> None:
    ask(
        http,
        "CREATE TABLE d (a UInt64) ENGINE = MergeTree ORDER BY a"
        " SETTINGS non_replicated_deduplication_window = 10",
    )
    for _ in range(2):
        ask(http, "INSERT INTO d FORMAT TSV", b"1\n", insert_deduplication_token="one")
        ask(http, "INSERT INTO d SETTINGS insert_deduplication_token = 'two' FORMAT TSV", b"2\n")
        ask(http, "INSERT INTO d SELECT 3", insert_deduplication_token="three", async_insert=0)
    assert ask(http, "SELECT groupArray(a) FROM (SELECT a FROM d ORDER BY a)").text == "[1,2,3]\n"
    assert code(ask(http, "INSERT INTO d FORMAT TSV", b"4\n", no_such_setting=1)) == 115


def test_bodies_have_a_limit(http: httpx.Client) -> None:
    ask(http, "CREATE TABLE big (a String) ENGINE = Null")
    line = b"x" * 1023 + b"\n"
    assert ask(http, "INSERT INTO big FORMAT TSV", line * (16 << 10)).status_code == 200
    over = ask(http, "INSERT INTO big FORMAT TSV", line * (33 << 10))
    assert (over.status_code, code(over)) == (413, 229)
    packed = zstandard.ZstdCompressor().compress(line * (33 << 10))
    bomb = http.post(
        "/",
        params={"query": "INSERT INTO big FORMAT TSV"},
        content=packed,
        headers={"Content-Encoding": "zstd"},
    )
    assert code(bomb) == 229


def test_sessions(http: httpx.Client) -> None:
    session: dict[str, Any] = {"session_id": "s1", "session_timeout": 60}
    ask(http, "CREATE TEMPORARY TABLE mine AS SELECT 7 AS a", **session)
    assert ask(http, "SELECT a FROM mine", **session, session_check=1).text == "7\n"
    assert code(ask(http, "SELECT a FROM mine")) == 60
    assert code(ask(http, "SELECT 1", session_id="s2", session_check=1)) == 372
    for wrong in ("0", "-1", "4000", "x"):
        assert code(ask(http, "SELECT 1", session_id="s3", session_timeout=wrong)) == 374
    assert ask(http, "SET max_block_size = 5", **session).status_code == 200
    shown = "SELECT getSetting('max_block_size')"
    assert ask(http, shown, **session, max_block_size=9).text == "9\n"
    assert ask(http, shown, **session).text == "5\n"
    assert ask(http, "SELECT 1", **session, close_session=1).text == "1\n"
    assert code(ask(http, "SELECT 1", **session, session_check=1)) == 372


def test_a_session_ends_when_nobody_uses_it(http: httpx.Client) -> None:
    ask(http, "CREATE TEMPORARY TABLE mine (a UInt8)", session_id="short", session_timeout=1)
    time.sleep(1.3)
    assert code(ask(http, "SELECT 1", session_id="short", session_check=1)) == 372


def test_a_session_is_used_by_one_at_a_time(server: StoreServer, http: httpx.Client) -> None:
    slow = threading.Thread(target=ask, args=(http, "SELECT sleep(2)"), kwargs={"session_id": "x"})
    slow.start()
    time.sleep(0.5)
    try:
        assert code(ask(http, "SELECT 1", session_id="x")) == 373
        other = httpx.get(
            server.http_url,
            params={"query": "SELECT 1", "session_id": "x"},
            auth=("reader", "pw"),
        )
        assert other.text == "1\n"  # of another user, so another session
    finally:
        slow.join()


def test_more_queries_than_allowed_are_refused(http: httpx.Client) -> None:
    with ThreadPoolExecutor(MAX_QUERIES) as pool:
        slow = [pool.submit(ask, http, "SELECT sleep(1.5)") for _ in range(MAX_QUERIES)]
        time.sleep(0.7)
        refused = ask(http, "SELECT 1")
        assert (code(refused), refused.status_code) == (202, 500)
        assert "Too many simultaneous queries" in refused.text
        assert [one.result().status_code for one in slow] == [200] * MAX_QUERIES
    assert ask(http, "SELECT 1").text == "1\n"


def test_a_query_id_runs_once_at_a_time(http: httpx.Client) -> None:
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, http, "SELECT sleep(1)", query_id="same")
        time.sleep(0.4)
        assert code(ask(http, "SELECT 1", query_id="same")) == 216
        assert slow.result().status_code == 200
    assert ask(http, "SELECT 1", query_id="same").text == "1\n"


def _last_bytes(answer: httpx.Response) -> bytes:
    """The end of a body that must break off."""
    last = b""
    try:
        for piece in answer.iter_raw():
            last = (last + piece)[-2000:]
    except httpx.RemoteProtocolError:
        return last
    raise AssertionError("the body looks whole")


def test_an_error_after_the_first_rows(http: httpx.Client) -> None:
    sql = "SELECT number, repeat('x', 100), throwIf(number = 900000) FROM numbers(1000000)"
    with http.stream("POST", "/", params={"query": sql, "max_block_size": 8192}) as answer:
        assert answer.status_code == 200
        tag = answer.headers["x-clickhouse-exception-tag"].encode()
        body = _last_bytes(answer)
    _, _, block = body.partition(b"\r\n__exception__\r\n" + tag + b"\r\n")
    message, _, end = block.partition(b"\n")
    assert message.startswith(b"Code: 395. DB::Exception: ")
    assert end == b"%d %b\r\n__exception__\r\n" % (len(message) + 1, tag)
    held = ask(http, sql, wait_end_of_query=1)
    assert (held.status_code, code(held)) == (500, 395)


def running(http: httpx.Client) -> int:
    sql = "SELECT count() FROM system.processes WHERE query LIKE '%sipHash64%'"
    return int(ask(http, f"{sql} AND query NOT LIKE '%processes%'").text)


@pytest.mark.parametrize("form", ["TSV", "JSON"])
def test_a_query_ends_when_its_client_goes_away(
    server: StoreServer, http: httpx.Client, form: str
) -> None:
    endless = (
        f"SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1 FORMAT {form}"
    )
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(server.http_url, content=endless, auth=("writer", "pw"), timeout=1)
    until = time.monotonic() + 10
    while running(http) and time.monotonic() < until:
        time.sleep(0.1)
    assert running(http) == 0


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@pytest.mark.slow
@pytest.mark.parametrize("form", ["Native", "JSON"])
def test_a_gigabyte_is_answered_in_bounded_memory(
    server: StoreServer, http: httpx.Client, form: str
) -> None:
    sql = f"SELECT repeat('x', 1000) AS s FROM numbers(1000000) FORMAT {form}"
    before_mb = most_mb = _resident_mb(server.pid)
    total = 0
    with http.stream("POST", "/", params={"query": sql, "max_threads": 1}) as answer:
        for number, piece in enumerate(answer.iter_raw()):
            total += len(piece)
            if number % 200 == 0:
                most_mb = max(most_mb, _resident_mb(server.pid))
    assert total > 1_000_000_000
    assert most_mb - before_mb < 400
