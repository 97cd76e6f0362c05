"""What surrounds the notifier: a store that is away, receivers, secrets, the process and its answers."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from penstock.api import openmetrics
from penstock.cli import main
from penstock.schemas.alerts.routing import SlackReceiver, secrets_of
from penstock.schemas.config import Configuration, parse
from penstock.schemas.errors import InvalidConfiguration
from penstock.schemas.kafka import parse_address
from penstock.serve.worker import rendered
from penstock.streams.delivery.errors import DeliveryDelayed
from penstock.streams.kafka.outlet import KafkaOutlet
from penstock.streams.notify.http import NotifierHTTP
from penstock.streams.notify.notifier import Notifier, notifier_of
from penstock.streams.notify.topic import AlertsTopic
from penstock.tests.support.store import opened_store
from penstock.tests.unit.streams.notify.world import (
    SECTION,
    START_S,
    FakeStore,
    Town,
    ends,
    fires,
    until,
)
from pydantic import ValidationError


@pytest.fixture
def town() -> Iterator[Town]:
    made = Town()
    yield made
    made.notifier.stop()


def utc(at_s: int) -> datetime:
    return datetime.fromtimestamp(at_s, UTC).replace(tzinfo=None)


def test_a_store_that_is_away_is_waited_for(town: Town, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "penstock")
    store, notifier = town.store, town.notifier
    store._thread = threading.Thread()
    store.away = True
    notifier.start()
    until(lambda: notifier.failure == "away")
    time.sleep(0.05)
    assert caplog.text.count("nobody is told of alerts until this has ended: away") == 1
    store.change(fires("a", START_S))
    store.away = False
    until(lambda: town.told().get(("hook", "a")) and not notifier.failure)
    store.away = True
    until(lambda: notifier.failure)
    store.change(ends("a", START_S + 1))
    town.now_s += 10
    store.away = False
    until(lambda: len(town.told()["hook", "a"]) == 2 and not notifier.failure)
    assert caplog.text.count("nobody is told") == 2
    assert caplog.text.count("people are told of alerts, by 3 receivers") == 2
    town.settle()
    assert town.attempts == len(town.sent)


def test_a_defect_is_logged_and_ends_nothing(town: Town, caplog: pytest.LogCaptureFixture) -> None:
    town.store._thread = threading.Thread()
    town.store.change(fires("a", START_S))
    town.store.silence("alertname", "b", utc(START_S + 60))  # a time without its zone
    town.notifier.start()
    until(lambda: "TypeError" in town.notifier.failure)
    assert caplog.text.count("the notifier failed") == 1
    town.store.rows["silences"].clear()
    until(lambda: town.told().get(("hook", "a")))


def test_once(town: Town) -> None:
    town.store.change(fires("a", START_S))
    town.notifier.once()
    assert town.told() == {("hook", "a"): ["firing"], ("pager", "a"): ["trigger"]}
    town.notifier = town.new()
    town.notifier.once()
    assert len(town.sent) == 2
    assert town.notifier.left == 0


def test_once_leaves_what_fails_for_the_next_time(town: Town) -> None:
    def send(*_: Any) -> None:
        raise DeliveryDelayed("not now", retry_after_s=60)

    town.store.change(fires("a", START_S))
    town.notifier = town.new(send)
    town.notifier.once()
    assert town.notifier.left == 2


class Untouchable:
    folder = None

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


def test_without_receivers_nothing_starts_and_nothing_is_read() -> None:
    store: Any = Untouchable()
    rules = Configuration.model_validate({"alerts": {"silences": []}})
    assert notifier_of(store, rules, {}) is None


NEEDS = """
alerts:
  receivers:
    - {kind: slack, name: chat, url_secret: "env:CHAT_URL"}
    - {kind: webhook, name: hook, url: "https://example.org", signing_secret: "file:/nowhere/hook"}
    - {kind: pagerduty, name: pager, routing_key_secret: PAGER_KEY}
    - {kind: webhook, name: open, url: "https://example.org"}
