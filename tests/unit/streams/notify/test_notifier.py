"""The notifier against a store in memory: ended at every step, paused, beside another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from penstock.schemas.errors import PenstockError, StoreError
from penstock.streams.core.alerts.log import Alert
from penstock.streams.core.alerts.transition import Transition
from penstock.streams.core.gates.canonical import sha256
from penstock.streams.notify.lease import LeaseLost, StoreLease
from penstock.tests.unit.streams.core.alerts.alerts_world import item
from penstock.tests.unit.streams.notify.world import (
    START_S,
    Ended,
    FakeStore,
    Town,
    ends,
    fires,
    until,
)


@pytest.fixture
def town() -> Iterator[Town]:
    made = Town()
    yield made
    made.notifier.stop()


# -- ended at every step


def steps(town: Town) -> list[Callable[[], None]]:
    """`a` is taken by somebody, `b` is silenced at first and then escalated; both end."""

    def silence(until_s: int) -> None:
        town.store.silence("alertname", "b", datetime.fromtimestamp(until_s, UTC))

    def at(second: int, *actions: Callable[[], None]) -> Callable[[], None]:
        def step() -> None:
            town.now_s = START_S + second
            for action in actions:
                action()

        return step

    change = town.store.change
    return [
        at(0),
        at(1, lambda: change(fires("a", START_S + 1))),
        at(3, lambda: silence(START_S + 10), lambda: change(fires("b", START_S + 3))),
        at(4),
        at(5, lambda: town.store.acknowledge("a")),
        at(20),
        at(22),
        at(90),
        at(91),
        at(100, lambda: change(ends("a", START_S + 99), ends("b", START_S + 100))),
        at(105),
    ]


def story(end_at: int, after: bool, absent: int) -> Town:
    """The process ends at an operation, and is away for so many steps."""
    town = Town()
    town.store.end_at, town.store.end_after = end_at, after
    away = 0
    for step in steps(town):
        step()
        if away:
            away -= 1
            continue
        try:
            town.turn()
        except Ended:
            town.kill()
            away = absent
            if not away:
                town.turn()
    town.store.end_at = -1
    town.turn()
    town.notifier.stop()
    return town


@pytest.mark.slow
def test_ended_at_every_step_each_is_told_once() -> None:
    whole = story(-1, False, 0)
    expected = {
        ("hook", "a"): ["firing", "resolved"],
        ("pager", "a"): ["trigger", "acknowledge", "resolve"],
        ("hook", "b"): ["firing", "resolved"],
        ("pager", "b"): ["trigger", "resolve"],
        ("boss", "b"): ["firing", "resolved"],
    }
    assert whole.told() == expected
    assert whole.attempts == len(whole.sent)
    messages = {key: message.body for key, message in whole.sent.items()}
    for end_at in range(whole.store.operations):
        for after in (False, True):
            again = story(end_at, after, 0)
            assert {k: m.body for k, m in again.sent.items()} == messages, (end_at, after)
        told = story(end_at, bool(end_at % 2), 1).told()
        # Away for the moment at which `b` had lasted a minute, it need not tell the boss.
        assert told.setdefault(("boss", "b"), expected["boss", "b"]) == expected["boss", "b"]
        assert told == expected, end_at


def test_what_was_planned_and_not_put_in_is_put_in_although_it_has_ended_meanwhile(
    town: Town,
) -> None:
    town.turn()
    town.store.change(fires("a", START_S))
    town.store.between = lambda table: _end(table == "deliveries_rows")
    with pytest.raises(Ended):
        town.turn()
    town.store.between = lambda _: None
    assert not town.sent
    town.store.change(ends("a", START_S + 5))
    town.now_s += 10
    town.kill()
    town.turn()
    assert town.told()["hook", "a"] == ["firing", "resolved"]


def _end(when: bool) -> None:
    if when:
        raise Ended


def test_messages_of_long_ago_are_not_put_in_again(town: Town) -> None:
    town.store.change(fires("a", START_S))
    town.turn()
    town.store.rows["deliveries_rows"].clear()  # kept for 90 days
    town.sent.clear()
    town.now_s += 89 * 86400
    town.kill()
    # It is repeated once, as its route says; the message of long ago is not.
    town.turn()
    assert town.told()["hook", "a"] == ["firing"]
    assert all(str(START_S) not in message.body for message in town.sent.values())
    assert town.told()["boss", "a"] == ["firing"]


# -- positions


def test_a_change_that_is_not_there_yet_is_waited_for(town: Town) -> None:
    town.turn()
    town.store.change(fires("a", START_S), fires("b", START_S))
    log = town.store.rows["audit_log"]
    missing = log.pop(0)
    town.turn()
    assert town.sent == {}
    log.append(missing)
    town.turn()
    assert {name for _, name in town.told()} == {"a", "b"}


def test_an_entry_that_never_comes_holds_up_nobody_for_more_than_a_minute(town: Town) -> None:
    town.turn()
    town.store.change(fires("a", START_S), fires("b", START_S))
    del town.store.rows["audit_log"][0]
    town.turn()
    town.now_s += 61
    town.turn()
    assert {name for _, name in town.told()} == {"a", "b"}
    town.store.change(ends("b", START_S + 61))
    town.now_s += 2
    town.turn()
    assert town.told()["hook", "b"] == ["firing", "resolved"]


def test_a_note_about_an_alert_that_ended_is_no_alert(town: Town) -> None:
    town.store.change(fires("a", START_S))
    town.turn()
    town.store.change(ends("a", START_S + 5))
    town.now_s += 10
    town.turn()
    told = town.told()
    town.store.change(replace(item("a", "amended", START_S, 0), reason="late_data"))
    town.turn()
    assert town.told() == told
    assert town.notifier.latest_alerts()[0].state == "resolved"


def test_other_kinds_of_entries_are_passed_over(town: Town) -> None:
    town.turn()
    town.store.change(fires("a", START_S), fires("b", START_S))
    town.store.rows["audit_log"][0]["kind"] = "configuration"
    town.turn()
    assert {name for _, name in town.told()} == {"b"}


# -- what library users see


class Heard:
    def __init__(self) -> None:
        self.of: list[tuple[str, str]] = []

    def export(self, transition: Transition, alert: Alert) -> None:
        assert alert.last == transition
        self.of.append((transition.alert_id, transition.kind))


def test_the_live_log_and_exporters(town: Town) -> None:
    town.store.change(fires("old", START_S - 9), ends("old", START_S - 5), fires("a", START_S))
    heard = Heard()
    town.notifier.log.register_exporter(heard)
    town.turn()
    town.store.change(ends("a", START_S + 5))
    town.now_s += 61  # everything that is open is read again
    town.turn()
    assert heard.of == [
        ("a", "firing"),
        ("old", "firing"),
        ("old", "resolved"),
        ("a", "resolved"),
    ]
    assert [alert.id for alert in town.notifier.latest_alerts()] == ["a", "old"]
    assert town.notifier.totals["alert_changes"] == 4


# -- one at a time


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def lease(store: Any, holder: str, clock: Clock, **more: Any) -> StoreLease:
    return StoreLease(store, "alerts", holder, monotonic_s=clock, **more)


def test_whoever_waits_gets_it_from_one_that_was_killed_and_not_from_one_that_works() -> None:
    store, clock = FakeStore(), Clock()
    one, two = lease(store, "one", clock), lease(store, "two", clock)
    assert one.take()
    works = True

    def passes(_: str) -> None:
        clock.now_s += 1
        if works:
            one.keep()

    query = store.query

    def look(sql: str, parameters: Any = None) -> list[dict[str, Any]]:
        found = query(sql, parameters)
        store.query = query  # type: ignore[method-assign] # one.keep() looks too
        passes(sql)
        store.query = look  # type: ignore[method-assign]
        return found

    store.query = look  # type: ignore[method-assign]
    with pytest.raises(LeaseLost, match="alerts: one works already"):
        two.wait(0.0)
    works = False
    two.wait(0.0)
    assert two.held


def test_one_has_it_until_it_falls_silent() -> None:
    store, clock = FakeStore(), Clock()
    one, two = lease(store, "one", clock), lease(store, "two", clock)
    assert one.take()
    assert one.take()
    assert not two.take()
    assert two.other == "one"
    for _ in range(10):
        clock.now_s += 4
        one.keep()
        assert not two.take()
    term = one.term
    clock.now_s += 14.9
    assert not two.take()
    clock.now_s += 0.2
    assert two.take()
    assert two.term > term
    with pytest.raises(LeaseLost, match="two has the lease"):
        one.keep()
    assert not one.held
    assert not one.take()
    two.give_back()
    two.give_back()
    assert one.take()
    assert lease(store, "three", clock, alone=True).take()


def test_of_two_that_take_it_at_once_one_has_it() -> None:
    store, clock = FakeStore(), Clock()
    one, two = lease(store, "one", clock), lease(store, "two", clock)
    store.between = lambda _: _meanwhile(store, two)
    assert not one.take()
    assert two.held
    assert one.other == "two"


def _meanwhile(store: FakeStore, other: StoreLease) -> None:
    store.between = lambda _: None
    assert other.take()


def test_a_replica_that_lags_tells_nothing() -> None:
    store, clock = FakeStore(), Clock()
    one = lease(store, "one", clock)
    store.between = lambda name: store.tokens.add((name, sha256(["lease", "alerts", 1])))
    with pytest.raises(StoreError, match="lags"):
        one.take()
    assert not one.held


def test_one_that_wakes_up_with_a_plan_tells_nobody(town: Town) -> None:
    """It was paused after it planned and before the plan was stored; another one told it all."""
    town.turn()
    town.store.change(fires("a", START_S))
    asleep = town.notifier

    def pause(table: str) -> None:
        if table == "signal_states_rows" and town.notifier is asleep:
            town.notifier = town.new()
            town.notifier._lease._alone = True
            town.now_s += 30
            town.turn()

    town.store.between = pause
    with pytest.raises(LeaseLost):
        asleep.turn()
    asleep.stop()
    town.store.change(ends("a", START_S + 40))
    town.now_s += 30
    town.turn()
    assert town.told()["hook", "a"] == ["firing", "resolved"]
    town.kill()
    town.turn()
    assert town.told()["hook", "a"] == ["firing", "resolved"]


def test_a_second_one_waits_and_goes_on_when_the_first_ends(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    town.store.change(fires("a", START_S))
    town.turn()
    second = town.new()
    second.start()
    until(lambda: "works already" in second.failure)
    with pytest.raises(PenstockError, match="works already"):
        second.turn()
    town.notifier.stop()
    until(lambda: not second.failure)
    second.stop()
    assert town.told()["hook", "a"] == ["firing"]
    assert caplog.text.count("nobody is told of alerts") == 1
