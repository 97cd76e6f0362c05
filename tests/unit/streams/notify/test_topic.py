"""What is sent to `penstock.alerts`: ended at every step nothing is lost, and what comes twice has one id."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from penstock.schemas.errors import BrokerAway
from penstock.schemas.topics import ALERTS
from penstock.streams.kafka.messages import Outgoing
from penstock.streams.notify.lease import LeaseLost
from penstock.streams.notify.topic import AlertsTopic
from penstock.tests.unit.streams.notify.test_gates import ONE, TWO
from penstock.tests.unit.streams.notify.world import START_S, Ended, FakeStore, ends, fires, until


class Broker:
    """Keeps what it is given; ends the process, or is away, when a test says so."""

    def __init__(self) -> None:
        self.messages: list[Outgoing] = []
        self.away = False
        self.ends_after = False

    def deliver(self, messages: Sequence[Outgoing]) -> None:
        if self.away:
            raise BrokerAway("Kafka is away")
        self.messages += messages
        if self.ends_after:
            self.ends_after = False
            raise Ended

    def partitions(self, topic: str) -> int:
        return 1

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(message.value) for message in self.messages]

    def ids(self) -> list[str]:
        return [body["id"] for body in self.bodies()]


class World:
    """A store, a broker, and one process after the other."""

    def __init__(self) -> None:
        self.store, self.broker = FakeStore(), Broker()
        self.store.folder = "a folder"  # of one process at a time, so that nobody has to wait
        self.topic = self.new()

    def new(self) -> AlertsTopic:
        return AlertsTopic(self.store, self.broker, 0.005)  # type: ignore[arg-type] # all that it uses

    def kill(self) -> None:
        self.store.end_at = -1
        self.topic = self.new()

    def steps(self) -> list[Callable[[], None]]:
        store = self.store
        return [
            lambda: store.judge(ONE, START_S, "UNDECIDED"),
            lambda: store.change(fires("a", START_S)),
            lambda: store.judge(ONE, START_S + 10, "PASS"),
            lambda: store.judge(TWO, START_S, "FAIL"),
            lambda: store.change(ends("a", START_S + 20), fires("b", START_S + 20)),
            lambda: store.judge(ONE, START_S + 30, "PASS"),
        ]


def story(end_at: int, after: bool) -> World:
    world = World()
    world.store.end_at, world.store.end_after = end_at, after
    for step in world.steps():
        step()
        try:
            world.topic.turn()
        except Ended:
            world.kill()
    world.kill()
    world.topic.turn()
    return world


def test_ended_at_every_step_nothing_is_lost() -> None:
    whole = story(-1, False)
    told = [
        (message.key, body["kind"], body.get("status") or body["verdict"])
        for message, body in zip(whole.broker.messages, whole.broker.bodies(), strict=True)
    ]
    assert told == [
        (b"one", "verdict", "UNDECIDED"),
        (b"a", "alert", "firing"),
        (b"one", "verdict", "PASS"),
        (b"two", "verdict", "FAIL"),
        (b"a", "alert", "resolved"),
        (b"b", "alert", "firing"),
    ]
    for end_at in range(whole.store.operations):
        for after in (False, True):
            again = story(end_at, after).broker
            # Each once but for repetitions; in the order of its alert or gate.
            first = list(dict.fromkeys(again.ids()))
            assert sorted(first) == sorted(whole.broker.ids()), (end_at, after)
            assert len({m.value for m in again.messages}) == len(first)
            for key in {message.key for message in again.messages}:
                values = dict.fromkeys(m.value for m in again.messages if m.key == key)
                assert [*values] == [m.value for m in whole.broker.messages if m.key == key]


def test_an_end_between_sending_and_noting_it_repeats_the_round() -> None:
    world = World()
    world.store.change(fires("a", START_S))
    world.broker.ends_after = True
    with pytest.raises(Ended):
        world.topic.turn()
    world.kill()
    assert world.topic.turn() == 1
    assert world.topic.turn() == 0
    first, second = world.broker.messages
    assert (first, first.topic) == (second, ALERTS)


def test_a_broker_that_is_away_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "penstock")
    world = World()
    world.store._thread = threading.Thread()
    world.broker.away = True
    world.store.change(fires("a", START_S))
    world.topic.start()
    until(lambda: world.topic.failure == "Kafka is away")
    world.broker.away = False
    until(lambda: world.broker.messages and not world.topic.failure)
    world.topic.stop()
    assert len(world.broker.messages) == world.topic.totals["topic_messages"] == 1
    assert caplog.text.count("nothing is sent to penstock.alerts until this has ended") == 1
    assert caplog.text.count("changes of alerts and verdicts are sent") == 1


def test_a_defect_is_logged_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.store._thread = threading.Thread()
    world.store.judge(ONE, START_S, "PASS")
    (row,) = world.store.rows["verdicts"]
    said, row["evidence"] = row["evidence"], "{}"
    world.topic.start()
    until(lambda: "KeyError" in world.topic.failure)
    row["evidence"] = said
    until(lambda: world.broker.messages)
    world.topic.stop()
    assert caplog.text.count("sending to penstock.alerts failed") == 1


def test_one_sends_at_a_time() -> None:
    world = World()
    world.store.folder = None
    first, second = world.new(), world.new()
    first.turn()
    with pytest.raises(LeaseLost, match=r"sends to penstock.alerts already"):
        second.turn()
    world.store.change(fires("a", START_S))
    assert first.turn() == 1
    first.stop()
    second.once()
    assert len(world.broker.messages) == 1


def test_once_sends_all_there_is() -> None:
    world = World()
    for step in world.steps():
        step()
    world.topic.once()
    assert len(world.broker.messages) == 6
    body = next(body for body in world.broker.bodies() if body["kind"] == "verdict")
    assert (body["gate"], body["before"], body["as_of"]) == ("one", None, "2026-01-01T00:00:00Z")
