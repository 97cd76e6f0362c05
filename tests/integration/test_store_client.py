"""clickhouse-connect over HTTP against `penstock store`: types, parameters, Arrow, errors, sessions."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from ipaddress import IPv4Address
from typing import Any

import clickhouse_connect
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError
from penstock.schemas.errors import StoreError
from penstock.streams.storage.migrate import migrate
from penstock.streams.storage.store import Store
from penstock.tests.support.chstore import StoreServer

COLUMNS = """
    id UInt64, small Int8, flag Bool, ratio Float64, name String, code FixedString(3),
    kind Enum8('a' = 1, 'b' = 2), low LowCardinality(String), maybe Nullable(UInt32),
    low_maybe LowCardinality(Nullable(String)), at DateTime64(6, 'UTC'), day Date,
    price Decimal(18, 4), key UUID, address IPv4, tags Array(String),
    pairs Array(Tuple(UInt64, UInt64, Int64)), named Tuple(x UInt8, y String),
    labels Map(LowCardinality(String), String)
"""
ROW: tuple[Any, ...] = (
    2**63,
    -5,
    True,
    0.1,
    "Grüße, 'quoted'\n\t\\",
    b"xyz",
    "b",
    "low",
    None,
    None,
    dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC),
    dt.date(2026, 1, 2),
    Decimal("1.5000"),
    uuid.UUID(int=7),
    IPv4Address("1.2.3.4"),
    ["a", "b"],
    [(1, 2, -3)],
    {"x": 1, "y": "z"},
    {"k": "v"},
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreServer]:
    server = StoreServer(tmp_path_factory.mktemp("client"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def client(server: StoreServer) -> Iterator[Client]:
    client = clickhouse_connect.get_client(dsn=server.url)
    yield client
    client.close()


def test_every_type_comes_back_as_it_went_in(client: Client) -> None:
    client.command(f"CREATE TABLE types ({COLUMNS}) ENGINE = MergeTree ORDER BY id")
    client.insert("types", [ROW])
    read = client.query("SELECT * FROM types", query_tz="UTC", tz_mode="aware").result_rows
    assert read == [ROW]
    named = client.query("SELECT id, kind FROM types WHERE kind = {k:String}", {"k": "b"})
    assert list(named.named_results()) == [{"id": 2**63, "kind": "b"}]


@pytest.mark.parametrize("compression", ["lz4", "zstd", "gzip"])
def test_bodies_and_answers_are_compressed(server: StoreServer, compression: str) -> None:
    with clickhouse_connect.get_client(dsn=server.url, compress=compression) as client:
        table = f"compressed_{compression}"
        client.command(f"CREATE TABLE {table} (n UInt64, s String) ENGINE = MergeTree ORDER BY n")
        client.insert(table, [[n, "x" * (n % 50)] for n in range(20_000)])
        rows = client.query(f"SELECT n, s FROM {table} ORDER BY n").result_rows
    assert rows == [(n, "x" * (n % 50)) for n in range(20_000)]


def test_parameters_reach_the_engine_as_they_are(client: Client) -> None:
    texts = ["it's", 'a "b"', "back\\slash", "tab\tline\nend", "Grüße", "{x:String}", "; DROP"]
    for text in texts:
        assert client.query("SELECT {t:String}", {"t": text}).first_row == (text,)
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    values = {"a": ["x", "it's"], "n": 5, "d": moment, "i": "one"}
    sql = "SELECT {a:Array(String)}, {n:UInt8} + 1, {d:DateTime('UTC')} FROM system.{i:Identifier}"
    texts_read, number, read_at = client.query(sql, values).result_rows[0]
    assert (texts_read, number) == (["x", "it's"], 6)
    assert read_at.replace(tzinfo=dt.UTC) == moment


def test_arrow_in_and_out(client: Client) -> None:
    client.command("CREATE TABLE arrows (n UInt64, s String) ENGINE = MergeTree ORDER BY n")
    table = pa.table({"n": pa.array(range(50_000), pa.uint64()), "s": ["x"] * 50_000})
    summary = client.insert_arrow("arrows", table)
    assert summary.written_rows == 50_000
    assert client.query_arrow("SELECT * FROM arrows ORDER BY n").num_rows == 50_000
    with client.query_arrow_stream("SELECT * FROM arrows") as stream:
        assert sum(batch.num_rows for batch in stream) == 50_000


def test_large_answers_are_streamed(client: Client) -> None:
    rows = 0
    with client.query_row_block_stream(
        "SELECT number, repeat('x', 20) FROM numbers(1000000)", settings={"max_block_size": 65_536}
    ) as blocks:
        for block in blocks:
            rows += len(block)
    assert rows == 1_000_000


def test_errors_have_their_codes(client: Client) -> None:
    with pytest.raises(DatabaseError, match=r"Code: 60\. DB::Exception: .*UNKNOWN_TABLE") as caught:
        client.query("SELECT * FROM nowhere")
    assert caught.value.code == 60
    with pytest.raises(DatabaseError, match="Code: 62"):
        client.command("SELEC 1")
    with pytest.raises(DatabaseError, match="Code: 115"):
        client.query("SELECT 1 SETTINGS no_such_setting = 1")


def test_an_error_after_the_first_rows_is_told(client: Client) -> None:
    sql = "SELECT number, repeat('x', 100), throwIf(number = 900000) FROM numbers(1000000)"
    with pytest.raises(StreamFailureError, match="Code: 395"):
        _ = client.query(sql, settings={"max_block_size": 8192, "wait_end_of_query": 0}).result_rows
    with pytest.raises(DatabaseError, match="Code: 395"):
        client.query(sql, settings={"max_block_size": 8192, "wait_end_of_query": 1})


def test_a_session_keeps_settings_and_temporary_tables(server: StoreServer) -> None:
    with clickhouse_connect.get_client(dsn=server.url, session_id=uuid.uuid4().hex) as client:
        client.command("CREATE TEMPORARY TABLE mine (n UInt8)")
        client.insert("mine", [[1], [2]])
        client.command("SET max_block_size = 77")
        sql = "SELECT count(), getSetting('max_block_size') FROM mine"
        assert client.query(sql).first_row == (2, 77)
        assert client.query(sql, settings={"max_block_size": 5}).first_row == (2, 5)
        assert client.query(sql).first_row == (2, 77)
    with (
        clickhouse_connect.get_client(dsn=server.url) as other,
        pytest.raises(DatabaseError, match="UNKNOWN_TABLE"),
    ):
        other.query("SELECT * FROM mine")


def test_clients_work_at_the_same_time(server: StoreServer) -> None:
    with clickhouse_connect.get_client(dsn=server.url, autogenerate_session_id=False) as client:
        client.command("CREATE TABLE shared (n UInt64) ENGINE = MergeTree ORDER BY n")

        def work(worker: int) -> int:
            client.insert("shared", [[worker * 100 + n] for n in range(100)])
            return int(client.query(f"SELECT sum(number) FROM numbers({worker})").result_rows[0][0])

        with ThreadPoolExecutor(8) as pool:
            sums = list(pool.map(work, range(24)))
        assert sums == [worker * (worker - 1) // 2 for worker in range(24)]
        assert client.query("SELECT count(), uniq(n) FROM shared").first_row == (2400, 2400)


def test_the_store_of_the_streams_works_over_it(server: StoreServer) -> None:
    store = Store(server.url)
    try:
        assert migrate(store)
        assert migrate(store) == []
        now = pa.array([dt.datetime.now(dt.UTC)] * 500, pa.timestamp("us", "UTC"))
        rows = pa.table({"ts": now, "append_ts": now, "boot_id": ["b"] * 500, "seq": range(500)})
        for _ in range(3):
            store.insert("requests_rows", rows, "token-1")
        assert store.query("SELECT count() AS n FROM penstock.requests") == [{"n": 500}]
        assert store.query("SELECT count() AS n FROM penstock.requests_rows") == [{"n": 500}]
        assert store.arrow("SELECT seq FROM penstock.requests").num_rows == 500
        store.ping()
        with pytest.raises(StoreError) as caught:
            store.query("SELECT nope")
        assert (caught.value.code, caught.value.retryable) == (47, False)
    finally:
        store.close()


def test_the_api_user_reads_and_probes(server: StoreServer) -> None:
    writer, api, reader = Store(server.url), Store(server.api_url), Store(server.reader_url)
    try:
        migrate(writer)
        api.ping()
        with pytest.raises(StoreError, match="497"):
            reader.ping()
        for store in (api, reader):
            assert store.query("SELECT count() >= 0 AS ok FROM penstock.windows") == [{"ok": 1}]
            with pytest.raises(StoreError, match="497"):
                store.command("TRUNCATE TABLE penstock.settings")
    finally:
        for store in (writer, api, reader):
            store.close()
