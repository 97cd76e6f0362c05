"""What the API says of gates, of itself, and live, over a real store."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from penstock.api import models
from penstock.api.app import build_app
from penstock.api.auth import Access
from penstock.schemas.ports import PipelineStatus
from penstock.streams.core.gates.canonical import spec_hash
from penstock.streams.storage.store import Store
from penstock.tests.support.api import CONFIGURATION, Client, Ingest, problem_of
from penstock.tests.support.openmetrics import families
from penstock.tests.support.rows import at, window
from penstock.tests.support.store import insert, unique


@pytest.fixture(scope="module")
def traffic(store: Store) -> None:
    """One window of the fleet and of a release."""
    release: dict[str, Any] = {
        "grouping": "release",
        "model": "m",
        "release": "r1",
        "variant": "control",
    }
    rows = [window(3600, requests=10), window(3600, requests=10, ttft_ms_p95=5.0, **release)]
    insert(store, "windows_rows", rows)


def stored_verdict(
    gate_id: str, verdict: str, as_of_s: float, epoch: int = 1, **more: Any
) -> dict[str, Any]:
    (gate,) = [gate for gate in CONFIGURATION.gates if gate.id == gate_id]
    told = {
        "verdict": verdict, "action": "wait", "reasons": ["not_enough_evidence"], "evidence": [],
        "n": 5, "n_needed": None, "eta_s": None, "watermark": "w", "as_of": "a", "epoch": epoch,
        "spec_hash": spec_hash(gate), "engine": "absolute-1", "digest": "d",
        "next_poll_ms": 1000, "text": f"{verdict} at {as_of_s}",
    }  # fmt: skip
    row = {
        "gate_id": gate_id,
        "epoch": epoch,
        "as_of": at(as_of_s),
        "version": 1,
        "verdict": verdict,
    }
    return row | {"spec_hash": spec_hash(gate), "evidence": json.dumps(told)} | more


def test_a_gate_that_was_never_evaluated_has_no_data(client: Client) -> None:
    body = client.ok("/v1/gates")
    models.GatesAnswer.model_validate(body)
    assert [gate["id"] for gate in body["gates"]] == ["one", "two", "three"]
    assert body["gates"][0]["filter"] == {"variant": "canary"}
    told = client.ok("/v1/gates/three/verdict")
    assert told["verdict"] == "NO_DATA"
    assert told["action"] == "wait"
    assert set(told) == set(models.VerdictAnswer.model_fields)
    client.problem(404, "/v1/gates/nobody/verdict")
    client.problem(422, "/v1/gates/three/verdict", wait="soon")


def test_the_newest_verdict_of_the_newest_epoch_counts(client: Client, store: Store) -> None:
    for row in (
        stored_verdict("one", "FAIL", 900, epoch=1),
        stored_verdict("one", "UNDECIDED", 100, epoch=2),
        stored_verdict("one", "PASS", 200, epoch=2),
        # A verdict under other limits says nothing about these.
        stored_verdict("two", "PASS", 200, spec_hash="another"),
    ):
        insert(store, "verdicts_rows", [row])
    told = client.ok("/v1/gates/one/verdict", wait="25s")
    assert told["text"] == "PASS at 200"
    assert client.ok("/v1/gates/two/verdict")["verdict"] == "NO_DATA"


def test_a_wait_ends_with_a_change_or_with_the_present_verdict(app: FastAPI, store: Store) -> None:
    insert(store, "verdicts_rows", [stored_verdict("three", "UNDECIDED", 1)])

    async def run() -> None:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://penstock") as client:
            url = "/v1/gates/three/verdict"
            present = (await client.get(url, params={"wait": "600ms"})).json()
            assert present["verdict"] == "UNDECIDED"
            waiting = [
                asyncio.create_task(client.get(url, params={"wait": "1m"})) for _ in range(5)
            ]
            await asyncio.sleep(0.3)
            await asyncio.to_thread(
                insert, store, "verdicts_rows", [stored_verdict("three", "FAIL", 2)]
            )
            for answer in await asyncio.gather(*waiting):
                assert answer.json()["verdict"] == "FAIL"

    start = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - start < 50


# ---- health and metrics


def test_health(client: Client, ingest: Ingest, form: str) -> None:
    assert client.ok("/ready") == {"status": "ready"}
    body = client.ok("/health/detailed")
    models.DetailedHealthAnswer.model_validate(body)
    assert body["components"]["store"]["ping_ms"] > 0
    disk = body["components"].get("disk", {})
    assert (disk.get("free_bytes", 0) > 0) == (form == "embedded")
    ingest.state = PipelineStatus(0, 0, 31.0, 450_000, 0)
    parts = client.ok("/health/detailed")["components"]
    assert (parts["pipeline"]["status"], parts["ingest"]["status"]) == ("degraded", "degraded")
    ingest.state = PipelineStatus(0, 0, 0.0, 0, 0, failure="disk full")
    assert client.get("/health/detailed").status_code == 503
    assert "disk full" in problem_of(client.get("/ready"), 503)["detail"]


def test_what_else_a_process_needs(api_store: Store) -> None:
    failures = {"broker": ""}
    ingest = Ingest(state=PipelineStatus(0, 0, 0.0, 0, 0, failure="elsewhere"))
    parts = {"broker": lambda: failures["broker"]}
    asked = Client(build_app(ingest, api_store, CONFIGURATION, Access(required=False), parts=parts))
    # The pipeline is another process's, so that readiness is not up to it.
    assert asked.ok("/readyz") == asked.ok("/ready") == {"status": "ready"}
    assert asked.ok("/healthz")["status"] == "ok"
    failures["broker"] = "no broker answers"
    told = problem_of(asked.get("/ready"), 503)["detail"]
    assert told == "broker: no broker answers; store: ok"
    components = asked.get("/health/detailed").json()["components"]
    assert components["broker"] == {"status": "failed", "detail": "no broker answers"}


def test_metrics_are_openmetrics(client: Client, traffic: None) -> None:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    samples = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families(answer.text)
        for sample in family.samples
    }
    assert samples["penstock_ingest_lag_seconds", frozenset()] == 2.5
    assert samples["penstock_ingest_events_total", frozenset({("outcome", "accepted")})] == 10
    ends = [
        v for (name, _), v in samples.items() if name == "penstock_window_end_timestamp_seconds"
    ]
    assert at(3600).timestamp() in ends
    ttft = [
        value
        for (name, labels), value in samples.items()
        if name == "penstock_window_ttft_seconds"
        and {("release", "r1"), ("window", "1m"), ("quantile", "0.95")} <= labels
    ]
    assert ttft == [0.005]


def test_metrics_stay_few_however_many_releases_there_are(client: Client, store: Store) -> None:
    rows = [
        window(7200, grouping="release", model=f"m{i}", requests=i, request_rate=1.0)
        for i in range(100)
    ]
    insert(store, "windows_rows", [window(7200, requests=1), *rows])
    (family,) = [
        family
        for family in families(client.get("/metrics").text)
        if family.name == "penstock_window_requests_per_second"
    ]
    shown = {s.labels["model"] for s in family.samples if s.labels["window"] == "1m"}
    assert shown - {""} == {f"m{i}" for i in range(80, 100)}


# ---- live


@contextmanager
def served(store: Store) -> Iterator[tuple[str, uvicorn.Server]]:
    """The application on a free port of loopback."""
    held: list[uvicorn.Server] = []
    app = build_app(
        Ingest(),
        store,
        CONFIGURATION,
        Access(required=False),
        is_stopping=lambda: held[0].should_exit,
    )
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
    held.append(server)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", server
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
        assert not thread.is_alive(), "the server did not stop"


def read_messages(url: str, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    with httpx.stream("GET", f"{url}/v1/live", timeout=20) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line[6:]))
                if len(found) == count:
                    break
    return found


@pytest.mark.slow
def test_the_live_stream(store: Store, api_store: Store, traffic: None) -> None:
    with served(api_store) as (url, _):
        first, second = read_messages(url, 2)
        for message in (first, second):
            models.LiveMessage.model_validate(message)
        assert first["watermark"] == "2026-01-01T00:00:00Z"
        assert first["changed"] == ["windows", "releases", "gates"]
        assert second["changed"] == []
        assert first["fleet"]["workers"] == 0
        assert first["fleet"]["coverage_state"] == "ok"
        marker = {"ts": at(0), "boot_id": unique("b"), "seq": 1, "release": "r"}
        insert(store, "releases_rows", [marker | {"append_ts": at(9e6)}])
        insert(store, "windows_rows", [window(90_000, requests=77)])
        fleets = [message["fleet"]["requests"] for message in read_messages(url, 2)]
        assert fleets[-1] == 77


def test_the_server_stops_though_streams_are_open(api_store: Store) -> None:
    with (
        served(api_store) as (url, server),
        httpx.stream("GET", f"{url}/v1/live", timeout=20) as answer,
    ):
        lines = answer.iter_lines()
        assert next(lines) == "retry: 2000"
        server.should_exit = True
        for _ in lines:
            pass  # ends, because the server lets its listeners go
