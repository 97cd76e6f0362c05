from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from penstock import secrets_init
from penstock.schemas import cluster as module
from penstock.schemas.cluster import SHARDING, SMALL, rendered, users
from penstock.schemas.config import Retention
from penstock.schemas.errors import InvalidConfiguration, StoreError
from penstock.streams.storage.migrate import State, known_migrations, plan_of

ALL = plan_of(State(), Retention.model_validate({}), "main", 2).statements
# A process of its own: chdb reads its configuration once per process.
ENGINE = """
import json, sys, chdb
folder, config, statements = json.load(sys.stdin)
engine = chdb.connect(f"{folder}?config-file={config}")
answers = []
for sql in statements:
    try:
        answers.append(str(engine.query(sql, "TSVRaw")).rstrip("\\n"))
    except RuntimeError as error:
        answers.append("failed: " + str(error))
print(json.dumps(answers), flush=True)
engine.close()
"""
CONFIG = """
<clickhouse>
    <tcp_port>9000</tcp_port>
    <remote_servers><main><shard>
        <internal_replication>true</internal_replication>
        <replica><host>127.0.0.1</host><port>9000</port></replica>
    </shard></main>
    <away>
        <shard><replica><host>127.0.0.1</host><port>1</port></replica></shard>
        <shard><replica><host>127.0.0.1</host><port>2</port></replica></shard>
    </away>
    </remote_servers>
    {more}
</clickhouse>
"""


def run(folder: Path, statements: list[str], more: str = "") -> list[str]:
    """Answers of the engine, which knows a cluster `main` of one shard: itself."""
    config = folder / "config.xml"
    config.write_text(CONFIG.format(more=more))
    told = json.dumps([str(folder / "db"), str(config), statements])
    done = subprocess.run(
        [sys.executable, "-c", ENGINE], input=told, capture_output=True, text=True, timeout=120
    )
    answers: list[str] = json.loads(done.stdout)
    return answers


def on_one_node(sql: str) -> str:
    """The statement without what needs Keeper: replication, and statements for every node."""
    sql = sql.replace(" ON CLUSTER 'main'", "").replace(
        f"replicated_deduplication_window_seconds = {module.DEDUPLICATION_S},"
        " replicated_deduplication_window",
        "non_replicated_deduplication_window",
    )
    return re.sub(r"ENGINE = Replicated(\w+)\('[^']*', '{replica}'(?:, )?", r"ENGINE = \1(", sql)


def sorting_keys() -> dict[str, list[str]]:
    """Columns that rows are alike in when one replaces the other, as the migrations say."""
    text = "\n".join(migration.text for migration in known_migrations())
    found = re.findall(
        r"CREATE TABLE IF NOT EXISTS penstock\.(\w+)\n.*?\nORDER BY \(?([\w, ]+)\)?\n", text, re.S
    )
    return {name: columns.split(", ") for name, columns in found}


def test_every_table_has_a_key_under_which_rows_that_replace_each_other_meet() -> None:
    keys = sorting_keys()
    assert {*SHARDING} == {name for name in keys if name.endswith("_rows")}
    for name, key in SHARDING.items():
        columns = re.findall(r"\w+", key.removeprefix("cityHash64"))
        if name in ("frames_rows", "quarantine_rows", "panes_rows", "windows_rows"):
            assert not {*columns} & {"ts", "append_ts", "pane_start", "end", "as_of"}
        assert {*columns} <= {*keys[name]}, name
    assert {*SMALL} == {*keys, "schema_migrations"} - {*SHARDING}


