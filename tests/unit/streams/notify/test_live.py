"""The notifier follows the configuration; a notifier here is one that says what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import pytest
from penstock.schemas.config import Configuration, parse
from penstock.schemas.errors import InvalidConfiguration
from penstock.streams.notify import live as notifier_live
from penstock.streams.notify.live import LiveNotifier
from penstock.streams.storage.store import Store

ONE = parse('alerts: {receivers: [{kind: webhook, name: a, url: "http://a"}]}')
TWO = parse('alerts: {receivers: [{kind: webhook, name: b, url: "http://b"}]}')
SECRET = parse("alerts: {receivers: [{kind: slack, name: s, url_secret: MISSING}]}")
SAME = parse('gates: []\nalerts: {receivers: [{kind: webhook, name: a, url: "http://a"}]}')


class Fake:
    """A notifier that tells one message in its life."""

    made: ClassVar[list[Fake]] = []

    def __init__(self, name: str) -> None:
        self.name = name
        self.said: list[str] = []
        self.totals = Counter(notifications=1)
        self.made.append(self)

    def start(self) -> None:
        assert all("stop" in other.said for other in self.made if other is not self)
        self.said.append("start")

    def stop(self) -> None:
        self.said.append("stop")


def fake_of(store: Store, configuration: Configuration, environment: Mapping[str, str]) -> Any:
    receivers = configuration.alerts.receivers
    if receivers and receivers[0].name == "s":
        raise InvalidConfiguration("MISSING is missing")
    return Fake(receivers[0].name) if receivers else None


@pytest.fixture
def newest(monkeypatch: pytest.MonkeyPatch) -> list[Configuration]:
    monkeypatch.setattr(notifier_live, "notifier_of", fake_of)
    monkeypatch.setattr(notifier_live, "LOOK_S", 3600.0)  # the tests say when it looks
    monkeypatch.setattr(Fake, "made", [])
    return [ONE]


def live_of(newest: list[Configuration]) -> LiveNotifier:
    return LiveNotifier(cast(Store, None), lambda: newest[0], {})


def test_one_after_the_other(newest: list[Configuration]) -> None:
    live = live_of(newest)
    live.start()
    live.follow()
    newest[0] = SAME  # another configuration, the same alerts
    live.follow()
    (first,) = Fake.made
    newest[0] = TWO
    live.follow()
    assert [(one.name, one.said) for one in Fake.made] == [
        ("a", ["start", "stop"]),
        ("b", ["start"]),
    ]
    assert live.totals == {"notifications": 2}
    newest[0] = Configuration()
    live.follow()
    assert (live.notifier, live.totals) == (None, {"notifications": 2})
    newest[0] = ONE
    live.follow()
    live.stop()
    assert Fake.made[-1].said == ["start", "stop"]
    assert first.said == ["start", "stop"]


def test_a_gate_that_begins_to_tell_somebody(newest: list[Configuration]) -> None:
    gate = "gates: [{id: g, metrics: [{metric: error_rate, max_ratio: 0.1}], notify: [a]}]\n"
    receivers = 'alerts: {receivers: [{kind: webhook, name: a, url: "http://a"}]}'
    live = live_of(newest)
    live.start()
    newest[0] = parse(gate + receivers)
    live.follow()
    newest[0] = parse(gate.replace("0.1", "0.2") + receivers)  # whose verdicts are others
    live.follow()
    assert len(Fake.made) == 3
    newest[0] = parse(gate.replace("0.1", "0.2") + receivers + "\nlimits: {max_slices: 9}")
    live.follow()
    assert len(Fake.made) == 3
    live.stop()


def test_a_secret_that_is_not_there(
    newest: list[Configuration], caplog: pytest.LogCaptureFixture
) -> None:
    live = live_of(newest)
    live.start()
    newest[0] = SECRET
    live.follow()
    live.follow()
    assert (len(Fake.made), len(caplog.records)) == (1, 1)
    assert "MISSING is missing" in caplog.text
    newest[0] = TWO
    live.follow()
    assert [one.name for one in Fake.made] == ["a", "b"]
    live.stop()
    with pytest.raises(InvalidConfiguration):
        live_of([SECRET])


def test_nobody_is_to_be_told_and_nothing_runs(newest: list[Configuration]) -> None:
    newest[0] = Configuration()
    live = live_of(newest)
    live.start()
    live.follow()
    assert (live.notifier, live.totals) == (None, {})
    live.stop()
    assert Fake.made == []
