from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from penstock.cli import main
from penstock.schemas.config import Retention
from penstock.schemas.errors import InvalidConfiguration, SchemaTooNew, StoreError
from penstock.streams.storage.migrate import (
    CLUSTER,
    CLUSTER_SHARDS,
    Migration,
    State,
    _agreed,
    _shards,
    cluster_of,
    known_migrations,
    migrate,
    plan_of,
    planned,
)
from penstock.streams.storage.store import Store
from penstock.tests.support.store import opened_store

NAMES = [
    "requests",
    "steps",
    "feedback",
    "releases",
    "spans",
    "panes",
    "windows",
    "coverage",
    "verdicts",
    "gate_inputs",
    "quarantine",
    "alert_transitions",
    "alert_explanations",
    "slo_status",
    "cost_status",
    "spend_status",
    "capacity_forecasts",
    "audit_log",
    "silences",
    "acknowledgements",
    "signal_states",
]


def test_migrating_again_changes_nothing_and_a_newer_or_other_schema_is_refused(
    tmp_path: Path,
) -> None:
    with opened_store(tmp_path) as store:
        assert migrate(store) == []
        tables = {row["name"] for row in store.query("SHOW TABLES FROM penstock")}
        assert {*NAMES, *(f"{name}_rows" for name in NAMES)} <= tables
        migrate(store, Retention(hot_days=3, warm_days=30, cold_days=400))
        changed = store.query(
            "SELECT value FROM penstock.settings FINAL WHERE name = 'ttl of windows'"
        )
        assert changed == [{"value": "MODIFY TTL end + INTERVAL 400 DAY"}]
        ttl = store.query("SHOW CREATE TABLE penstock.windows_rows")[0]["statement"]
        assert re.search(r"toIntervalDay\(400\)", ttl)
        store.ping()
        assert store.free_bytes()

        store.command("INSERT INTO penstock.schema_migrations VALUES (9999, 'x', 'y', now())")
        with pytest.raises(SchemaTooNew, match="9999"):
            migrate(store)
        store.command("TRUNCATE TABLE penstock.schema_migrations")
        store.command("INSERT INTO penstock.schema_migrations VALUES (1, 'x', 'other', now())")
        with pytest.raises(StoreError, match="another text"):
            migrate(store)
        store.command("TRUNCATE TABLE penstock.schema_migrations")
        with pytest.raises(InvalidConfiguration, match="on one server already"):
            migrate(store, cluster="main")
        assert cluster_of(store) is None
        assert len(planned(store).pending) == len(known_migrations())
        with pytest.raises(InvalidConfiguration, match="knows no cluster 'main'"):
            _shards(store, "main", State())
        with pytest.raises(StoreError) as caught:
            store.query("SELECT nothing FROM penstock.nowhere")
        assert caught.value.code == 60
        assert not caught.value.retryable


def test_migrations_are_numbered_without_holes() -> None:
    known = known_migrations()
    assert [migration.version for migration in known] == [*range(1, len(known) + 1)]
    assert all(len(migration.checksum) == 64 for migration in known)


def test_statements_are_split_at_line_ends_and_comments_left_out() -> None:
    text = "-- why\nCREATE TABLE a (x String COMMENT 'a; b');\n\nCREATE VIEW b AS SELECT 1;\n"
    found = Migration(1, "x", text).statements
    assert found == ["CREATE TABLE a (x String COMMENT 'a; b')", "CREATE VIEW b AS SELECT 1"]


@pytest.mark.parametrize("url", ["", "chdb://", "mysql://host/db", "clickhouse:///db"])
def test_a_url_that_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(InvalidConfiguration, match="--store must look like"):
        Store(url)


RETENTION = Retention.model_validate({})
APPLIED = {migration.version: migration.checksum for migration in known_migrations()}


def test_a_cluster_is_remembered_and_what_was_done_is_not_done_again() -> None:
    first = plan_of(State(), RETENTION, "main", 3)
    assert first.pending == known_migrations()
    written = [sql for sql in first.statements if "INSERT INTO penstock.settings" in sql]
    facts = [re.findall(r"'([^']*)'", sql) for sql in written]
    assert facts[:2] == [[CLUSTER, "main"], [CLUSTER_SHARDS, "3"]]
    settings = dict(facts)
    again = plan_of(State("Distributed", APPLIED, settings), RETENTION, "main", 3)
    assert (again.pending, again.statements) == ([], [])
    longer = plan_of(
        State("Distributed", APPLIED, settings), Retention(cold_days=400), "main", 3
    ).statements
    altered = [sql for sql in longer if sql.startswith("ALTER")]
    assert len(altered) == 10  # markers are kept longer anyway
    assert all("_rows_local ON CLUSTER 'main' MODIFY TTL" in sql for sql in altered)


def test_one_server_gets_the_statements_as_they_are_written() -> None:
    statements = plan_of(State(), RETENTION, None).statements
    assert not [sql for sql in statements if re.search("CLUSTER|Replicated|Distributed", sql)]
    assert [*known_migrations()[0].statements] == [*statements][2 : 2 + 26]


@pytest.mark.parametrize(
    ("state", "asked", "expected"),
    [
        (State(), None, None),
        (State(), "main", "main"),
        (State("ReplacingMergeTree"), None, None),
        (State("Distributed", {}, {CLUSTER: "main"}), None, "main"),
        (State("Distributed", {}, {CLUSTER: "main"}), "main", "main"),
        (State("Distributed"), "main", "main"),
    ],
)
def test_the_cluster_that_is_migrated(
    state: State, asked: str | None, expected: str | None
) -> None:
    assert _agreed(state, asked) == expected


@pytest.mark.parametrize(
    ("state", "asked", "why"),
    [
        (State("ReplacingMergeTree"), "main", "copy the rows"),
        (State("Distributed", {}, {CLUSTER: "main"}), "other", "leave --cluster out"),
        (State("Distributed"), None, "give the same --cluster again"),
        (State(), "a' b", "letters, digits"),
    ],
)
def test_another_cluster_than_that_of_the_store_is_refused(
    state: State, asked: str | None, why: str
) -> None:
    with pytest.raises(InvalidConfiguration, match=why):
        _agreed(state, asked)


class _Cluster(Store):
    """Answers for a cluster of two shards."""

    def __init__(self) -> None:
        pass

    def query(self, sql: str, parameters: object = None) -> list[dict[str, object]]:
        return [{"shards": 2}]


def test_another_number_of_shards_is_refused() -> None:
    assert _shards(_Cluster(), "main", State()) == 2
    with pytest.raises(InvalidConfiguration, match="had 3 shards and has 2"):
        _shards(_Cluster(), "main", State(settings={CLUSTER_SHARDS: "3"}))


def test_the_command_prints_sql_without_a_store() -> None:
    shown = CliRunner().invoke(main, ["migrate", "--dry-run", "--cluster", "main"], env={})
    assert shown.exit_code == 0
    assert shown.output.startswith("CREATE DATABASE IF NOT EXISTS penstock ON CLUSTER 'main';")
    users = CliRunner().invoke(main, ["migrate", "--print-users"])
    assert "CREATE USER IF NOT EXISTS reader IDENTIFIED" in users.output
    neither = CliRunner(env={"PENSTOCK_STORE": None}).invoke(main, ["migrate"])
    assert neither.exit_code == 2
