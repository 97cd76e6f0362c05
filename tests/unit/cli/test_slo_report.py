"""The compliance report, from answers that are made up."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from penstock.cli import main
from penstock.cli import slo as slo_commands
from penstock.cli.slo_html import html
from penstock.cli.slo_report import gather, markdown, number, usd

AS_OF = "2026-01-08T00:00:00Z"


def point(hour: int, state: str, consumed: float | None) -> dict[str, Any]:
    return {
        "as_of": f"2026-01-07T{hour:02}:00:00Z", "state": state, "bad": 1200, "total": 1_000_000,
        "attainment": 0.9988, "consumed": consumed, "left_minutes": -8.6, "burn_1h": 2.5,
        "coverage": 1.0,
    }  # fmt: skip


LATEST = point(23, "breached", 1.2) | {
    "declared": "availability >= 99.9 %", "target": 0.999, "period_start": "2025-12-09T00:00:00Z",
    "period_end": AS_OF, "budget_minutes": 43.2, "exhaustion_s": 0.0, "burns": [], "alarm_at": None,
}  # fmt: skip
UP = {
    "id": "up", "description": "<b>bold</b> & co", "service": "chat", "window": "30d",
    "filter": {"model": "chat|8b"}, "latest": LATEST,
}  # fmt: skip
NEW: dict[str, Any] = {
    "id": "new",
    "description": "",
    "service": "",
    "window": "7d",
    "filter": {},
    "latest": None,
}
POINTS = [
    point(20, "met", 0.2), point(21, "unknown", None), point(22, "at_risk", 0.8), point(23, "breached", 1.2),
]  # fmt: skip
ALERT = {
    "rule": "up.1h", "severity": "critical", "fired": "2026-01-07T22:10:00Z", "ended": None,
    "text": "burn rate 16 (limit 14.4)", "annotations": {"summary": "up: <16>"},
}  # fmt: skip
BUDGET = {
    "id": "fleet", "state": "projected", "spent_usd": 3100.0, "budget_usd": 5000.0,
    "projected_usd": 6500.0, "low_usd": 6000.0, "high_usd": 7100.5, "period_end": AS_OF,
}  # fmt: skip


class Told:
    """A source that answers from a table, and remembers what it was asked."""

    def __init__(self, **answers: Any) -> None:
        self.asked: dict[str, dict[str, Any]] = {}
        self._answers = {
            "/v1/slos": {
                "as_of": AS_OF,
                "counts": {"met": 0, "at_risk": 0, "breached": 1, "unknown": 0, "no_data": 1},
                "slos": [UP, NEW],
                "overall": [
                    {"id": "all", "state": "breached", "kept": 0, "total": 2, "target": 1.0,
                     "states": {"up": "breached", "new": "no_data"}}
                ],
            },
            "/v1/slos/up": {"points": POINTS},
            "/v1/alerts": {"alerts": [ALERT, ALERT | {"fired": None}]},
            "/v1/costs": {"window": "7d", "total": {"cost_usd": 3100.0}, "budgets": [BUDGET]},
        } | answers  # fmt: skip

    def ask(self, path: str, **query: Any) -> Any:
        self.asked[path] = query
        return self._answers[path]

    def tell(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        raise AssertionError(f"a report changes nothing: {method} {path}")


EMPTY = {
    "/v1/slos": {
        "as_of": None,
        "counts": dict.fromkeys(("met", "at_risk", "breached", "unknown", "no_data"), 0),
        "slos": [],
        "overall": [],
    },
    "/v1/alerts": {"alerts": []},
    "/v1/costs": {"window": "7d", "total": None, "budgets": []},
}


def test_what_is_gathered() -> None:
    source = Told()
    found = gather(source, 7 * 86_400, "Week 1")
    assert found["since"] == "2026-01-01T00:00:00Z"
    assert source.asked["/v1/slos/up"] == {"start": found["since"], "end": AS_OF, "step": 5040}
    assert source.asked["/v1/alerts"]["since"] == found["since"]
    assert "/v1/slos/new" not in source.asked
    up, new = found["objectives"]
    assert up["history"] == {
        "moments": 4,
        "states": {"met": 0.25, "at_risk": 0.25, "breached": 0.25, "unknown": 0.25},
        "lowest_attainment": 0.9988,
        "highest_burn_1h": 2.5,
        "consumed_first": 0.2,
    }
    assert (new["history"], new["curve"]) == (None, [])
    assert found["alerts"]["fired"] == {"emergency": 0, "critical": 1, "warning": 0, "info": 0}
    assert json.loads(json.dumps(found)) == found


def test_markdown() -> None:
    text = markdown(gather(Told(), 86_400, "Week 1"))
    assert text.startswith("# Week 1\n\nAs of 2026-01-08T00:00:00Z: 1 breached, 1 no_data.\n")
    row = "| up | availability >= 99.9 % | breached | 99.88 % | 120 % | -8.6 min of 43.2 | 2.50 |"
    assert row in text
    assert "| new | - | no_data |" in text
    assert "| all | breached | 0 of 2 | 100 % |" in text
    assert "met 25 %, at_risk 25 %, breached 25 %, unknown 25 %" in text
    assert "Fired: 1 critical." in text
    assert "| fleet | projected | 3,100.00 USD | 5,000.00 USD |" in text
    tables = re.findall(r"(?:^\|.*\n)+", text, re.M)
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


class Balanced(HTMLParser):
    """Sees that every element is closed, and what the page would fetch."""

    VOID = ("meta", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        assert not {"src", "href", "onload", "onclick"} & {name for name, _ in attrs}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)


@pytest.mark.parametrize("source", [Told(), Told(**EMPTY)])
def test_html_is_one_whole_page_without_anything_from_elsewhere(source: Told) -> None:
    page = html(gather(source, 7 * 86_400, "Week <1>"))
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert not parser.names & {"script", "link", "img", "iframe", "b>"}
    assert "http" not in page
    assert "<title>Week &lt;1&gt;</title>" in page


def test_html_shows_what_the_numbers_say() -> None:
    page = html(gather(Told(), 7 * 86_400, "Week 1"))
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; co" in page
    assert '<span class="state bad">breached</span>' in page
    assert "breached 25 % of the time" in page
    assert 'aria-label="Budget used, from 20 % to 120 %"' in page
    assert "up: &lt;16&gt;" in page
    assert "6,000.00 USD to 7,100.50 USD" in page
    few = html(gather(Told(**{"/v1/slos/up": {"points": POINTS[:2]}}), 7 * 86_400, "t"))
    assert "too few points" in few


def test_nothing_is_told_as_nothing() -> None:
    text = markdown(gather(Told(**EMPTY), 86_400, "t"))
    assert "As of no evaluation yet: no objectives." in text
    assert "Fired: none." in text
    assert "Last 7d: unknown." in text
    assert (usd(None), usd(0), usd(0.0012), number(None)) == ("-", "0.00 USD", "0.0012 USD", "-")


@pytest.fixture
def _told(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def opened(**where: Any) -> Any:
        assert where["url"] == "http://h"
        yield Told()

    monkeypatch.setattr(slo_commands, "opened", opened)


@pytest.mark.usefixtures("_told")
def test_the_command(tmp_path: Path) -> None:
    asked = ["slo", "report", "--url", "http://h"]
    assert CliRunner().invoke(main, asked).stdout.startswith("# SLO compliance")
    path = tmp_path / "slo.html"
    done = CliRunner().invoke(main, [*asked, "--format", "html", "--output", str(path)])
    assert (done.exit_code, done.stdout) == (0, "")
    assert path.read_text().startswith("<!doctype html>")
    as_json = CliRunner().invoke(main, [*asked, "--json", "--window", "1h", "--fail-on-breach"])
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["window_s"] == 3600
    for window in ("1w", "5s", "400d"):
        assert CliRunner().invoke(main, [*asked, "--window", window]).exit_code == 2
