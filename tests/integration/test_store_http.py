"""`penstock store` as curl sees it: paths, credentials, headers, codes, sessions, many at once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from penstock.tests.support.chstore import Asker, code, running

MAX_QUERIES = 6


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    with running(tmp_path_factory.mktemp("http"), "--max-queries", str(MAX_QUERIES)) as asker:
        asker.client.auth = ("writer", "pw")
        yield asker


def test_health_needs_no_user(ask: Asker) -> None:
    for path in ("/ping", "/", "/replicas_status"):
        answer = httpx.get(f"{ask.server.http_url}{path}")
        assert (answer.status_code, answer.text) == (200, "Ok.\n")
    assert httpx.head(f"{ask.server.http_url}/ping").status_code == 200
    assert httpx.get(f"{ask.server.http_url}/nowhere").status_code == 404
    assert httpx.options(ask.server.http_url).status_code == 204


def test_credentials_in_each_way(ask: Asker) -> None:
    url = f"{ask.server.http_url}/"
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


def test_headers_of_an_answer(ask: Asker) -> None:
    answer = ask("SELECT number FROM numbers(5)", query_id="my-query")
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


def test_the_statement_in_url_and_body(ask: Asker) -> None:
    assert ask.client.get("/", params={"query": "SELECT 1"}).text == "1\n"
    assert ask.client.post("/", content=b"SELECT 2").text == "2\n"
    assert ask("SELECT", b"3").text == "3\n"
    assert ask("SELECT 4 -- a comment", b"+ 1").text == "5\n"
    for end in (";", "; ", ";\n", "; -- done", "; /* done */ ;", " -- done"):
        assert ask(f"SELECT 1{end}").text == "1\n", end
    assert code(ask.client.post("/", content=b"")) == 62
    assert code(ask.client.post("/", content=b"SELECT '\xff'")) == 62
    assert code(ask.client.post("/", content=b"SELECT 1 -- " + b"x" * 300_000)) == 62


def test_get_changes_nothing(ask: Asker) -> None:
    for sql in ("CREATE TABLE t (a UInt8) ENGINE = Memory", "INSERT INTO t VALUES (1)"):
        answer = ask.client.get("/", params={"query": sql})
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
def test_codes_of_errors(ask: Asker, sql: str, wanted: int, status: int) -> None:
    answer = ask(sql)
    assert (code(answer), answer.status_code) == (wanted, status), answer.text
    assert answer.text.startswith(f"Code: {wanted}. DB::Exception: ")
    assert "(version 26." in answer.text
    assert "formatQuery" not in answer.text


def test_settings_parameters_and_database_in_the_url(ask: Asker) -> None:
    shown = "SELECT getSetting('max_block_size'), {x:String}, {n:UInt8}, currentDatabase()"
    answer = ask(shown, max_block_size=77, param_x="it's\\t", param_n=5)
    assert answer.text == "77\tit\\'s\\t\t5\tpenstock\n"
    assert ask("SELECT currentDatabase()", database="default").text == "default\n"
    assert code(ask("SELECT 1", database="nowhere")) == 81
    missing = ask("SELECT 1", no_such_setting=1)
    assert (missing.status_code, code(missing)) == (404, 115)
    odd: dict[str, Any] = {"max_threads = 1; --": 1}
    assert code(ask("SELECT 1", **odd)) == 115
    assert code(ask("SELECT 1", max_block_size="1' OR '1")) != 0


def test_default_format(ask: Asker) -> None:
    assert ask("SELECT 1 AS a", default_format="JSONEachRow").text == '{"a":1}\n'
    named = ask.client.post("/", content="SELECT 1 AS a", headers={"X-ClickHouse-Format": "CSV"})
    assert named.text == "1\n"
    assert named.headers["x-clickhouse-format"] == "CSV"
    assert code(ask("SELECT 1", default_format="a b")) == 73
    assert ask("SELECT 1 AS a FORMAT jsoneachrow").text == '{"a":1}\n'
    sql = "SELECT {a:String} AS a, {b:Array(UInt8)} AS b /* one */ SETTINGS max_threads = 1 FORMAT JSON"
    answer = ask(sql, param_a="it's\\n", param_b="[1,2]")
    assert answer.json()["data"] == [{"a": "it's\n", "b": [1, 2]}]


def test_sessions(ask: Asker) -> None:
    session: dict[str, Any] = {"session_id": "s1", "session_timeout": 60}
    ask("CREATE TEMPORARY TABLE mine AS SELECT 7 AS a", **session)
    assert ask("SELECT a FROM mine", **session, session_check=1).text == "7\n"
    assert code(ask("SELECT a FROM mine")) == 60
    assert code(ask("SELECT 1", session_id="s2", session_check=1)) == 372
    for wrong in ("0", "-1", "4000", "x"):
        assert code(ask("SELECT 1", session_id="s3", session_timeout=wrong)) == 374
    assert ask("SET max_block_size = 5", **session).status_code == 200
    shown = "SELECT getSetting('max_block_size')"
    assert ask(shown, **session, max_block_size=9).text == "9\n"
    assert ask(shown, **session).text == "5\n"
    assert ask("SELECT 1", **session, close_session=1).text == "1\n"
    assert code(ask("SELECT 1", **session, session_check=1)) == 372


def test_a_session_ends_when_nobody_uses_it(ask: Asker) -> None:
    ask("CREATE TEMPORARY TABLE mine (a UInt8)", session_id="short", session_timeout=1)
    time.sleep(1.3)
    assert code(ask("SELECT 1", session_id="short", session_check=1)) == 372


def test_a_session_is_used_by_one_at_a_time(ask: Asker) -> None:
    slow = threading.Thread(target=ask, args=("SELECT sleep(2)",), kwargs={"session_id": "x"})
    slow.start()
    time.sleep(0.5)
    try:
        assert code(ask("SELECT 1", session_id="x")) == 373
        other = httpx.get(
            ask.server.http_url,
            params={"query": "SELECT 1", "session_id": "x"},
            auth=("reader", "pw"),
        )
        assert other.text == "1\n"  # of another user, so another session
    finally:
        slow.join()


def test_more_queries_than_allowed_are_refused(ask: Asker) -> None:
    with ThreadPoolExecutor(MAX_QUERIES) as pool:
        slow = [pool.submit(ask, "SELECT sleep(1.5)") for _ in range(MAX_QUERIES)]
        time.sleep(0.7)
        refused = ask("SELECT 1")
        assert (code(refused), refused.status_code) == (202, 500)
        assert "Too many simultaneous queries" in refused.text
        assert [one.result().status_code for one in slow] == [200] * MAX_QUERIES
    assert ask("SELECT 1").text == "1\n"


def test_a_query_id_runs_once_at_a_time(ask: Asker) -> None:
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, "SELECT sleep(1)", query_id="same")
        time.sleep(0.4)
        assert code(ask("SELECT 1", query_id="same")) == 216
        assert slow.result().status_code == 200
    assert ask("SELECT 1", query_id="same").text == "1\n"


def _last_bytes(answer: httpx.Response) -> bytes:
    """The end of a body that must break off."""
    last = b""
    try:
        for piece in answer.iter_raw():
            last = (last + piece)[-2000:]
    except httpx.RemoteProtocolError:
        return last
    raise AssertionError("the body looks whole")


def test_an_error_after_the_first_rows(ask: Asker) -> None:
    sql = "SELECT number, repeat('x', 100), throwIf(number = 900000) FROM numbers(1000000)"
    with ask.client.stream("POST", "/", params={"query": sql, "max_block_size": 8192}) as answer:
        assert answer.status_code == 200
        tag = answer.headers["x-clickhouse-exception-tag"].encode()
        body = _last_bytes(answer)
    _, _, block = body.partition(b"\r\n__exception__\r\n" + tag + b"\r\n")
    message, _, end = block.partition(b"\n")
    assert message.startswith(b"Code: 395. DB::Exception: ")
    assert end == b"%d %b\r\n__exception__\r\n" % (len(message) + 1, tag)
    held = ask(sql, wait_end_of_query=1)
    assert (held.status_code, code(held)) == (500, 395)


def running_now(ask: Asker) -> int:
    sql = "SELECT count() FROM system.processes WHERE query LIKE '%sipHash64%'"
    return int(ask(f"{sql} AND query NOT LIKE '%processes%'").text)


@pytest.mark.parametrize("form", ["TSV", "JSON"])
def test_a_query_ends_when_its_client_goes_away(ask: Asker, form: str) -> None:
    endless = (
        f"SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1 FORMAT {form}"
    )
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(ask.server.http_url, content=endless, auth=("writer", "pw"), timeout=1)
    until = time.monotonic() + 10
    while running_now(ask) and time.monotonic() < until:
        time.sleep(0.1)
    assert running_now(ask) == 0
