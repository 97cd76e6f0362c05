"""The explainer against a store in memory: each alert once, whenever it ends."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from penstock.schemas.config import Configuration, parse
from penstock.schemas.errors import StoreError
from penstock.streams.core.alerts.transition import Transition
from penstock.streams.core.alerts.watch import Watch
from penstock.streams.core.explain.contribution import Sums
from penstock.streams.core.explain.explanation import Answer
from penstock.streams.core.explain.question import Question
from penstock.streams.explain.explainer import Explainer
from penstock.streams.storage.store import Store
from penstock.tests.unit.streams.notify.world import SECTION, START_S, Ended, FakeStore, Town, fires

SETTINGS = parse("""
alerts:
  rules:
    - {id: errors, condition: {kind: threshold, metric: error_rate, window: 1m, op: ">", value: 0.1}}
    - {id: lost, condition: {kind: threshold, metric: coverage, op: "<", value: 0.9}}
""")
HASHES = {rule.id: Watch(rule).rule_hash for rule in SETTINGS.rules}
SAME = Answer(Sums(*(np.array([v]) for v in (5.0, 10.0, 5.0, 10.0))), [])


def fired(
    name: str, rule: str = "errors", severity: str = "warning", after_s: int = 0
) -> Transition:
    found = fires(name, START_S + after_s)
    labels = found.labels | {"severity": severity}
    return replace(found, rule_id=rule, rule_hash=HASHES.get(rule, "h"), labels=labels)


class Desk:
    """A store, and an explainer that is answered what a test says."""

    def __init__(self, settings: Configuration = SETTINGS) -> None:
        self.store: Any = FakeStore()
        self.asked: list[int] = []
        self.error: Exception | None = None
        self.settings = settings
        self.explainer = self.new()

    def new(self) -> Explainer:
        return Explainer(
            self.store, lambda: self.settings, self.answer, lambda: START_S * 1_000_000
        )

    def answer(self, store: Store, question: Question) -> Answer:
        self.asked.append(question.at_s)
        if self.error is not None:
            raise self.error
        return SAME

    def notes(self) -> dict[str, str]:
        rows = self.store.rows.get("alert_explanations_rows", [])
        assert len({row["alert_id"] for row in rows}) == len(rows)
        return {row["alert_id"]: json.loads(row["body"])["note"] for row in rows}


@pytest.fixture
def desk() -> Desk:
    return Desk()


def turn_until_done(desk: Desk) -> None:
    while desk.explainer.turn():
        pass


def test_each_alert_is_explained_once_and_the_worst_first(desk: Desk) -> None:
    desk.store.change(fired("a"))
    assert desk.explainer.turn()
    desk.store.change(fired("b", after_s=1), fired("c", "errors", "critical", 2))
    turn_until_done(desk)
    assert desk.asked == [START_S, START_S + 2, START_S + 1]
    assert desk.notes() == dict.fromkeys(("a", "b", "c"), "it was the same before")
    desk.explainer = desk.new()
    turn_until_done(desk)
    assert (len(desk.asked), desk.explainer.explained) == (3, 0)


def test_ended_anywhere_it_is_explained_once(desk: Desk) -> None:
    desk.store.change(fired("a"))
    turn_until_done(desk)
    for end_at in range(desk.store.operations):
        for after in (False, True):
            again = Desk()
            again.store.change(fired("a"))
            again.store.end_at, again.store.end_after = end_at, after
            with pytest.raises(Ended):
                turn_until_done(again)
            again.explainer = again.new()
            turn_until_done(again)
            assert again.notes() == desk.notes(), (end_at, after)


def test_two_explainers_store_one_explanation(desk: Desk) -> None:
    desk.store.change(fired("a"))
    other = desk.new()
    other._follow()  # both have seen it before either stores
    assert desk.explainer.turn()
    assert other.turn()
    assert list(desk.notes()) == ["a"]


def test_what_cannot_be_told_is_said(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.store.change(
        fired("changed", "gone"),
        replace(fired("other"), rule_hash="before"),
        fired("lost", "lost"),
    )
    turn_until_done(desk)
    changed = "the rule was changed before it was looked into"
    told = {"changed": changed, "other": changed, "lost": "coverage is not broken down by slice"}
    assert desk.notes() == told
    assert desk.asked == []
    for name, error in (
        ("long", StoreError("too long", 159, True)),
        ("wrong", StoreError("no column", 47)),
        ("defect", ValueError("ours")),
    ):
        desk.error = error
        desk.store.change(fired(name))
        turn_until_done(desk)
    assert desk.notes()["long"] == "the query needed more than 20 s or too much memory"
    assert desk.notes()["wrong"] == desk.notes()["defect"]
    assert caplog.text.count("cannot be explained") == 2


DRIFTING = parse("""
drift: {monitors: [{id: m, features: [output_score], categories: [route]}]}
alerts:
  rules:
    - {id: inputs, condition: {kind: drift, id: m}}
    - {id: outputs, condition: {kind: drift, id: m.prediction}}
    - {id: lacking, condition: {kind: drift, id: m.missing}}
