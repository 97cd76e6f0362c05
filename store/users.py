"""Who may come in: a file of names, passwords and roles."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from ..schemas.errors import InvalidConfiguration
from .errors import QueryFailed

Role = Literal["writer", "reader", "api"]
ROLES: tuple[Role, ...] = get_args(Role)
_KEYS = {"name", "password", "password_sha256", "role"}
_EXAMPLE = "users:\n  - {name: grafana, password_sha256: <64 hex digits>, role: reader}"


@dataclass(frozen=True, slots=True)
class User:
    """A name that may come in.

    Attributes:
        password_sha256: SHA-256 of the password, hex; empty lets everybody in who knows the name.
    """

    name: str
    role: Role
    password_sha256: str = field(default="", repr=False)

    def opens_with(self, password: str) -> bool:
        """Whether the password is right; takes the same time for every wrong one."""
        if not self.password_sha256:
            return password == ""
        given = hashlib.sha256(password.encode()).hexdigest()
        return hmac.compare_digest(given, self.password_sha256)


class Users:
    """The users of a store, by name."""

    def __init__(self, users: Sequence[User]) -> None:
        self._users = {user.name: user for user in users}

    def authenticate(self, name: str, password: str) -> User:
        """The user of that name and password.

        Raises:
            QueryFailed: 516, the same text for an unknown name and a wrong password.
        """
        user = self._users.get(name, _NOBODY)
        if user.opens_with(password) and user is not _NOBODY:
            return user
        raise QueryFailed(
            516,
            f"{name}: Authentication failed: password is incorrect, or there is no user with such name.",
        )


# Compared with where the name is unknown, so that this takes as long as a wrong password.
_NOBODY = User("", "reader", hashlib.sha256(b"nobody").hexdigest())


def loopback_users() -> Users:
    """Without a users file: `default` without a password, a writer."""
    return Users([User("default", "writer")])


def load_users(path: Path) -> Users:
    """Read a users file, YAML or JSON: a list, or a mapping with the key `users`.

    Raises:
        InvalidConfiguration: the file is missing or has mistakes; the text names the entry.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidConfiguration(f"cannot read the users file {path}: {error}") from error
    entries = found.get("users") if isinstance(found, Mapping) else found
    if not isinstance(entries, list) or not entries:
        raise InvalidConfiguration(f"{path} names no users; it must look like\n{_EXAMPLE}")
    users = [_user(path, number, entry) for number, entry in enumerate(entries, 1)]
    names = [user.name for user in users]
    if len(set(names)) != len(names):
        raise InvalidConfiguration(f"{path} has two users of one name")
    return Users(users)


def _user(path: Path, number: int, entry: Any) -> User:
    where = f"{path}, user {number}"
    if not isinstance(entry, Mapping) or not all(isinstance(key, str) for key in entry):
        raise InvalidConfiguration(f"{where}: must look like\n{_EXAMPLE}")
    if unknown := sorted(set(entry) - _KEYS):
        raise InvalidConfiguration(f"{where}: unknown {', '.join(unknown)}; known are {_KEYS}")
    name, role = entry.get("name"), entry.get("role")
    if not isinstance(name, str) or not name:
        raise InvalidConfiguration(f"{where}: needs a name")
    if role not in ROLES:
        raise InvalidConfiguration(f"{where} ({name}): role must be one of {', '.join(ROLES)}")
    return User(name, role, _hash(f"{where} ({name})", entry))


def _hash(where: str, entry: Mapping[str, Any]) -> str:
    plain, hashed = entry.get("password"), entry.get("password_sha256")
    if (plain is None) == (hashed is None):
        raise InvalidConfiguration(f"{where}: needs either password or password_sha256")
    if plain is not None:
        if not isinstance(plain, str) or not plain:
            raise InvalidConfiguration(f"{where}: password must be text, in quotes, and not empty")
        return hashlib.sha256(plain.encode()).hexdigest()
    text = str(hashed).lower()
    if len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise InvalidConfiguration(f"{where}: password_sha256 must be 64 hex digits")
    return text
