"""The signals of monitors, the alert rules they bring along, and the examples of docs/drift.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from penstock.schemas.alerts.rules import Signal
from penstock.schemas.config import parse
from penstock.schemas.errors import InvalidConfiguration
from penstock.streams.core.detectors.keeper import check_detectors

PAGE = Path(__file__).parents[4] / "docs" / "drift.md"
MONITOR = "drift: {monitors: [{id: chat}], prediction: {hold_s: 7200}}\n"


def rule(name: str) -> str:
    return f"alerts: {{rules: [{{id: mine, condition: {{kind: drift, id: {name}}}}}]}}\n"


def test_monitors_bring_rules_along() -> None:
    found = parse(MONITOR)
    assert found.has_signals
    assert {one.id: (one.severity, one.for_s, one.group) for one in found.rules} == {
        "chat.drift": ("warning", 0, "drift"),
        "chat.missing": ("warning", 0, "drift"),
        "chat.missing-high": ("critical", 0, "drift"),
        "chat.concept": ("warning", 0, "drift"),
        "chat.prediction": ("warning", 7200, "drift"),
    }
    high = next(one.condition for one in found.rules if one.id == "chat.missing-high")
    assert isinstance(high, Signal)
    assert high.limit is not None
    assert (high.id, high.limit.op, high.limit.value) == ("chat.missing", ">", 0.05)


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("chat", {"chat.drift"}),
        ("chat.missing", {"chat.missing", "chat.missing-high"}),
        ("chat.prediction", {"chat.prediction"}),
        ("chat.concept", {"chat.concept"}),
    ],
)
def test_a_rule_of_ones_own_takes_their_place(name: str, gone: set[str]) -> None:
    brought = {one.id for one in parse(MONITOR).rules}
    assert {one.id for one in parse(MONITOR + rule(name)).rules} == brought - gone | {"mine"}


def test_what_watches_no_output_has_no_prediction() -> None:
    inputs = "drift: {monitors: [{id: m, features: [input_tokens], categories: [language]}]}\n"
    assert "m.prediction" not in {one.id for one in parse(inputs).rules}
    with pytest.raises(
        InvalidConfiguration, match=r"no drift m\.prediction; there is m, m\.concept"
    ):
        parse(inputs + rule("m.prediction"))


def test_detectors_bring_a_rule_along() -> None:
    text = "drift: {detectors: [{id: slow, metric: error_rate, by: model}]}\n"
    assert {(one.id, one.severity) for one in parse(text).rules} == {("slow.alarm", "warning")}
    own = "alerts: {rules: [{id: mine, condition: {kind: detector, id: slow}}]}\n"
    assert [one.id for one in parse(text + own).rules] == ["mine"]
    long = text.replace("slow", "s" * 59)
    with pytest.raises(InvalidConfiguration, match="longer than 58"):
        parse(long)
    twice = "drift: {detectors: [{id: a, metric: steps}, {id: a, metric: steps}]}"
    with pytest.raises(InvalidConfiguration, match="detector ids must be unique: a"):
        parse(twice)


@pytest.mark.parametrize(
    ("monitors", "message"),
    [
        (f"[{{id: {'m' * 52}}}]", "longer than 51"),
        ("[{id: m}, {id: m.missing}]", "two signals are named drift m.missing: rename a monitor"),
    ],
)
def test_names_that_do_not_fit(monitors: str, message: str) -> None:
    with pytest.raises(InvalidConfiguration, match=message):
        parse(f"drift: {{monitors: {monitors}}}\n")


def test_the_examples_of_the_page_are_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(blocks) == 3
    for block in blocks:
        found = parse(block)
        assert found.rules or found.alerts.receivers
        check_detectors(found)
