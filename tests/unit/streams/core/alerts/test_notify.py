from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.schemas.alerts.section import Alerts
from penstock.streams.core.alerts.log import Alert, follow
from penstock.streams.core.alerts.notify import Notification, NotifyState, plan_notifications
from penstock.streams.core.alerts.routes import destinations
from penstock.tests.unit.streams.core.alerts.alerts_world import ended, firing, item

HOUR = 3600


def hook(name: str, **more: Any) -> dict[str, Any]:
    return {"kind": "webhook", "name": name, "url": f"https://example.org/{name}"} | more


def on(severity: str, *receivers: str, **more: Any) -> dict[str, Any]:
    return {"matchers": [{"label": "severity", "value": severity}], "receivers": receivers} | more


# The escalation policy that users gave (docs/alerts.md).
POLICY = Alerts.model_validate({
    "receivers": [hook(name) for name in
                  ("channel", "slack", "email", "lead", "pagerduty", "manager", "phone", "all")],
    "route": {
        "receivers": ["channel"], "group_wait_s": 30,
        "routes": [
            on("warning", "slack", "email", escalate=[{"after_s": 2 * HOUR, "receivers": ["lead"]}]),
            on("critical", "pagerduty", group_wait_s=0,
               escalate=[{"after_s": 0, "receivers": ["manager"]}]),
            on("emergency", "pagerduty", "phone", group_wait_s=0,
               escalate=[{"after_s": 0, "receivers": ["all"]}]),
        ],
    },
})  # fmt: skip


class Desk:
    """Plans again and again, as a shell does, through the stored text of its state."""

    def __init__(self, section: Alerts = POLICY) -> None:
        self.section = section
        self.state = NotifyState()
        self.quiet: dict[str, str] = {}
        self.taken: set[str] = set()
        self.sent: list[Notification] = []

    def plan(self, now_s: int, *alerts: Alert) -> list[tuple[str, str]]:
        before = self.state
        state, due = self._plan(before, alerts, now_s)
        assert (state, due) == self._plan(before, alerts[::-1], now_s)
        assert self._plan(state, alerts, now_s) == (state, [])  # nothing twice
        self.state = NotifyState.from_json(state.to_json())
        assert self.state == state
        self.sent += due
        return [(item.receiver, item.status) for item in due]

    def _plan(self, state: NotifyState, alerts: Any, now_s: int) -> Any:
        route, receivers = self.section.route, self.section.receivers
        return plan_notifications(
            route, receivers, list(alerts), self.quiet, self.taken, state, now_s
        )


@pytest.mark.parametrize(
    ("severity", "at_once", "after_wait", "after_2h"),
    [
        ("info", [], ["channel"], []),
        ("warning", [], ["slack", "email"], ["lead"]),
        ("critical", ["pagerduty", "manager"], [], []),
        ("emergency", ["pagerduty", "phone", "all"], [], []),
    ],
)
def test_the_escalation_policy(
    severity: str, at_once: list[str], after_wait: list[str], after_2h: list[str]
) -> None:
    desk, alert = Desk(), firing("x", 100, severity=severity)
    for now_s, expected in (
        (100, at_once),
        (129, []),
        (130, after_wait),
        (100 + 2 * HOUR - 1, []),
        (100 + 2 * HOUR, after_2h),
    ):
        assert [name for name, _ in desk.plan(now_s, alert)] == expected


def test_who_was_told_is_told_of_the_end() -> None:
    desk, alert = Desk(), firing("x", 100)
    desk.plan(100 + 2 * HOUR, alert)
    assert {item.receiver for item in desk.sent} == {"slack", "email", "lead"}
    over = ended(alert, 101 + 2 * HOUR)
    assert desk.plan(399 + 2 * HOUR, over) == []
    told = [("slack", "resolved"), ("email", "resolved"), ("lead", "resolved")]
    assert desk.plan(400 + 2 * HOUR, over) == told
    assert desk.state == NotifyState()
    assert desk.plan(9 * HOUR, over) == []