""")


def test_drift_is_read_off_the_look() -> None:
    desk = Desk(DRIFTING)
    look = {"end_s": START_S, "window_s": 60, "sure": 1, "bars": "[]"}
    desk.store.rows["drift_scores"] = [
        look | {"series": "route", "psi": 0.5}, look | {"series": "output_score", "psi": 0.3},
    ]  # fmt: skip
    hashes = {rule.id: Watch(rule).rule_hash for rule in DRIFTING.rules}
    for rule in ("inputs", "outputs", "lacking"):
        desk.store.change(replace(fired(rule, rule), rule_hash=hashes[rule]))
    turn_until_done(desk)
    assert desk.notes() == {
        "inputs": "route changed most, but also output_score",
        "outputs": "output_score changed most",
        "lacking": "drift is not broken down by slice",
    }
    assert desk.asked == []


def test_a_store_that_is_away_is_asked_again(desk: Desk) -> None:
    desk.store.change(fired("a"))
    desk.error = StoreError("away", 210, True)
    with pytest.raises(StoreError):
        desk.explainer.turn()
    desk.error = None
    turn_until_done(desk)
    assert list(desk.notes()) == ["a"]


@pytest.fixture
def running(desk: Desk) -> Iterator[Desk]:
    desk.explainer.start()
    yield desk
    desk.explainer.stop()


def test_it_runs_on_when_the_store_comes_back(
    running: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.streams.explain.explainer.AGAIN_S", 0.01)
    monkeypatch.setattr("penstock.streams.explain.explainer.POLL_S", 0.01)
    running.store.away = True
    _until(lambda: bool(running.explainer.failure))
    running.store.away = False
    running.store.change(fired("a"))
    _until(lambda: running.notes() == {"a": "it was the same before"})
    assert running.explainer.failure == ""


def _until(holds: Any) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_without_rules_the_store_is_not_asked_until_there_are_some(desk: Desk) -> None:
    desk.settings = Configuration()
    desk.store.change(fired("a"))
    assert not desk.explainer.turn()
    assert desk.store.operations == 0
    desk.settings = SETTINGS
    assert desk.explainer.turn()
    assert list(desk.notes()) == ["a"]


def test_messages_take_an_explanation_along_that_is_there() -> None:
    town = Town()
    town.turn()
    row = {"alert_id": "a", "text": "variant=canary explains it", "recorded_at": 1}
    town.store.rows["alert_explanations_rows"] = [row]
    town.store.change(fires("a", START_S))
    town.store.change(fires("b", START_S))
    town.now_s = START_S + 2
    town.turn()
    town.notifier.stop()
    assert notes_of(town) == {"a": "variant=canary explains it", "b": None}


def notes_of(town: Town) -> dict[str, str | None]:
    """By alert, the explanation that the hook was told."""
    bodies = [json.loads(m.body) for m in town.sent.values() if m.receiver == "hook"]
    return {
        alert["id"]: alert["annotations"].get("explanation")
        for body in bodies
        for alert in body["alerts"]
    }


def test_a_first_message_waits_for_its_explanation_and_not_for_long() -> None:
    town = Town(SECTION.model_copy(update={"explanation_wait_s": 2.5}))
    town.turn()
    town.store.change(fires("a", START_S), fires("b", START_S))
    town.turn()
    assert town.told() == {}
    row = {"alert_id": "a", "text": "variant=canary explains it", "recorded_at": 1}
    town.store.rows["alert_explanations_rows"] = [row]
    town.now_s = START_S + 1
    town.turn()
    assert {name for _, name in town.told()} == {"a"}
    town.now_s = START_S + 3
    town.turn()
    town.notifier.stop()
    assert {name for _, name in town.told()} == {"a", "b"}
    assert notes_of(town) == {"a": "variant=canary explains it", "b": None}


def test_a_notifier_that_looks_once_waits_for_nothing() -> None:
    town = Town(SECTION.model_copy(update={"explanation_wait_s": 2.5}))
    town.store.change(fires("a", START_S))
    town.notifier.once()
    assert ("hook", "a") in town.told()
