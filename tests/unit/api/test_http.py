"""What HTTP itself asks of the application: bodies, errors, keys, the page. The store is away."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
import zstandard
from penstock.api.app import build_app
from penstock.api.auth import Access
from penstock.api.keys import SCOPES, create_key
from penstock.api.openapi import document
from penstock.schemas.config import Configuration, parse
from penstock.schemas.errors import (
    Backpressure,
    IdempotencyConflict,
    InvalidFrame,
    StoreError,
)
from penstock.schemas.ports import Receipt, Rejection
from penstock.tests.support.api import Client, Ingest, problem_of

JSON = {"content-type": "application/json"}
FRAMES = {"content-type": "application/vnd.penstock.frames"}


class Away:
    """A store that is away."""

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        raise StoreError("connection refused", 210, True)

    def ping(self) -> None:
        self.query("")

    def free_bytes(self) -> int | None:
        return 1

    def insert(self, name: str, rows: pa.Table, token: str) -> None:
        self.query("")


def client(
    ingest: Ingest | None = None,
    access: Access | None = None,
    configuration: str = "",
    key: str = "",
) -> Client:
    app = build_app(
        ingest or Ingest(),
        Away(),
        parse(configuration),
        access or Access(required=False),
        monotonic_s=lambda: 0.0,
    )
    return Client(app, {"authorization": f"Bearer {key}"} if key else None)


def test_a_receipt_is_told_with_the_first_hundred_rejections() -> None:
    rejected = [Rejection(i, "negative", f"row {i}") for i in range(250)]
    ingest = Ingest(Receipt(5, 2, 250, rejected))
    answer = client(ingest).request(
        "POST", "/v1/events", content=b"[]", headers=JSON | {"idempotency-key": "k-1"}
    )
    assert answer.status_code == 202
    body = answer.json()
    assert (body["accepted"], body["duplicate"], body["rejected"]) == (5, 2, 250)
    assert body["rejections"][0] == {"index": 0, "reason": "negative", "detail": "row 0"}
    assert len(body["rejections"]) == 100
    assert ingest.got == [(b"[]", "json", "k-1")]


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "identity"])
@pytest.mark.parametrize("size", [10, 300_000])
def test_encodings_are_undone(encoding: str, size: int) -> None:
    ingest, raw = Ingest(), b"ab" * size
    packed = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}.get(encoding)
    body = packed(raw) if packed else raw
    answer = client(ingest).request(
        "POST", "/v1/events", content=body, headers=FRAMES | {"content-encoding": encoding}
    )
    assert answer.status_code == 202
    assert ingest.got == [(raw, "frames", None)]


async def stream(size: int) -> AsyncIterator[bytes]:
    for _ in range(size):
        yield b"x" * 2**20


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, b"[]", 415),
        ({"content-type": "text/plain"}, b"[]", 415),
        (JSON | {"content-encoding": "br"}, b"[]", 415),
        (JSON, b"x" * (2**20 + 1), 413),
        (JSON | {"content-encoding": "gzip"}, gzip.compress(b"\0" * 2_000_000), 413),
        (JSON | {"content-encoding": "gzip"}, b"not gzip", 400),
        (JSON, b"", 400),
        (JSON | {"idempotency-key": "x" * 256}, b"[]", 422),
    ],
)
def test_bodies_that_are_refused_never_reach_the_port(
    headers: dict[str, str], body: bytes, status: int
) -> None:
    ingest = Ingest()
    asked = client(ingest, configuration="limits: {max_body_mb: 1}")
    problem_of(asked.request("POST", "/v1/events", content=body, headers=headers), status)
    assert ingest.got == []


def test_a_stream_without_a_length_is_cut_at_the_limit() -> None:
    asked = client(configuration="limits: {max_body_mb: 1}")
    problem_of(asked.request("POST", "/v1/events", content=stream(3), headers=JSON), 413)
    assert asked.request("POST", "/v1/events", content=stream(1), headers=JSON).status_code == 202


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (InvalidFrame("bad"), 400, None),
        (IdempotencyConflict("other body"), 409, None),
        (Backpressure("full", 2.1), 429, "3"),
        (Backpressure("full", 0.01), 429, "1"),
        (StoreError("away", 210, True), 503, "1"),
        (StoreError("broken", 60, False), 503, None),
    ],
)
def test_errors_of_the_port(error: Exception, status: int, retry_after: str | None) -> None:
    answer = client(Ingest(error)).request("POST", "/v1/events", content=b"[]", headers=JSON)
    problem_of(answer, status)
    assert answer.headers.get("retry-after") == retry_after


def test_a_bug_is_a_problem_that_tells_no_secrets() -> None:
    ingest = Ingest(RuntimeError("secret value"))
    answer = client(ingest).request("POST", "/v1/events", content=b"[]", headers=JSON)
    assert "secret" not in problem_of(answer, 500)["detail"]


def test_unknown_paths_methods_and_parameters() -> None:
    asked = client()
    asked.problem(404, "/v1/nothing")
    asked.problem(404, "/static/nothing.js")
    answer = asked.request("DELETE", "/v1/events")
    problem_of(answer, 405)
    assert answer.headers["allow"] == "POST"
    body = asked.problem(422, "/v1/requests", limit=1001, varient="canary")
    assert {error["field"] for error in body["errors"]} == {"query.limit", "query.varient"}


def test_a_store_that_is_away() -> None:
    asked = client()
    for path in ("/v1/windows", "/v1/requests", "/v1/requests/r", "/v1/releases", "/v1/coverage"):
        assert asked.problem(503, path)["type"] == "urn:penstock:problem:store"
    asked.problem(503, "/metrics")
    asked.problem(503, "/ready")
    assert asked.ok("/health")["status"] == "ok"
    answer = asked.get("/health/detailed")
    assert answer.status_code == 503
    parts = answer.json()["components"]
    assert {name: part["status"] for name, part in parts.items()} == {
        "store": "failed",
        "pipeline": "ok",
        "ingest": "ok",
        "disk": "failed",
    }


NEEDS: dict[str, set[str]] = {
    "/v1/windows": {"read"},
    "/v1/requests": {"read"},
    "/v1/requests/r": {"read"},
    "/v1/releases": {"read"},
    "/v1/coverage": {"read"},
    "/v1/quarantine": {"read"},
    "/v1/gates": {"read", "gate"},
    "/v1/gates/g/verdict": {"read", "gate"},
    "/v1/gates/g/verdicts": {"read", "gate"},
    "/v1/gates/g/epochs": {"read", "gate"},
    "/v1/gates/g/evidence": {"read", "gate"},
    "/v1/gates/g/status": {"read", "gate"},
    "/v1/kayenta/canary/g@1": {"read", "gate"},
    "/v1/releases/last-known-good": {"read", "gate"},
    "/v1/slos": {"read"},
    "/v1/slos/s": {"read"},
    "/v1/alerts": {"read"},
    "/v1/alerts/a": {"read"},
    "/v1/silences": {"read"},
    "/v1/costs": {"read"},
    "/v1/drift": {"read"},
    "/v1/drift/m/examples": {"read"},
    "/v1/drift/references": {"read"},
    "/v1/gates/g/replay": {"read", "gate"},
    "/v1/config": set(),
    "/v1/config/versions": set(),
    "/health/detailed": {"read"},
    "/metrics": {"read"},
    "/openapi.json": set(SCOPES),
}
# What changes something, by method; a body that makes no sense is enough to ask for the key.
WRITES: dict[tuple[str, str], set[str]] = {
    ("POST", "/v1/events"): {"ingest"},
    ("POST", "/v1/drift/references"): set(),
    ("POST", "/v1/silences"): set(),
    ("DELETE", "/v1/silences/s"): set(),
    ("POST", "/v1/config"): set(),
    ("POST", "/v1/config/rollback"): set(),
    ("POST", "/v1/alerts/a/acknowledge"): set(),
    ("POST", "/v1/gates"): set(),
    ("POST", "/v1/gates/g/hooks/rollback"): {"read", "gate"},
    ("POST", "/v1/kayenta/canary/g"): {"read", "gate"},
    ("PUT", "/v1/kayenta/pipelines/g@1/cancel"): {"read", "gate"},
    ("POST", "/v1/gates/g/override"): set(),
    ("POST", "/v1/gates/g/backtest"): {"read", "gate"},
    ("DELETE", "/v1/gates/g/override"): set(),
    ("POST", "/v1/gates/g/reset"): set(),
}
OPEN = ("/health", "/ready", "/", "/static/index.html")


ALL = {("GET", url): scopes for url, scopes in NEEDS.items()} | WRITES
NAMES = {
    "request_id": "r",
    "gate_id": "g",
    "execution": "g@1",
    "hook": "rollback",
    "slo_id": "s",
    "monitor": "m",
    "alert_id": "a",
    "silence_id": "s",
}


@pytest.mark.slow
def test_the_matrix_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    access = Access(True, path)
    for key, scope in [(create_key(path, scope, [scope]), scope) for scope in SCOPES]:
        asked = client(access=access, key=key)
        for (method, url), scopes in ALL.items():
            status = asked.request(method, url).status_code
            assert (status == 403) == (scope not in scopes | {"admin"}), (url, scope, status)
            assert status != 401
    for asked in (client(access=access), client(access=access, key="psk_a_b")):
        for method, url in ALL:
            answer = asked.request(method, url)
            problem_of(answer, 401)
            assert answer.headers["www-authenticate"].startswith("Bearer")
        problem_of(asked.get("/v1/live"), 401)
        for url in OPEN:
            assert asked.get(url).status_code in (200, 503)


def test_every_route_is_in_the_matrix() -> None:
    paths = orjson.loads(document())["paths"]
    routes = {
        (method.upper(), path.format(**NAMES))
        for path, methods in paths.items()
        for method in methods
    }
    known = {*ALL, ("GET", "/v1/live"), *(("GET", url) for url in OPEN)}
    assert not routes - known


def test_rejected_rows_themselves_are_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    asked = client(access=Access(True, path), key=create_key(path, "a", ["admin"]))
    asked.problem(422, "/v1/quarantine", include_body="true")


def test_a_key_over_its_rate_is_told_to_wait(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    asked = client(access=Access(True, path), key=create_key(path, "slow", ["gate"], 2.0))
    assert [asked.get("/v1/gates").status_code for _ in range(2)] == [200, 200]
    answer = asked.get("/v1/gates")
    problem_of(answer, 429)
    assert answer.headers["retry-after"] == "1"


def test_the_page_is_served_with_its_headers() -> None:
    asked = client()
    page = asked.get("/")
    assert page.status_code == 200
    assert page.text.startswith("<!doctype html>")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    asset = asked.get("/static/js/main.js")
    assert asset.status_code == 200
    assert asset.headers["cache-control"] == "no-cache"
    problem_of(asked.get("/static/..%2fapp.py"), 404)


def test_the_exported_document_is_current() -> None:
    path = Path(__file__).parents[3] / "docs" / "openapi.json"
    assert path.read_text(encoding="utf-8") == document(), (
        "run: python -m penstock.api.openapi docs/openapi.json"
    )


def test_the_document_is_whole() -> None:
    text = document()
    schemas = orjson.loads(text)["components"]["schemas"]
    for reference in set(text.split('"#/components/schemas/')[1:]):
        assert reference.split('"')[0] in schemas
    body = orjson.loads(text)["paths"]["/v1/events"]["post"]["requestBody"]["content"]
    assert set(body) == {
        "application/json",
        "application/x-ndjson",
        "application/vnd.penstock.frames",
    }
    assert client().ok("/openapi.json") == orjson.loads(text)


def test_without_signals_the_store_is_asked_for_none() -> None:
    nothing = dict.fromkeys(("met", "at_risk", "breached", "unknown", "no_data"), 0)
    assert client().ok("/v1/slos") == {"as_of": None, "counts": nothing, "slos": [], "overall": []}
    client().problem(404, "/v1/slos/chat")
    for path in ("/v1/alerts", "/v1/alerts/a", "/v1/silences", "/v1/costs"):
        assert client().problem(503, path)["type"] == "urn:penstock:problem:store"


def test_a_silence_that_the_store_did_not_take() -> None:
    body = {"matchers": [{"label": "a", "value": "b"}], "reason": "r", "author": "a"}
    answer = client().request("POST", "/v1/silences", json=body | {"duration_s": 60})
    problem_of(answer, 503)
    assert answer.headers["retry-after"] == "1"


def test_a_configuration_without_gates_needs_no_store() -> None:
    assert Configuration().gates == ()
    assert client().ok("/v1/gates") == {"gates": []}
    client().problem(404, "/v1/gates/canary/verdict")
