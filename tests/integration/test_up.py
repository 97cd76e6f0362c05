"""`penstock up` as its users meet it: a real process, real HTTP, what is asked and answered."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import zstandard
from penstock.tests.support.server import Server

CONFIG = """
gates:
  - id: errors
    filter: {variant: canary, model: judged}
    min_units: 20
    min_bake_s: 0
    metrics: [{metric: error_rate, max_ratio: 0.05}]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("up"), CONFIG)
    found.start()
    yield found
    found.stop()


def now_us() -> int:
    return time.time_ns() // 1000


def post(server: Server, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **headers}
    return httpx.post(f"{server.url}/v1/events", content=content, headers=headers, timeout=30)


def request(**fields: Any) -> dict[str, Any]:
    return {"event": "request", "ts": now_us(), "status": "ok", **fields}


def eventually(look: Callable[[], Any], seconds: float = 25.0) -> Any:
    """What `look` gives once it is true."""
    until = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < until, f"not within {seconds} s: {found!r}"
        time.sleep(0.1)
    return found


def window(server: Server, metric: str, **query: Any) -> Any:
    """The newest value of a metric; None while there is none."""
    answer = server.get("/v1/windows", metric=metric, **query).json()
    points = [point for series in answer["series"] for point in series["points"]]
    return points[-1]["values"].get(metric) if points else None


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("identity", bytes), ("gzip", gzip.compress), ("zstd", zstandard.ZstdCompressor().compress)],
)
def test_json_in_every_encoding(
    server: Server, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    body = json.dumps([request(model="enc", request_id=f"{encoding}-{i}") for i in range(3)])
    answer = post(server, pack(body.encode()), **{"Content-Encoding": encoding})
    assert answer.status_code == 202, answer.text
    assert answer.json()["accepted"] == 3
    assert server.get(f"/v1/requests/{encoding}-2").json()["request"]["model"] == "enc"


def test_one_bad_row_does_not_block_its_neighbours(server: Server) -> None:
    rows = [request(model="rows"), request(model="rows", latency_ms="fast"), request(model="rows")]
    rows[2]["status"] = "fine"
    answer = post(server, "\n".join(map(json.dumps, rows)).encode()).json()
    assert (answer["accepted"], answer["duplicate"], answer["rejected"]) == (1, 0, 2)
    assert [(r["index"], r["reason"]) for r in answer["rejections"]] == [
        (1, "bad_value"),
        (2, "unknown_value"),
    ]


def test_idempotency_key(server: Server) -> None:
    rows = [request(model="idem"), request(model="idem", latency_ms=-1)]
    body = json.dumps(rows).encode()
    first = post(server, body, **{"Idempotency-Key": "k-1"}).json()
    again = post(server, body, **{"Idempotency-Key": "k-1"}).json()
    assert (first["accepted"], first["rejected"]) == (1, 1)
    assert (again["accepted"], again["duplicate"], again["rejected"]) == (0, 2, 0)
    other = post(server, [request(model="other")], **{"Idempotency-Key": "k-1"})
    assert other.status_code == 409
    assert other.headers["Content-Type"] == "application/problem+json"


def test_windows_feedback_and_overdue(server: Server) -> None:
    rows = [request(model="win", request_id=f"w{i}", latency_ms=100.0) for i in range(98)]
    rows.append(request(model="win", request_id="late", latency_ms=100.0))
    hanging = {"event": "request", "model": "win", "overdue": True}
    rows += [{**hanging, "ts": now_us()} for _ in range(5)]
    early = {"event": "feedback", "ts": now_us(), "request_id": "w0", "accepted": False}
    assert post(server, early).json()["accepted"] == 1
    assert post(server, rows).json()["accepted"] == 104
    good = [{**early, "ts": now_us(), "request_id": f"w{i}", "accepted": True} for i in (1, 2, 3)]
    assert post(server, good).json()["accepted"] == 3
    query = {"window": "5m", "model": "win"}
    eventually(lambda: window(server, "requests", **query) == 99)
    assert window(server, "overdue", **query) == 5
    assert window(server, "latency_ms_p95", **query) == pytest.approx(100, rel=0.01)
    # Requests in flight are longer than anything: rank 101 of 104 has no number.
    p99 = server.get("/v1/windows", metric="latency_ms_p99", **query)
    assert p99.status_code == 200
    assert p99.json()["series"][0]["points"][-1]["values"] == {"latency_ms_p99": None}
    assert eventually(lambda: window(server, "feedback", **query) == 4)
    assert window(server, "acceptance_rate", **query) == 0.75


def test_a_gate_fails_a_bad_release(server: Server) -> None:
    before = server.get("/v1/gates/errors/verdict").json()
    assert before["verdict"] == "NO_DATA"
    marker_us = now_us()
    marker = {"event": "release", "ts": marker_us, "release": "r9", "model": "judged"}
    assert post(server, {**marker, "variant": "canary"}).json()["accepted"] == 1
    rows = [
        request(model="judged", variant="canary", release="r9", status="error" if i % 3 else "ok")
        for i in range(90)
    ]
    assert post(server, rows).json()["accepted"] == 90
    told = eventually(
        lambda: (
            (v := server.get("/v1/gates/errors/verdict", wait="5s").json())["verdict"] == "FAIL"
            and v
        )
    )
    assert told["action"] == "rollback"
    assert told["evidence"][0]["metric"] == "error_rate"
    assert told["evidence"][0]["bad"] == 60
    assert told["epoch"] == marker_us // 1_000_000
    assert len(told["digest"]) == 64


def test_health_and_metrics(server: Server) -> None:
    assert server.get("/health").status_code == 200
    assert server.get("/ready").status_code == 200
    detailed = server.get("/health/detailed").json()
    assert {part["status"] for part in detailed["components"].values()} == {"ok"}
    assert server.get("/metrics").text.endswith("# EOF\n")


def test_keys_are_asked_for_and_revoked(tmp_path: Path) -> None:
    server = Server(tmp_path / "data")
    server.start("--keys")
    try:
        assert post(server, [request()]).status_code == 401
        assert server.get("/health").status_code == 200

        def keys(*arguments: str) -> str:
            command = [sys.executable, "-m", "penstock", "keys", *arguments]
            command += ["--data", str(tmp_path / "data")]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            return done.stdout.strip()

        key = keys("create", "--name", "worker", "--scope", "ingest")
        bearer = {"Authorization": f"Bearer {key}"}
        assert post(server, [request()], **bearer).status_code == 202
        assert httpx.get(f"{server.url}/v1/windows", headers=bearer).status_code == 403
        keys("revoke", key.split("_")[1])
        eventually(lambda: post(server, [request()], **bearer).status_code == 401)
    finally:
        server.stop()


def test_mistakes_on_the_command_line_are_told(tmp_path: Path) -> None:
    config = tmp_path / "penstock.yaml"
    config.write_text("gates:\n  - id: g\n    metrics: [{metric: error_rate, max_ratio: 7}]\n")
    command = [sys.executable, "-m", "penstock", "check", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "penstock.yaml:3" in done.stderr
    assert "Traceback" not in done.stderr


def test_sigterm_ends_it_in_order(tmp_path: Path) -> None:
    server = Server(tmp_path / "data")
    server.start()
    post(server, [request(model="term")])
    assert server.signal(signal.SIGTERM) in (0, -signal.SIGTERM)
    assert "Traceback" not in server.log.read_text()
    server.start()
    assert len(server.get("/v1/requests", model="term").json()["requests"]) == 1
    server.stop()
