"""Batches: how large, how soon, in which order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from penstock.streams.app.inbox import Inbox
from penstock.streams.kafka.messages import Message


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def message(partition: int, offset: int, size: int = 10) -> Message:
    return Message(partition, offset, offset, b"x" * size)


def test_waits_for_company() -> None:
    clock = Clock()
    inbox = Inbox(max_messages=10, max_bytes=1000, gather_s=0.1, clock=clock)
    assert inbox.due_in_s() is None
    inbox.put(message(0, 0))
    clock.now_s += 0.04
    inbox.put(message(1, 0))
    assert inbox.take() == []
    wait_s = inbox.due_in_s()
    assert wait_s is not None
    assert 0.05 < wait_s < 0.07, "it is the first that waited longest"
    clock.now_s += 0.07
    assert inbox.oldest_us == 0
    assert len(inbox.take()) == 2
    assert inbox.oldest_us is None


def test_full_batches_go_at_once() -> None:
    inbox = Inbox(max_messages=3, max_bytes=1000, gather_s=60)
    for offset in range(7):
        inbox.put(message(0, offset))
    assert (inbox.is_over, inbox.is_low) == (True, False)
    assert [[m.offset for m in inbox.take()] for _ in range(3)] == [[0, 1, 2], [3, 4, 5], []]
    assert (inbox.is_over, inbox.is_low) == (False, True)


def test_bytes_bound_a_batch_unless_one_message_is_larger() -> None:
    inbox = Inbox(max_messages=100, max_bytes=100, gather_s=0)
    for offset, size in enumerate([60, 60, 500, 10]):
        inbox.put(message(0, offset, size))
    assert inbox.bytes == 630
    assert [[m.offset for m in inbox.take()] for _ in range(4)] == [[0], [1], [2], [3]]
    assert inbox.bytes == 0


def test_a_partition_is_dropped_alone() -> None:
    inbox = Inbox(max_messages=100, max_bytes=10_000, gather_s=0)
    for offset in range(3):
        inbox.put(message(0, offset))
        inbox.put(message(1, offset, 20))
    inbox.drop(1)
    assert inbox.bytes == 30
    assert [m.partition for m in inbox.take()] == [0, 0, 0]
    inbox.put(message(0, 3))
    inbox.clear()
    assert (len(inbox), inbox.bytes) == (0, 0)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 300))),
    st.integers(1, 10),
    st.integers(1, 500),
)
def test_nothing_is_lost_and_order_is_kept(
    arrivals: list[tuple[int, int]], max_messages: int, max_bytes: int
) -> None:
    inbox = Inbox(max_messages, max_bytes, gather_s=0)
    sent = [message(partition, number, size) for number, (partition, size) in enumerate(arrivals)]
    for one in sent:
        inbox.put(one)
    batches = []
    while batch := inbox.take():
        batches.append(batch)
        assert len(batch) <= max_messages
        assert len(batch) == 1 or sum(len(m.value) for m in batch) <= max_bytes
    assert [m for batch in batches for m in batch] == sent
    assert inbox.bytes == 0