"""


def test_missing_secrets_are_told_at_the_start(tmp_path: Path) -> None:
    store: Any = Untouchable()
    with pytest.raises(InvalidConfiguration) as caught:
        notifier_of(store, parse(NEEDS), {"PAGER_KEY": "k"})
    assert str(caught.value).splitlines() == [
        "alerts.receivers: chat: no secret env:CHAT_URL",
        "alerts.receivers: hook: no secret file:/nowhere/hook",
        "set the variable, or write the file; docs/delivery.md says where",
    ]
    secret = tmp_path / "hook"
    secret.write_text("s")
    there = parse(NEEDS.replace("/nowhere/hook", str(secret)))
    given = {"PAGER_KEY": "k", "CHAT_URL": "https://example.org"}
    assert isinstance(notifier_of(store, there, given), Notifier)


def test_the_secrets_that_are_needed_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "penstock.yaml"
    path.write_text(NEEDS)
    lines = CliRunner().invoke(main, ["check", str(path)]).output.splitlines()
    at = lines.index("secrets:")
    assert [line.split() for line in lines[at + 1 : at + 4]] == [
        ["env:CHAT_URL", "of", "chat"],
        ["file:/nowhere/hook", "of", "hook"],
        ["PAGER_KEY", "of", "pager"],
    ]


def test_the_command_without_receivers_and_without_secrets(tmp_path: Path) -> None:
    with opened_store(tmp_path):  # which configuration is in force, the store tells
        pass
    path, store = tmp_path / "penstock.yaml", ["--store", f"chdb://{tmp_path / 'db'}"]
    path.write_text("")
    command = ["notify", "--once", "--config", str(path), *store]
    done = CliRunner().invoke(main, command)
    assert done.output.endswith("0 given up, 0 wait for the next time\n"), done.output
    path.write_text(NEEDS)
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 1
    assert "alerts.receivers: pager: no secret PAGER_KEY" in done.output


@pytest.mark.parametrize("name", ["NAME", "env:NAME", "file:/run/a b", "file:relative"])
def test_references_of_secrets(name: str) -> None:
    found = SlackReceiver(kind="slack", name="a", url_secret=name)
    assert secrets_of(found) == (name,)


@pytest.mark.parametrize(
    "name", ["https://hooks.example.org/T1", "env:", "file:", "env:a b", "a\nb"]
)
def test_a_secret_itself_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="pattern"):
        SlackReceiver(kind="slack", name="a", url_secret=name)


# -- answers over HTTP, and the table


def http(notifier: Notifier | None, topic: AlertsTopic | None = None) -> NotifierHTTP:
    return NotifierHTTP("127.0.0.1", 0, lambda: notifier, topic, rendered, openmetrics.CONTENT_TYPE)


def test_what_a_process_tells_of_itself(town: Town) -> None:
    server = http(town.notifier)
    assert server.answer("/readyz")[0] == 503
    town.store.change(fires("a", START_S))
    town.turn()
    town.notifier.failure = ""
    until(lambda: town.notifier.totals["deliveries"] == 2)
    assert json.loads(server.answer("/readyz")[2]) == {"status": "ready"}
    assert server.answer("/healthz")[0] == 200
    text = server.answer("/metrics")[2]
    server.stop()
    for line in ("up 1", "firing_alerts 1", "waiting_messages 0", "deliveries_total 2"):
        assert f"penstock_notify_{line}" in text, text
    town.notifier.turned_s -= 61
    assert server.answer("/healthz")[0] == 503
    assert server.answer("/")[0] == 404


def test_a_process_without_receivers_is_well() -> None:
    server = http(None)
    assert [server.answer(path)[0] for path in ("/readyz", "/healthz")] == [200, 200]
    assert "penstock_notify_up 0" in server.answer("/metrics")[2]
    server.stop()


def test_a_process_that_only_sends_to_kafka() -> None:
    topic = AlertsTopic(FakeStore(), KafkaOutlet(parse_address("nowhere:1")))  # type: ignore[arg-type] # all of a store that it uses
    server = http(None, topic)
    assert server.answer("/readyz")[0] == 503
    topic.failure = ""
    topic.totals["topic_messages"] = 3
    assert server.answer("/readyz")[0] == 200
    assert "penstock_notify_topic_messages_total 3" in server.answer("/metrics")[2]
    server.stop()


def test_links_of_alerts_lead_where_the_configuration_says(town: Town) -> None:
    town.store.change(fires("a", START_S))
    town.turn()
    (message,) = [one for one in town.sent.values() if one.receiver == "hook"]
    assert json.loads(message.body)["alerts"][0]["url"] == SECTION.alert_url.replace("{id}", "a")
