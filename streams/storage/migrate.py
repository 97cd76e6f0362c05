"""Numbered migrations: the same SQL on chdb, on a server and on a cluster, applied once, in order."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources

from ...schemas.cluster import checked_name, rendered
from ...schemas.config import Retention
from ...schemas.errors import InvalidConfiguration, SchemaTooNew, StoreError
from .store import Store

MISSING_TABLE = (60, 81)  # ClickHouse's codes: unknown table, unknown database
MARKERS_KEPT_DAYS = 3650
CLUSTER = "cluster"  # row of penstock.settings: name of the cluster
CLUSTER_SHARDS = "cluster_shards"
_FILE = re.compile(r"(\d{4})_(\w+)\.sql$")
_FIRST = (
    "CREATE DATABASE IF NOT EXISTS penstock",
    "CREATE TABLE IF NOT EXISTS penstock.schema_migrations ("
    " version UInt32 COMMENT 'Number of the migration.',"
    " name String COMMENT 'Its name.',"
    " checksum String COMMENT 'SHA-256 of its text.',"
    " applied_at DateTime('UTC') COMMENT 'When it was applied.')"
    " ENGINE = ReplacingMergeTree ORDER BY version"
    " COMMENT 'Migrations applied to this database.'",
)


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


@dataclass(frozen=True, slots=True)
class State:
    """What a store has already.

    Attributes:
        engine: of the table of migrations; empty where there is none.
        applied: checksums of migrations by version.
        settings: rows of penstock.settings.
    """

    engine: str = ""
    applied: Mapping[int, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done.

    Attributes:
        pending: migrations that are not applied.
        statements: SQL to run, in order; repeating those that were run changes nothing.
    """

    pending: Sequence[Migration]
    statements: Sequence[str]


def migrate(
    store: Store, retention: Retention | None = None, cluster: str | None = None
) -> list[Migration]:
    """Bring the store to this version's schema and retention; repeating it changes nothing.

    Args:
        store: of one server, or a node of the cluster.
        retention: times to live.
        cluster: name as in system.clusters, needed the first time; later the store knows it.

    Returns:
        The migrations applied now.

    Raises:
        SchemaTooNew: the store was migrated by a newer version.
        InvalidConfiguration: the store is on one server, in another cluster, or its shards changed.
        StoreError: a statement failed, or an applied migration's text has changed since.
    """
    plan = planned(store, retention, cluster)
    for statement in plan.statements:
        store.command(statement)
    return [*plan.pending]


def planned(store: Store, retention: Retention | None = None, cluster: str | None = None) -> Plan:
    """What `migrate` would do; it reads and changes nothing.

    Raises:
        As `migrate`.
    """
    state = _state(store)
    cluster = _agreed(state, cluster)
    shards = 0 if cluster is None else _shards(store, cluster, state)
    return plan_of(state, retention or Retention.model_validate({}), cluster, shards)


def check_migrated(store: Store) -> None:
    """That the store has exactly this version's schema; it reads one row.

    Raises:
        SchemaTooNew: the store was migrated by a newer version.
        StoreError: the store is away, or not migrated, or not up to this version.
    """
    newest = known_migrations()[-1].version
    try:
        (row,) = store.query("SELECT max(version) AS version FROM penstock.schema_migrations")
    except StoreError as error:
        if error.code not in MISSING_TABLE:
            raise
        raise StoreError("the store is not migrated: run penstock migrate", error.code) from error
    version = int(row["version"])
    if version < newest:
        raise StoreError(f"the store has schema {version}, not {newest}: run penstock migrate")
    if version > newest:
        raise _too_new(version, newest)


def cluster_of(store: Store) -> str | None:
    """The cluster that a migrated store is spread over; None for one server.

    Give it to `schemas.cluster.rendered` with every statement that deletes or alters.

    Raises:
        StoreError: the store is away or not migrated.
    """
    found = store.query(
        "SELECT value FROM penstock.settings FINAL WHERE name = {name:String}", {"name": CLUSTER}
    )
    return str(found[0]["value"]) if found else None


def plan_of(state: State, retention: Retention, cluster: str | None, shards: int = 0) -> Plan:
    """The statements from a state to this version's schema.

    Args:
        state: what is there.
        retention: times to live.
        cluster: where the database is spread over one.
        shards: of the cluster.

    Raises:
        SchemaTooNew: the store was migrated by a newer version.
        StoreError: an applied migration's text has changed since.
    """
    known = known_migrations()
    newest = known[-1].version
    if state.applied and max(state.applied) > newest:
        raise _too_new(max(state.applied), newest)
    pending = []
    statements = [] if state.engine else [*_FIRST]
    for migration in known:
        if migration.version in state.applied:
            if state.applied[migration.version] != migration.checksum:
                raise StoreError(
                    f"migration {migration.version} was applied with another text; "
                    "a released migration must not change"
                )
            continue
        statements += migration.statements
        statements.append(
            "INSERT INTO penstock.schema_migrations VALUES "
            f"({migration.version}, '{migration.name}', '{migration.checksum}', now())"
        )
        pending.append(migration)
    facts = {} if cluster is None else {CLUSTER: cluster, CLUSTER_SHARDS: str(shards)}
    for name, value in facts.items():
        if name not in state.settings:
            statements.append(_set(name, value))
    statements += _retain(state.settings, retention)
    return Plan(pending, [part for sql in statements for part in rendered(sql, cluster)])


