from __future__ import annotations

import re
from pathlib import Path

import pytest
from penstock.schemas.config import Retention
from penstock.schemas.errors import InvalidConfiguration, SchemaTooNew, StoreError
from penstock.streams.migrate import Migration, known_migrations, migrate
from penstock.streams.store import Store
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
    "quarantine",
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
