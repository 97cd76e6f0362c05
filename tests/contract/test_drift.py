"""From a POST to drift alerts, scores and the requests behind them: the same for both forms."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx
import numpy as np
import pytest
from penstock.schemas.frames import FrameHeader, encode_frame
from penstock.streams.core.sketch import bins_of
from penstock.tests.contract.deployments import FORMS, Deployment
from penstock.tests.support.kafka_events import eventually

pytestmark = pytest.mark.slow

FRAMES = {"Content-Type": "application/vnd.penstock.frames"}
SECOND = 1_000_000
CONFIG = """
drift:
  monitors:
    - id: prompts
      filter: {model: chat}
      features: [input_tokens]
      categories: [language]
      reference: {kind: uploaded, name: training}
      window_s: 60
      every_s: 60
      design_effect: 1
alerts:
  rules:
    - id: prompts-moved
      group: quality
      condition: {kind: drift, id: prompts, limit: {op: ">", value: 0.2}}
      annotations: {summary: "{{ labels.model }}: {{ value }}"}
"""


@pytest.fixture(scope="module")
def running(form: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with FORMS[form](tmp_path_factory.mktemp(form), CONFIG) as found:
        yield found


def traffic(now_us: int) -> list[dict[str, Any]]:
    """Eight requests a second from 290 to 50 s ago; in the last 150 s prompts are twice as long."""
    rng = random.Random(1)
    return [
        {
            "ts": now_us - ago * SECOND + number,
            "request_id": f"r-{ago}-{number}",
            "model": "chat",
            "status": "ok",
            "input_tokens": round(rng.lognormvariate(5, 0.5) * (2 if ago <= 150 else 1)),
            "categories": {"language": rng.choice(["en", "en", "de"])},
        }
        for ago in range(290, 50, -1)
        for number in range(8)
    ]


@pytest.fixture(scope="module")
def sent(running: Deployment) -> list[dict[str, Any]]:
    """What was sent, by a boot that then ended; its beginning was uploaded as the reference."""
    now_us = time.time_ns() // 1000
    rows = traffic(now_us)
    before = [row for row in rows if row["ts"] < now_us - 200 * SECOND]
    values = np.array([row["input_tokens"] for row in before], np.float64)
    series = {
        "input_tokens": ("feature", Counter(map(str, bins_of(values).tolist()))),
        "language": ("category", Counter(row["categories"]["language"] for row in before)),
    }
    body = {
        "name": "training",
        "series": {
            name: {"kind": kind, "counts": counts} for name, (kind, counts) in series.items()
        },
    }
    answer = httpx.post(f"{running.url}/v1/drift/references", json=body, timeout=30)
    assert (answer.status_code, answer.json()["revision"]) == (201, 1), answer.text
    header = FrameHeader(
        kind="request", worker_id="w", boot_id="drift", seq0=0, count=len(rows),
        next_seq=len(rows), clock_us=now_us, closing=True,
    )  # fmt: skip
    assert running.post(encode_frame(header, rows), **FRAMES).json()["accepted"] == len(rows)
    return rows


def series_of(running: Deployment, name: str, **more: Any) -> dict[str, Any]:
    since_us = time.time_ns() // 1000 - 1800 * SECOND
    asked = {"monitor": "prompts", "start": since_us, "step": 10, **more}
    (monitor,) = running.get("/v1/drift", **asked).json()["monitors"]
    return next((one for one in monitor["series"] if one["series"] == name), {})


def drifted(running: Deployment) -> dict[str, Any]:
    """Prompts as of the last look that said drift; when traffic has ended, looks have no data."""

    def found() -> str:
        points = series_of(running, "input_tokens").get("points", [])
        return max((one["end"] for one in points if one["state"] == "drift"), default="")

    return series_of(running, "input_tokens", end=eventually(found, 150))


def test_an_alert_of_drift_fires(running: Deployment, sent: list[dict[str, Any]]) -> None:
    def fired() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = running.get(
            "/v1/alerts", state="all", rule="prompts-moved"
        ).json()["alerts"]
        return found

    (alert,) = eventually(fired, 150)
    assert (alert["labels"]["model"], alert["labels"]["group"]) == ("chat", "quality")
    assert alert["value"] > 0.2
    assert "input_tokens" in alert["annotations"]["summary"]
    # Of what the monitor brings along, the rest has nothing to say.
    rules = {one["rule"] for one in running.get("/v1/alerts", state="all").json()["alerts"]}
    assert rules == {"prompts-moved"}


def test_scores_over_time(running: Deployment, sent: list[dict[str, Any]]) -> None:
    found = drifted(running)
    # The first window may hold a few seconds of traffic only.
    states = [point["state"] for point in found["points"] if point["state"] != "no_data"]
    assert len(states) >= 3
    assert states[0] == "ok"
    latest = found["latest"]
    assert latest["confirmed"] is not None
    assert latest["revision"] == 1
    end_us = _micros(latest["end"])
    inside = [row for row in sent if end_us - 60 * SECOND <= row["ts"] < end_us]
    assert latest["n_current"] == len(inside)
    assert sum(bar["current"] for bar in latest["bars"]) == len(inside)
    language = series_of(running, "language", end=latest["end"])
    assert language["latest"]["state"] == "ok"
    assert {point["state"] for point in language["points"]} <= {"ok", "no_data"}


def test_the_requests_behind_a_bin(running: Deployment, sent: list[dict[str, Any]]) -> None:
    latest = drifted(running)["latest"]
    bar = max(latest["bars"], key=lambda one: one["current"])
    asked = {"series": "input_tokens", "bin": bar["bin"], "end": latest["end"], "limit": 500}
    found = running.get("/v1/drift/prompts/examples", **asked).json()
    end_us = _micros(latest["end"])
    wanted = {
        row["request_id"]
        for row in sent
        if end_us - 60 * SECOND <= row["ts"] < end_us
        and bar["first"] <= bins_of(np.array([float(row["input_tokens"])]))[0] <= bar["last"]
    }
    assert {row["request_id"] for row in found["requests"]} == wanted
    assert len(wanted) == bar["current"]


def _micros(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * SECOND)
