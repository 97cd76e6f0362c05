"""`penstock check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from penstock.cli import main

WHOLE = """
gates:
  - {id: canary, metrics: [{metric: error_rate, max_ratio: 0.01}]}
slos:
  - {id: up, sli: {kind: availability}, target: 0.999}
  - {id: most, sli: {kind: availability}, target: 0.9}
  - {id: all, of: [up, most]}
alerts:
  rules:
    - id: slow
      condition: {kind: threshold, metric: latency_ms_p95, window: 1m, op: ">", value: 1200}
costs:
  prices: [{valid_from: 2026-01-01, input_usd: 1, output_usd: 4}]
  budgets: [{id: fleet, usd: 5000}]
"""


def run(tmp_path: Path, text: str, *more: str) -> Result:
    path = tmp_path / "penstock.yaml"
    path.write_text(text)
    return CliRunner().invoke(main, ["check", str(path), *more])


def test_what_a_file_defines(tmp_path: Path) -> None:
    done = run(tmp_path, WHOLE)
    assert done.exit_code == 0, done.output
    first, *lines = done.output.splitlines()
    assert "is valid: 1 gates, 3 slos, 1 alert rules" in first
    assert "  up                           availability >= 99.9 %, 30d" in lines
    assert "  all                          all of up, most" in lines
    assert any(line.startswith("note: most: ") for line in lines)
    assert any("nobody is told" in line for line in lines)
    assert run(tmp_path, WHOLE, "--quiet").output.splitlines() == [first]


def test_as_json(tmp_path: Path) -> None:
    found: dict[str, Any] = json.loads(run(tmp_path, WHOLE, "--json").output)
    assert found["valid"]
    assert [item["id"] for item in found["defines"]["slos"]] == ["up", "most", "all"]
    rules = {item["id"] for item in found["defines"]["implied_alert_rules"]}
    assert {"up.budget", "fleet.budget"} <= rules
    assert len(found["notes"]) > 1


def test_an_empty_file_has_the_defaults(tmp_path: Path) -> None:
    assert run(tmp_path, "").output.endswith("is valid: the defaults\n")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("slos:\n  - {id: up, sli: {kind: availability}}\n", 2, "target is missing"),
        (f"{WHOLE}\nalrets: 1\n", 16, "Extra inputs are not permitted"),
        (
            "gates:\n  - id: a\n    metrics:\n      - {metric: error_rate, max_ratio: 2}\n",
            4,
            "less",
        ),
    ],
)
def test_mistakes_with_their_lines(tmp_path: Path, text: str, line: int, words: str) -> None:
    done = run(tmp_path, text)
    assert done.exit_code == 1
    assert f"penstock.yaml:{line}:" in done.output
    assert words in done.output
    as_json = run(tmp_path, text, "--json")
    assert as_json.exit_code == 1
    told = json.loads(as_json.output)
    assert not told["valid"]
    assert f"penstock.yaml:{line}:" in told["errors"][0]


def test_a_file_that_is_not_there() -> None:
    done = CliRunner().invoke(main, ["check", "nothing.yaml"])
    assert done.exit_code == 1
    assert "cannot read nothing.yaml" in done.output


def test_what_the_catalogue_adds(tmp_path: Path) -> None:
    text = """
slos: [{id: up, sli: {kind: availability}, target: 0.999}]
alerts:
  catalogue: {groups: [cost], overrides: {cost-per-1k-tokens-jump: {value: 1.5, severity: info}}}
"""
    lines = run(tmp_path, text).output.splitlines()
    assert any(
        line.startswith("  cost-per-1k-tokens-jump      info, cost_per_1k_tokens_usd over 5m > 1.5")
        for line in lines
    )
    assert "note: rules of the catalogue left out, because nothing computes their signal: " in (
        "\n".join(lines)
    )
    found = json.loads(run(tmp_path, text, "--json").output)["defines"]
    assert [rule["id"] for rule in found["catalogue_alert_rules"]] == ["cost-per-1k-tokens-jump"]
    assert "up.budget" in {rule["id"] for rule in found["implied_alert_rules"]}
