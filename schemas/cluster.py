"""The SQL of one ClickHouse server, rewritten for a cluster: statement in, statements out.

Every table `X` becomes `X_local` with a replicated engine on each shard, and a Distributed table under
the old name, so that whatever reads or inserts by the old name goes on to. Views keep their names and
read through the Distributed table. See docs/clickhouse.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .errors import InvalidConfiguration, StoreError

DATABASE = "penstock"
DEDUPLICATION_S = 7 * 86_400  # for as long, an insert may be repeated
# Rows that replace each other are alike in these columns, so they meet on one shard: FINAL collapses
# rows of one shard only. Times are left out, so that a slice or a boot stays together.
_BOOT = "cityHash64(boot_id)"
_SOURCE = "cityHash64(incarnation, partition)"
_SLICE = "grouping, model, model_version, adapter, route, release, variant, tenant"
SHARDING: Mapping[str, str] = {
    "requests_rows": _BOOT,
    "steps_rows": _BOOT,
    "feedback_rows": _BOOT,
    "releases_rows": _BOOT,
    "spans_rows": _BOOT,
    "frames_rows": _SOURCE,
    "quarantine_rows": _SOURCE,
    "panes_rows": f"cityHash64(pane_s, {_SLICE}, partition)",
    "windows_rows": f"cityHash64(window_s, {_SLICE})",
    "coverage_rows": "cityHash64(worker_id, boot_id)",
    "verdicts_rows": "cityHash64(gate_id, epoch)",
    "gate_inputs_rows": "cityHash64(gate_id, epoch)",
    "checkpoints_rows": "cityHash64(partition)",
    "alert_transitions_rows": "cityHash64(alert_id)",
    "alert_explanations_rows": "cityHash64(alert_id)",
    "slo_status_rows": "cityHash64(slo_id)",
    "cost_status_rows": "cityHash64(budget_id)",
    "spend_status_rows": "cityHash64(limit_id)",
    "capacity_forecasts_rows": "cityHash64(forecast_id)",
    "audit_log_rows": "cityHash64(chain)",
    "silences_rows": "cityHash64(id)",
    "acknowledgements_rows": "cityHash64(alert_id)",
    "signal_states_rows": "cityHash64(kind, id)",
    "deliveries_rows": "cityHash64(key)",
    "leases_rows": "cityHash64(name)",
    "drift_counts_rows": "cityHash64(counting)",
    "drift_references_rows": "cityHash64(scope, name)",
    "drift_scores_rows": "cityHash64(monitor, series)",
    "drift_states_rows": "cityHash64(monitor)",
}
# Tables of a few rows live on the first shard.
SMALL = ("schema_migrations", "settings", "probe", "incarnations", "redrives")

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_QUOTED = re.compile(r"'(?:[^'\\]|\\.|'')*'|`[^`]*`")
_DATABASE = re.compile(rf"CREATE DATABASE IF NOT EXISTS {DATABASE}$")
_TABLE = re.compile(rf"CREATE TABLE IF NOT EXISTS {DATABASE}\.(\w+)")
_ENGINE = re.compile(r"\bENGINE = (\w*MergeTree)\b(\(#*\))?")
_VIEW = re.compile(rf"CREATE (?:OR REPLACE VIEW|VIEW IF NOT EXISTS) {DATABASE}\.\w+")
_CHANGE = re.compile(rf"(?:ALTER|TRUNCATE) TABLE {DATABASE}\.(\w+)|DELETE FROM {DATABASE}\.(\w+)")
_INSERT = re.compile(rf"INSERT INTO {DATABASE}\.\w+(?: \(#*\))?(?= (?:VALUES|SELECT)\b)")
# A comma before one of these separates two changes; another belongs to an expression.
_NEXT = re.compile(
    r",\s*(?=(?:ADD|COMMENT|MODIFY|DROP|RENAME) (?:COLUMN|INDEX|PROJECTION|ORDER|SETTING|TTL)\b)"
)
_REMOVES = re.compile(r"\b(?:DROP|RENAME) COLUMN\b")
_OF_COLUMNS = re.compile(r"(?:ADD|COMMENT|MODIFY) COLUMN\b")


def checked_name(cluster: str) -> str:
    """The name of a cluster, if it can be one.

    Raises:
        InvalidConfiguration: it has other characters than letters, digits, dot, dash, underscore.
    """
    if not _NAME.fullmatch(cluster):
        raise InvalidConfiguration(
            f"--cluster takes a name of system.clusters (letters, digits, . _ -), not {cluster!r}"
        )
    return cluster


def local(name: str) -> str:
    """Name of the table that holds a table's rows on each shard.

    >>> local("panes_rows")
    'panes_rows_local'
    """
    return f"{name}_local"


def rendered(statement: str, cluster: str | None) -> list[str]:
    """What to run, in order, for a statement that is written for one server.

    Args:
        statement: one that creates, alters, deletes or inserts, as the migrations and Penstock's own
            code write it; without a semicolon.
        cluster: name as in system.clusters; None for one server, and nothing changes.

    Raises:
        StoreError: a kind of statement that is not known here.

    >>> rendered("DELETE FROM penstock.panes_rows WHERE partition = 3", "main")
    ["DELETE FROM penstock.panes_rows_local ON CLUSTER 'main' WHERE partition = 3"]
    """
    if cluster is None:
        return [statement]
    on = f" ON CLUSTER '{checked_name(cluster)}'"
    outline = _outline(statement)
    if _DATABASE.match(outline):
        return [statement + on]
    if found := _TABLE.match(outline):
        return _tables(statement, outline, found, cluster)
    if found := _VIEW.match(outline):
        return [statement[: found.end()] + on + statement[found.end() :]]
    if found := _CHANGE.match(outline):
        name = found[1] or found[2]
        rest = statement[found.end() :]
        first = f"{statement[: found.end()]}_local{on}{rest}"
        if not outline.startswith("ALTER"):
            return [first]
        columns = _column_changes(rest, outline[found.end() :])
        also = f"ALTER TABLE {DATABASE}.{name}{on} {', '.join(columns)}"
        return [first, also] if columns else [first]
    if found := _INSERT.match(outline):
        # Answered once every shard has the rows, not when this node has queued them.
        now = " SETTINGS distributed_foreground_insert = 1"
        return [statement[: found.end()] + now + statement[found.end() :]]
    raise StoreError(f"no rendering for a cluster is known of: {statement[:80]}")


def _outline(sql: str) -> str:
    """The statement at its length, with # for everything in quotes and in brackets."""
    bare = _QUOTED.sub(lambda found: "#" * len(found[0]), sql)
    depth, out = 0, []
    for character in bare:
        depth -= character == ")"
        out.append("#" if depth else character)
        depth += character == "("
    return "".join(out)


