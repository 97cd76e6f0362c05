"""The roles of `penstock store`: what each may do, and every way out of them that is known."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from penstock.streams.migrate import migrate
from penstock.streams.store import Store
from penstock.tests.support.chstore import StoreServer

SECRET = "the-secret-of-this-machine"


class Asker:
    """A migrated store beside a file that nobody may read."""

    def __init__(self, server: StoreServer) -> None:
        self.server = server
        self.folder = server.log.parent
        self.secret = str(self.folder / "secret.txt")
        self._client = httpx.Client(base_url=server.http_url, timeout=60)

    def __call__(self, user: str, sql: str, body: str = "", **query: str) -> httpx.Response:
        """A POST of one statement."""
        params = {"query": sql.replace("FILE", self.secret), **query}
        content = body.replace("FILE", self.secret).encode()
        return self._client.post("/", params=params, content=content, auth=(user, "pw"))

    def code(self, user: str, sql: str, body: str = "", **query: str) -> int:
        """ClickHouse's code of the error, 0 without one."""
        return int(self(user, sql, body, **query).headers.get("x-clickhouse-exception-code", 0))

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    folder = tmp_path_factory.mktemp("roles")
    (folder / "secret.txt").write_text(SECRET)
    server = StoreServer(folder)
    server.start()
    asker = Asker(server)
    try:
        store = Store(server.url)
        migrate(store)
        store.command("CREATE VIEW penstock.v AS SELECT 1 AS one")
        store.command("INSERT INTO penstock.probe SELECT now64(6)")
        store.close()
        yield asker
    finally:
        asker.close()
        server.stop()


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
        answer = ask(user, sql)
        assert answer.status_code == 200, (sql, answer.text)


