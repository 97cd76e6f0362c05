"""Passwords and keys of a deployment, made once: what `penstock init-secrets` writes.

One folder per consumer, so that each container is given its own and no other:

    root/passwords.json       what everything below is made of; nobody else reads it
    root/operator.key         an API key for the people who run it
    clickhouse/penstock.xml   users of ClickHouse, with hashes, profiles and grants
    migrate/store.url         --store of migrate
    worker/store.url          --store of worker, topics and dead-letters
    worker/sealing.key        32 bytes that quarantined rows are sealed with
    api/store.url             --store of the API
    api/keys.json             API keys, hashed
    grafana/reader.password   of ClickHouse's user `reader`
    grafana/admin.password    of Grafana's user `admin`

Files are written again from root/passwords.json at every run, so a run that was cut short is repaired
by the next, and a newer version brings its grants along. Passwords, the sealing key and API keys stay.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from .api.keys import KeyRing, create_key
from .schemas.cluster import DATABASE, GRANTS
from .schemas.cluster import PROFILES as PROFILES
from .schemas.errors import InvalidConfiguration

STORE_USERS = tuple(GRANTS)
# Ids that the images run with: ours (see Dockerfile), ClickHouse's, Grafana's.
_OURS, _CLICKHOUSE, _GRAFANA = 10001, 101, 472
OWNERS = {
    "root": 0,
    "clickhouse": _CLICKHOUSE,
    "migrate": _OURS,
    "worker": _OURS,
    "api": _OURS,
    "grafana": _GRAFANA,
}

_PASSWORDS = (*STORE_USERS, "grafana_admin")
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Secrets:
    """What was made, for people to be shown.

    Attributes:
        reader_password: of ClickHouse's user `reader`.
        grafana_password: of Grafana's user `admin`.
        operator_key: an API key with every scope.
    """

    reader_password: str
    grafana_password: str
    operator_key: str


def init_secrets(folder: Path, store: str, renew: Collection[str] = ()) -> Secrets:
    """Write everything below a folder; what is there already is kept.

    As root, files are given to the user of the container that reads them. Anybody may read none.

    Args:
        folder: with one folder per consumer below it, made where absent.
        store: `host:port` of ClickHouse's HTTP interface as the containers reach it.
        renew: which of STORE_USERS get a new password.

    Raises:
        InvalidConfiguration: root/passwords.json is there and damaged, or the store is no host:port.
        OSError: the folder cannot be written.
    """
    host, _, port = store.rpartition(":")
    if not host or not port.isdigit():
        raise InvalidConfiguration(f"--store-address looks like clickhouse:8123, not {store!r}")
    for name, owner in OWNERS.items():
        _folder(folder / name, owner)
    passwords = _passwords(folder / "root" / "passwords.json", renew)
    files = {
        "clickhouse/penstock.xml": users_xml(passwords).encode(),
        "migrate/store.url": _url("migrator", passwords, store),
        "worker/store.url": _url("writer", passwords, store),
        "worker/sealing.key": bytes.fromhex(passwords["sealing_key"]),
        "api/store.url": _url("api", passwords, store),
        "grafana/reader.password": passwords["reader"].encode(),
        "grafana/admin.password": passwords["grafana_admin"].encode(),
    }
    for name, content in files.items():
        _write(folder / name, content, OWNERS[name.partition("/")[0]])
    key = _operator_key(folder)
    return Secrets(passwords["reader"], passwords["grafana_admin"], key)


def users_xml(passwords: Mapping[str, str]) -> str:
    """ClickHouse's users, as a file for users.d: hashes, profiles, grants, and `default` shut in.

    Args:
        passwords: by user; only their SHA-256 is in the text.
    """
    root = ElementTree.Element("clickhouse")
    root.append(ElementTree.Comment(" Written by penstock init-secrets at every start. "))
    profiles = ElementTree.SubElement(root, "profiles")
    users = ElementTree.SubElement(root, "users")
    for name in STORE_USERS:
        _add_profile(profiles, name)
        _add_user(users, name, hashlib.sha256(passwords[name].encode()).hexdigest())
    # The user without a password is for `docker compose exec clickhouse clickhouse-client` alone.
    networks = ElementTree.SubElement(
        ElementTree.SubElement(users, "default"), "networks", replace="replace"
    )
    for address in ("::1", "127.0.0.1"):
        ElementTree.SubElement(networks, "ip").text = address
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _add_profile(profiles: ElementTree.Element, name: str) -> None:
    profile = ElementTree.SubElement(profiles, f"{DATABASE}_{name}")
    limited = {}
    for setting, (value, most) in PROFILES[name].items():
        ElementTree.SubElement(profile, setting).text = str(value)
        if most is not None:
            limited[setting] = most
    if limited:
        constraints = ElementTree.SubElement(profile, "constraints")
        for setting, most in limited.items():
            bounds = ElementTree.SubElement(constraints, setting)
            ElementTree.SubElement(bounds, "min").text = "1"
            ElementTree.SubElement(bounds, "max").text = str(most)


def _add_user(users: ElementTree.Element, name: str, sha256: str) -> None:
    user = ElementTree.SubElement(users, name)
    ElementTree.SubElement(user, "password_sha256_hex").text = sha256
    networks = ElementTree.SubElement(user, "networks")
    ElementTree.SubElement(networks, "ip").text = "::/0"
    ElementTree.SubElement(user, "profile").text = f"{DATABASE}_{name}"
    ElementTree.SubElement(user, "quota").text = "default"
    grants = ElementTree.SubElement(user, "grants")
    for grant in GRANTS[name]:
        ElementTree.SubElement(grants, "query").text = f"GRANT {grant}"


def _passwords(path: Path, renew: Collection[str]) -> dict[str, str]:
    """The secrets that everything is made of; made where the file is absent or lacks one."""
    known: dict[str, str] = {}
    if path.exists():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            bytes.fromhex(known.get("sealing_key", ""))
        except (ValueError, AttributeError) as error:
            raise InvalidConfiguration(
                f"{path} is damaged ({error}): restore it, or remove it for new passwords; the rows "
                "that were sealed with its key stay sealed"
            ) from error
    made = {name: secrets.token_urlsafe(32) for name in _PASSWORDS}
    made["sealing_key"] = secrets.token_hex(_KEY_BYTES)
    wanted = made | {name: value for name, value in known.items() if name not in renew}
    if wanted != known:
        _write(path, json.dumps(wanted, indent=1).encode(), OWNERS["root"])
    return wanted


def _operator_key(folder: Path) -> str:
    """An API key for people; a new one where the API does not know the old one."""
    ring_path, key_path = folder / "api" / "keys.json", folder / "root" / "operator.key"
    key = key_path.read_text(encoding="utf-8") if key_path.exists() else ""
    if KeyRing(ring_path).find(key) is None:
        key = create_key(ring_path, "operator", ("admin",))
        _write(key_path, key.encode(), OWNERS["root"])
    for path in (ring_path, ring_path.with_name(f".{ring_path.name}.lock")):
        if path.exists():
            _give(path, OWNERS["api"])
    return key


def _url(user: str, passwords: Mapping[str, str], store: str) -> bytes:
    # Without a database: it is not there yet when `penstock migrate` connects to make it.
    return f"clickhouse://{user}:{passwords[user]}@{store}".encode()


def _folder(path: Path, owner: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    _give(path, owner)


def _write(path: Path, content: bytes, owner: int) -> None:
    """Replace a file as a whole, readable by its owner alone."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    _give(draft, owner)
    draft.replace(path)


def _give(path: Path, owner: int) -> None:
    if os.geteuid() == 0:
        os.chown(path, owner, owner)
