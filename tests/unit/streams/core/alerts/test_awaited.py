"""First messages wait for what explains their alerts, and never for long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from penstock.schemas.alerts.section import Alerts
from penstock.streams.core.alerts.awaited import Awaited
from penstock.streams.core.alerts.log import Alert
from penstock.streams.core.alerts.notify import Notification, NotifyState, plan_notifications
from penstock.tests.unit.streams.core.alerts.alerts_world import ended, firing

WAIT_S = 5
SECTION = Alerts.model_validate({
    "receivers": [{"kind": "webhook", "name": "a", "url": "https://example.org/a"}],
    "route": {"receivers": ["a"], "group_by": ["severity"], "group_wait_s": 0, "group_interval_s": 1},
})  # fmt: skip


def plan(
    state: NotifyState, now_s: int, awaited: Awaited, *alerts: Alert
) -> tuple[NotifyState, list[Notification]]:
    return plan_notifications(
        SECTION.route,
        SECTION.receivers,
        list(alerts),
        {},
        (),
        state,
        now_s,
        awaited,
    )


def test_the_first_message_waits_until_it_is_explained_or_the_time_is_up() -> None:
    x = firing("x", 90)
    for missing, now_s, told in (
        ({"x"}, 100, 0), ({"x"}, 104, 0), ({"x"}, 105, 1), ((), 101, 1), ({"other"}, 100, 1),
        ({"x"}, 99, 1),  # the clock was set back
    ):  # fmt: skip
        awaited = Awaited(now_s, WAIT_S, {"x": 100, "other": 100}, missing)
        assert len(plan(NotifyState(), now_s, awaited, x)[1]) == told, (missing, now_s)
    nobody_waits = Awaited(100, 0, {"x": 100}, {"x"})
    assert len(plan(NotifyState(), 100, nobody_waits, x)[1]) == 1


def test_the_key_of_a_message_does_not_tell_how_long_it_waited() -> None:
    x = firing("x", 100)
    late = plan(NotifyState(), 105, Awaited(105, WAIT_S, {"x": 100}, {"x"}), x)[1]
    assert [one.key for one in late] == [
        one.key for one in plan(NotifyState(), 100, Awaited(), x)[1]
    ]


def test_what_was_told_is_repeated_and_ended_without_waiting() -> None:
    x, y = firing("x", 100), firing("y", 110)
    state, due = plan(NotifyState(), 100, Awaited(), x)
    assert len(due) == 1
    wait = Awaited(112, WAIT_S, {"x": 100, "y": 110}, {"x", "y"})
    assert plan(state, 112, wait, ended(x, 111))[1][0].status == "resolved"
    assert plan(state, 112, wait, x, y)[1] == []
    assert len(plan(state, 100 + 4 * 3600, wait, x)[1]) == 1


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=12))
def test_alerts_that_join_a_group_do_not_prolong_its_wait(news: list[tuple[int, bool]]) -> None:
    """Each second a look; nobody hears of an alert later than it waits by itself."""
    begins_s, seen_s, missing = 100, {}, set()
    starts: dict[int, list[str]] = {}
    for number, (pause_s, explained) in enumerate(news):
        begins_s += pause_s
        name = f"n{number}"
        starts.setdefault(begins_s, []).append(name)
        if not explained:
            missing.add(name)
    state, alerts = NotifyState(), list[Alert]()
    told: dict[str, int] = {}
    for now_s in range(100, begins_s + WAIT_S + 2):
        for name in starts.get(now_s, ()):
            alerts.append(firing(name, now_s))
            seen_s[name] = now_s
        state, due = plan(state, now_s, Awaited(now_s, WAIT_S, dict(seen_s), missing), *alerts)
        for item in due:
            for alert in item.firing:
                told.setdefault(alert.id, now_s)
    assert told.keys() == seen_s.keys()
    # A second is the least time between two messages of a group.
    assert all(told[name] - seen_s[name] <= WAIT_S + 1 for name in told)
