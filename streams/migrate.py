"""Numbered migrations: the same SQL on chdb and on a server, applied once each, in order."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from importlib import resources

from ..schemas.config import Retention
from ..schemas.errors import SchemaTooNew, StoreError
from .store import Store

_FILE = re.compile(r"(\d{4})_(\w+)\.sql$")


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file of statements."""

    version: int
    name: str
    text: str = field(repr=False)

    @property
    def statements(self) -> list[str]:
        """Its statements without comments."""
        lines = [line for line in self.text.splitlines() if not line.startswith("--")]
        return [part.strip() for part in re.split(r";\n", "\n".join(lines) + "\n") if part.strip()]

    @property
    def checksum(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def known_migrations() -> list[Migration]:
    """The migrations that this version brings, in order."""
    folder = resources.files("penstock.schemas") / "migrations"
    found = [
        Migration(int(match[1]), match[2], entry.read_text(encoding="utf-8"))
        for entry in folder.iterdir()
        if (match := _FILE.match(entry.name))
    ]
    return sorted(found, key=lambda migration: migration.version)


def migrate(store: Store, retention: Retention | None = None) -> list[Migration]:
    """Bring the store to this version's schema and retention; repeating it changes nothing.

    Returns:
        The migrations applied now.

    Raises:
        SchemaTooNew: the store was migrated by a newer version.
        StoreError: a statement failed, or an applied migration's text has changed since.
    """
    store.command("CREATE DATABASE IF NOT EXISTS penstock")
    store.command(
        "CREATE TABLE IF NOT EXISTS penstock.schema_migrations ("
        " version UInt32 COMMENT 'Number of the migration.',"
        " name String COMMENT 'Its name.',"
        " checksum String COMMENT 'SHA-256 of its text.',"
        " applied_at DateTime('UTC') COMMENT 'When it was applied.')"
        " ENGINE = ReplacingMergeTree ORDER BY version"
        " COMMENT 'Migrations applied to this database.'"
    )
    rows = store.query("SELECT version, checksum FROM penstock.schema_migrations FINAL")
    applied = {int(row["version"]): str(row["checksum"]) for row in rows}
    known = known_migrations()
    newest = known[-1].version
    if applied and max(applied) > newest:
        raise SchemaTooNew(
            f"the store has schema {max(applied)}, this Penstock knows {newest}: "
            "run the newer version, or point --store elsewhere"
        )
    pending = []
    for migration in known:
        if migration.version in applied:
            if applied[migration.version] != migration.checksum:
                raise StoreError(
                    f"migration {migration.version} was applied with another text; "
                    "a released migration must not change"
                )
            continue
        for statement in migration.statements:
            store.command(statement)
        store.command(
            "INSERT INTO penstock.schema_migrations VALUES "
            f"({migration.version}, '{migration.name}', '{migration.checksum}', now())"
        )
        pending.append(migration)
    _retain(store, retention or Retention.model_validate({}))
    return pending


def _retain(store: Store, retention: Retention) -> None:
    """Set the time to live of each tier where it is not so already."""
    hot, warm, cold = retention.hot_days, retention.warm_days, retention.cold_days
    # Two days on top: the oldest edge of the 30 day window still needs its panes.
    panes = (
        "toDateTime(pane_start) + INTERVAL 6 HOUR DELETE WHERE pane_s = 1,"
        " toDateTime(pane_start) + INTERVAL 48 HOUR DELETE WHERE pane_s = 10,"
        f" toDateTime(pane_start) + INTERVAL {warm + 2} DAY DELETE WHERE pane_s = 60,"
        f" toDateTime(pane_start) + INTERVAL {cold} DAY DELETE WHERE pane_s >= 3600"
    )
    wanted = dict.fromkeys(
        ("requests", "steps", "spans", "feedback"), f"toDateTime(ts) + INTERVAL {warm} DAY"
    )
    wanted |= {"releases": f"toDateTime(ts) + INTERVAL {cold} DAY", "panes": panes}
    wanted |= {
        "windows": f"end + INTERVAL {cold} DAY",
        "verdicts": f"toDateTime(as_of) + INTERVAL {cold} DAY",
    }
    wanted |= dict.fromkeys(
        ("frames", "quarantine"), f"toDateTime(append_ts) + INTERVAL {warm} DAY"
    )
    for name, ttl in wanted.items():
        _alter(store, name, f"MODIFY TTL {ttl}", f"ttl of {name}")
    for column in ("payload", "features", "categories"):
        _alter(
            store,
            "requests",
            f"MODIFY COLUMN {column} TTL toDateTime(ts) + INTERVAL {hot} DAY",
            f"ttl of requests.{column}",
        )


def _alter(store: Store, name: str, change: str, setting: str) -> None:
    """Alter a table unless the same was done before, as the table `settings` remembers."""
    found = store.query(
        "SELECT value FROM penstock.settings FINAL WHERE name = {name:String}", {"name": setting}
    )
    if found and found[0]["value"] == change:
        return
    store.command(
        f"ALTER TABLE penstock.{name}_rows {change} SETTINGS materialize_ttl_after_modify = 0"
    )
    store.command(f"INSERT INTO penstock.settings VALUES ('{setting}', '{change}', now64(6))")