def _tables(statement: str, outline: str, found: re.Match[str], cluster: str) -> list[str]:
    """The replicated table of each shard, and the Distributed one over them."""
    name, engine = found[1], _ENGINE.search(outline)
    key = "0" if name in SMALL else SHARDING.get(name)
    if engine is None or key is None:
        raise StoreError(f"penstock.{name} needs a MergeTree engine and a key in SHARDING")
    own = statement[engine.start(2) + 1 : engine.end(2) - 1] if engine[2] else ""
    arguments = [f"'/clickhouse/tables/{{shard}}/{DATABASE}/{name}'", "'{replica}'", own]
    rest = statement[engine.end() :].replace(
        "non_replicated_deduplication_window =",
        f"replicated_deduplication_window_seconds = {DEDUPLICATION_S},"
        " replicated_deduplication_window =",
    )
    on = f"ON CLUSTER '{cluster}'"
    rows = (
        f"{statement[: found.end()]}_local {on}{statement[found.end() : engine.start()]}"
        f"ENGINE = Replicated{engine[1]}({', '.join(filter(None, arguments))}){rest}"
    )
    comment = outline.rfind("COMMENT ")
    over = (
        f"CREATE TABLE IF NOT EXISTS {DATABASE}.{name} {on} AS {DATABASE}.{local(name)}\n"
        f"ENGINE = Distributed('{cluster}', '{DATABASE}', '{local(name)}', {key})"
    )
    return [rows, over if comment < 0 else f"{over}\n{statement[comment:]}"]


def _column_changes(rest: str, outline: str) -> list[str]:
    """Of the changes of an ALTER, those that the Distributed table takes part in."""
    if _REMOVES.search(outline):
        raise StoreError("no rendering for a cluster is known of: DROP or RENAME COLUMN")
    settings = re.search(r"\sSETTINGS\b", outline)
    end = settings.start() if settings else len(rest)
    changes, start = [], 0
    for at in [*_NEXT.finditer(outline, 0, end), None]:
        stop = at.start() if at else end
        changes.append((rest[start:stop].strip(), outline[start:stop].strip()))
        start = at.end() if at else end
    # A time to live is of the rows, and a Distributed table has none.
    return [sql for sql, bare in changes if _OF_COLUMNS.match(bare) and " TTL " not in bare]


