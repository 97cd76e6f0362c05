"""init-secrets: what it writes, that it keeps it, and that ClickHouse's engine obeys its grants."""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest
from penstock.api.keys import KeyRing
from penstock.schemas.errors import InvalidConfiguration
from penstock.secrets_init import STORE_USERS, init_secrets
from penstock.streams.storage.migrate import known_migrations
from penstock.tests.compose.dashboards import queries

STORE = "clickhouse:8123"
AS_USER = Path(__file__).parent / "as_user.py"
ACCESS_DENIED, READ_ONLY, OUT_OF_BOUNDS = "497", "164", "452"
TOO_MANY_RESULT_ROWS, TOO_MANY_ROWS = "396", "158"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_again_it_keeps_everything(tmp_path: Path) -> None:
    first = init_secrets(tmp_path, STORE)
    before = contents(tmp_path)
    assert init_secrets(tmp_path, STORE) == first
    assert contents(tmp_path) == before


def test_each_consumer_finds_its_own(tmp_path: Path) -> None:
    made = init_secrets(tmp_path, STORE)
    found = contents(tmp_path)
    for folder, user in (("migrate", "migrator"), ("worker", "writer"), ("api", "api")):
        url = urlsplit(found[f"{folder}/store.url"].decode())
        assert (url.scheme, url.username, url.hostname, url.port) == (
            "clickhouse",
            user,
            "clickhouse",
            8123,
        )
    assert len(found["worker/sealing.key"]) == 32
    assert found["grafana/reader.password"].decode() == made.reader_password
    assert found["grafana/admin.password"].decode() == made.grafana_password
    key = KeyRing(tmp_path / "api" / "keys.json").find(made.operator_key)
    assert key is not None
    assert key.may("read")


def test_hashes_only_for_clickhouse(tmp_path: Path) -> None:
    init_secrets(tmp_path, STORE)
    text = (tmp_path / "clickhouse" / "penstock.xml").read_text()
    passwords = json.loads((tmp_path / "root" / "passwords.json").read_text())
    root = ElementTree.fromstring(text)
    for user in STORE_USERS:
        assert passwords[user] not in text
        expected = hashlib.sha256(passwords[user].encode()).hexdigest()
        assert root.findtext(f"users/{user}/password_sha256_hex") == expected
    assert passwords["sealing_key"] not in text


def test_nobody_else_may_read(tmp_path: Path) -> None:
    init_secrets(tmp_path, STORE)
    for path in tmp_path.rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    assert stat.S_IMODE((tmp_path / "worker" / "sealing.key").stat().st_mode) == 0o400


def test_two_deployments_share_nothing(tmp_path: Path) -> None:
    one, other = init_secrets(tmp_path / "a", STORE), init_secrets(tmp_path / "b", STORE)
    assert one.reader_password != other.reader_password
    assert one.operator_key != other.operator_key


def test_what_a_broken_run_left_is_completed(tmp_path: Path) -> None:
    first = init_secrets(tmp_path, STORE)
    before = contents(tmp_path)
    for name in ("clickhouse/penstock.xml", "worker/sealing.key", "grafana/admin.password"):
        (tmp_path / name).unlink()
    (tmp_path / "worker" / ".store.url.new").write_text("half")
    assert init_secrets(tmp_path, STORE) == first
    assert contents(tmp_path) == before


def test_an_api_without_its_keys_gets_a_new_one(tmp_path: Path) -> None:
    first = init_secrets(tmp_path, STORE)
    (tmp_path / "api" / "keys.json").unlink()
    second = init_secrets(tmp_path, STORE)
    assert second.operator_key != first.operator_key
    assert KeyRing(tmp_path / "api" / "keys.json").find(second.operator_key) is not None


def test_one_password_is_renewed(tmp_path: Path) -> None:
    init_secrets(tmp_path, STORE)
    before = contents(tmp_path)
    init_secrets(tmp_path, STORE, renew=["writer"])
    after = contents(tmp_path)
    changed = {name for name, content in after.items() if content != before[name]}
    assert changed == {"root/passwords.json", "clickhouse/penstock.xml", "worker/store.url"}


