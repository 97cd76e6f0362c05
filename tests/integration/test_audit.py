"""`penstock audit` on what `penstock up` left behind: after kill -9, over a folder and over HTTP."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from penstock.schemas.frames import FrameHeader, encode_frame
from penstock.tests.support.chstore import StoreServer
from penstock.tests.support.server import Server

pytestmark = pytest.mark.slow

GATES = """
gates:
  - id: limits
    filter: {model: chat}
    metrics:
      - {metric: latency, field: ttft_ms, quantile: 0.95, max_ms: 300}
"""
_RUN = "import sys; from penstock.cli.checks import audit; audit(sys.argv[1:])"


def audit(*arguments: object) -> tuple[int, dict[str, Any], str]:
    """Exit code, JSON document, progress."""
    command = [sys.executable, "-c", _RUN, "--json", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def send(server: Server, boot: str, seq: int, at_us: int, closing: bool = False) -> int:
    """Twenty requests of the ten seconds before; returns the next number."""
    draw = random.Random(seq)
    rows = [
        {
            "ts": at_us - draw.randrange(10_000_000),
            "model": "chat",
            "status": "ok",
            "latency_ms": draw.lognormvariate(5, 1),
            "ttft_ms": draw.lognormvariate(4, 1),
            "tenant": f"t{draw.randrange(3)}",
            "request_id": f"{boot}-{seq}-{i}",
        }
        for i in range(20)
    ]
    header = FrameHeader(
        kind="request",
        worker_id=f"w-{boot}",
        boot_id=boot,
        seq0=seq,
        count=len(rows),
        next_seq=seq + len(rows),
        clock_us=at_us,
        closing=closing,
    )
    frames = {"Content-Type": "application/vnd.penstock.frames"}
    answer = httpx.post(
        f"{server.url}/v1/events", content=encode_frame(header, rows), headers=frames, timeout=60
    )
    assert answer.status_code == 202, answer.text
    return seq + len(rows)


def traffic(server: Server) -> None:
    """Two boots and JSON, a kill in the middle, everything closed at the end."""
    start_us = time.time_ns() // 1000 - 600_000_000
    seq = {"a": 0, "b": 0}
    for turn in range(20):
        at_us = start_us + turn * 20_000_000
        for boot in seq:
            seq[boot] = send(server, boot, seq[boot], at_us, closing=turn == 19)
        if turn == 9:
            seq["b"] += 5  # lost by the sender, and not told
            server.kill()
            server.start()
    one = {"event": "request", "model": "chat", "status": "ok", "latency_ms": 3, "ts": start_us}
    answer = httpx.post(f"{server.url}/v1/events", json=[one, {"event": "request", "ts": "?"}])
    assert answer.status_code == 202, answer.text
    until = time.monotonic() + 60
    while time.monotonic() < until:
        series = server.get("/v1/windows", metric="requests", window="30m").json()["series"]
        if series and series[0]["points"][-1]["values"]["requests"] == 801:
            return
        time.sleep(0.3)
    raise AssertionError("not all of it became a window")


def test_what_a_killed_server_left_holds_and_what_is_broken_is_listed(tmp_path: Path) -> None:
    server = Server(tmp_path / "up", GATES)
    config = tmp_path / "up" / "penstock.yaml"
    server.start()
    try:
        traffic(server)
        told_so_far = server.get("/v1/gates/limits/verdicts").json()["verdicts"]
    finally:
        server.stop()
    asked = ["--config", config]
    code, told, progress = audit("--store", server.store_url, *asked)
    assert (code, told["findings"]) == (0, []), told
    assert told["holds"]
    assert told["checked"]["requests"] == 801
    assert told["checked"]["windows"] >= 10
    # How many there are depends on how much event time an evaluation takes in; each life told some.
    assert told["checked"]["verdicts"] >= len(told_so_far) >= 2
    assert "windows compared" in progress
    assert "coverage tells of 5 events missing and 0 dropped" in told["notes"]

    http = StoreServer(tmp_path / "up")
    http.start()
    try:
        # The user of the API may read all that an audit needs.
        code, told, _ = audit("--store", http.api_url, *asked)
        assert (code, told["findings"]) == (0, []), told
        _break(http)
        code, told, _ = audit("--store", http.api_url, *asked)
        assert code == 1
        assert {finding["check"] for finding in told["findings"]} >= {"rows", "panes"}
        code, told, _ = audit("--store", http.api_url, *asked, "--since", "1m")
        assert not {finding["check"] for finding in told["findings"]} & {"identity", "offsets"}
    finally:
        http.stop()


def _break(http: StoreServer) -> None:
    answer = httpx.post(
        http.http_url,
        content="DELETE FROM penstock.requests_rows WHERE boot_id = 'a' AND seq < 7",
        auth=("writer", "pw"),
        timeout=60,
    )
    assert answer.status_code == 200, answer.text


def test_what_cannot_be_looked_at_is_told(tmp_path: Path) -> None:
    code, told, error = audit("--store", f"chdb://{tmp_path / 'absent'}")
    assert (code, told) == (2, {})
    assert "no folder" in error
    (tmp_path / "empty").mkdir()
    code, _, error = audit("--store", f"chdb://{tmp_path / 'empty'}")
    assert code == 2
    assert "run penstock migrate" in error
    code, _, error = audit("--store", f"chdb://{tmp_path / 'empty'}", "--since", "yesterday")
    assert code == 2
    assert "90s, 30m" in error
