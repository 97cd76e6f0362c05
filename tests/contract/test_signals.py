"""From a POST to alerts, objectives and budgets: the same for both forms."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from penstock.schemas.events import EventName
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
  spend_limits: [{id: user, by: user_hash, usd: 0.05, window_s: 3600}]
  forecasts: [{id: engine, filter: {model: engine}, load: requests_per_s, horizon_s: 1800}]
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
            "user_hash": "ann" if ago % 3 else "bob",
        }
        for ago in range(300, 75, -1)
    ]


def engine(now_us: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Requests and steps of 38 minutes up to two minutes ago: a load that grows by 1 each minute,
    and a KV cache that would be full (90 %) at 60 requests a minute, ten minutes from their end."""
    start_us = now_us // SECOND // 60 * 60 * SECOND - 40 * 60 * SECOND
    requests, steps = [], []
    for minute in range(38):
        ts = start_us + minute * 60 * SECOND
        load = 12 + minute
        requests += [{"ts": ts + at, "model": "engine", "status": "ok"} for at in range(load)]
        usage = {"kv_cache_usage": 0.015 * load}
        steps.append({"ts": ts, "kind": "engine", "model": "engine", **usage})
    return requests, steps


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
    # Afterwards, so that they are late: watermarks have passed the minutes of the others.
    kinds: tuple[EventName, ...] = ("request", "step")
    for kind, some in zip(kinds, engine(now_us), strict=True):
        header = FrameHeader(
            kind=kind, worker_id="e", boot_id=f"engine-{kind}", seq0=0, count=len(some),
            next_seq=len(some), clock_us=now_us, closing=True,
        )  # fmt: skip
        assert running.post(encode_frame(header, some), **FRAMES).json()["accepted"] == len(some)
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


def test_who_spends_too_much_is_told(running: Deployment, sent: list[dict[str, Any]]) -> None:
    paid = sum(row["user_hash"] == "ann" for row in sent)

    def complete() -> dict[str, Any]:
        (limit,) = running.get("/v1/costs").json()["spend_limits"]
        spent = {item["key"]: round(item["spent_usd"] * 1000) for item in limit["keys"]}
        return limit if spent == {"ann": paid, "bob": len(sent) - paid} else {}

    limit = eventually(complete, 150)
    assert (limit["above"], [one["key"] for one in limit["keys"]]) == (2, ["ann", "bob"])

    def fired() -> set[str]:
        alerts = running.get("/v1/alerts", rule="user.spend-limit").json()["alerts"]
        found = {one["labels"]["user_hash"] for one in alerts if one["state"] == "firing"}
        return found if len(found) == 2 else set()

    assert eventually(fired, 30) == {"ann", "bob"}


def test_it_is_told_when_the_fleet_is_full(running: Deployment, sent: list[dict[str, Any]]) -> None:
    def expected() -> dict[str, Any]:
        (found,) = running.get("/v1/costs").json()["forecasts"]
        return found if found["state"] == "saturates" else {}

    found = eventually(expected, 150)
    assert (found["signal"], found["daily"]) == ("kv_cache_usage", False)
    assert found["saturating_load"] == pytest.approx(1.0, rel=0.05)  # 60 a minute
    assert found["low_s"] <= found["estimate_s"] <= 1800
    alerts = running.get("/v1/alerts", rule="engine.capacity").json()["alerts"]
    assert [one["labels"]["model"] for one in alerts] == ["engine"]
