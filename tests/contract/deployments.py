"""Penstock as processes, in both forms, behind one face: post, ask, stop."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from penstock.streams.storage.migrate import migrate
from penstock.streams.storage.store import Store
from penstock.tests.support.chstore import StoreServer
from penstock.tests.support.kafka import Broker
from penstock.tests.support.ports import free_port
from penstock.tests.support.server import Server

START_S = 60.0
PENSTOCK = [sys.executable, "-m", "penstock"]
SEALED = {"PENSTOCK_SEALING_KEY": base64.b64encode(secrets.token_bytes(32)).decode()}


class Deployment:
    """What its users see of it.

    Attributes:
        form: embedded or distributed.
        url: of the API.
    """

    def __init__(self, form: str, url: str) -> None:
        self.form = form
        self.url = url

    def get(self, path: str, **query: Any) -> httpx.Response:
        """GET, any status."""
        return httpx.get(f"{self.url}{path}", params=query, timeout=90)

    def post(self, body: Any, **headers: str) -> httpx.Response:
        """POST bytes as they are, or anything else as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **headers}
        return httpx.post(f"{self.url}/v1/events", content=content, headers=headers, timeout=30)


@contextmanager
def embedded(folder: Path, config: str) -> Iterator[Deployment]:
    """`penstock up`."""
    server = Server(folder, config)
    server.start()
    try:
        yield Deployment("embedded", server.url)
    finally:
        server.stop()


@contextmanager
def distributed(folder: Path, config: str) -> Iterator[Deployment]:
    """A broker, `penstock store`, `penstock worker` and `penstock api`."""
    path = folder / "penstock.yaml"
    path.write_text(config)
    port, metrics = free_port(), free_port()
    with ExitStack() as stack:
        broker = stack.enter_context(Broker(folder / "kafka"))
        store = StoreServer(folder / "store")
        store.start()
        stack.callback(store.kill)
        opened = Store(store.url)
        migrate(opened)
        opened.close()
        shared = ["--kafka", broker.bootstrap]
        made = [*PENSTOCK, "topics", *shared, "--store", store.url, "--partitions", "3"]
        subprocess.run([*made, "--shards", "2"], check=True, timeout=60, capture_output=True)
        worker = ["worker", *shared, "--store", store.url, "--config", str(path)]
        worker += ["--metrics-port", str(metrics)]
        api = ["api", *shared, "--store", store.api_url, "--config", str(path)]
        for name, arguments, url in (
            ("worker", worker, f"http://127.0.0.1:{metrics}/healthz"),
            ("api", [*api, "--port", str(port)], f"http://127.0.0.1:{port}/readyz"),
        ):
            stack.enter_context(_process(arguments, folder / f"{name}.log", url))
        yield Deployment("distributed", f"http://127.0.0.1:{port}")


@contextmanager
def _process(arguments: list[str], log: Path, url: str) -> Iterator[None]:
    """A command of ours that answers at a URL; ended with SIGTERM."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            [*PENSTOCK, *arguments], stdout=out, stderr=out, env={**os.environ, **SEALED}
        )
    try:
        until = time.monotonic() + START_S
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{arguments[0]} did not start:\n{log.read_text()[-4000:]}")
            time.sleep(0.05)
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, f"{arguments[0]}:\n{log.read_text()[-4000:]}"
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, timeout=5).status_code == 200
    return False


FORMS = {"embedded": embedded, "distributed": distributed}
