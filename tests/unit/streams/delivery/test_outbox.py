from __future__ import annotations

import pytest
from penstock.streams.delivery import outbox as module
from penstock.streams.delivery.message import Message
from penstock.streams.delivery.outbox import MemoryOutbox, Outbox


def message(key: str, lane: str = "a", receiver: str = "r") -> Message:
    return Message(key, receiver, (lane,), "{}")


def keys(outbox: Outbox, now_us: int = 10) -> list[str]:
    return [delivery.key for delivery in outbox.due(now_us)]


def test_a_message_is_taken_once() -> None:
    outbox = MemoryOutbox()
    assert outbox.put([message("1"), message("2", "b"), message("1")], 1) == 2
    assert outbox.put([message("1")], 2) == 0
    assert keys(outbox) == ["1", "2"]
    for key in ("1", "2"):
        outbox.mark_delivered(key, 3)
    assert outbox.put([message("1"), message("2")], 4) == 0
    assert keys(outbox) == []
    assert {key: item.state for key, item in outbox.finished.items()} == {
        "1": "delivered",
        "2": "delivered",
    }


def test_what_failed_comes_back_when_it_is_time_and_its_lane_waits() -> None:
    outbox = MemoryOutbox()
    outbox.put([message("1")], 1)
    outbox.put([message("2"), message("3", "b")], 2)
    assert keys(outbox) == ["1", "3"]
    outbox.mark_failed("1", "away", 3, next_us=20)
    assert keys(outbox, 19) == ["3"]
    assert keys(outbox, 20) == ["1", "3"]
    [first, *_] = outbox.waiting()
    assert (first.attempts, first.reason, first.next_us) == (1, "away", 20)
    outbox.mark_failed("1", "no", 21, next_us=None)
    assert outbox.finished["1"].state == "dead"
    assert keys(outbox) == ["2", "3"]


def test_what_is_finished_stays_so() -> None:
    outbox = MemoryOutbox()
    outbox.put([message("1")], 1)
    outbox.mark_delivered("1", 2)
    outbox.mark_failed("1", "late", 3, next_us=4)
    outbox.mark_failed("unknown", "late", 3, next_us=4)
    assert keys(outbox) == []
    assert outbox.finished["1"].reason == ""


def test_what_is_put_in_later_comes_later_whatever_the_clock_says() -> None:
    outbox = MemoryOutbox()
    for key, now_us in (("c", 9), ("b", 9), ("a", 2)):
        outbox.put([message(key)], now_us)
    again = MemoryOutbox(outbox.waiting())
    again.put([message("0")], 1)
    assert [delivery.key for delivery in again.waiting()] == ["c", "b", "a", "0"]


def test_the_next_life_goes_on() -> None:
    outbox = MemoryOutbox()
    outbox.put([message("1"), message("2")], 1)
    outbox.mark_failed("1", "away", 3, next_us=20)
    again = MemoryOutbox(outbox.waiting())
    assert again.waiting() == outbox.waiting()
    assert keys(again) == []
    assert keys(again, 20) == ["1"]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 2)
    outbox = MemoryOutbox()
    for key in "123":
        outbox.put([message(key)], 1)
        outbox.mark_delivered(key, 2)
    assert list(outbox.finished) == ["2", "3"]
    assert all(item.message.body == "" for item in outbox.finished.values())
