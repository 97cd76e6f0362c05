"""The dashboard as a test reads it: opened in Chromium, its tiles as numbers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, sync_playwright

_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
_TEXT_TILES = frozenset({"coverage_state"})


def chromium() -> str | None:
    """Path of the installed Chromium, None without one."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def open_page(url: str, view: str = "") -> Iterator[tuple[Page, list[str]]]:
    """The dashboard of the server at `url`, and what went wrong on it while it was open.

    Args:
        url: base address of the server.
        view: what to show, as in the page's own address: `range=15m&group=release`.
    """
    path = chromium()
    assert path is not None, "Chromium is not installed"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        try:
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            wrong: list[str] = []
            page.on("pageerror", lambda error: wrong.append(f"page error: {error}"))
            page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
            page.on(
                "request",
                lambda r: (
                    None
                    if r.url.startswith((url, "data:"))
                    else wrong.append(f"asked elsewhere: {r.url}")
                ),
            )
            page.goto(f"{url}/#{view}" if view else f"{url}/")
            yield page, wrong
        finally:
            browser.close()


def wait_for_data(page: Page, timeout_s: float = 20.0) -> None:
    """Until the tiles show a window and the charts are drawn."""
    page.wait_for_selector("body[data-phase=data]", timeout=timeout_s * 1000)
    page.wait_for_selector("[data-chart] canvas", timeout=timeout_s * 1000)


def tiles(page: Page) -> dict[str, float | None]:
    """Metric -> raw number of each tile, as the page got it from the API; None where it had none."""
    shown: list[list[str]] = page.eval_on_selector_all(
        "[data-metric]", "nodes => nodes.map(n => [n.dataset.metric, n.dataset.value])"
    )
    return {
        name: float(value) if value else None for name, value in shown if name not in _TEXT_TILES
    }


def coverage_state(page: Page) -> str:
    """State of the coverage tile: ok, partial, unknown or no_data."""
    return page.get_attribute("[data-metric=coverage_state]", "data-value") or ""


def chart_values(page: Page, chart: str) -> dict[str, str]:
    """Line -> newest value of a chart's legend, as text with its unit."""
    rows: list[list[str]] = page.eval_on_selector_all(
        f"[data-chart={chart}] .legend button",
        "nodes => nodes.map(n => [...n.querySelectorAll('.name, .num')].map(x => x.textContent))",
    )
    return {row[0]: row[1] for row in rows}
