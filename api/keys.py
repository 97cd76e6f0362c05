"""API keys: `psk_<id>_<secret>`, kept hashed in one JSON file that the CLI writes and servers read."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from ..schemas.errors import InvalidConfiguration, NotFound, PenstockError

Scope = Literal["ingest", "read", "gate", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
PREFIX = "psk"
_FORMAT = 1


class KeysUnreadable(PenstockError):
    """The file of keys is damaged: nobody is let in until it is repaired."""

    http_status = 503
    slug = "keys-unreadable"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept.

    Attributes:
        id: public part; names the key in lists and logs.
        name: what it is for.
        scopes: what it may do; admin may do everything.
        rate_per_s: requests per second it may make, one second's worth at once; None is no limit.
        sha256: hash of the secret. The secret has 256 random bits, so it cannot be guessed and needs
            neither salt nor a slow hash; a slow one would cost 50 ms of CPU on every request.
        created_at: ISO 8601, UTC.
    """

    id: str
    name: str
    scopes: tuple[Scope, ...]
    rate_per_s: float | None
    sha256: str
    created_at: str

    def opens_with(self, secret: str) -> bool:
        """Whether the secret is this key's; takes the same time for every wrong one."""
        return hmac.compare_digest(_hash(secret), self.sha256)

    def may(self, *scopes: Scope) -> bool:
        """Whether the key has one of the scopes."""
        return "admin" in self.scopes or any(scope in self.scopes for scope in scopes)


def create_key(
    path: Path, name: str, scopes: Sequence[Scope], rate_per_s: float | None = None
) -> str:
    """Make a key and return it; it is shown this once and cannot be read again.

    Raises:
        InvalidConfiguration: no name, an unknown scope or none, or a rate that is not positive.
        KeysUnreadable: the file exists and is damaged.
    """
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise InvalidConfiguration(f"scopes must be some of {', '.join(SCOPES)}")
    if not name.strip():
        raise InvalidConfiguration("a key needs a name that says what it is for")
    if rate_per_s is not None and not rate_per_s > 0:
        raise InvalidConfiguration("the rate limit of a key must be above 0 requests per second")
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    made = ApiKey(
        key_id,
        name.strip(),
        tuple(scope for scope in SCOPES if scope in scopes),
        rate_per_s,
        _hash(secret),
        datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    with _locked(path):
        _write(path, [*list_keys(path), made])
    return f"{PREFIX}_{key_id}_{secret}"


def revoke_key(path: Path, key_id: str) -> ApiKey:
    """Take a key away; running servers see it at their next request.

    Raises:
        NotFound: no key has this id.
        KeysUnreadable: the file is damaged.
    """
    with _locked(path):
        keys = list_keys(path)
        gone = [key for key in keys if key.id == key_id]
        if not gone:
            raise NotFound(f"no key has the id {key_id!r}; `penstock keys list` shows them")
        _write(path, [key for key in keys if key.id != key_id])
    return gone[0]


def list_keys(path: Path) -> list[ApiKey]:
    """Every key, oldest first; none where there is no file yet.

    Raises:
        KeysUnreadable: the file is damaged or may not be read.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["version"] != _FORMAT:
            raise KeysUnreadable(f"{path} is of format {document['version']}, not {_FORMAT}")
        return [_parsed(item) for item in document["keys"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KeysUnreadable(f"{path} cannot be read as keys: {error}") from error


def split_key(token: str) -> tuple[str, str] | None:
    """Id and secret of a key; None where it is not of that form."""
    prefix, _, rest = token.partition("_")
    key_id, _, secret = rest.partition("_")
    return (key_id, secret) if prefix == PREFIX and key_id and secret else None


class KeyRing:
    """The keys of a file, read again whenever it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._keys: dict[str, ApiKey] = {}

    def find(self, token: str) -> ApiKey | None:
        """The key that this token is, or None.

        Raises:
            KeysUnreadable: the file is damaged.
        """
        self._refresh()
        parts = split_key(token)
        if parts is None:
            return None
        key = self._keys.get(parts[0])
        return key if key is not None and key.opens_with(parts[1]) else None

    def _refresh(self) -> None:
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            self._seen, self._keys = None, {}
            return
        seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
        if seen != self._seen:
            # Read first: a damaged file must be looked at again by the next request.
            self._keys = {key.id: key for key in list_keys(self._path)}
            self._seen = seen


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _parsed(item: dict[str, Any]) -> ApiKey:
    key = ApiKey(**item | {"scopes": tuple(item["scopes"])})
    if not key.id or any(scope not in SCOPES for scope in key.scopes) or len(key.sha256) != 64:
        raise ValueError(f"key {key.id!r} makes no sense")
    return key


def _write(path: Path, keys: Sequence[ApiKey]) -> None:
    """Replace the file as a whole: a reader sees the old keys or the new ones."""
    text = json.dumps({"version": _FORMAT, "keys": [asdict(key) for key in keys]}, indent=1)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time: two commands must not lose each other's key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
