"""What a demo with faults expects, writes and shows."""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from penstock.cli import main
from penstock.cli.demo import FAULTS as OFFERED
from penstock.demo.expected import EXPECTED, expected, markdown
from penstock.demo.faults import (
    FaultResult,
    explained_alerts,
    fault_config,
    healthy_hour,
    replay_of,
)
from penstock.demo.faults_view import WORDS, FaultView, FiredAlert
from penstock.demo.run import DemoOptions
from penstock.producers.faults import FAULTS
from penstock.producers.replay import Progress, ReplaySummary
from penstock.schemas.config import Configuration, parse
from rich.console import Console

OPTIONS = DemoOptions(speed=40)
ALERT = FiredAlert(
    "a1", "workers-lost", "warning", "firing", "2026-01-01T00:40:00Z", "Workers alive: 80 %", {},
    "worker=worker-1 explains 100 % of the change (1 -> 0)",
)  # fmt: skip
ROW: dict[str, Any] = {
    "id": "a1", "rule": "r", "severity": "info", "state": "resolved", "annotations": {},
    "fired": "2026-01-01T00:40:00Z", "text": "7 (limit 5)", "labels": {"model": "m"},
    "explanation": None,
}  # fmt: skip
SUMMARY = ReplaySummary(Counter(request=2, step=7), 0, 0, 2_000_000, None, 1.5)


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    return parse(fault_config(healthy_hour(replace(replay_of((), OPTIONS), head_s=600))))


def result(*rules: str, **changes: Any) -> FaultResult:
    fired = [replace(ALERT, rule=rule) for rule in rules]
    return replace(FaultResult(("silent-worker",), 9, 9, fired), **changes)


def test_every_fault_is_offered_described_and_expected_to_fire() -> None:
    assert set(OFFERED) == {"none", *FAULTS}
    assert WORDS.keys() == EXPECTED.keys() == set(FAULTS)
    assert all(EXPECTED.values())
    rules = [rule for fault in FAULTS for rule in EXPECTED[fault]]
    assert len(rules) == len(set(rules)), "an alert belongs to one fault"


def test_the_table_of_the_guide_is_that_of_the_code() -> None:
    guide = Path(__file__).parents[3] / "docs/demo.md"
    assert markdown() in guide.read_text(encoding="utf-8")


def test_what_is_expected_is_evaluated(configuration: Configuration) -> None:
    rules = {rule.id for rule in configuration.rules}
    assert set(expected(FAULTS)) <= rules
    assert len(rules) > 40
    assert {rule.id for rule in configuration.left_out} == {
        "prediction-shift",
        "cost-budget-projected",
    }


def test_exactly_the_matching_alerts_each_once() -> None:
    assert result("workers-lost").exit_code == 0
    silent = result()
    assert (silent.missing, silent.unexpected, silent.exit_code) == (["workers-lost"], [], 1)
    other = result("workers-lost", "errors-oom")
    assert (other.missing, other.unexpected, other.exit_code) == ([], ["errors-oom"], 1)
    twice = result("workers-lost", "workers-lost")
    assert (twice.missing, twice.unexpected, twice.exit_code) == ([], ["workers-lost"], 1)
    assert result("workers-lost", stored=8).exit_code == 4
    assert FaultResult((), 9, 9).exit_code == 0
    assert FaultResult((), 9, 9, [ALERT]).exit_code == 1


def test_each_with_the_right_explanation() -> None:
    assert result("workers-lost").unexplained == []
    for said, lacking in (
        ("", "workers-lost: there is none"),
        ("no slice", "workers-lost: does not say 'worker=worker-1 explains 100 %'"),
    ):
        found = result(fired=[replace(ALERT, explanation=said)])
        assert (found.missing, found.unexpected, found.exit_code) == ([], [], 1)
        assert found.unexplained == found.document()["unexplained"] == [lacking]
    longer = replace(ALERT, explanation="no slice", sentences=("", ALERT.explanation))
    assert result(fired=[longer]).exit_code == 0


class Server:
    """Answers as the API does; the alert that fired is explained after so many looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def get(self, path: str, **_: Any) -> Any:
        if path == "/v1/alerts/a1":
            return {"explained": {"sentences": ["long"]} if self.looks < 0 else None}
        self.looks -= 1
        line = "short" if self.looks < 0 else None
        return {"alerts": [ROW | {"explanation": line}, ROW | {"id": "pending", "fired": None}]}


def test_explanations_are_waited_for_and_not_for_ever() -> None:
    server: Any = Server(2)
    assert [alert.said for alert in explained_alerts(server, 0.0)] == [""]
    assert [alert.said for alert in explained_alerts(server)] == ["short\nlong"]


def test_the_document_says_what_was_expected() -> None:
    document = json.loads(json.dumps(result("workers-lost").document()))
    assert document["faults"] == ["silent-worker"]
    assert document["expected"] == {"workers-lost": ["worker=worker-1 explains 100 %"]}
    assert document["missing"] == document["unexpected"] == document["unexplained"] == []
    assert document["alerts"][0]["fired"] == "2026-01-01T00:40:00Z"


def test_an_alert_is_told_as_the_api_tells_it() -> None:
    assert FiredAlert.of(ROW).text == "7 (limit 5)"
    assert FiredAlert.of(ROW | {"annotations": {"summary": "seven"}}).text == "seven"


@pytest.mark.parametrize("right", [True, False])
def test_the_terminal_shows_alerts_in_order_and_what_is_wrong(right: bool) -> None:
    out = io.StringIO()
    view = FaultView(("silent-worker",), quiet=False, console=Console(file=out, width=100))
    fleet = replace(replay_of(("silent-worker",), OPTIONS), head_s=60).fleet()
    view.begin(fleet, 40.0, "alerts: {}", "http://127.0.0.1:1")
    view.fired = [ALERT]
    view.progress(Progress(0, 0.5, Counter(request=1)))
    found = result("workers-lost" if right else "errors-oom")
    reasons = {rule: item.why for rule, item in expected(found.faults).items()}
    view.told(found.fired, reasons, found.missing, found.unexpected, found.unexplained)
    view.closed(SUMMARY, 9, "http://x", None)
    text = out.getvalue()
    for words in ("worker-1 hangs", "1 alerts firing", "00:40:00", "Workers alive: 80 %"):
        assert words in text
    assert "stored 9" in text
    assert "penstock demo --fault silent-worker --open" in text
    if right:
        assert "worker=worker-1 explains 100 % of the change" in text
        assert "each once, with the right explanation" in text
    else:
        assert "did not fire: workers-lost" in text
        assert "should not have fired: errors-oom" in text


def test_without_a_fault_no_alert_is_expected() -> None:
    out = io.StringIO()
    view = FaultView((), quiet=False, console=Console(file=out, width=100))
    view.begin(replace(replay_of((), OPTIONS), head_s=60).fleet(), 40.0, "", "http://x")
    view.told([], {}, [], [], [])
    assert view.state() == "no alert"
    assert "Nothing goes wrong" in out.getvalue()
    assert "no alert fired" in out.getvalue()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fault", "slow", "--canary", "good"], "leave out --canary"),
        (["--fault", "slow", "--head", "60"], "leave out --head"),
        (["--fault", "slow", "--exit-code"], "leave out --exit-code"),
        (["--fault", "none", "--fault", "slow"], "--fault none goes with no other"),
        (["--fault", "fire"], "Invalid value for '--fault'"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments: list[str], said: str) -> None:
    answer = CliRunner().invoke(main, ["demo", *arguments])
    assert answer.exit_code == 2
    assert said in answer.output