def _too_new(version: int, newest: int) -> SchemaTooNew:
    return SchemaTooNew(
        f"the store has schema {version}, this Penstock knows {newest}: "
        "run the newer version, or point --store elsewhere"
    )


def _state(store: Store) -> State:
    """What the store has; of a store without our tables, nothing."""
    tables = {
        str(row["name"]): str(row["engine"])
        for row in store.query(
            "SELECT name, engine FROM system.tables WHERE database = 'penstock'"
            " AND name IN ('schema_migrations', 'settings')"
        )
    }
    if "schema_migrations" not in tables:
        return State()
    rows = store.query("SELECT version, checksum FROM penstock.schema_migrations FINAL")
    applied = {int(row["version"]): str(row["checksum"]) for row in rows}
    settings = {}
    if "settings" in tables:
        found = store.query("SELECT name, value FROM penstock.settings FINAL")
        settings = {str(row["name"]): str(row["value"]) for row in found}
    return State(tables["schema_migrations"], applied, settings)


def _agreed(state: State, cluster: str | None) -> str | None:
    """The cluster to migrate, if the one that was asked for is the one that the store is in."""
    known = state.settings.get(CLUSTER)
    if cluster is not None:
        checked_name(cluster)
    if state.engine and state.engine != "Distributed":
        if cluster is not None:
            raise InvalidConfiguration(
                "the database penstock is on one server already: rename it (RENAME DATABASE penstock"
                f" TO penstock_old), run penstock migrate --cluster {cluster} and copy the rows; "
                "docs/clickhouse.md says how"
            )
        return None
    if known is not None and cluster not in (None, known):
        raise InvalidConfiguration(
            f"the store is spread over the cluster {known!r}, not {cluster!r}: leave --cluster out"
        )
    if state.engine and known is None and cluster is None:
        raise InvalidConfiguration(
            "an earlier migration of a cluster was cut short: give the same --cluster again"
        )
    return known or cluster


def _shards(store: Store, cluster: str, state: State) -> int:
    """How many shards the cluster has; they may not change, because rows would not meet any more."""
    rows = store.query(
        "SELECT uniqExact(shard_num) AS shards FROM system.clusters WHERE cluster = {name:String}",
        {"name": cluster},
    )
    shards = int(rows[0]["shards"])
    if not shards:
        raise InvalidConfiguration(
            f"ClickHouse knows no cluster {cluster!r}: SELECT cluster FROM system.clusters"
        )
    before = int(state.settings.get(CLUSTER_SHARDS, shards))
    if before != shards:
        raise InvalidConfiguration(
            f"the cluster {cluster!r} had {before} shards and has {shards}: rows that replace each "
            "other would lie on different shards. Take the change back, or copy into a new database; "
            "docs/clickhouse.md says how"
        )
    return shards


def _retain(settings: Mapping[str, str], retention: Retention) -> list[str]:
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
    # A few rows, and a gate's epoch is told by them for as long as its release runs.
    releases = max(cold, MARKERS_KEPT_DAYS)
    wanted |= {"releases": f"toDateTime(ts) + INTERVAL {releases} DAY", "panes": panes}
    wanted |= {
        "windows": f"end + INTERVAL {cold} DAY",
        "verdicts": f"toDateTime(as_of) + INTERVAL {cold} DAY",
        "gate_inputs": f"toDateTime(end) + INTERVAL {cold} DAY",
        "alert_transitions": f"at + INTERVAL {cold} DAY",
        "alert_explanations": f"at + INTERVAL {cold} DAY",
        "slo_status": f"as_of + INTERVAL {cold} DAY",
        "cost_status": f"as_of + INTERVAL {cold} DAY",
        "spend_status": f"as_of + INTERVAL {cold} DAY",
        "capacity_forecasts": f"as_of + INTERVAL {cold} DAY",
    }
    wanted |= dict.fromkeys(
        ("frames", "quarantine"), f"toDateTime(append_ts) + INTERVAL {warm} DAY"
    )
    changes = {f"ttl of {name}": (name, f"MODIFY TTL {ttl}") for name, ttl in wanted.items()}
    for column in ("payload", "features", "categories"):
        ttl = f"MODIFY COLUMN {column} TTL toDateTime(ts) + INTERVAL {hot} DAY"
        changes[f"ttl of requests.{column}"] = "requests", ttl
    return [
        statement
        for setting, (name, change) in changes.items()
        if settings.get(setting) != change
        for statement in (
            f"ALTER TABLE penstock.{name}_rows {change} SETTINGS materialize_ttl_after_modify = 0",
            _set(setting, change),
        )
    ]


def _set(name: str, value: str) -> str:
    return f"INSERT INTO penstock.settings VALUES ('{name}', '{value}', now64(6))"