def test_a_table_becomes_a_replicated_one_and_a_distributed_one_over_it() -> None:
    sql = (
        "CREATE TABLE IF NOT EXISTS penstock.panes_rows\n(\n"
        "    `a` String COMMENT 'ENGINE = MergeTree; (it''s COMMENT',\n    INDEX i a TYPE minmax\n)\n"
        "ENGINE = ReplacingMergeTree(version)\nORDER BY (a, b)\n"
        "SETTINGS non_replicated_deduplication_window = 10\nCOMMENT 'Tiles.'"
    )
    rows, over = rendered(sql, "main")
    assert rows == (
        "CREATE TABLE IF NOT EXISTS penstock.panes_rows_local ON CLUSTER 'main'\n(\n"
        "    `a` String COMMENT 'ENGINE = MergeTree; (it''s COMMENT',\n    INDEX i a TYPE minmax\n)\n"
        "ENGINE = ReplicatedReplacingMergeTree("
        "'/clickhouse/tables/{shard}/penstock/panes_rows', '{replica}', version)\nORDER BY (a, b)\n"
        "SETTINGS replicated_deduplication_window_seconds = 604800,"
        " replicated_deduplication_window = 10\nCOMMENT 'Tiles.'"
    )
    assert over == (
        "CREATE TABLE IF NOT EXISTS penstock.panes_rows ON CLUSTER 'main'"
        " AS penstock.panes_rows_local\nENGINE = Distributed('main', 'penstock', 'panes_rows_local',"
        " cityHash64(pane_s, grouping, model, model_version, adapter, route, release, variant,"
        " tenant, partition))\nCOMMENT 'Tiles.'"
    )
    small, over = rendered(
        "CREATE TABLE IF NOT EXISTS penstock.probe (at DateTime) ENGINE = MergeTree ORDER BY at",
        "x",
    )
    assert "ReplicatedMergeTree('/clickhouse/tables/{shard}/penstock/probe', '{replica}')" in small
    assert over.endswith("Distributed('x', 'penstock', 'probe_local', 0)")


# What becomes of a statement; ON stands for " ON CLUSTER 'm'".
KINDS = [
    ("CREATE DATABASE IF NOT EXISTS penstock", ["CREATE DATABASE IF NOT EXISTS penstockON"]),
    (
        "CREATE OR REPLACE VIEW penstock.v (a Int) AS SELECT a FROM penstock.v_rows FINAL",
        ["CREATE OR REPLACE VIEW penstock.vON (a Int) AS SELECT a FROM penstock.v_rows FINAL"],
    ),
    (
        "ALTER TABLE penstock.a ADD COLUMN x Int COMMENT 'a, MODIFY b', MODIFY ORDER BY (k, x)",
        [
            "ALTER TABLE penstock.a_localON ADD COLUMN x Int COMMENT 'a, MODIFY b',"
            " MODIFY ORDER BY (k, x)",
            "ALTER TABLE penstock.aON ADD COLUMN x Int COMMENT 'a, MODIFY b'",
        ],
    ),
    (
        "ALTER TABLE penstock.a MODIFY TTL t DELETE WHERE s = 1, u DELETE WHERE s = 2 SETTINGS x = 0",
        [
            "ALTER TABLE penstock.a_localON MODIFY TTL t DELETE WHERE s = 1, u DELETE WHERE s = 2"
            " SETTINGS x = 0"
        ],
    ),
    (
        "ALTER TABLE penstock.a MODIFY COLUMN p TTL t + INTERVAL 3 DAY",
        ["ALTER TABLE penstock.a_localON MODIFY COLUMN p TTL t + INTERVAL 3 DAY"],
    ),
    ("DELETE FROM penstock.a WHERE x > 3", ["DELETE FROM penstock.a_localON WHERE x > 3"]),
    ("TRUNCATE TABLE penstock.a", ["TRUNCATE TABLE penstock.a_localON"]),
    (
        "INSERT INTO penstock.a VALUES ('b', now64(6))",
        [
            "INSERT INTO penstock.a SETTINGS distributed_foreground_insert = 1"
            " VALUES ('b', now64(6))"
        ],
    ),
]


@pytest.mark.parametrize(("statement", "expected"), KINDS)
def test_each_kind_of_statement(statement: str, expected: list[str]) -> None:
    written = [re.sub(r"(?<=[a-z])ON\b", " ON CLUSTER 'm'", sql) for sql in expected]
    assert rendered(statement, "m") == written
    assert rendered(statement, None) == [statement]


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE penstock.panes_rows",
        "ALTER TABLE penstock.panes_rows DROP COLUMN x",
        "CREATE TABLE IF NOT EXISTS penstock.new_rows (a Int) ENGINE = MergeTree ORDER BY a",
        "CREATE TABLE IF NOT EXISTS penstock.probe (a Int) ENGINE = Memory",
        "ALTER TABLE elsewhere.x ADD COLUMN y Int",
    ],
)
def test_what_is_not_known_is_refused(statement: str) -> None:
    with pytest.raises(StoreError):
        rendered(statement, "m")


def test_a_name_that_would_end_its_quotes_is_refused() -> None:
    with pytest.raises(InvalidConfiguration, match="letters"):
        rendered("CREATE DATABASE IF NOT EXISTS penstock", "a' OR")


