"""From a POST to alerts, objectives and budgets: the same for both forms."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from penstock.schemas.frames import FrameHeader, encode_frame
from penstock.tests.contract.deployments import FORMS, Deployment
from penstock.tests.support.kafka_events import eventually

pytestmark = pytest.mark.slow

FRAMES = {"Content-Type": "application/vnd.penstock.frames"}
SECOND = 1_000_000
CONFIG = """
slos:
  - {id: answers, filter: {model: chat}, sli: {kind: availability}, target: 0.9, window: 7d}
costs:
  budgets: [{id: chat, filter: {model: chat}, period: month, usd: 0.1}]
alerts:
  rules:
    - id: errors
      by: model
      condition: {kind: threshold, metric: error_rate, window: 1m, op: ">", value: 0.5}
      for_s: 10
      annotations: {summary: "{{ labels.model }}: {{ value }}"}
"""


@pytest.fixture(scope="module")
def running(form: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with FORMS[form](tmp_path_factory.mktemp(form), CONFIG) as found:
        yield found


def traffic(now_us: int) -> list[dict[str, Any]]:
    """A request each second from 300 to 75 s ago; from 220 to 160 s ago they fail."""
    return [
        {
            "ts": now_us - ago * SECOND,
            "model": "chat",
            "status": "error" if 160 <= ago < 220 else "ok",
            "latency_ms": 100.0,
            "cost_usd": 0.001,
            "input_tokens": 10,
            "output_tokens": 5,
        }
        for ago in range(300, 75, -1)
    ]


@pytest.fixture(scope="module")
def sent(running: Deployment) -> list[dict[str, Any]]:
    """What was sent, by a boot that then ended."""
    now_us = time.time_ns() // 1000
    rows = traffic(now_us)
    header = FrameHeader(
        kind="request", worker_id="w", boot_id="signals", seq0=0, count=len(rows),
        next_seq=len(rows), clock_us=now_us, closing=True,
    )  # fmt: skip
    assert running.post(encode_frame(header, rows), **FRAMES).json()["accepted"] == len(rows)
    return rows


def test_an_alert_fires_and_resolves(running: Deployment, sent: list[dict[str, Any]]) -> None:
    def resolved() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = running.get(
            "/v1/alerts", state="resolved", rule="errors"
        ).json()["alerts"]
        return found

    (alert,) = eventually(resolved, 150)
    assert alert["labels"]["model"] == "chat"
    assert alert["annotations"]["summary"].startswith("chat: ")
    detail = running.get(f"/v1/alerts/{alert['id']}").json()
    kinds = [(one["kind"], one["sequence"]) for one in detail["transitions"]]
    assert kinds == [("pending", 0), ("firing", 1), ("resolved", 2)]


def test_an_objective_has_the_right_integers(
    running: Deployment, sent: list[dict[str, Any]]
) -> None:
    def counted() -> dict[str, Any]:
        (slo,) = running.get("/v1/slos").json()["slos"]
        latest: dict[str, Any] = slo["latest"] or {}
        # The last frame counts as arrived in the minute of its worker's clock.
        told = latest.get("total") == len(sent) and latest["coverage"] is not None
        return latest if told else {}

    latest = eventually(counted, 150)
    bad = sum(row["status"] == "error" for row in sent)
    assert (latest["bad"], latest["total"], bad) == (bad, len(sent), 60)
    assert latest["state"] == "breached"
    assert latest["coverage"] == 1.0


def test_a_budget_has_the_right_amount(running: Deployment, sent: list[dict[str, Any]]) -> None:
    def spent() -> dict[str, Any]:
        (budget,) = running.get("/v1/costs").json()["budgets"]
        return budget if str(budget.get("spent_usd")) == "0.225" else {}

    assert eventually(spent, 150)["state"] == "exceeded"
    alerts = running.get("/v1/alerts").json()["alerts"]
    assert ("chat.budget", "firing") in {(one["rule"], one["state"]) for one in alerts}
