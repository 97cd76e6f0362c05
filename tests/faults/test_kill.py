"""kill -9 of the embedded server at random moments, under load."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from penstock.schemas.frames import FrameHeader, encode_frame
from penstock.tests.support import audit
from penstock.tests.support.server import Server

KILLS = 20
FRAME_EVENTS = 40


class Sender(threading.Thread):
    """One worker that repeats each frame until it is acknowledged."""

    def __init__(self, url: str, name: str, seed: int) -> None:
        super().__init__(name=name)
        self._url = url
        self._random = random.Random(seed)
        self.acknowledged = 0
        self.attempts = 0
        self.refused: list[str] = []
        self.ending = threading.Event()

    def run(self) -> None:
        seq = 0
        with httpx.Client(timeout=30) as client:
            while not self.ending.is_set():
                now_us = time.time_ns() // 1000
                rows = [self._row(now_us) for _ in range(FRAME_EVENTS)]
                self._send(client, rows, seq, now_us, closing=False)
                seq += FRAME_EVENTS
                time.sleep(0.02)
            self._send(client, [], seq, time.time_ns() // 1000, closing=True)

    def _row(self, now_us: int) -> dict[str, object]:
        draw = self._random
        return {
            "ts": now_us - draw.randrange(200_000),
            "model": draw.choice(["a", "b"]),
            "model_version": "1",
            "variant": draw.choice(["control", "canary"]),
            "release": "r1",
            "route": draw.choice(["/x", "/y"]),
            "tenant": f"t{draw.randrange(3)}",
            "status": draw.choices(["ok", "error", "timeout"], [95, 4, 1])[0],
            "latency_ms": round(draw.lognormvariate(6, 1), 3),
            "ttft_ms": round(draw.lognormvariate(4, 1), 3),
            "input_tokens": draw.randrange(1000),
            "output_tokens": draw.randrange(300),
            "cost_usd": draw.randrange(1_000_000) / 1e9,
        }

    def _send(
        self,
        client: httpx.Client,
        rows: list[dict[str, object]],
        seq: int,
        now_us: int,
        closing: bool,
    ) -> None:
        header = FrameHeader(
            kind="control" if closing else "request",
            worker_id=self.name,
            boot_id=f"boot-{self.name}",
            seq0=seq,
            count=len(rows),
            next_seq=seq + len(rows),
            clock_us=now_us,
            closing=closing,
        )
        frame = encode_frame(header, rows)
        headers = {"Content-Type": "application/vnd.penstock.frames"}
        while True:
            self.attempts += 1
            try:
                answer = client.post(f"{self._url}/v1/events", content=frame, headers=headers)
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            if answer.status_code == 202:
                counts = answer.json()
                assert counts["accepted"] + counts["duplicate"] == len(rows)
                self.acknowledged += len(rows)
                return
            if answer.status_code not in (429, 503):
                self.refused.append(answer.text)
                return
            time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_or_counted_twice(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    moments = random.Random(seed)
    server = Server(tmp_path / "data")
    server.start()
    senders = [Sender(server.url, f"w{i}", seed + i) for i in range(3)]
    try:
        for sender in senders:
            sender.start()
        for _ in range(KILLS):
            time.sleep(moments.uniform(0.1, 1.5))
            server.kill()
            server.start()
        time.sleep(1)
    finally:
        for sender in senders:
            sender.ending.set()
        for sender in senders:
            sender.join(60)
    # Longer than the lateness and a pane: everything closes.
    time.sleep(14)
    server.stop()
    assert [sender.refused for sender in senders] == [[], [], []], f"seed {seed}"
    sent = sum(sender.acknowledged for sender in senders)
    found = audited(server)
    assert found["count"] == found["unique"] == sent, f"seed {seed}"
    assert found["wrong"] == [], f"seed {seed}"
    assert found["windows"] > 200
    by_boot = {row["boot_id"]: row for row in found["coverage"]}
    for sender in senders:
        row = by_boot[f"boot-{sender.name}"]
        assert row["stored"] == row["received"] == row["expected"] == sender.acknowledged
        assert (row["missing"], row["gap"], row["state"]) == (0, 0, "closed")


def audited(server: Server) -> dict[str, Any]:
    """What audit.py says of a stopped server's store."""
    command = [sys.executable, audit.__file__, server.store_url]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return dict(json.loads(result.stdout))
