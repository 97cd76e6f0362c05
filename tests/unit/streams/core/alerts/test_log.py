from __future__ import annotations

from penstock.streams.core.alerts.log import Alert, AlertLog
from penstock.streams.core.alerts.transition import Transition
from penstock.tests.unit.streams.core.alerts.alerts_world import item


class Recorder:
    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def export(self, transition: Transition, alert: Alert) -> None:
        self.heard.append((transition.kind, alert.state))


COURSE = [item("a", "pending", 1), item("a", "firing", 5, 1), item("a", "resolved", 9, 2)]


def test_an_alert_is_the_sum_of_its_transitions() -> None:
    log = AlertLog()
    assert log.record(COURSE[:1]) == COURSE[:1]
    (alert,) = log.latest_alerts()
    assert (alert.state, alert.is_open, alert.fired_s, alert.ended_s) == (
        "pending",
        True,
        None,
        None,
    )
    log.record(COURSE[1:])
    (alert,) = log.latest_alerts()
    assert (alert.state, alert.is_open, alert.fired_s, alert.ended_s) == ("resolved", False, 5, 9)
    assert alert.labels["alertname"] == "a"
    log.record([item("b", "pending", 2), item("b", "cancelled", 3, 1)])
    cancelled = log.get("b")
    assert cancelled is not None
    assert (cancelled.state, cancelled.fired_s, cancelled.ended_s) == ("cancelled", None, 3)


def test_a_replay_tells_nobody_twice() -> None:
    log, recorder = AlertLog(), Recorder()
    log.register_exporter(recorder)
    log.record(COURSE)
    assert log.record(COURSE) == []
    assert recorder.heard == [
        ("pending", "pending"), ("firing", "firing"), ("resolved", "resolved"),
    ]  # fmt: skip


def test_amendments_are_noted_on_open_ended_and_unknown_alerts() -> None:
    note = item("a", "amended", 5, 1)
    log, recorder = AlertLog(), Recorder()
    log.record(COURSE)
    log.register_exporter(recorder)
    assert log.record([note, note]) == [note]
    alert = log.get("a")
    assert alert is not None
    assert alert.state == "resolved"
    assert alert.amended == note
    assert recorder.heard == [("amended", "resolved")]
    fresh = AlertLog()
    fresh.record([note])
    unknown = fresh.get("a")
    assert unknown is not None
    assert (unknown.state, unknown.fired_s) == ("firing", 5)
    fresh.record(COURSE[2:])
    assert [(a.state, a.amended) for a in fresh.latest_alerts()] == [("resolved", note)]


def test_the_log_is_bounded_and_keeps_what_is_open() -> None:
    log = AlertLog(size=2)
    log.record([item("open", "firing", 0)])
    for at_s in range(1, 6):
        log.record([item(f"n{at_s}", "firing", at_s), item(f"n{at_s}", "resolved", at_s, 1)])
    assert [alert.id for alert in log.latest_alerts()] == ["n5", "n4", "open"]
    assert [alert.id for alert in log.latest_alerts(1)] == ["n5"]
    assert log.get("n1") is None