@pytest.mark.slow
def test_every_statement_goes_to_every_node_and_is_read_by_the_engine(tmp_path: Path) -> None:
    statements = [*ALL, *users("main"), *users()]
    assert all(" ON CLUSTER 'main'" in sql or sql.startswith("INSERT") for sql in ALL)
    assert "non_replicated" not in "".join(ALL)
    # EXPLAIN AST reads no INSERT with its values, and formatQuery does.
    asked = [
        f"SELECT formatQuery('{_quoted(sql)}')"
        if sql.startswith("INSERT")
        else f"EXPLAIN AST {sql}"
        for sql in statements
    ]
    failed = [
        (sql, answer)
        for sql, answer in zip(statements, run(tmp_path, asked), strict=True)
        if not answer or answer.startswith("failed")
    ]
    assert failed == []


def _quoted(sql: str) -> str:
    return sql.replace("\\", "\\\\").replace("'", "\\'")


@pytest.mark.slow
def test_a_cluster_of_one_shard_takes_and_answers_what_we_send(tmp_path: Path) -> None:
    boots = "requests_rows (ts, boot_id, seq, request_id, append_ts)"
    token = "SETTINGS insert_deduplication_token = 'a', distributed_foreground_insert = 1"
    insert = (
        f"INSERT INTO penstock.{boots} {token} SELECT '2100-01-01', 'b', number, toString(number), now64(6)"
        " FROM numbers(100)"
    )
    joined = (
        "SELECT count() FROM penstock.requests_rows FINAL WHERE request_id IN"
        " (SELECT request_id FROM penstock.requests_rows WHERE seq < 10)"
    )
    tests = [
        insert,
        insert,  # again: the token holds through the Distributed table
        insert.replace("'a'", "'b'"),  # with another token: the view shows each event once
        "SELECT sum(rows) FROM system.parts WHERE table = 'requests_rows_local'"
        " AND min_block_number = max_block_number",
        "SELECT count() FROM penstock.requests",
        "CREATE TABLE default.away AS penstock.requests_rows_local"
        " ENGINE = Distributed('away', 'penstock', 'requests_rows_local', 0)",
        joined.replace("penstock.requests_rows", "default.away"),
        f"{joined} SETTINGS distributed_product_mode = 'global'",
        *map(on_one_node, rendered("DELETE FROM penstock.requests_rows WHERE seq >= 50", "main")),
        "SELECT count() FROM penstock.requests",
        "SELECT groupArray((name, value)) FROM penstock.settings FINAL WHERE name LIKE 'cluster%'",
        "SELECT count() FROM system.columns AS d INNER JOIN system.columns AS l USING (database, name)"
        " WHERE l.table = concat(d.table, '_local') AND d.type = l.type AND d.comment = l.comment",
        "SELECT count() FROM system.columns WHERE database = 'penstock' AND table LIKE '%_local'",
        "SELECT count() FROM system.tables WHERE engine = 'Distributed' AND database = 'penstock'",
    ]
    schema = [on_one_node(sql) for sql in ALL]
    answers = run(tmp_path, [*schema, *tests])
    assert [a for a in answers[: len(schema)] if a] == []
    found = answers[len(schema) :]
    assert found[:5] == ["", "", "", "200", "100"]
    assert found.pop(5) == ""
    assert "DISTRIBUTED_IN_JOIN_SUBQUERY_DENIED" in found[5]  # shards that are elsewhere
    assert found[6:10] == ["10", "", "50", "[('cluster','main'),('cluster_shards','2')]"]
    assert found[10] == found[11]
    assert found[12] == str(len(SHARDING) + len(SMALL))


