from __future__ import annotations

from typing import Any

import pytest
from penstock.schemas.config import Configuration, parse
from penstock.streams.core.config_changes import Change, changes_of

TEXT = """
gates:
  - {id: g, metrics: [{metric: error_rate, max_ratio: 0.01}]}
slos:
  - {id: up, sli: {kind: availability}, target: 0.99, description: d}
  - {id: all, of: [up]}
alerts:
  rules:
    - id: slow
      condition: {kind: threshold, metric: latency_ms_p95, window: 1m, op: ">", value: 150}
      annotations: {summary: s}
  receivers: [{kind: webhook, name: team, url: "http://a"}]
  route: {receivers: [team]}
costs:
  budgets: [{id: week, usd: 5}]
drift:
  monitors: [{id: chat}]
"""
BASE = parse(TEXT)


def changed(old: str, new: str) -> dict[str, Any]:
    assert old in TEXT
    return changes_of(BASE, parse(TEXT.replace(old, new, 1))).to_dict()


def parts(**named: Change) -> dict[str, Any]:
    return {
        name.replace("_", "."): {how: list(getattr(change, how)) for how in Change.__slots__}
        for name, change in named.items()
    }


def test_nothing() -> None:
    assert changes_of(BASE, parse(TEXT)).to_dict() == {"parts": {}, "resets": []}
    assert changes_of(Configuration(), Configuration()).parts == {}


@pytest.mark.parametrize(
    ("old", "new", "expected", "resets"),
    [
        (
            "max_ratio: 0.01", "max_ratio: 0.02", parts(gates=Change((), ("g",))),
            ["gate g: its evidence begins anew"],
        ),
        ("id: g,", "id: h,", parts(gates=Change(("h",), (), ("g",))), []),
        ("summary: s", "summary: t", parts(alerts_rules=Change((), ("slow",))), []),
        (
            "id: slow", "id: slow\n      for_s: 9",
            parts(alerts_rules=Change((), ("slow",))),
            ["alert rule slow: what is open of it ends"],
        ),
        (
            "value: 150", "value: 200", parts(alerts_rules=Change((), ("slow",))),
            [
                "alert rule slow: what is open of it ends",
                "latency_us > 200000 us: counted from now on, and in what closed in the 10 minutes"
                " before",
            ],
        ),
        ("description: d", "description: e", parts(slos=Change((), ("up",))), []),
        (
            "id: all, of: [up]", "id: all, of: [up], target: 0.5",
            parts(slos=Change((), ("all",))), [],
        ),
        ('"http://a"', '"http://b"', parts(alerts_receivers=Change((), ("team",))), []),
        (
            "route: {receivers: [team]}", "route: {receivers: [team], group_wait_s: 5}",
            parts(alerts_route=Change((), ("route",))), [],
        ),
    ],
)  # fmt: skip
def test_what_changed_and_what_begins_anew(
    old: str, new: str, expected: Any, resets: list[str]
) -> None:
    assert changed(old, new) == {"parts": expected, "resets": resets}


def test_what_brings_others_along() -> None:
    found = changed("target: 0.99", "target: 0.9")
    assert found["parts"]["slos"]["changed"] == ["up"]
    assert "up.budget" in found["parts"]["alerts.rules"]["changed"]  # its text names the target
    assert "objective up: what was stored of it is not shown any more" in found["resets"]
    assert "alert rule up.1h: what is open of it ends" in found["resets"]  # no longer reachable
    found = changed("budgets: [{id: week, usd: 5}]", "budgets: []")
    assert found["parts"]["costs.budgets"]["removed"] == ["week"]
    assert "alert rule week.budget: what is open of it ends" in found["resets"]
    found = changed("{id: chat}", "{id: chat, every_s: 1800}")
    assert "drift monitor chat: its history begins anew" in found["resets"]
