"""The roles of `penstock store`: what each may write, and the limits of readers."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from penstock.streams.storage.migrate import migrate
from penstock.streams.storage.store import Store
from penstock.tests.support.chstore import Asker, running


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    """A migrated store."""
    with running(tmp_path_factory.mktemp("roles")) as asker:
        store = Store(asker.server.url)
        migrate(store)
        store.command("CREATE VIEW penstock.v AS SELECT 1 AS one")
        store.command("INSERT INTO penstock.probe SELECT now64(6)")
        store.close()
        yield asker


WRITES = [
    "INSERT INTO penstock.probe SELECT now64(6)",
    "INSERT INTO penstock.probe VALUES ('2026-01-01 00:00:00')",
    "INSERT INTO penstock.settings VALUES ('a', 'b', '2026-01-01 00:00:00')",
    "CREATE TABLE penstock.t (a UInt8) ENGINE = MergeTree ORDER BY a",
    "CREATE VIEW penstock.w AS SELECT 1",
    "ALTER TABLE penstock.probe DELETE WHERE 1",
    "ALTER TABLE penstock.probe ADD COLUMN x UInt8",
    "DELETE FROM penstock.probe WHERE 1",
    "TRUNCATE TABLE penstock.probe",
    "OPTIMIZE TABLE penstock.probe",
    "DROP TABLE penstock.probe",
    "DROP VIEW penstock.v",
    "RENAME TABLE penstock.probe TO penstock.x",
    "EXCHANGE TABLES penstock.probe AND penstock.settings",
    "CREATE TEMPORARY TABLE t (a UInt8)",
    "DROP DATABASE penstock",
]


def test_a_reader_changes_nothing(ask: Asker) -> None:
    assert [sql for sql in WRITES if ask.code(sql, user="reader") not in (164, 497)] == []
    assert (
        ask.code("INSERT INTO penstock.probe FORMAT TSV", "2026-01-01 00:00:00", user="reader")
        == 497
    )


def test_the_api_writes_the_probe_and_nothing_else(ask: Asker) -> None:
    allowed = [sql for sql in WRITES if ask.code(sql, user="api") == 0]
    assert allowed == WRITES[:2]
    assert ask.code("INSERT INTO penstock.probe FORMAT TSV", "2026-01-01 00:00:00", user="api") == 0


def test_a_writer_does_everything_in_its_database(ask: Asker) -> None:
    for sql in (
        "CREATE TABLE penstock.t (a UInt8, b String) ENGINE = MergeTree ORDER BY a",
        "INSERT INTO penstock.t SELECT number, toString(number) FROM numbers(10)",
        "INSERT INTO penstock.t VALUES (11, toString(today()))",
        "ALTER TABLE penstock.t ADD COLUMN c UInt8 DEFAULT a + 1",
        "ALTER TABLE penstock.t UPDATE b = 'x' WHERE a = 1 SETTINGS mutations_sync = 1",
        "DELETE FROM penstock.t WHERE a = 2",
        "OPTIMIZE TABLE penstock.t FINAL",
        "CREATE VIEW penstock.tv AS SELECT a FROM penstock.t",
        "CREATE MATERIALIZED VIEW penstock.tm ENGINE = MergeTree ORDER BY a"
        " AS SELECT a FROM penstock.t",
        "INSERT INTO penstock.t (a) VALUES (12)",
        "RENAME TABLE penstock.t TO penstock.s",
        "DROP TABLE penstock.tm, penstock.s",
        "DROP VIEW penstock.tv",
        "CREATE DATABASE IF NOT EXISTS penstock",
    ):
        answer = ask(sql)
        assert answer.status_code == 200, (sql, answer.text)


@pytest.mark.parametrize(
    ("name", "lower", "higher"),
    [
        ("max_execution_time", 5, 3600),
        ("max_result_rows", 10, 100_000_000),
        ("max_result_bytes", 1000, 1 << 40),
        ("max_memory_usage", 1 << 30, 1 << 40),
        ("max_threads", 1, 1000),
    ],
)
def test_a_reader_lowers_limits_and_never_raises_them(
    ask: Asker, name: str, lower: int, higher: int
) -> None:
    shown = f"SELECT getSetting('{name}')"
    assert ask(shown, user="reader", **{name: str(lower)}).text == f"{lower}\n"
    assert ask(f"{shown} SETTINGS {name} = {lower}", user="reader").text == f"{lower}\n"
    unlimited = [] if name == "max_threads" else ["0"]  # of threads, 0 is one per core
    limit = ask(shown, user="reader").text
    for value in (str(higher), *unlimited):
        # Clients send limits that nobody typed, so in the URL that is no error.
        assert ask(shown, user="reader", **{name: value}).text == limit
        assert ask.code(f"{shown} SETTINGS {name} = {value}", user="reader") == 452
    assert ask.code(shown, user="reader", **{name: "-1"}) in (53, 70, 72, 452)
    if unlimited:
        assert ask.code(f"{shown} SETTINGS {name} = DEFAULT", user="reader") == 452
        assert ask.code(f"SET {name} = DEFAULT", user="reader") == 452


def test_a_reader_keeps_its_limits_in_a_session(ask: Asker) -> None:
    session = {"session_id": "stubborn"}
    for attempt in ("SET max_execution_time = 0", "SET readonly = 0", "SET ROLE penstock_writer"):
        assert ask.code(attempt, user="reader", **session) in (164, 452, 497)
    assert ask("SELECT getSetting('readonly')", user="reader", **session).text == "2\n"
    assert ask("SELECT getSetting('max_execution_time')", user="reader", **session).text == "30\n"
    assert ask.code("SELECT 1", readonly="0", user="reader") == 164


def test_limits_end_a_readers_query(ask: Asker) -> None:
    slow = "SELECT count() FROM numbers(100000000000) WHERE sipHash64(number) = 1"
    assert ask.code(slow, max_execution_time="1", user="reader") == 159
    many = "SELECT number FROM numbers(1000001)"
    assert ask.code(many, wait_end_of_query="1", user="reader") == 396
    # Without waiting, rows are on their way when the limit is met.
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        ask(many, user="reader")


def test_settings_in_the_url_are_frozen_too(ask: Asker) -> None:
    for name in ("filter", "select", "dialect", "format_schema", "output_format", "url_base"):
        for user in ("reader", "api", "writer"):
            assert ask.code("SELECT 1", user=user, **{name: "kusto"}) == 452, name
    assert ask.code("SELECT 1", database="system", user="reader") == 497
    assert ask.code("SELECT 1", profile="penstock_writer", user="reader") == 497