@pytest.mark.slow
def test_rows_that_replace_each_other_are_counted_once_under_our_keys_only(tmp_path: Path) -> None:
    # Two shards, as a Distributed table would fill and read them.
    schema = [on_one_node(sql) for sql in ALL if "penstock.panes_rows_local" in sql]
    key, tables = SHARDING["panes_rows"], ("penstock.panes_rows_local", "other.panes")
    rows = (
        "SELECT 10 AS pane_s, toStartOfHour(now()) + 10 * (number % 50) AS"
        " pane_start, 'model' AS grouping, concat('m', toString(number % 7)) AS model,"
        " intDiv(number, 350) AS version FROM numbers(1050)"
    )
    counted = " UNION ALL ".join(f"SELECT count() AS n FROM {table} FINAL" for table in tables)
    statements = ["CREATE DATABASE penstock", *schema, "CREATE DATABASE other"]
    statements.append(f"CREATE TABLE {tables[1]} AS {tables[0]}")
    ways = (key.replace("partition)", "toUInt32(0))"), "rand()")
    for way in ways:
        for shard, table in enumerate(tables):
            typed = re.sub(r"\b(model_version|adapter|route|release|variant|tenant)\b", "''", way)
            statements += [
                f"TRUNCATE TABLE {table}",
                f"INSERT INTO {table} (pane_s, pane_start, grouping, model, version)"
                f" SELECT * FROM ({rows}) WHERE {typed} % 2 = {shard}",
            ]
        statements.append(f"SELECT sum(n), min(n) > 0 FROM ({counted})")
    answers = [answer for answer in run(tmp_path, statements) if answer]
    assert answers[0] == "350\t1"  # and both shards have some
    assert int(answers[1].split()[0]) > 350


def test_users_have_the_limits_of_the_compose_file() -> None:
    for name in secrets_init.STORE_USERS:
        assert module.PROFILES[name] == secrets_init.PROFILES[name]
    text = ";\n".join(users())
    assert "CLUSTER" not in text
    assert "IDENTIFIED WITH sha256_password BY '<password of reader>'" in text
    assert "max_rows_to_read = 200000000 MIN 1 MAX 200000000" in text
    assert "readonly = 2" in text
    assert "GRANT SELECT ON penstock.* TO reader" in text
    assert re.findall(r"GRANT (.*) TO writer", text) == [
        "SELECT, INSERT, ALTER DELETE ON penstock.*"
    ]


def _role(name: str) -> str:
    grants = (*module.GRANTS[name], *module.CLUSTER_GRANTS[name])
    queries = "".join(f"<query>GRANT {grant}</query>" for grant in grants)
    return f"<{name}><grants>{queries}</grants></{name}>"


def allowed(folder: Path, role: str, statements: list[str]) -> list[bool]:
    """Whether a user with the grants of a role may do each; the schema is there."""
    folder.mkdir()
    roles = "<root><grants><query>GRANT ALL ON *.*</query></grants></root>" + "".join(
        map(_role, module.GRANTS)
    )
    names = ", ".join(("root", *module.GRANTS))
    accounts = folder / "users.xml"
    accounts.write_text(
        f"<clickhouse><profiles><default/></profiles><roles>{roles}</roles><users><default>"
        "<password></password><networks><ip>::/0</ip></networks><profile>default</profile>"
        f"<quota>default</quota><grants><query>GRANT {names}</query></grants></default></users>"
        "<quotas><default/></quotas></clickhouse>"
    )
    schema = [on_one_node(sql) for sql in ALL]
    told = ["SET ROLE root", *schema, f"SET ROLE {role}", *statements]
    more = f"<users_config>{accounts}</users_config>"
    answers = run(folder, told, more)
    assert not [a for a in answers[: len(schema) + 2] if a]
    return ["ACCESS_DENIED" not in answer for answer in answers[len(schema) + 2 :]]


EVERYTHING: dict[str, Any] = {
    "SELECT count() FROM penstock.requests": "migrator writer api reader",
    "INSERT INTO penstock.probe SETTINGS distributed_foreground_insert = 1 SELECT now64(6)": (
        "migrator writer api"
    ),
    "INSERT INTO penstock.settings SETTINGS distributed_foreground_insert = 1"
    " SELECT 'a', 'b', now64(6)": "migrator writer",
    "DELETE FROM penstock.panes_rows_local WHERE partition = 77": "migrator writer",
    on_one_node(ALL[-2]): "migrator",
    "DROP TABLE penstock.panes_rows": "",
    "SELECT * FROM file('/etc/hostname', 'LineAsString')": "",
}


@pytest.mark.slow
@pytest.mark.parametrize("role", [*module.GRANTS])
def test_users_may_do_what_they_need_and_no_more(tmp_path: Path, role: str) -> None:
    expected = [role in who.split() for who in EVERYTHING.values()]
    assert allowed(tmp_path / "store", role, [*EVERYTHING]) == expected


@pytest.mark.slow
def test_the_migrator_may_migrate(tmp_path: Path) -> None:
    # Once more from the start, as the migrator: every statement is repeatable.
    repeatable = [on_one_node(sql) for sql in ALL if "MODIFY ORDER BY" not in sql]
    assert all(allowed(tmp_path / "store", "migrator", repeatable))
