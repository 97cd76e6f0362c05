"""A real `penstock store` in a process of its own, for tests that talk to it, pause and kill it."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from penstock.tests.support.ports import free_port

START_S = 60.0
_STOPPED_IN_ORDER = (0, -signal.SIGTERM)
USERS = [
    {"name": "writer", "password": "pw", "role": "writer"},
    {"name": "reader", "password": "pw", "role": "reader"},
    {"name": "api", "password": "pw", "role": "api"},
]


class StoreServer:
    """`penstock store` on a folder of its own, with the users writer, reader and api.

    Args:
        folder: data and log; a later `start` finds again what an earlier one stored.
        flags: further flags of the command.
    """

    def __init__(self, folder: Path, *flags: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._flags = flags
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.http_url = f"http://127.0.0.1:{self.port}"
        self.url = self.url_of("writer")
        self.reader_url = self.url_of("reader")
        self.api_url = self.url_of("api")
        self.log = folder / "store.log"
        self._users = folder / "users.json"
        self._users.write_text(json.dumps(USERS))

    def url_of(self, user: str) -> str:
        """The store of streams/storage/store.py as one of the users sees it."""
        return f"clickhouse://{user}:pw@127.0.0.1:{self.port}/penstock"

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start on the same port as before, and wait until it answers."""
        assert self._process is None, "it runs already"
        command = [sys.executable, "-m", "penstock", "store"]
        command += ["--data", str(self._folder), "--port", str(self.port)]
        command += ["--users", str(self._users), *self._flags]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + START_S
        while time.monotonic() < until and self._process.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.http_url}/ping", timeout=5).text == "Ok.\n":
                    return
            time.sleep(0.05)
        self.kill()
        raise RuntimeError(f"penstock store did not start:\n{self.log.read_text()[-4000:]}")

    def stop(self, within_s: float = 60.0) -> None:
        """SIGTERM, where it runs; waits for the end."""
        if self._process is None:
            return
        self.resume()
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._process = None
        assert code in _STOPPED_IN_ORDER, f"exit code {code}:\n{self.log.read_text()[-4000:]}"

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


class Asker:
    """Sends statements to a running server, as one of its users.

    Args:
        folder: its files; `<SECRET>` in a statement stands for the path of secret.txt there.
    """

    def __init__(self, server: StoreServer, user: str = "writer") -> None:
        self.server = server
        self.folder = server.log.parent
        self.secret = str(self.folder / "secret.txt")
        self.user = user
        self.client = httpx.Client(
            base_url=server.http_url, headers={"Accept-Encoding": "identity"}, timeout=60
        )

    def __call__(
        self, sql: str, body: bytes | str = b"", *, user: str = "", **query: Any
    ) -> httpx.Response:
        """A POST of one statement; further arguments are parameters of the URL."""
        if isinstance(body, str):
            body = body.replace("<SECRET>", self.secret).encode()
        return self.client.post(
            "/",
            params={"query": sql.replace("<SECRET>", self.secret), **query},
            content=body,
            auth=(user or self.user, "pw"),
        )

    def code(self, sql: str, body: bytes | str = b"", *, user: str = "", **query: Any) -> int:
        """ClickHouse's code of the error, 0 without one."""
        return code(self(sql, body, user=user, **query))


def code(answer: httpx.Response) -> int:
    """ClickHouse's code of the error in an answer, 0 without one."""
    return int(answer.headers.get("x-clickhouse-exception-code", 0))


@contextmanager
def running(folder: Path, *flags: str) -> Iterator[Asker]:
    """A server, stopped in order afterwards."""
    server = StoreServer(folder, *flags)
    server.start()
    asker = Asker(server)
    try:
        yield asker
    finally:
        asker.client.close()
        server.stop()
