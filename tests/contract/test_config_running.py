"""A configuration that changes while events come in: the same for both forms, and no count is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from penstock.schemas.frames import FrameHeader, encode_frame
from penstock.tests.contract.deployments import FORMS, Deployment
from penstock.tests.support.kafka_events import eventually

pytestmark = pytest.mark.slow

FRAMES = {"Content-Type": "application/vnd.penstock.frames"}
SECOND = 1_000_000
CONFIG = """
alerts:
  rules:
    - id: errors
      by: model
      condition: {kind: threshold, metric: error_rate, window: 1m, op: ">", value: 0.5}
"""
SLOW = """
    - id: slow
      by: model
      condition: {kind: threshold, metric: latency_ms_p95, window: 1m, op: ">", value: 150}
"""
EACH = 20  # events of a second


@pytest.fixture(scope="module")
def running(form: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with FORMS[form](tmp_path_factory.mktemp(form), CONFIG) as found:
        yield found


class Worker:
    """One boot that sends the seconds of a past minute or two, in order."""

    def __init__(self, running: Deployment) -> None:
        self._running = running
        self._start_us = (time.time_ns() // 1000 - 300 * SECOND) // SECOND * SECOND
        self._seconds = 0
        self.sent = 0

    def send(self, seconds: int, closing: bool = False) -> None:
        first_us = self._start_us + self._seconds * SECOND
        rows: list[dict[str, Any]] = [
            {
                "ts": first_us + at * SECOND // EACH,
                "model": "m",
                "status": "ok",
                "latency_ms": 200.0,
            }
            for at in range(seconds * EACH)
        ]
        header = FrameHeader(
            kind="request", worker_id="w", boot_id="config", seq0=self.sent, count=len(rows),
            next_seq=self.sent + len(rows), clock_us=rows[-1]["ts"], closing=closing,
        )  # fmt: skip
        assert self._running.post(encode_frame(header, rows), **FRAMES).status_code == 202
        self.sent += len(rows)
        self._seconds += seconds


def change(running: Deployment, path: str, **more: Any) -> Any:
    answer = httpx.post(f"{running.url}{path}", timeout=30, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()


def alerts(running: Deployment, **asked: Any) -> list[Any]:
    found: list[Any] = running.get("/v1/alerts", state="all", **asked).json()["alerts"]
    return found


def test_a_rule_that_comes_and_goes_while_events_do(running: Deployment) -> None:
    worker = Worker(running)
    for _ in range(4):
        worker.send(5)
    query = {"why": "see slow ones", "expected_version": 0}
    dry = change(running, "/v1/config", content=CONFIG + SLOW, params=query | {"dry_run": True})
    assert dry["changes"]["parts"] == {
        "alerts.rules": {"added": ["slow"], "changed": [], "removed": []}
    }
    assert dry["changes"]["resets"][0].startswith("latency_us > 150000 us: counted from now on")
    assert change(running, "/v1/config", content=CONFIG + SLOW, params=query)["version"] == 1
    for _ in range(14):  # while processors go over to it, each when it does
        worker.send(5)
        time.sleep(0.3)

    def firing() -> list[Any]:
        return alerts(running, rule="slow")

    (alert,) = eventually(firing, 90)
    assert (alert["state"], alert["labels"]["model"]) == ("firing", "m")
    body = {"version": 0, "why": "enough", "expected_version": 1}
    assert change(running, "/v1/config/rollback", json=body)["version"] == 2
    for _ in range(4):
        worker.send(5)
        time.sleep(0.3)
    worker.send(5, closing=True)

    def ended() -> list[Any]:
        return [one for one in firing() if one["reason"] == "rule_removed"]

    assert eventually(ended, 90)[0]["state"] == "resolved"
    assert alerts(running, rule="errors") == []

    def counted() -> list[Any]:
        series = running.get("/v1/windows", window="1h", metric="requests", model="m").json()
        points = [point for one in series["series"] for point in one["points"]]
        return [point for point in points if point["values"]["requests"] == worker.sent]

    assert eventually(counted, 90)
    assert worker.sent == 23 * 5 * EACH
