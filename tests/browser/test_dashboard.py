"""The dashboard in a real browser against a real server: the page and the API say the same."""

from __future__ import annotations

import time
from typing import Any, Protocol

import httpx
import pytest
from penstock.tests.browser.page import (
    chart_values,
    coverage_state,
    open_page,
    tiles,
    wait_for_data,
)

pytestmark = pytest.mark.browser


class Server(Protocol):
    """A server with events in it that does nothing any more."""

    url: str


def _newest(url: str, metrics: list[str]) -> dict[str, Any]:
    query: dict[str, Any] = {"metric": metrics, "window": "1m", "grouping": "fleet"}
    answer = httpx.get(f"{url}/v1/windows", params=query).raise_for_status().json()
    point: dict[str, Any] = answer["series"][0]["points"][-1]
    return {**point["values"], "coverage": point["coverage"], "state": point["coverage_state"]}


def test_tiles_show_what_the_api_says(running_server: Server) -> None:
    with open_page(running_server.url) as (page, wrong):
        wait_for_data(page)
        names = sorted(set(tiles(page)) - {"coverage"})
        deadline = time.monotonic() + 15
        while True:  # the page and this test ask at different moments of a moving window
            told, shown = _newest(running_server.url, names), tiles(page)
            same = shown == {name: told[name] for name in shown}
            if same or time.monotonic() > deadline:
                break
            page.wait_for_timeout(300)
        assert shown == {name: told[name] for name in shown}
        assert coverage_state(page) == told["state"]
        assert shown["request_rate"] is not None
        assert wrong == []


def test_charts_split_by_release_and_zoom(running_server: Server) -> None:
    with open_page(running_server.url, "range=1h&group=release&quantiles=p95") as (page, wrong):
        wait_for_data(page)
        query = {"grouping": "release", "metric": "ttft_ms_p95"}
        answer = httpx.get(f"{running_server.url}/v1/windows", params=query)
        slices = answer.raise_for_status().json()["series"]
        busy = [s for s in slices if s["points"][-1]["values"]["ttft_ms_p95"] is not None]
        assert len(chart_values(page, "ttft")) >= min(len(busy), 8)
        plot = page.locator("[data-chart=latency] .u-over").bounding_box()
        assert plot is not None
        page.mouse.move(plot["x"] + 40, plot["y"] + 40)
        page.mouse.down()
        page.mouse.move(plot["x"] + 160, plot["y"] + 40, steps=4)
        page.mouse.up()
        page.wait_for_selector("#follow:visible")
        assert "start=" in page.url
        assert wrong == []


def test_a_request_opens_with_its_steps(running_server: Server) -> None:
    with open_page(running_server.url, "range=all&requests=newest") as (page, wrong):
        page.click("#requests tbody tr")
        page.wait_for_selector("#detail .facts")
        assert "Engine steps" in page.inner_text("#detail")
        page.keyboard.press("Escape")
        assert page.locator("#detail[open]").count() == 0
        assert wrong == []


def test_the_theme_is_remembered(running_server: Server) -> None:
    with open_page(running_server.url) as (page, _):
        before = page.get_attribute("html", "data-theme")
        page.click("#theme")
        page.reload()
        assert page.get_attribute("html", "data-theme") != before
