"""What becomes of deliveries, on a clock of its own and with a sender that does as it is told."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.schemas.alerts.routing import Receiver
from penstock.streams.delivery.carrier import BREAKER_REST_S, Carrier, Ways
from penstock.streams.delivery.errors import DeliveryDelayed, DeliveryRefused, ReceiverAway
from penstock.streams.delivery.message import Message
from penstock.streams.delivery.outbox import MemoryOutbox
from penstock.streams.delivery.schedule import Policy
from penstock.tests.unit.streams.delivery.planned import RECEIVERS

SECOND_US = 1_000_000


class World:
    """A receiver, its outbox and a clock."""

    def __init__(
        self, receiver: Receiver | None = RECEIVERS["hook"], policy: Policy | None = None
    ) -> None:
        self.now_us = 0
        self.outbox = MemoryOutbox()
        self.totals: Counter[str] = Counter()
        self.answers: list[Exception | None] = []  # the last one is for ever
        self.tried: list[str] = []
        self.draw = 0.5
        ways = Ways(
            self.outbox, self.send, self.totals, lambda: self.now_us, policy or Policy(),
            lambda: self.draw, lambda: self.now_us / SECOND_US,
        )  # fmt: skip
        self.carrier = Carrier(receiver, ways)

    def send(self, _: Receiver, message: Message, now_s: float) -> None:
        assert now_s == self.now_us / SECOND_US
        self.tried.append(message.key)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is not None:
            raise answer

    def put(self, *keys: str) -> None:
        """Messages with a lane of their own, or the one before the colon."""
        self.outbox.put([Message(k, "hook", (k.split(":")[0],), "{}") for k in keys], self.now_us)

    def carry(self, after_s: float = 0) -> list[str]:
        """The keys that were tried."""
        self.now_us += round(after_s * SECOND_US)
        self.tried = []
        self.carrier.carry(self.outbox.due(self.now_us))
        return self.tried

    def state(self, key: str) -> str:
        found = self.outbox.finished.get(key)
        return found.state if found else "waiting"


@pytest.fixture
def world() -> World:
    return World()


def test_delivered_in_order(world: World) -> None:
    world.answers = [None]
    world.put("a:1", "b:1", "a:2")
    assert world.carry() == ["a:1", "b:1"]
    assert world.carry() == ["a:2"]
    assert world.carry() == []
    assert world.totals == {"deliveries": 3}


def test_refused_is_dead_at_once_and_the_next_goes_on(world: World) -> None:
    world.answers = [DeliveryRefused("HTTP 400: no"), None]
    world.put("a:1", "a:2")
    assert world.carry() == ["a:1"]
    assert world.carry() == ["a:2"]
    assert world.outbox.finished["a:1"].reason == "HTTP 400: no"
    assert (world.state("a:1"), world.state("a:2")) == ("dead", "delivered")
    assert world.totals == {"deliveries": 1, "deliveries_dead": 1}


def test_a_failure_is_tried_again_after_a_growing_pause(world: World) -> None:
    world.answers = [DeliveryDelayed("later")]
    world.put("a")
    assert world.carry() == ["a"]
    for pause_s in (1, 2, 4, 8):  # half of 2, 4, 8, 16
        assert world.carry(pause_s - 0.1) == []
        assert world.carry(0.1) == ["a"]
    assert world.totals == {"deliveries_retried": 5}


def test_too_many_tries(world: World) -> None:
    world = World(policy=Policy(tries=3))
    world.answers = [DeliveryDelayed("later")]
    world.put("a")
    for _ in range(3):
        world.carry(100)
    assert world.outbox.finished["a"].reason == "tried 3 times; last: later"


def test_who_asks_for_time_is_given_it(world: World) -> None:
    world.answers = [DeliveryDelayed("slow down", 30), None]
    world.put("a", "b")
    assert len(world.carry()) == 1
    assert world.carry(29) == []
    assert sorted(world.carry(3)) == ["a", "b"]


def test_a_receiver_that_is_away_is_left_alone(world: World) -> None:
    world.answers = [ReceiverAway("no answer")]
    world.put("a", "b", "c", "d", "e")
    assert len(world.carry()) == 3  # then the circuit opens
    assert world.carry(BREAKER_REST_S - 1) == []
    assert len(world.carry(1)) == 1  # one probe
    world.answers = [None]
    assert len(world.carry(BREAKER_REST_S)) == 5


def test_a_delay_of_one_message_says_nothing_of_the_receiver(world: World) -> None:
    world.answers = [DeliveryDelayed("mailbox is busy")]
    world.put("a", "b", "c", "d", "e")
    assert len(world.carry()) == 5


def test_what_is_too_old_is_given_up_untried(world: World) -> None:
    world.answers = [ReceiverAway("no answer")]
    world.put("a")
    world.carry()
    assert world.carry(86401) == []
    assert world.outbox.finished["a"].reason == "older than 86400 s; last: no answer"


def test_a_receiver_that_is_gone() -> None:
    world = World(receiver=None)
    world.put("a")
    assert world.carry() == []
    assert "no receiver of this name" in world.outbox.finished["a"].reason


def test_what_cannot_be_sent_holds_up_nobody(world: World) -> None:
    world.answers = [KeyError("recipient"), None]
    world.put("a:1", "a:2")
    world.carry()
    assert world.outbox.finished["a:1"].reason == "cannot be sent: KeyError"
    assert world.carry() == ["a:2"]


@given(st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_at_least_once_in_order_through_crashes(seed: int) -> None:
    """Any luck, with lives that end between the answer and the note of it."""
    chance = random.Random(seed)
    outcomes: list[Any] = [
        None,
        None,
        DeliveryDelayed("x"),
        ReceiverAway("x"),
        DeliveryDelayed("x", 5),
    ]
    world = World(policy=Policy(tries=10**6))
    taken: list[str] = []

    def send(_: Receiver, message: Message, __: float) -> None:
        outcome = chance.choice(outcomes)
        if outcome is not None and chance.random() < 0.8:
            raise outcome
        taken.append(message.key)
        if outcome is not None:  # taken, and the answer was lost
            raise outcome

    keys = [f"{chance.choice('ab')}:{i:02}" for i in range(8)]
    outbox = world.outbox
    for key in keys:
        outbox.put([Message(key, "hook", (key[0],), "{}")], world.now_us)
        world.now_us += 1
    while outbox.waiting():
        ways = Ways(outbox, send, world.totals, lambda: world.now_us, Policy(tries=10**6),
                    chance.random, lambda: world.now_us / SECOND_US)  # fmt: skip
        carrier = Carrier(RECEIVERS["hook"], ways)
        for _ in range(chance.randrange(1, 8)):
            carrier.carry(outbox.due(world.now_us))
            world.now_us += chance.randrange(60) * SECOND_US
        before, outbox = outbox, MemoryOutbox(outbox.waiting())
        outbox.finished = before.finished
    assert set(taken) == set(keys)
    for lane in "ab":
        firsts = list(dict.fromkeys(key for key in taken if key[0] == lane))
        assert firsts == sorted(firsts)
        # And what was repeated never came after a later one.
        assert [key for key in taken if key[0] == lane] == sorted(k for k in taken if k[0] == lane)
