"""A gate in a real store whose verdicts a test decides, and the API that tells them."""

from __future__ import annotations

import itertools
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import uvicorn
from fastapi import FastAPI
from penstock.api import gates_models as models
from penstock.api.app import build_app
from penstock.api.auth import Access
from penstock.schemas.config import parse
from penstock.schemas.errors import StoreError
from penstock.streams.core.gates.canonical import spec_hash
from penstock.streams.storage.store import Store
from penstock.tests.contract.signal_rows import Clock, post
from penstock.tests.support.api import Client, Ingest
from penstock.tests.support.rows import at, iso
from penstock.tests.support.store import insert, unique

EVIDENCE: dict[str, Any] = {
    "metric": "error_rate", "declared": "<= 1 %", "unit": "ratio", "limit": 0.01, "estimate": 0.02,
    "low": 0.012, "high": 0.03, "n": 500, "bad": 10, "critical": True, "decision": "FAIL",
    "confidence": 0.99, "log10_e_fail": 3.0, "log10_e_pass": 0.0, "threshold_fail": 2.0,
    "threshold_pass": 1.30103, "n_needed": None,
}  # fmt: skip


class Breakable:
    """A store that can be away."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.broken = False

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        if self.broken:
            raise StoreError("the store is away", retryable=True)
        return self._store.query(sql, parameters)

    def ping(self) -> None:
        self._store.ping()

    def free_bytes(self) -> int | None:
        return self._store.free_bytes()

    def insert(self, name: str, rows: pa.Table, token: str) -> None:
        self._store.insert(name, rows, token)


class GateWorld:
    """One gate of its own in the shared store, the API, and its clock."""

    def __init__(self, store: Store, api_store: Store) -> None:
        self.store = store
        self.api_store = Breakable(api_store)
        self.gate = unique("g")
        self.clock = Clock()
        self.ingest = Ingest()
        self.configuration = parse(
            f"gates: [{{id: {self.gate}, filter: {{variant: '{self.gate}'}}, "
            "metrics: [{metric: error_rate, max_ratio: 0.01}]}]"
        )
        # A clock that runs a second at each look: nothing that was read is fresh enough to keep.
        seconds = itertools.count()
        self.app = build_app(
            self.ingest,
            self.api_store,
            self.configuration,
            Access(False),
            wall_us=self.clock.us,
            monotonic_s=lambda: float(next(seconds)),
        )
        self.client = Client(self.app)

    def say(self, verdict: str, as_of_s: float, epoch: int = 0, action: str = "wait") -> None:
        """Store a verdict as the streams do."""
        (gate,) = self.configuration.gates
        told = {
            "verdict": verdict, "action": action, "reasons": ["limit_exceeded"], "n": 500,
            "evidence": [EVIDENCE], "n_needed": None, "eta_s": None, "watermark": iso(as_of_s),
            "as_of": iso(as_of_s), "epoch": epoch, "spec_hash": spec_hash(gate), "checks": [],
            "engine": "absolute-1", "digest": f"d{as_of_s}", "next_poll_ms": 1000,
            "text": f"{verdict}: said at {as_of_s}",
        }  # fmt: skip
        row = {
            "gate_id": self.gate, "epoch": epoch, "as_of": at(as_of_s), "version": 1, "n": 500,
            "verdict": verdict, "spec_hash": spec_hash(gate), "digest": told["digest"],
            "evidence": json.dumps(told),
        }  # fmt: skip
        insert(self.store, "verdicts_rows", [row])

    def mark(self, release: str, at_s: float, **more: Any) -> None:
        """Store a release marker."""
        row = {
            "ts": at(at_s), "boot_id": unique("b"), "seq": 0, "release": release, "incarnation": 1,
            "variant": self.gate, "model": self.gate,
        }  # fmt: skip
        insert(self.store, "releases_rows", [row | more])

    def ask(self, path: str = "verdict", **query: Any) -> Any:
        return self.client.ok(f"/v1/gates/{self.gate}/{path}", **query)

    def hook(self, name: str, **query: Any) -> tuple[int, Any]:
        url = f"/v1/gates/{self.gate}/hooks/{name}"
        answer = self.client.request("POST", url, params=query, json={"name": "chat"})
        models.HookAnswer.model_validate(answer.json())
        return answer.status_code, answer.json()

    def override(self, status: int = 201, **body: Any) -> Any:
        given = {"who": "ann", "reason": "r"} | body
        return post(self.client, f"/v1/gates/{self.gate}/override", given, status)


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The application on a free port of loopback; its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
        assert not thread.is_alive(), "the server did not stop"