_READ = f"SELECT ON {DATABASE}.*"
_MIGRATIONS = (
    f"SELECT, INSERT, CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP VIEW, ALTER TABLE, ALTER VIEW"
    f" ON {DATABASE}.*"
)
# Beside the probe, what people set through the API, and the log of who did.
_SET = (
    "probe", "silences_rows", "acknowledgements_rows", "audit_log_rows", "drift_references_rows",
)  # fmt: skip
GRANTS: Mapping[str, tuple[str, ...]] = {
    "migrator": (_MIGRATIONS,),
    "writer": (f"SELECT, INSERT, ALTER DELETE ON {DATABASE}.*",),
    "api": (_READ, *(f"INSERT ON {DATABASE}.{name}" for name in _SET)),
    "reader": (_READ,),
}
# ON CLUSTER and Distributed tables need rights that are not of a database.
CLUSTER_GRANTS: Mapping[str, tuple[str, ...]] = {
    "migrator": ("CLUSTER, REMOTE ON *.*", "SELECT ON system.clusters"),
    "writer": ("CLUSTER ON *.*",),
    "api": tuple(f"INSERT ON {DATABASE}.{local(name)}" for name in _SET),
    "reader": (),
}
# Setting -> (value, highest value that a query may ask for; None: any). As in secrets_init.py, which
# writes them for one server; tests/unit/schemas/test_cluster.py holds them together. With `readonly` 2
# the reader may change settings, as Grafana's client does, but not that one.
PROFILES: Mapping[str, Mapping[str, tuple[int | str, int | None]]] = {
    "migrator": {"max_execution_time": (600, None)},
    "writer": {"async_insert": (0, None), "max_execution_time": (600, None)},
    "api": {"max_execution_time": (60, 60), "max_memory_usage": (2_000_000_000, 2_000_000_000)},
    "reader": {
        "readonly": (2, None),
        "max_execution_time": (30, 30),
        "max_memory_usage": (1_000_000_000, 1_000_000_000),
        "max_rows_to_read": (200_000_000, 200_000_000),
        "max_result_rows": (100_000, 1_000_000),
        "result_overflow_mode": ("throw", None),
        "max_concurrent_queries_for_user": (20, 20),
        "max_threads": (4, 8),
    },
}
# A query that joins Distributed tables is refused unless it may send one side to every shard; an
# answer without the rows of a shard that is away would be a wrong count.
_CLUSTER_READS: Mapping[str, tuple[int | str, int | None]] = {
    "distributed_product_mode": ("global", None),
    "skip_unavailable_shards": (0, None),
    "load_balancing": ("in_order", None),
}
# An insert is answered when a majority of the replicas of each shard has it.
_CLUSTER_WRITES: Mapping[str, tuple[int | str, int | None]] = {
    "distributed_foreground_insert": (1, None),
    "insert_quorum": ("auto", None),
    "insert_quorum_timeout": (60_000, None),
    "distributed_ddl_task_timeout": (300, None),
}


def users(cluster: str | None = None) -> list[str]:
    """SQL of the least-privilege users migrator, writer, api and reader, as an administrator runs it.

    Passwords are placeholders, `<password of NAME>`.

    Args:
        cluster: name as in system.clusters; None for one server.

    Raises:
        InvalidConfiguration: the name cannot be that of a cluster.
    """
    on = "" if cluster is None else f" ON CLUSTER '{checked_name(cluster)}'"
    statements = []
    for name, grants in GRANTS.items():
        settings = dict(PROFILES[name])
        if cluster is not None:
            settings |= _CLUSTER_READS
            settings |= {} if name == "reader" else _CLUSTER_WRITES
            grants = (*grants, *CLUSTER_GRANTS[name])
        listed = ",\n    ".join(_setting(*item) for item in settings.items())
        statements += [
            f"CREATE SETTINGS PROFILE IF NOT EXISTS {DATABASE}_{name}{on} SETTINGS\n    {listed}",
            f"CREATE USER IF NOT EXISTS {name}{on} IDENTIFIED WITH sha256_password"
            f" BY '<password of {name}>' SETTINGS PROFILE '{DATABASE}_{name}'",
            *(f"GRANT{on} {grant} TO {name}" for grant in grants),
        ]
    return statements


def _setting(name: str, limits: tuple[int | str, int | None]) -> str:
    value, most = limits
    shown = f"'{value}'" if isinstance(value, str) else str(value)
    # Zero would mean no limit, so one is the lowest.
    return f"{name} = {shown}" + ("" if most is None else f" MIN 1 MAX {most}")
