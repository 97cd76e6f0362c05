"""The users file, and who is let in."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from penstock.schemas.errors import InvalidConfiguration
from penstock.store.errors import QueryFailed
from penstock.store.serve import users_for
from penstock.store.users import load_users, loopback_users

HASH = hashlib.sha256(b"secret").hexdigest()


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "users.yaml"
    path.write_text(text)
    return path


def test_a_file_of_users(tmp_path: Path) -> None:
    users = load_users(
        written(
            tmp_path,
            f"users:\n- {{name: w, password: plain, role: writer}}\n"
            f"- {{name: r, password_sha256: {HASH.upper()}, role: reader}}\n",
        )
    )
    assert users.authenticate("w", "plain").role == "writer"
    assert users.authenticate("r", "secret").role == "reader"
    for name, password in (("w", "secret"), ("r", HASH), ("nobody", "nobody"), ("", "nobody")):
        with pytest.raises(QueryFailed, match="Authentication failed") as caught:
            users.authenticate(name, password)
        assert caught.value.code == 516


def test_json_and_a_bare_list_are_read_too(tmp_path: Path) -> None:
    entries = [{"name": "a", "password": "x", "role": "api"}]
    for text in (json.dumps(entries), json.dumps({"users": entries})):
        assert load_users(written(tmp_path, text)).authenticate("a", "x").role == "api"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "names no users"),
        ("users: []", "names no users"),
        ("users: [a]", "must look like"),
        ("- {name: a, password: b, role: admin}", "role must be one of"),
        ("- {password: b, role: reader}", "needs a name"),
        ("- {name: a, role: reader}", "either password or password_sha256"),
        (f"- {{name: a, password: b, password_sha256: {HASH}, role: reader}}", "either"),
        ("- {name: a, password: 123, role: reader}", "in quotes"),
        ("- {name: a, password: '', role: reader}", "not empty"),
        ("- {name: a, password_sha256: abc, role: reader}", "64 hex digits"),
        ("- {name: a, pasword: b, role: reader}", "unknown pasword"),
        ("- {name: a, password: b, role: reader}\n- {name: a, password: c, role: api}", "two"),
        ("{", "cannot read"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InvalidConfiguration, match=told):
        load_users(written(tmp_path, text))


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    users = load_users(written(tmp_path, "- {name: a, password: hidden, role: api}"))
    shown = repr(users.authenticate("a", "hidden"))
    assert "hidden" not in shown
    assert hashlib.sha256(b"hidden").hexdigest() not in shown


def test_without_a_file_only_loopback_is_open() -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        assert users_for(host, None).authenticate("default", "").role == "writer"
    for host in ("0.0.0.0", "192.168.1.1", "example.org", "::"):
        with pytest.raises(InvalidConfiguration, match="--users FILE"):
            users_for(host, None)
    with pytest.raises(QueryFailed):
        loopback_users().authenticate("default", "x")
