"""Starts `penstock store` with the users that ClickHouse's server would read from users.d."""

from __future__ import annotations

import json
import os
from pathlib import Path
from xml.etree import ElementTree

USERS_D = Path("/etc/clickhouse-server/users.d")
USERS = Path("/tmp/users.json")
# The store has roles with grants of its own; migrations are its writer's there.
ROLES = {"migrator": "writer", "writer": "writer", "api": "api", "reader": "reader"}


def read_users() -> list[dict[str, str]]:
    """Name, hash and role of each user that may come from the network."""
    found = []
    for path in sorted(USERS_D.glob("*.xml")):
        for user in ElementTree.parse(path).getroot().iterfind("users/*"):
            sha256 = user.findtext("password_sha256_hex")
            if sha256 is not None and user.tag in ROLES:
                found.append({"name": user.tag, "role": ROLES[user.tag], "password_sha256": sha256})
    return found


def main() -> None:
    """Become the store."""
    USERS.write_text(json.dumps({"users": read_users()}))
    arguments = ["--data", "/var/lib/clickhouse", "--host", "0.0.0.0", "--port", "8123"]
    os.execvp("penstock", ["penstock", "store", *arguments, "--users", str(USERS)])


if __name__ == "__main__":
    main()
