"""Runs statements on a chdb folder as one of the users that init-secrets writes.

The embedded engine knows the user `default` alone, so that user is given the other's profile, settings
and grants. A process of its own: `python as_user.py FOLDER USERS_XML NAME`, statements on standard
input as a JSON array; prints one JSON array of what became of each: "ok" or the error's code.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import chdb

_CODE = re.compile(r"Code: (\d+)")


def users_as_default(text: str, name: str) -> str:
    """The users file with one user in the place of `default`, and nobody else."""
    root = ElementTree.fromstring(text)
    users = root.find("users")
    assert users is not None
    user = users.find(name)
    assert user is not None
    for other in list(users):
        users.remove(other)
    user.tag = "default"
    password = user.find("password_sha256_hex")
    assert password is not None
    password.tag, password.text = "password", ""
    users.append(user)
    # As in the users.xml that the server brings along.
    ElementTree.SubElement(ElementTree.SubElement(root, "quotas"), "default")
    profiles = root.find("profiles")
    assert profiles is not None
    ElementTree.SubElement(profiles, "default")
    return ElementTree.tostring(root, encoding="unicode")


def main() -> None:
    """Run the statements."""
    folder, users_path, name = sys.argv[1:]
    with tempfile.TemporaryDirectory() as work:
        users = Path(work) / "users.xml"
        users.write_text(users_as_default(Path(users_path).read_text(), name))
        config = Path(work) / "config.xml"
        config.write_text(f"<clickhouse><users_config>{users}</users_config></clickhouse>")
        connection: Any = chdb.connect(f"{folder}?config-file={config}")  # type: ignore[no-untyped-call]
        found = []
        for statement in json.load(sys.stdin):
            try:
                connection.query(statement)
                found.append("ok")
            except RuntimeError as error:
                code = _CODE.search(str(error))
                found.append(code[1] if code else str(error))
        connection.close()
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
