"""The pages beside the overview, in a real browser: what is wrong is seen, taken and silenced there."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest
from penstock.schemas.frames import FrameHeader, encode_frame
from penstock.tests.browser.page import open_page
from penstock.tests.support.server import Server

pytestmark = pytest.mark.browser

CONFIG = """
slos: [{id: up, filter: {model: chat}, sli: {kind: availability}, target: 99%, window: 7d}]
costs:
  budgets: [{id: all, period: month, usd: 0.1}]
  spend_limits: [{id: tenants, by: tenant, usd: 0.3, window_s: 3600}]
  forecasts: [{id: fleet}]
drift:
  monitors:
    - {id: watch, filter: {model: chat}}
    - {id: routes, features: [], categories: [route], window_s: 300, every_s: 60,
       reference: {kind: uploaded, name: usual}}
alerts:
  rules:
    - id: errors
      by: model
      condition: {kind: threshold, metric: error_rate, window: 1m, op: ">", value: 0.1}
      annotations: {summary: "chat fails: {{ value }}"}
      runbook: https://runbooks.example.org/errors
"""
FRAMES = {"Content-Type": "application/vnd.penstock.frames"}


def _rows(now_us: int) -> list[dict[str, object]]:
    """Ten minutes of two requests a second; in the last one all of the canary's fail."""
    return [
        {
            "ts": now_us - ago * 500_000, "model": "chat", "latency_ms": 100.0, "cost_usd": 0.001,
            "input_tokens": 10, "output_tokens": 5, "tenant": f"t{ago % 3}",
            "route": f"/{ago % 2}", "request_id": f"r{ago}",
            "variant": "canary" if ago % 4 == 0 else "control",
            "status": "error" if ago % 4 == 0 and ago < 120 else "ok",
        }
        for ago in range(1200, 0, -1)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server with an alert that fires and is explained."""
    server = Server(tmp_path_factory.mktemp("pages"), CONFIG)
    server.start()
    try:
        usual = {"kind": "category", "rows": 1000, "counts": {"/0": 900, "/1": 100}}
        reference = {"name": "usual", "series": {"route": usual}}
        posted = httpx.post(f"{server.url}/v1/drift/references", json=reference, timeout=30)
        assert posted.status_code == 201, posted.text
        now_us = time.time_ns() // 1000
        rows = _rows(now_us)
        header = FrameHeader(
            kind="request", worker_id="w", boot_id="pages", seq0=0, count=len(rows),
            next_seq=len(rows), clock_us=now_us, closing=True,
        )  # fmt: skip
        body = encode_frame(header, rows)
        httpx.post(f"{server.url}/v1/events", content=body, headers=FRAMES, timeout=30)
        for _ in range(600):
            alerts = server.get("/v1/alerts").json()["alerts"]
            if any(alert["rule"] == "errors" and alert["explanation"] for alert in alerts):
                break
            time.sleep(0.1)
        else:
            raise AssertionError(f"no alert was explained: {server.log.read_text()[-2000:]}")
        yield server.url
    finally:
        server.stop()


def test_an_alert_is_explained_taken_and_silenced(broken: str) -> None:
    with open_page(broken, "page=alerts") as (page, wrong):
        card = page.locator("[data-alert]", has_text="chat fails")
        card.wait_for()
        assert "variant=canary" in card.locator(".why").inner_text()
        assert page.get_attribute("text=Runbook", "href") == "https://runbooks.example.org/errors"
        assert "warning" in page.inner_text("#alert-summary")
        card.get_by_role("button", name="Details").press("Enter")
        page.wait_for_selector("#detail table")
        assert "What changed" in page.inner_text("#detail")
        assert "variant canary" in page.inner_text("#detail")
        assert "alert=" in page.url
        page.keyboard.press("Escape")
        card.get_by_role("button", name="Acknowledge").click()
        page.fill("#who", "ann")
        page.fill("#reason", "rolling back")
        page.click("#say button[type=submit]")
        page.wait_for_selector("text=taken by ann")
        card.get_by_role("button", name="Silence").click()
        page.fill("#say #reason", "known")
        page.select_option("#duration", "1800")
        page.click("#say button[type=submit]")
        page.wait_for_selector("#silences tbody tr")
        assert wrong == []
    (alert,) = [
        a for a in httpx.get(f"{broken}/v1/alerts").json()["alerts"] if a["rule"] == "errors"
    ]
    assert (alert["acknowledged"]["who"], alert["acknowledged"]["reason"]) == (
        "ann",
        "rolling back",
    )
    (silence,) = httpx.get(f"{broken}/v1/silences").json()["silences"]
    assert alert["quiet"] == f"silence:{silence['id']}"
    assert (silence["author"], silence["reason"]) == ("ann", "known")


def test_objectives_costs_and_drift_say_what_the_api_says(broken: str) -> None:
    with open_page(broken, "page=slos") as (page, wrong):
        page.wait_for_selector("[data-slo=up] [data-value]")
        (slo,) = httpx.get(f"{broken}/v1/slos").json()["slos"]
        assert page.get_attribute("[data-slo=up]", "data-state") == slo["latest"]["state"]
        shown = page.get_attribute("[data-slo=up] [data-value]", "data-value")
        assert shown is not None
        assert float(shown) == slo["latest"]["attainment"]
        page.click("text=Costs")
        page.wait_for_selector("[data-budget=all][data-state=exceeded]")
        page.wait_for_selector("[aria-label='By tenant'] tbody tr")
        body = httpx.get(f"{broken}/v1/costs").json()
        (limit,), (forecast,) = body["spend_limits"], body["forecasts"]
        above = page.get_attribute("[data-limit=tenants]", "data-above")
        assert (above, limit["above"]) == ("3", 3)
        assert page.locator("[data-limit=tenants] tbody tr").count() == 3
        state = page.get_attribute("[data-forecast=fleet]", "data-state")
        assert state == forecast["state"] == "unknown"  # it has no steps
        page.click("text=Drift")
        page.wait_for_selector("[aria-label='Monitor watch']")
        page.go_back()
        page.wait_for_selector("[data-page-of=costs]:not([hidden])")
        page.click("text=Overview")
        page.wait_for_selector("[data-chart] canvas:visible")
        assert wrong == []


def test_from_a_bar_of_a_distribution_to_its_requests(broken: str) -> None:
    with open_page(broken, "page=drift") as (page, wrong):
        card = page.locator("[data-series='routes/route']")
        card.locator("summary").click()
        card.get_by_role("button", name="Requests with route /1").click()
        page.wait_for_selector("#detail tbody tr")
        routes = page.eval_on_selector_all(
            "#detail tbody tr", "rows => rows.map(r => r.cells[5].textContent)"
        )
        assert set(routes) == {"/1"}
        page.locator("#detail tbody tr").first.click()
        page.wait_for_selector("#detail-title code")
        assert page.inner_text("#detail-title").startswith("Request r")
        page.keyboard.press("Escape")
        assert wrong == []