def test_damaged_passwords_are_not_replaced(tmp_path: Path) -> None:
    init_secrets(tmp_path, STORE)
    path = tmp_path / "root" / "passwords.json"
    path.unlink()
    path.write_text("{")
    with pytest.raises(InvalidConfiguration, match="is damaged"):
        init_secrets(tmp_path, STORE)


def test_a_store_needs_a_port(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="clickhouse:8123"):
        init_secrets(tmp_path, "clickhouse")


def as_user(folder: Path, users: Path, name: str, statements: list[str]) -> dict[str, str]:
    """What becomes of each statement: "ok" or ClickHouse's code."""
    done = subprocess.run(
        [sys.executable, str(AS_USER), str(folder), str(users), name],
        input=json.dumps(statements),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(statements, json.loads(done.stdout), strict=True))


@pytest.mark.slow
def test_grants_on_the_engine(tmp_path: Path) -> None:
    init_secrets(tmp_path / "secrets", STORE)
    folder, users = tmp_path / "store", tmp_path / "secrets" / "clickhouse" / "penstock.xml"
    schema = ["CREATE DATABASE IF NOT EXISTS penstock"]
    for migration in known_migrations():
        schema += migration.statements
    schema.append("ALTER TABLE penstock.windows_rows MODIFY TTL end + INTERVAL 9 DAY")
    assert set(as_user(folder, users, "migrator", schema).values()) == {"ok"}

    probe = "INSERT INTO penstock.probe SELECT now64(6)"
    outside = [
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:9/', 'LineAsString')",
        "CREATE DATABASE other",
        "SYSTEM FLUSH LOGS",
    ]
    rows = [
        "INSERT INTO penstock.settings SELECT 'a', 'b', now64(6)",
        "ALTER TABLE penstock.probe DELETE WHERE 1",
    ]
    tables = [
        "CREATE TABLE penstock.more (a Int8) ENGINE = Memory",
        "ALTER TABLE penstock.probe ADD COLUMN more Int8",
        "TRUNCATE TABLE penstock.probe",
        "DROP TABLE penstock.probe",
    ]
    beyond = {
        "SELECT count() FROM numbers(10) SETTINGS max_execution_time = 600": OUT_OF_BOUNDS,
        "SELECT count() FROM numbers(10) SETTINGS max_execution_time = 0": OUT_OF_BOUNDS,
        "SELECT number FROM numbers(2000000)": TOO_MANY_RESULT_ROWS,
        "SELECT count() FROM numbers(300000000)": TOO_MANY_ROWS,
        "SET readonly = 0": READ_ONLY,
    }
    denied = dict.fromkeys([*tables, *outside], ACCESS_DENIED)
    asked = [probe, *rows, *tables, *outside]
    assert as_user(folder, users, "writer", asked) == dict.fromkeys([probe, *rows], "ok") | denied
    denied |= dict.fromkeys(rows, ACCESS_DENIED)
    assert as_user(folder, users, "api", asked) == {probe: "ok"} | denied
    denied |= {probe: ACCESS_DENIED}
    assert as_user(folder, users, "reader", [*asked, *beyond]) == denied | beyond


@pytest.mark.slow
def test_the_reader_may_ask_what_the_dashboards_ask(tmp_path: Path) -> None:
    init_secrets(tmp_path / "secrets", STORE)
    folder, users = tmp_path / "store", tmp_path / "secrets" / "clickhouse" / "penstock.xml"
    schema = [part for migration in known_migrations() for part in migration.statements]
    as_user(folder, users, "migrator", ["CREATE DATABASE penstock", *schema])
    asked = [sql for _, sql in queries()]
    assert len(asked) > 10
    assert as_user(folder, users, "reader", asked) == dict.fromkeys(asked, "ok")