def test_nobody_hears_of_what_ended_before_it_was_told() -> None:
    assert Desk().plan(500, ended(firing("x", 100), 110)) == []


def one(**route: Any) -> Alerts:
    receivers = [hook("a"), hook("b", send_resolved=False)]
    return Alerts.model_validate({
        "receivers": receivers,
        "route": {"receivers": ["a", "b"], "group_by": ["model"], "repeat_interval_s": HOUR} | route,
    })  # fmt: skip


def test_what_is_pending_concerns_nobody() -> None:
    assert Desk().plan(500, follow(None, item("x", "pending", 100))) == []


def test_alerts_are_grouped_and_told_together() -> None:
    desk = Desk(one())
    x, y = firing("x", 100, model="m"), firing("y", 110, model="m")
    z = firing("z", 120, model="other")
    assert desk.plan(130, x, y, z) == [("a", "firing"), ("b", "firing")]
    assert [alert.id for alert in desk.sent[0].firing] == ["x", "y"]
    assert desk.sent[0].group == {"model": "m"}
    # One of two ended: told after the interval, and the group still fires.
    x = ended(x, 140)
    assert desk.plan(150, x, y, z) == [("a", "firing"), ("b", "firing")]
    assert desk.sent[-1].group == {"model": "other"}
    assert desk.plan(429, x, y, z) == []
    assert desk.plan(430, x, y, z) == [("a", "firing"), ("b", "firing")]
    assert [alert.id for alert in desk.sent[-2].resolved] == ["x"]
    assert desk.sent[-1].resolved == ()
    y = ended(y, 500)
    assert desk.plan(HOUR, x, y) == [("a", "resolved")]
    assert len({item.key for item in desk.sent}) == len(desk.sent)


def test_what_still_fires_is_repeated_until_somebody_takes_it() -> None:
    desk, x = Desk(one()), firing("x", 100)
    desk.plan(130, x)
    assert desk.plan(129 + HOUR, x) == []
    assert len(desk.plan(130 + HOUR, x)) == 2
    # After an outage of many intervals it is told once, in the newest slot.
    assert len(desk.plan(140 + 9 * HOUR, x)) == 2
    assert desk.sent[-1].slot_s == 130 + 9 * HOUR
    desk.taken.add("x")
    assert desk.plan(20 * HOUR, x) == []
    assert desk.plan(21 * HOUR, ended(x, 21 * HOUR)) == [("a", "resolved")]


def test_what_somebody_took_is_not_escalated() -> None:
    desk, x = Desk(), firing("x", 100)
    desk.plan(130, x)
    desk.taken.add("x")
    assert desk.plan(3 * HOUR, x) == []
    desk.taken.clear()
    assert desk.plan(3 * HOUR, x) == [("lead", "firing")]


def test_quiet_alerts_are_told_when_the_quiet_ends_and_ended_ones_always() -> None:
    desk, x, y = Desk(one()), firing("x", 100), firing("y", 100)
    desk.quiet = {"x": "silence:s"}
    assert desk.plan(200, x) == []
    desk.quiet = {}
    assert len(desk.plan(300, x)) == 2
    desk.quiet = {"x": "silence:s"}
    assert desk.plan(9 * HOUR, x) == []
    # y is told; x is still believed to fire, so the group is not over when y ends.
    assert len(desk.plan(9 * HOUR, x, y)) == 2
    assert desk.plan(10 * HOUR, x, ended(y, 9 * HOUR)) == [("a", "firing")]
    assert desk.plan(11 * HOUR, ended(x, 10 * HOUR)) == [("a", "resolved")]


