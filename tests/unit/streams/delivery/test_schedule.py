"""Which delivery goes when, for any outbox and any luck."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.streams.core.tiles import SECOND_US
from penstock.streams.delivery.message import Delivery, Message
from penstock.streams.delivery.schedule import Policy, backoff_s, is_too_old, next_try_us, ready

LANES = st.lists(st.sampled_from("abcde"), min_size=1, max_size=3, unique=True)


@st.composite
def outboxes(draw: st.DrawFn) -> list[Delivery]:
    count = draw(st.integers(0, 12))
    return [
        Delivery(
            Message(f"k{i}", draw(st.sampled_from(["x", "y"])), tuple(draw(LANES)), "{}"),
            created_us=draw(st.integers(0, 5)),
            position=draw(st.integers(0, 2)),
            next_us=draw(st.integers(0, 10)),
        )
        for i in range(count)
    ]


def lanes_of(delivery: Delivery) -> set[tuple[str, str]]:
    return {(delivery.message.receiver, lane) for lane in delivery.message.lanes}


@given(outboxes(), st.integers(0, 10), st.randoms())
@settings(deadline=None)
def test_ready(deliveries: list[Delivery], now_us: int, chance: random.Random) -> None:
    found = ready(deliveries, now_us)
    chance.shuffle(shuffled := list(deliveries))
    assert ready(shuffled, now_us) == found
    for delivery in deliveries:
        earlier = [d for d in deliveries if d.order < delivery.order]
        free = not any(lanes_of(d) & lanes_of(delivery) for d in earlier)
        assert (delivery in found) == (free and delivery.next_us <= now_us)


@given(outboxes(), st.integers(0, 2**32))
@settings(deadline=None)
def test_whatever_fails_lanes_keep_their_order_and_everything_ends(
    deliveries: list[Delivery], seed: int
) -> None:
    chance = random.Random(seed)
    policy = Policy(tries=4)
    waiting = {delivery.key: delivery for delivery in deliveries}
    ends: dict[tuple[str, str], list[tuple[int, int, str]]] = defaultdict(list)
    now_us = 10
    for _ in range(200):
        for delivery in ready(waiting.values(), now_us):
            next_us = None
            if chance.random() < 0.6:
                next_us = next_try_us(policy, delivery, now_us, chance.random())
            if next_us is None:
                del waiting[delivery.key]
                for lane in lanes_of(delivery):
                    ends[lane].append(delivery.order)
            else:
                waiting[delivery.key] = Delivery(
                    delivery.message,
                    delivery.created_us,
                    delivery.position,
                    attempts=delivery.attempts + 1,
                    next_us=next_us,
                )
        now_us += round(policy.longest_s * SECOND_US)
    assert not waiting
    assert all(order == sorted(order) for order in ends.values())


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
@settings(deadline=None)
def test_backoff_is_bounded_and_linear_in_chance(attempts: int, draw: float) -> None:
    policy = Policy(first_s=2, longest_s=900)
    longest_s = min(900, 2 * 2 ** min(attempts - 1, 100))
    assert backoff_s(policy, attempts, draw) == pytest.approx(draw * longest_s)


def test_pauses_double_up_to_the_longest() -> None:
    pauses = [backoff_s(Policy(), attempts, 1.0) for attempts in range(1, 12)]
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]


DELIVERY = Delivery(Message("k", "r", ("a",), "{}"), created_us=0)


def test_what_a_receiver_asks_for_is_waited_for() -> None:
    assert next_try_us(Policy(), DELIVERY, 0, 0.5, 30) == 31 * SECOND_US
    assert next_try_us(Policy(), DELIVERY, 0, 0.0, 10**9) == 900 * SECOND_US
    assert next_try_us(Policy(), DELIVERY, 0, 0.0, -5) == 0


def test_it_is_given_up_after_so_many_tries_or_so_long() -> None:
    tried = Delivery(DELIVERY.message, 0, attempts=49)
    assert next_try_us(Policy(), tried, 0, 0.5) is None
    assert next_try_us(Policy(tries=51), tried, 0, 0.0) == 0
    day_us = 86400 * SECOND_US
    assert not is_too_old(Policy(), DELIVERY, day_us)
    assert is_too_old(Policy(), DELIVERY, day_us + 1)
    assert next_try_us(Policy(), DELIVERY, day_us, 0.9) is None
