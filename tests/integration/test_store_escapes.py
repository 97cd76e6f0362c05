"""Every way out of the roles of `penstock store` that is known, tried as each of them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from penstock.streams.storage.migrate import migrate
from penstock.streams.storage.store import Store
from penstock.tests.support.chstore import Asker, running

SECRET = "the-secret-of-this-machine"


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    """A migrated store beside a file that nobody may read."""
    folder = tmp_path_factory.mktemp("escapes")
    (folder / "secret.txt").write_text(SECRET)
    with running(folder) as asker:
        store = Store(asker.server.url)
        migrate(store)
        store.command("CREATE VIEW penstock.v AS SELECT 1 AS one")
        store.command("INSERT INTO penstock.probe SELECT now64(6)")
        store.close()
        yield asker


READS = [
    "SELECT count() FROM penstock.requests",
    "SELECT * FROM requests LIMIT 1",
    "WITH 1 AS x SELECT x UNION ALL SELECT number FROM numbers(3)",
    "SELECT * FROM values('a UInt8', 1, 2)",
    "SELECT * FROM view(SELECT 1)",
    "SELECT format('{} is {}', 'a', 'b'), arrayMap(x -> x + 1, [1])",
    "SELECT name FROM system.tables WHERE database = 'penstock'",
    "SELECT name FROM system.columns WHERE table = 'requests'",
    "SELECT name FROM system.databases",
    "SELECT table_name FROM information_schema.tables",
    "SELECT name, value, readonly FROM system.settings LIMIT 10000",
    "SELECT displayName(), version(), revision(), timezone()",
    "SHOW TABLES",
    "SHOW DATABASES",
    "SHOW CREATE TABLE penstock.requests",
    "DESCRIBE TABLE penstock.requests",
    "DESCRIBE (SELECT 1 AS a)",
    "EXISTS TABLE penstock.requests",
    "EXPLAIN SELECT count() FROM penstock.requests",
    "SELECT 1 SETTINGS max_threads = 1",
    "SELECT one FROM penstock.v",
]


@pytest.mark.parametrize("user", ["reader", "api", "writer"])
def test_what_everybody_may_read(ask: Asker, user: str) -> None:
    for sql in READS:
        answer = ask(sql, user=user)
        assert answer.status_code == 200, (sql, answer.text)


# Each of these would read a file, reach an address, see other people's queries, or run something.
# <SECRET> stands for the path of a file that holds a secret.
ESCAPES = [
    "SELECT * FROM file('<SECRET>', 'LineAsString')",
    "SELECT file('<SECRET>')",
    "SELECT FiLe('<SECRET>')",
    "SELECT `file`('<SECRET>')",
    "SELECT \"fi\\x6ce\"('<SECRET>')",
    "SELECT /* a */ file /* b */ ('<SECRET>')",
    "SELECT arrayMap(file, ['<SECRET>'])",
    "SELECT arrayMap(x -> file(x), ['<SECRET>'])",
    "SELECT * APPLY(file) FROM (SELECT '<SECRET>')",
    "SELECT * APPLY(x -> file(x)) FROM (SELECT '<SECRET>')",
    "SELECT 1 WHERE file('<SECRET>') LIKE 'the%'",
    "WITH (SELECT file('<SECRET>')) AS x SELECT x",
    "SELECT * FROM default.`<SECRET>`",
    "SELECT * FROM `<SECRET>` SETTINGS database = 'default'",
    "SELECT * FROM format(Values, 'a String', '(file(\\'<SECRET>\\'))')",
    "SELECT * FROM format(LineAsString, 'a')",
    "SELECT 1 FORMAT Template SETTINGS format_template_resultset = '<SECRET>'",
    "SELECT 1 FORMAT Template SETTINGS format_template_row = '<SECRET>'",
    "SELECT formatRow('Template', 1) SETTINGS format_template_row = '<SECRET>'",
    "SELECT 1 FORMAT Protobuf SETTINGS format_schema = '<SECRET>:x'",
    "SELECT 1 FORMAT CapnProto SETTINGS format_schema = '<SECRET>:x'",
    "SELECT 1 FORMAT JSON SETTINGS output_format_schema = '<SECRET>.out'",
    "SELECT * FROM penstock.v SETTINGS additional_table_filters = "
    "{'penstock.v': 'file(\\'<SECRET>\\') = \\'\\''}",
    "SELECT 1 SETTINGS additional_result_filter = 'file(\\'<SECRET>\\') = \\'\\''",
    "SELECT 1 SETTINGS filter = 'file(\\'<SECRET>\\') = \\'\\''",
    "SELECT 1 SETTINGS select = 'file(\\'<SECRET>\\')'",
    "SELECT 1 SETTINGS `order` = 'file(\\'<SECRET>\\')'",
    "SELECT 1 SETTINGS implicit_table_at_top_level = 'default.`<SECRET>`'",
    "SELECT 1 SETTINGS dialect = 'kusto'",
    "SELECT 1 INTO OUTFILE '<SECRET>.out'",
    "SELECT 1 INTO OUTFILE '<SECRET>' TRUNCATE",
    "DESCRIBE TABLE file('<SECRET>', 'LineAsString')",
    "DESCRIBE (SELECT file('<SECRET>') AS a)",
    "EXPLAIN SELECT file('<SECRET>')",
    "EXPLAIN QUERY TREE SELECT file('<SECRET>')",
    "SHOW TABLES WHERE file('<SECRET>') != ''",
    "SHOW COLUMNS FROM requests WHERE file('<SECRET>') != ''",
    "SET filter = 'file(\\'<SECRET>\\') = \\'\\''",
    "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
    "SELECT * FROM urlCluster('default', 'http://127.0.0.1:1/', 'LineAsString')",
    "SELECT * FROM s3('http://127.0.0.1:1/bucket/key', 'LineAsString')",
    "SELECT * FROM gcs('http://127.0.0.1:1/bucket/key', 'LineAsString')",
    "SELECT * FROM azureBlobStorage('http://127.0.0.1:1/', 'a', 'b', 'c', 'd')",
    "SELECT * FROM remote('127.0.0.1:1', 'system', 'one')",
    "SELECT * FROM remoteSecure('127.0.0.1:1', 'system', 'one')",
    "SELECT * FROM cluster('default', 'system', 'one')",
    "SELECT * FROM mysql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
    "SELECT * FROM postgresql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
    "SELECT * FROM mongodb('127.0.0.1:1', 'a', 'b', 'c', 'd', 'x Int8')",
    "SELECT * FROM redis('127.0.0.1:1', 'a', 'a String, b String')",
    "SELECT * FROM sqlite('<SECRET>', 'x')",
    "SELECT * FROM odbc('DSN=x', 'a', 'b')",
    "SELECT * FROM jdbc('x', 'a', 'b')",
    "SELECT * FROM hdfs('hdfs://127.0.0.1:1/x', 'TSV', 'a String')",
    "SELECT * FROM iceberg('http://127.0.0.1:1/x/y')",
    "SELECT * FROM icebergLocal('<SECRET>')",
    "SELECT * FROM deltaLakeLocal('<SECRET>')",
    "SELECT * FROM filesystem('/')",
    "SELECT * FROM executable('cat <SECRET>', 'TSV', 'a String')",
    "SELECT * FROM python(engine)",
    "SELECT * FROM Python(self)",
    "SELECT * FROM arrowstream(1)",
    "SELECT * FROM eval('SELECT 1') SETTINGS allow_experimental_eval_table_function = 1",
    "SELECT * FROM merge('system', 'processes')",
    "SELECT * FROM loop(system.processes)",
    "SELECT * FROM dictionary('x')",
    "SELECT * FROM mergeTreeIndex('penstock', 'probe')",
    "SELECT * FROM system.processes",
    "SELECT * FROM `system`.`processes`",
    "SELECT * FROM system /* a */ . /* b */ processes",
    "SELECT count() FROM penstock.v, system.processes",
    "SELECT 1 IN (SELECT query FROM system.processes)",
    "SELECT 'x' IN system.processes",
    "WITH p AS (SELECT * FROM system.processes) SELECT * FROM p",
    "SELECT * FROM processes SETTINGS database = 'system'",
    "SELECT * FROM system.named_collections",
    "SELECT * FROM system.users",
    "SELECT * FROM system.user_directories",
    "SELECT * FROM system.server_settings",
    "SELECT * FROM system.disks",
    "SELECT * FROM system.stack_trace",
    "SELECT * FROM system.errors",
    "SELECT * FROM system.certificates",
    "SELECT * FROM system.parts",
    "SHOW PROCESSLIST",
    "SHOW CREATE USER default",
    "SET ROLE penstock_root",
    "SET ROLE ALL",
    "SET ROLE DEFAULT",
    "SET ROLE NONE",
    "SET profile = 'default'",
    "SELECT 1 SETTINGS profile = 'default'",
    "SELECT 1 SETTINGS profile = 'penstock_writer'",
    "EXECUTE AS default SELECT 1",
    "SELECT addressToLine(1) SETTINGS allow_introspection_functions = 1",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE penstock.probe",
    "SELECT 1 -- \n; DROP TABLE penstock.probe",
    "\\i <SECRET>",
    "exit",
    "SYSTEM FLUSH LOGS",
    "SYSTEM SHUTDOWN",
    "KILL QUERY WHERE 1",
    "KILL MUTATION WHERE 1",
    "BACKUP DATABASE penstock TO File('<SECRET>.out')",
    "RESTORE DATABASE penstock FROM File('<SECRET>')",
    "INSERT INTO FUNCTION file('<SECRET>.out', 'TSV', 'a UInt8') SELECT 1",
    "INSERT INTO FUNCTION url('http://127.0.0.1:1/', 'TSV', 'a UInt8') SELECT 1",
    "INSERT INTO FUNCTION file('<SECRET>.out', 'TSV', 'a UInt8') FORMAT TSV 1",
    "INSERT INTO FUNCTION file('<SECRET>.out', 'TSV', 'a UInt8') VALUES (1)",
    "INSERT INTO penstock.probe FROM INFILE '<SECRET>' FORMAT TSV",
    "INSERT INTO penstock.probe SELECT file('<SECRET>')",
    "EXPLAIN ANALYZE INSERT INTO default.t SELECT 1",
    "CREATE FUNCTION f AS x -> file(x)",
    "CREATE FUNCTION f AS x -> x + 1",
    "CREATE DICTIONARY penstock.d (a UInt8) PRIMARY KEY a"
    " SOURCE(FILE(path '<SECRET>' format 'TSV')) LAYOUT(FLAT()) LIFETIME(1)",
    "CREATE NAMED COLLECTION n AS a = 1",
    "CREATE USER u IDENTIFIED BY 'x'",
    "CREATE ROLE r",
    "GRANT ALL ON *.* TO default",
    "CREATE DATABASE other",
    "CREATE TABLE default.t (a UInt8) ENGINE = Memory",
    "CREATE TABLE penstock.t (a String) ENGINE = File(TSV, '<SECRET>')",
    "CREATE TABLE penstock.t (a String) ENGINE = URL('http://127.0.0.1:1/', TSV)",
    "CREATE TABLE penstock.t (a String) ENGINE = FileLog('<SECRET>', 'TSV')",
    "CREATE TABLE penstock.t (a String) ENGINE = Executable('x', TSV)",
    "CREATE TABLE penstock.t (a String) ENGINE = EmbeddedRocksDB(0, '<SECRET>.out') PRIMARY KEY a",
    "CREATE TABLE penstock.t (a String) ENGINE = Distributed('default', 'system', 'one')",
    "CREATE TABLE penstock.t (a String) ENGINE = Merge('system', 'processes')",
    "CREATE TABLE penstock.t (a String) ENGINE = MergeTree ORDER BY a"
    " SETTINGS disk = disk(type = local, path = '/tmp/')",
    "CREATE TABLE penstock.t (a String DEFAULT file('<SECRET>')) ENGINE = Memory",
    "CREATE TABLE penstock.t ENGINE = Memory AS SELECT file('<SECRET>') AS a",
    "CREATE TABLE penstock.t AS file('<SECRET>', 'LineAsString')",
    "CREATE VIEW penstock.w AS SELECT file('<SECRET>') AS a",
    "CREATE VIEW penstock.w AS SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
    "CREATE VIEW penstock.w DEFINER = default SQL SECURITY DEFINER AS SELECT 1",
    "CREATE VIEW penstock.w SQL SECURITY NONE AS SELECT 1",
    "CREATE MATERIALIZED VIEW penstock.m REFRESH EVERY 1 SECOND ENGINE = Memory"
    " AS SELECT file('<SECRET>') AS a",
    "ALTER TABLE penstock.v MODIFY SQL SECURITY DEFINER",
    "ALTER TABLE penstock.probe UPDATE at = file('<SECRET>') WHERE 1",
    "ALTER TABLE penstock.probe ADD COLUMN x String DEFAULT file('<SECRET>')",
    "ALTER TABLE penstock.probe FREEZE",
    "ATTACH TABLE penstock.x FROM '/tmp' (a UInt8) ENGINE = Log",
    "CREATE TABLE penstock.a (x UInt8) ENGINE = Memory PARALLEL WITH DROP TABLE penstock.probe",
    "DROP DATABASE system",
    "USE nowhere",
    "BEGIN TRANSACTION",
]
# A writer may look at the engine's own tables, and freeze parts within the data folder.
WRITER_MAY = re.compile(
    r"system`?\.`?(processes|disks|parts|stack_trace|errors|server_settings|certificates"
    r"|user_directories|named_collections)|/\* b \*/ processes|FREEZE"
)


@pytest.mark.parametrize("user", ["reader", "api", "writer"])
def test_no_way_out(ask: Asker, user: str) -> None:
    got_out = []
    for escape in ESCAPES:
        if user == "writer" and WRITER_MAY.search(escape):
            continue
        answer = ask(escape, user=user)
        if answer.status_code == 200 or SECRET in answer.text:
            got_out.append((escape, answer.text[:200]))
    assert not got_out
    assert ask("SELECT count() > 0 FROM penstock.probe").text == "1\n"
    left = {path.name for path in ask.folder.iterdir()}
    assert left == {"secret.txt", "store", "store.log", "users.json"}


def test_parameters_do_not_hide_names(ask: Asker) -> None:
    table = "SELECT count() FROM {t:Identifier}"
    both = "SELECT count() FROM {d:Identifier}.{t:Identifier}"
    for user in ("reader", "api"):
        assert ask.code(table, param_t="system.processes", user=user) == 497
        assert ask.code(both, param_d="system", param_t="processes", user=user) == 497
        assert ask(both, param_d="penstock", param_t="v", user=user).text == "1\n"
    function = "SELECT arrayMap({f:Identifier}, ['<SECRET>'])"
    assert ask.code(function, param_f="file") == 497


def test_expressions_in_values_reach_no_file(ask: Asker) -> None:
    insert = "INSERT INTO penstock.settings VALUES"
    for expression in ("file('<SECRET>')", "`file`('<SECRET>')", "\"fi\\x6ce\"('<SECRET>')"):
        rows = f"('a', {expression}, now64(6))"
        assert ask.code(insert, rows) == 497, expression
        assert ask.code(f"{insert} {rows}") == 497, expression
    assert ask.code(insert, "('a', 'a file', now64(6))") == 0
    # Too much to look through: then there are no expressions at all.
    rows = ", ".join(["('a', 'b', now64(6))"] * 60_000)
    assert ask.code(insert, rows) == 344
    assert ask.code("INSERT INTO penstock.probe VALUES", "(now64(6))", user="api") == 344
