"""The stack of docker-compose.yml as one project of its own: up, scaled, asked, torn down."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import Any

import httpx
from penstock.tests.compose.engine import Engine
from penstock.tests.compose.images import HERE, ROOT
from penstock.tests.compose.progress import Failed, run
from penstock.tests.support.ports import free_port

_PROJECT = "penstock-test"
_FILES = ("-f", str(ROOT / "docker-compose.yml"), "-f", str(HERE / "no-grafana.yml"))
_UP_S = 600.0


@dataclass(frozen=True, slots=True)
class Container:
    """One container as `docker compose ps` tells it."""

    id: str
    service: str
    state: str
    health: str
    exit_code: int


class Stack:
    """A project with free ports of this machine.

    Args:
        engine: to run on.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ports = {name: free_port() for name in ("PORT", "KAFKA_PORT", "CLICKHOUSE_PORT")}
        self.api_url = f"http://127.0.0.1:{self._ports['PORT']}"
        self.store_url = f"http://127.0.0.1:{self._ports['CLICKHOUSE_PORT']}"

    def compose(self, *arguments: str, timeout_s: float = 300) -> str:
        """Run `docker compose` on the project and return its output.

        Raises:
            Failed: it ended with an error.
        """
        ports = {f"PENSTOCK_{name}": str(port) for name, port in self._ports.items()}
        command = (*self._engine.compose, "-p", _PROJECT, *_FILES, *arguments)
        return run(command, timeout_s=timeout_s, env=os.environ | ports)

    def configuration(self) -> dict[str, Any]:
        """docker-compose.yml as it is understood, with everything filled in."""
        found: dict[str, Any] = json.loads(
            self.compose("--profile", "demo", "config", "--format", "json")
        )
        return found

    def up(self, workers: int = 1) -> None:
        """Start everything and wait until it is healthy."""
        self.compose("up", "-d", "--no-build", "--scale", f"worker={workers}", timeout_s=_UP_S)
        self.wait_healthy({"kafka": 1, "clickhouse": 1, "worker": workers, "api": 1, "notify": 1})

    def wait_healthy(self, wanted: dict[str, int], timeout_s: float = 240) -> None:
        """Wait until so many containers of each service are healthy.

        Raises:
            Failed: they are not in time, with what they are instead.
        """
        until = time.monotonic() + timeout_s
        while True:
            found = self.containers()
            healthy = [one.service for one in found if one.health == "healthy"]
            if all(healthy.count(service) >= count for service, count in wanted.items()):
                return
            if time.monotonic() > until:
                raise Failed(f"not healthy after {timeout_s:g} s: wanted {wanted}, found {found}")
            time.sleep(1)

    def containers(self) -> list[Container]:
        """Every container of the project, those that ended too."""
        lines = self.compose("ps", "--all", "--format", "json").splitlines()
        rows = [json.loads(line) for line in lines]
        return [
            Container(row["ID"], row["Service"], row["State"], row["Health"], row["ExitCode"])
            for row in rows
        ]

    def run(self, service: str, *command: str, timeout_s: float = 600) -> str:
        """Run a command in a new container of a service, and return its output."""
        return self.compose(
            "run", "--rm", "--no-deps", "-T", service, *command, timeout_s=timeout_s
        )

    def exec(self, service: str, *command: str) -> str:
        """Run a command in the running container of a service, and return its output."""
        return self.compose("exec", "-T", service, *command)

    def inside(self, container: Container, *command: str) -> str:
        """Run a command in one container, and return its output."""
        return self._engine.docker("exec", container.id, *command)

    def kill(self, container: Container) -> None:
        """kill -9, by the engine."""
        self._engine.docker("kill", "--signal", "KILL", container.id)

    def logs(self) -> str:
        """The end of what every container said."""
        return self.compose("logs", "--no-color", "--tail", "60")

    def down(self) -> None:
        """Remove the containers, networks and volumes of the project."""
        options = ("--volumes", "--remove-orphans", "--timeout", "5")
        self.compose("--profile", "demo", "down", *options)


class Reader:
    """ClickHouse's HTTP interface as Grafana's user.

    Args:
        url: where it listens.
        password: of the user `reader`.
    """

    def __init__(self, url: str, password: str) -> None:
        self._client = httpx.Client(base_url=url, auth=("reader", password), timeout=60)

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Rows of an answer.

        Raises:
            Failed: the store refuses, with what it says.
        """
        answer = self.send(f"{sql} FORMAT JSONEachRow")
        if answer.status_code != 200:
            raise Failed(f"the store says {answer.status_code} to {sql}: {answer.text[:500]}")
        return [json.loads(line) for line in answer.text.splitlines()]

    def number(self, sql: str) -> int:
        """The one number of an answer."""
        return int(next(iter(self.query(sql)[0].values())))

    def send(self, sql: str) -> httpx.Response:
        """An answer of any status."""
        return self._client.post("/", content=sql.encode())


class Api:
    """The API with a key.

    Args:
        url: where it listens.
        key: for it.
    """

    def __init__(self, url: str, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self._client = httpx.Client(base_url=url, headers=headers, timeout=60)

    def get(self, path: str, **query: str) -> Any:
        """The JSON of an answer.

        Raises:
            Failed: its status is not 200.
        """
        answer = self._client.get(path, params=query)
        if answer.status_code != 200:
            raise Failed(f"GET {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json()

    def post(self, path: str, body: Any, key: str) -> Any:
        """Send JSON with an Idempotency-Key.

        Raises:
            Failed: its status is not 202.
        """
        answer = self._client.post(path, json=body, headers={"Idempotency-Key": key})
        if answer.status_code != 202:
            raise Failed(f"POST {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json()
