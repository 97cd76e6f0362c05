"""clickhouse-go, the client inside Grafana's data source, reads every table of `penstock store`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from penstock.streams.storage.migrate import migrate
from penstock.streams.storage.store import Store
from penstock.tests.support.chstore import StoreServer

SOURCE = Path(__file__).parents[1] / "go"
TYPES = """
CREATE TABLE penstock.go_rows (
    id UInt64, name LowCardinality(String), tags Array(String),
    kind Enum8('a' = 1, 'b,)' = 2) DEFAULT 'b,)', maybe Nullable(UInt32),
    labels Map(LowCardinality(String), String) DEFAULT map('k', 'v'),
    seen Array(Tuple(UInt64, UInt64, Int64)) DEFAULT [(1, 2, -3)],
    at DateTime64(6, 'UTC') DEFAULT '2026-01-02 03:04:05.678901',
    key UUID DEFAULT toUUID('00000000-0000-0000-0000-000000000007'),
    price Decimal(18, 4) DEFAULT 1.5, code FixedString(3) DEFAULT 'abc',
    low LowCardinality(Nullable(String)), pair Tuple(x UInt8, y String) DEFAULT (1, 'z'),
    lows Array(LowCardinality(String)) DEFAULT ['x', 'y'], address IPv4 DEFAULT '1.2.3.4',
    flag Bool DEFAULT true, text String DEFAULT repeat('é', 100)
) ENGINE = MergeTree ORDER BY id
"""
LAST = {
    "id": "999",
    "name": "name 5",
    "tags": "[a b]",
    "kind": "b,)",
    "maybe": "<nil>",
    "labels": "map[k:v]",
    "seen": "[[1 2 -3]]",
    "at": "2026-01-02 03:04:05.678901 +0000 UTC",
    "key": "00000000-0000-0000-0000-000000000007",
    "price": "1.5",
    "code": "abc",
    "low": "<nil>",
    "pair": "map[x:1 y:z]",
    "lows": "[x y]",
    "address": "1.2.3.4",
    "flag": "true",
    "text": "é" * 100,
}
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tests/go as a program; Go fetches its modules."""
    if shutil.which("go") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Go is not installed")
        pytest.skip("Go is not installed: clickhouse-go was not tried")
    built = tmp_path_factory.mktemp("go") / "reader"
    subprocess.run(["go", "build", "-o", str(built), "."], cwd=SOURCE, check=True, timeout=280)
    return built


@pytest.fixture(scope="module")
def run(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs the program against a migrated store that has a row in every table."""
    server = StoreServer(tmp_path_factory.mktemp("store"))
    server.start()

    def run(command: str, compression: str, *more: str, user: str = "reader") -> Any:
        address = f"127.0.0.1:{server.port}"
        answer = subprocess.run(
            [str(program), command, address, user, "pw", compression, *more],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)

    try:
        store = Store(server.url)
        migrate(store)
        store.command(TYPES)
        _fill(store)
        store.close()
        yield run
    finally:
        server.stop()


def _fill(store: Store) -> None:
    """One row of defaults and of filled collections into every table."""
    tables = store.query(
        "SELECT name FROM system.tables WHERE database = 'penstock' AND engine LIKE '%MergeTree'"
    )
    for table in tables:
        if table["name"] == "go_rows":
            continue
        columns = store.query(
            "SELECT name, type FROM system.columns WHERE database = 'penstock' AND table = {t:String}",
            {"t": table["name"]},
        )
        values = ", ".join(_value(str(column["type"])) for column in columns)
        names = ", ".join(f"`{column['name']}`" for column in columns)
        store.command(f"INSERT INTO penstock.{table['name']} ({names}) SELECT {values}")


def _quoted(kind: str) -> str:
    return "'" + kind.replace("'", "\\'") + "'"


def _value(kind: str) -> str:
    """A value of a type, as SQL; never an empty one where it can be filled."""
    if kind.startswith("Enum"):
        return f"defaultValueOfTypeName({_quoted(kind)})"
    if kind.startswith("Map("):
        value = "map('key', 'value')" if kind.endswith(" String)") else "map('key', 1)"
    elif kind.startswith("Array("):
        value = f"[defaultValueOfTypeName({_quoted(kind[6:-1])})]"
    else:
        value = "now64(6)" if "Date" in kind else "'text'" if "String" in kind else "1"
    return f"CAST({value}, {_quoted(kind)})"


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["none", "gzip", "lz4", "zstd"])
def test_every_table_and_view_is_read(run: Run, compression: str) -> None:
    assert run("insert", compression, user="writer") == "ok"
    tables = run("tables", compression)
    empty = [name for name, table in tables.items() if table["rows"] == 0]
    assert empty == []
    assert {"requests", "requests_rows", "windows", "coverage", "verdicts"} <= set(tables)
    assert tables["go_rows"]["last"] == LAST
    assert tables["requests"]["last"]["attributes"] == "map[key:value]"


@pytest.mark.slow
def test_many_blocks_empty_answers_and_errors(run: Run) -> None:
    for compression in ("none", "gzip", "lz4"):
        many = "SELECT number, toString(number) AS s FROM numbers(10000)"
        assert run("query", compression, many) == {
            "rows": 10_000,
            "last": {"number": "9999", "s": "9999"},
        }
        assert run("query", compression, "SELECT 1 WHERE 0") == {"rows": 0, "last": {}}
        assert run("query", compression, "SELECT nothing")["code"] == 47
        denied = run("query", compression, "SELECT file('/etc/hostname')")
        assert denied["code"] == 497
        late = run(
            "query",
            compression,
            "SELECT throwIf(number = 400000) FROM numbers(500000) SETTINGS max_block_size = 8192",
        )
        assert late["code"] == 395
        state = run("query", compression, "SELECT sumState(number) FROM numbers(3)")
        assert state["code"] == 48
