"""A server whose dead letters tests list, show and send again, with the command as it is called."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from click.testing import CliRunner, Result
from penstock import cli
from penstock.streams.dead_letters.letters import LetterId
from penstock.streams.storage.publish import quarantine_rows
from penstock.streams.storage.store import Store
from penstock.tests.support.chstore import StoreServer
from penstock.tests.support.server import Server
from penstock.tests.support.store import unique

NAME = "dead-letters"


def now_us() -> int:
    return time.time_ns() // 1000


@dataclass(frozen=True)
class World:
    """An embedded server on a store that others can read too."""

    server: Server
    store: Store
    url: str

    def run(self, *arguments: str, **more: Any) -> Result:
        """The command, as it would be called."""
        command = [NAME, *arguments]
        env = {
            "PENSTOCK_STORE": self.url,
            "PENSTOCK_SEALING_KEY_FILE": str(self.server.sealing_key),
        }
        return CliRunner(env=env).invoke(cli.main, command, **more)

    def ok(self, *arguments: str, **more: Any) -> Result:
        result = self.run(*arguments, **more)
        assert result.exit_code == 0, result.output
        return result

    def redrive(self, *arguments: str, **more: Any) -> Result:
        return self.run("redrive", "--url", self.server.url, *arguments, **more)

    def post(self, *rows: dict[str, Any] | str) -> dict[str, Any]:
        body = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
        answer = httpx.post(
            f"{self.server.url}/v1/events",
            content=body,
            headers={"Content-Type": "application/x-ndjson"},
            timeout=30,
        )
        assert answer.status_code == 202, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def letters(self, *arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.ok("list", "--json", *arguments).stdout)[
            "dead_letters"
        ]
        return found

    def rejected(self, row: dict[str, Any]) -> dict[str, Any]:
        """Post a row that is rejected; its dead letter."""
        worker = row["worker_id"]
        assert self.post(row)["rejected"] == 1
        (letter,) = [one for one in self.letters("--limit", "1000") if one["worker_id"] == worker]
        return letter

    def stored(self, worker: str) -> list[dict[str, Any]]:
        return self.store.query(
            "SELECT * FROM penstock.requests WHERE worker_id = {worker:String}", {"worker": worker}
        )

    def quarantine(self, row: dict[str, Any]) -> str:
        """Put a row into the quarantine itself; its id."""
        self.store.insert("quarantine_rows", quarantine_rows([row]), unique("token"))
        return str(LetterId.of(row))


@contextmanager
def opened_world(folder: Path) -> Iterator[World]:
    """Both processes, below a folder."""
    engine, server = StoreServer(folder / "store"), Server(folder / "up")
    engine.start()
    store = Store(engine.url)
    try:
        server.start("--store", engine.url)
        yield World(server, store, engine.url)
    finally:
        server.stop()
        store.close()
        engine.stop()


def request(**fields: Any) -> dict[str, Any]:
    return {"event": "request", "ts": now_us(), "worker_id": unique("w"), "status": "ok", **fields}


def quarantined(offset: int, body: bytes, **fields: Any) -> dict[str, Any]:
    """A row as `Flush.quarantine` yields it, of a life of the topic that no server has."""
    return {
        "append_ts": now_us(),
        "incarnation": 7,
        "partition": 3,
        "offset": offset,
        "row_index": 0,
        "kind": "",
        "worker_id": "",
        "boot_id": f"kafka-7-3-{offset}",
        "seq": 0,
        "reason": "undecodable",
        "detail": "the checksum does not match: ann@example.com",
        "body": body,
        "source": "kafka",
    } | fields
