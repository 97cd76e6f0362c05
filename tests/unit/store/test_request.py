"""Requests, errors and limits as ClickHouse's interface has them."""

from __future__ import annotations

import base64

import pytest
from penstock.store.access import FROZEN, ReaderLimits, initial_settings, within_limits
from penstock.store.errors import QueryFailed, from_engine
from penstock.store.request import Request, read_request


def request(query: str = "", *headers: tuple[str, str]) -> Request:
    pairs = [(name.encode(), value.encode()) for name, value in headers]
    return read_request("POST", "/", query.encode(), pairs)


def test_parameters_are_sorted() -> None:
    read = request("query=SELECT+1&param_x=a%20b&max_threads=2&database=d&session_id=s&param_y=")
    assert read.reserved == {"query": "SELECT 1", "database": "d", "session_id": "s"}
    assert read.parameters == {"x": "a b", "y": ""}
    assert read.settings == {"max_threads": "2"}
    assert read.database == "d"


def test_headers_say_what_the_url_does_not() -> None:
    read = request("", ("X-ClickHouse-Database", "d"), ("X-ClickHouse-Format", "CSV"))
    assert (read.database, read.default_format) == ("d", "CSV")
    assert request("default_format=JSON").default_format == "JSON"
    assert request().default_format == "TabSeparated"
    assert request("compress=1&decompress=true&session_check=0").flag("compress")
    assert request("decompress=true").flag("decompress")
    assert not request("session_check=0").flag("session_check")


def basic(text: str) -> tuple[str, str]:
    return "Authorization", "Basic " + base64.b64encode(text.encode()).decode()


def test_credentials() -> None:
    assert request("", basic("a:b:c")).credentials() == ("a", "b:c")
    assert request("user=a&password=b").credentials() == ("a", "b")
    own = (("X-ClickHouse-User", "a"), ("X-ClickHouse-Key", "b"))
    assert request("", *own).credentials() == ("a", "b")
    assert request().credentials() == ("default", "")
    assert not request().has_credentials
    for mixed in (request("", basic("a:b"), *own), request("user=a", *own)):
        assert mixed.has_credentials
        with pytest.raises(QueryFailed, match="one way only"):
            mixed.credentials()
    with pytest.raises(QueryFailed, match="Bearer is not supported"):
        request("", ("Authorization", "Bearer YQ==")).credentials()


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        (
            "Code: 60. DB::Exception: Table t does not exist. (UNKNOWN_TABLE)",
            60,
            "Code: 60. DB::Exception: Table t does not exist. (UNKNOWN_TABLE)",
        ),
        (
            "Streaming insert finish failed: Code: 27. DB::Exception: Cannot parse. (X)",
            27,
            "Code: 27. DB::Exception: Cannot parse. (X)",
        ),
        (
            "Code: 452. DB::Exception: Code: 452. DB::Exception: Setting x. (A)"
            " (version 26.9.2.1). (A)",
            452,
            "Code: 452. DB::Exception: Setting x. (A)",
        ),
        (
            "Code: 62. DB::Exception: Syntax error: here: In scope SELECT"
            " formatQuerySingleLine('x'), y. (SYNTAX_ERROR)",
            62,
            "Code: 62. DB::Exception: Syntax error: here. (SYNTAX_ERROR)",
        ),
        ("something else", 1000, "Code: 1000. DB::Exception: something else."),
    ],
)
def test_the_engines_errors_are_told_as_clickhouse_tells_them(
    text: str, code: int, told: str
) -> None:
    error = from_engine(RuntimeError(text))
    assert (error.code, error.text) == (code, told)


@pytest.mark.parametrize(
    ("code", "status"),
    [(62, 400), (60, 404), (497, 403), (516, 403), (194, 401), (159, 408), (48, 501), (241, 500)],
)
def test_status_of_codes(code: int, status: int) -> None:
    assert QueryFailed(code, "x").status == status


def test_limits_of_a_reader() -> None:
    limits = ReaderLimits(max_execution_time_s=30, max_result_rows=100)
    asked = {
        "max_execution_time": "60",
        "max_result_rows": "10",
        "max_result_bytes": "0",
        "max_memory_usage": "x",
        "max_block_size": "999999",
    }
    assert within_limits("reader", asked, limits) == {
        **asked,
        "max_execution_time": "30",
        "max_result_bytes": str(limits.max_result_bytes),
    }
    assert within_limits("writer", asked, limits) == asked
    assert initial_settings("reader", limits)["readonly"] == 2
    assert "readonly" not in initial_settings("writer", limits)
    assert len(set(FROZEN)) == len(FROZEN)
