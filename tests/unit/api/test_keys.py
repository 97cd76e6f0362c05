from __future__ import annotations

import json
import stat
import threading
from pathlib import Path

import pytest
from penstock.api.auth import Access, Guard, TokenBucket
from penstock.api.keys import (
    KeyRing,
    KeysUnreadable,
    Scope,
    create_key,
    list_keys,
    revoke_key,
    split_key,
)
from penstock.schemas.errors import (
    Backpressure,
    Forbidden,
    InvalidConfiguration,
    NotFound,
    Unauthorized,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "keys.json"


def test_a_key_is_shown_once_and_kept_hashed(path: Path) -> None:
    token = create_key(path, "ci", ["gate", "read"], 5.0)
    parts = split_key(token)
    assert parts is not None
    (key,) = list_keys(path)
    assert (key.id, key.name, key.scopes, key.rate_per_s) == (parts[0], "ci", ("read", "gate"), 5.0)
    assert parts[1] not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert KeyRing(path).find(token) == key


@pytest.mark.parametrize(
    "change",
    [lambda t: t[:-1], lambda t: t + "x", lambda t: t.upper(), lambda t: "", lambda t: "psk_"],
)
def test_a_wrong_secret_opens_nothing(path: Path, change: object) -> None:
    assert callable(change)
    token = create_key(path, "ci", ["read"])
    assert KeyRing(path).find(change(token)) is None


def test_secrets_with_underscores_are_whole() -> None:
    assert split_key("psk_ab_c_d_e") == ("ab", "c_d_e")


def test_a_running_server_sees_new_and_revoked_keys(path: Path) -> None:
    ring = KeyRing(path)
    assert ring.find("psk_a_b") is None
    token = create_key(path, "one", ["read"])
    other = create_key(path, "two", ["read"])
    found = ring.find(token)
    assert found is not None
    assert revoke_key(path, found.id).name == "one"
    assert ring.find(token) is None
    assert ring.find(other) is not None
    path.unlink()
    assert ring.find(other) is None


def test_revoking_a_stranger_says_so(path: Path) -> None:
    with pytest.raises(NotFound):
        revoke_key(path, "nobody")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 2, "keys": []}', '{"version":1,"keys":[{}]}']
)
def test_a_damaged_file_lets_nobody_in(path: Path, text: str) -> None:
    token = create_key(path, "one", ["read"])
    ring = KeyRing(path)
    good = path.read_text()
    path.write_text(text)
    for _ in range(2):
        with pytest.raises(KeysUnreadable):
            ring.find(token)
    path.write_text(good)
    assert ring.find(token) is not None


@pytest.mark.parametrize(
    ("name", "scopes", "rate"),
    [("", ["read"], None), ("x", [], None), ("x", ["root"], None), ("x", ["read"], 0.0)],
)
def test_keys_that_make_no_sense_are_refused(
    path: Path, name: str, scopes: list[Scope], rate: float | None
) -> None:
    with pytest.raises(InvalidConfiguration):
        create_key(path, name, scopes, rate)
    assert not path.exists()


def test_writers_at_the_same_time_lose_nothing(path: Path) -> None:
    threads = [
        threading.Thread(target=create_key, args=(path, f"k{i}", ["read"])) for i in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(key.name for key in list_keys(path)) == sorted(f"k{i}" for i in range(16))
    assert json.loads(path.read_text())["version"] == 1


def test_scopes(path: Path) -> None:
    reader = create_key(path, "reader", ["read"])
    admin = create_key(path, "admin", ["admin"])
    guard = Guard(Access(True, path), lambda: 0.0)
    assert guard.admit(reader, ("gate", "read")) == ("read",)
    assert set(guard.admit(admin, ("ingest",))) == {"ingest", "read", "gate", "admin"}
    with pytest.raises(Forbidden, match="needs ingest"):
        guard.admit(reader, ("ingest",))
    for token in (None, "", "psk_x_y", reader + "a"):
        with pytest.raises(Unauthorized):
            guard.admit(token, ("read",))


def test_without_keys_everything_is_allowed() -> None:
    assert Guard(Access(required=False), lambda: 0.0).admit(None, ("admin",))
    with pytest.raises(ValueError, match="no file of keys"):
        Access(required=True)


def test_rate_limit_is_per_key(path: Path) -> None:
    now_s = 100.0
    slow = create_key(path, "slow", ["read"], 2.0)
    other = create_key(path, "other", ["read"], 2.0)
    guard = Guard(Access(True, path), lambda: now_s)
    for _ in range(2):
        guard.admit(slow, ("read",))
    with pytest.raises(Backpressure) as told:
        guard.admit(slow, ("read",))
    assert told.value.retry_after_s == pytest.approx(0.5)
    guard.admit(other, ("read",))
    now_s += 0.5
    guard.admit(slow, ("read",))


def test_a_slow_bucket_lets_one_through_and_time_never_runs_backwards() -> None:
    bucket = TokenBucket(0.1)
    assert bucket.take(50.0) == 0.0
    assert bucket.take(50.0) == pytest.approx(10.0)
    assert bucket.take(40.0) == pytest.approx(10.0)
    assert bucket.take(50.0) == 0.0
    assert bucket.take(1e9) == 0.0
    assert bucket.take(1e9) > 0.0