# Each of these would read a file, reach an address, see other people's queries, or run something.
# FILE stands for the path of a file that holds a secret.
ESCAPES = [
    "SELECT * FROM file('FILE', 'LineAsString')",
    "SELECT file('FILE')",
    "SELECT FiLe('FILE')",
    "SELECT `file`('FILE')",
    "SELECT \"fi\\x6ce\"('FILE')",
    "SELECT /* a */ file /* b */ ('FILE')",
    "SELECT arrayMap(file, ['FILE'])",
    "SELECT arrayMap(x -> file(x), ['FILE'])",
    "SELECT * APPLY(file) FROM (SELECT 'FILE')",
    "SELECT * APPLY(x -> file(x)) FROM (SELECT 'FILE')",
    "SELECT 1 WHERE file('FILE') LIKE 'the%'",
    "WITH (SELECT file('FILE')) AS x SELECT x",
    "SELECT * FROM default.`FILE`",
    "SELECT * FROM `FILE` SETTINGS database = 'default'",
    "SELECT * FROM format(Values, 'a String', '(file(\\'FILE\\'))')",
    "SELECT * FROM format(LineAsString, 'a')",
    "SELECT 1 FORMAT Template SETTINGS format_template_resultset = 'FILE'",
    "SELECT 1 FORMAT Template SETTINGS format_template_row = 'FILE'",
    "SELECT formatRow('Template', 1) SETTINGS format_template_row = 'FILE'",
    "SELECT 1 FORMAT Protobuf SETTINGS format_schema = 'FILE:x'",
    "SELECT 1 FORMAT CapnProto SETTINGS format_schema = 'FILE:x'",
    "SELECT 1 FORMAT JSON SETTINGS output_format_schema = 'FILE.out'",
    "SELECT * FROM penstock.v SETTINGS additional_table_filters = "
    "{'penstock.v': 'file(\\'FILE\\') = \\'\\''}",
    "SELECT 1 SETTINGS additional_result_filter = 'file(\\'FILE\\') = \\'\\''",
    "SELECT 1 SETTINGS filter = 'file(\\'FILE\\') = \\'\\''",
    "SELECT 1 SETTINGS select = 'file(\\'FILE\\')'",
    "SELECT 1 SETTINGS `order` = 'file(\\'FILE\\')'",
    "SELECT 1 SETTINGS implicit_table_at_top_level = 'default.`FILE`'",
    "SELECT 1 SETTINGS dialect = 'kusto'",
    "SELECT 1 INTO OUTFILE 'FILE.out'",
    "SELECT 1 INTO OUTFILE 'FILE' TRUNCATE",
    "DESCRIBE TABLE file('FILE', 'LineAsString')",
    "DESCRIBE (SELECT file('FILE') AS a)",
    "EXPLAIN SELECT file('FILE')",
    "EXPLAIN QUERY TREE SELECT file('FILE')",
    "SHOW TABLES WHERE file('FILE') != ''",
    "SHOW COLUMNS FROM requests WHERE file('FILE') != ''",
    "SET filter = 'file(\\'FILE\\') = \\'\\''",
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
    "SELECT * FROM sqlite('FILE', 'x')",
    "SELECT * FROM odbc('DSN=x', 'a', 'b')",
    "SELECT * FROM jdbc('x', 'a', 'b')",
    "SELECT * FROM hdfs('hdfs://127.0.0.1:1/x', 'TSV', 'a String')",
    "SELECT * FROM iceberg('http://127.0.0.1:1/x/y')",
    "SELECT * FROM icebergLocal('FILE')",
    "SELECT * FROM deltaLakeLocal('FILE')",
    "SELECT * FROM filesystem('/')",
    "SELECT * FROM executable('cat FILE', 'TSV', 'a String')",
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
    "\\i FILE",
    "exit",
    "SYSTEM FLUSH LOGS",
    "SYSTEM SHUTDOWN",
    "KILL QUERY WHERE 1",
    "KILL MUTATION WHERE 1",
    "BACKUP DATABASE penstock TO File('FILE.out')",
    "RESTORE DATABASE penstock FROM File('FILE')",
    "INSERT INTO FUNCTION file('FILE.out', 'TSV', 'a UInt8') SELECT 1",
    "INSERT INTO FUNCTION url('http://127.0.0.1:1/', 'TSV', 'a UInt8') SELECT 1",
    "INSERT INTO FUNCTION file('FILE.out', 'TSV', 'a UInt8') FORMAT TSV 1",
    "INSERT INTO FUNCTION file('FILE.out', 'TSV', 'a UInt8') VALUES (1)",
    "INSERT INTO penstock.probe FROM INFILE 'FILE' FORMAT TSV",
    "INSERT INTO penstock.probe SELECT file('FILE')",
    "EXPLAIN ANALYZE INSERT INTO default.t SELECT 1",
    "CREATE FUNCTION f AS x -> file(x)",
    "CREATE FUNCTION f AS x -> x + 1",
    "CREATE DICTIONARY penstock.d (a UInt8) PRIMARY KEY a"
    " SOURCE(FILE(path 'FILE' format 'TSV')) LAYOUT(FLAT()) LIFETIME(1)",
    "CREATE NAMED COLLECTION n AS a = 1",
    "CREATE USER u IDENTIFIED BY 'x'",
    "CREATE ROLE r",
    "GRANT ALL ON *.* TO default",
    "CREATE DATABASE other",
    "CREATE TABLE default.t (a UInt8) ENGINE = Memory",
    "CREATE TABLE penstock.t (a String) ENGINE = File(TSV, 'FILE')",
    "CREATE TABLE penstock.t (a String) ENGINE = URL('http://127.0.0.1:1/', TSV)",
    "CREATE TABLE penstock.t (a String) ENGINE = FileLog('FILE', 'TSV')",
    "CREATE TABLE penstock.t (a String) ENGINE = Executable('x', TSV)",
    "CREATE TABLE penstock.t (a String) ENGINE = EmbeddedRocksDB(0, 'FILE.out') PRIMARY KEY a",
    "CREATE TABLE penstock.t (a String) ENGINE = Distributed('default', 'system', 'one')",
    "CREATE TABLE penstock.t (a String) ENGINE = Merge('system', 'processes')",
    "CREATE TABLE penstock.t (a String) ENGINE = MergeTree ORDER BY a"
    " SETTINGS disk = disk(type = local, path = '/tmp/')",
    "CREATE TABLE penstock.t (a String DEFAULT file('FILE')) ENGINE = Memory",
    "CREATE TABLE penstock.t ENGINE = Memory AS SELECT file('FILE') AS a",
    "CREATE TABLE penstock.t AS file('FILE', 'LineAsString')",
    "CREATE VIEW penstock.w AS SELECT file('FILE') AS a",
    "CREATE VIEW penstock.w AS SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
    "CREATE VIEW penstock.w DEFINER = default SQL SECURITY DEFINER AS SELECT 1",
    "CREATE VIEW penstock.w SQL SECURITY NONE AS SELECT 1",
    "CREATE MATERIALIZED VIEW penstock.m REFRESH EVERY 1 SECOND ENGINE = Memory"
    " AS SELECT file('FILE') AS a",
    "ALTER TABLE penstock.v MODIFY SQL SECURITY DEFINER",
    "ALTER TABLE penstock.probe UPDATE at = file('FILE') WHERE 1",
    "ALTER TABLE penstock.probe ADD COLUMN x String DEFAULT file('FILE')",
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
        answer = ask(user, escape)
        if answer.status_code == 200 or SECRET in answer.text:
            got_out.append((escape, answer.text[:200]))
    assert not got_out
    assert ask("writer", "SELECT count() > 0 FROM penstock.probe").text == "1\n"
    left = {path.name for path in ask.folder.iterdir()}
    assert left == {"secret.txt", "store", "store.log", "users.json"}


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
    assert [sql for sql in WRITES if ask.code("reader", sql) not in (164, 497)] == []
    assert ask.code("reader", "INSERT INTO penstock.probe FORMAT TSV", "2026-01-01 00:00:00") == 497


def test_the_api_writes_the_probe_and_nothing_else(ask: Asker) -> None:
    allowed = [sql for sql in WRITES if ask.code("api", sql) == 0]
    assert allowed == WRITES[:2]
    assert ask.code("api", "INSERT INTO penstock.probe FORMAT TSV", "2026-01-01 00:00:00") == 0


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
        answer = ask("writer", sql)
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
    assert ask("reader", shown, **{name: str(lower)}).text == f"{lower}\n"
    assert ask("reader", f"{shown} SETTINGS {name} = {lower}").text == f"{lower}\n"
    unlimited = [] if name == "max_threads" else ["0"]  # of threads, 0 is one per core
    limit = ask("reader", shown).text
    for value in (str(higher), *unlimited):
        # Clients send limits that nobody typed, so in the URL that is no error.
        assert ask("reader", shown, **{name: value}).text == limit
        assert ask.code("reader", f"{shown} SETTINGS {name} = {value}") == 452
    assert ask.code("reader", shown, **{name: "-1"}) in (53, 70, 72, 452)
    if unlimited:
        assert ask.code("reader", f"{shown} SETTINGS {name} = DEFAULT") == 452
        assert ask.code("reader", f"SET {name} = DEFAULT") == 452


def test_a_reader_keeps_its_limits_in_a_session(ask: Asker) -> None:
    session = {"session_id": "stubborn"}
    for attempt in ("SET max_execution_time = 0", "SET readonly = 0", "SET ROLE penstock_writer"):
        assert ask.code("reader", attempt, **session) in (164, 452, 497)
    assert ask("reader", "SELECT getSetting('readonly')", **session).text == "2\n"
    assert ask("reader", "SELECT getSetting('max_execution_time')", **session).text == "30\n"
    assert ask.code("reader", "SELECT 1", readonly="0") == 164


def test_limits_end_a_readers_query(ask: Asker) -> None:
    slow = "SELECT count() FROM numbers(100000000000) WHERE sipHash64(number) = 1"
    assert ask.code("reader", slow, max_execution_time="1") == 159
    many = "SELECT number FROM numbers(1000001)"
    assert ask.code("reader", many, wait_end_of_query="1") == 396
    # Without waiting, rows are on their way when the limit is met.
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        ask("reader", many)


def test_settings_in_the_url_are_frozen_too(ask: Asker) -> None:
    for name in ("filter", "select", "dialect", "format_schema", "output_format", "url_base"):
        for user in ("reader", "api", "writer"):
            assert ask.code(user, "SELECT 1", **{name: "kusto"}) == 452, name
    assert ask.code("reader", "SELECT 1", database="system") == 497
    assert ask.code("reader", "SELECT 1", profile="penstock_writer") == 497


def test_parameters_do_not_hide_names(ask: Asker) -> None:
    table = "SELECT count() FROM {t:Identifier}"
    both = "SELECT count() FROM {d:Identifier}.{t:Identifier}"
    for user in ("reader", "api"):
        assert ask.code(user, table, param_t="system.processes") == 497
        assert ask.code(user, both, param_d="system", param_t="processes") == 497
        assert ask(user, both, param_d="penstock", param_t="v").text == "1\n"
    function = "SELECT arrayMap({f:Identifier}, ['FILE'])"
    assert ask.code("writer", function, param_f="file") == 497


def test_expressions_in_values_reach_no_file(ask: Asker) -> None:
    insert = "INSERT INTO penstock.settings VALUES"
    for expression in ("file('FILE')", "`file`('FILE')", "\"fi\\x6ce\"('FILE')"):
        rows = f"('a', {expression}, now64(6))"
        assert ask.code("writer", insert, rows) == 497, expression
        assert ask.code("writer", f"{insert} {rows}") == 497, expression
    assert ask.code("writer", insert, "('a', 'a file', now64(6))") == 0
    # Too much to look through: then there are no expressions at all.
    rows = ", ".join(["('a', 'b', now64(6))"] * 60_000)
    assert ask.code("writer", insert, rows) == 344
    assert ask.code("api", "INSERT INTO penstock.probe VALUES", "(now64(6))") == 344