def test_a_changed_tree_still_tells_the_end_to_who_was_told() -> None:
    desk, x = Desk(one()), firing("x", 100, model="m")
    desk.plan(130, x)
    desk.section = one(group_by=["alertname"])
    # Where it goes now is told anew, and the old group waits for the end.
    assert len(desk.plan(200, x)) == 2
    assert [item for item, _ in desk.plan(600, ended(x, 300))] == ["a", "a"]
    assert desk.state == NotifyState()
    desk.section = one()
    desk.plan(130, x)
    desk.section = Alerts.model_validate({"receivers": [], "route": {"group_by": ["group"]}})
    assert desk.plan(900, ended(x, 300)) == []
    assert desk.state == NotifyState()


def test_alerts_that_nobody_knows_any_more_are_forgotten() -> None:
    desk, x = Desk(one()), firing("x", 100)
    desk.plan(130, x)
    desk.plan(9 * HOUR)
    assert desk.state == NotifyState()


def test_the_key_is_of_what_is_said() -> None:
    x, y = firing("x", 100), firing("y", 100)
    first, second, more = Desk(one()), Desk(one()), Desk(one())
    first.plan(130, x)
    second.plan(150, x)  # planned later, after a crash
    more.plan(150, x, y)
    assert [item.key for item in first.sent] == [item.key for item in second.sent]
    assert not {item.key for item in first.sent} & {item.key for item in more.sent}
    assert {item.group_key for item in first.sent} == {item.group_key for item in more.sent}


def test_routes_take_the_first_child_unless_told_to_go_on() -> None:
    section = Alerts.model_validate({
        "receivers": [hook(name) for name in "abcd"],
        "route": {"receivers": ["a"], "group_wait_s": 7, "routes": [
            on("warning", "b", go_on=True, routes=[{"matchers": [{"label": "team", "value": "ml"}],
                                                    "receivers": ["c"], "group_by": ["team"]}]),
            on("warning", "d", repeat_interval_s=60), on("warning", "a"),
            on("critical", "d", go_on=True),
        ]},
    })  # fmt: skip

    def found(**labels: str) -> list[tuple[str, tuple[str, ...], int, int]]:
        return [(d.path, d.receivers, d.group_wait_s, d.repeat_interval_s)
                for d in destinations(section.route, labels)]  # fmt: skip

    assert found(severity="info") == [("", ("a",), 7, 4 * HOUR)]
    assert found(severity="warning") == [("0", ("b",), 7, 4 * HOUR), ("1", ("d",), 7, 60)]
    assert found(severity="critical") == [("3", ("d",), 7, 4 * HOUR)]
    assert found(severity="warning", team="ml")[0] == ("0.0", ("c",), 7, 4 * HOUR)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(1, 900)), max_size=25))
def test_every_receiver_that_was_told_hears_the_end_once(
    events: list[tuple[int, bool, int]],
) -> None:
    desk, now_s = Desk(one(group_wait_s=0, group_interval_s=60)), 0
    alerts: dict[str, Alert] = {}
    for number, begins, pause_s in events:
        now_s += pause_s
        name = f"n{number}"
        if begins and (name not in alerts or not alerts[name].is_open):
            alerts[name] = firing(name, now_s, episode=str(now_s))
        elif not begins and name in alerts and alerts[name].is_open:
            alerts[name] = ended(alerts[name], now_s)
        desk.plan(now_s, *alerts.values())
    over = [ended(a, now_s) if a.is_open else a for a in alerts.values()]
    desk.plan(now_s + 60, *over)
    desk.plan(now_s + 120, *over)
    assert desk.state == NotifyState()
    open_at: set[str] = set()
    for said in (sent for sent in desk.sent if sent.receiver == "a"):
        resolved = {alert.id for alert in said.resolved}
        assert resolved <= open_at
        open_at = (open_at | {alert.id for alert in said.firing}) - resolved
    assert not open_at


def test_what_is_no_state_is_refused() -> None:
    for text in ("{}", "[]", '{"groups": {"a": {}}}'):
        with pytest.raises(ValueError, match="not the state"):
            NotifyState.from_json(text)
