"""Every message is one that its service takes, whatever the texts; and the known ones are as written down."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from penstock.streams.core.alerts.notify import Notification
from penstock.streams.delivery.compose import compose, compose_acknowledgement
from penstock.streams.delivery.mail import mail_bytes
from penstock.tests.unit.streams.delivery.planned import (
    ALERT_URL,
    RECEIVERS,
    amended,
    ended,
    firing,
    hostile_notifications,
    notification,
)
from penstock.tests.unit.streams.delivery.shape import check, document


def bodies(planned: Notification, name: str, alert_url: str = ALERT_URL) -> list[Any]:
    return [json.loads(m.body) for m in compose(planned, RECEIVERS[name], alert_url)]


@pytest.mark.parametrize(
    ("name", "file"),
    [("slack", "slack"), ("hook", "webhook"), ("am", "alertmanager")],
)
def test_a_known_notification_is_as_written_down(name: str, file: str) -> None:
    planned = notification(ended(firing(1)), amended(firing(2), "7 %"))
    assert bodies(planned, name) == [document(file)]
    check(document(file), file)


def test_pagerduty_is_told_of_each_alert() -> None:
    planned = notification(ended(firing(1)), firing(2))
    resolve, trigger = bodies(planned, "pagerduty")
    [acknowledge] = compose_acknowledgement(firing(2), RECEIVERS.values())
    events = {"resolve": resolve, "trigger": trigger, "acknowledge": json.loads(acknowledge.body)}
    for action, event in events.items():
        written = document(f"pagerduty_{action}")
        check(written, "pagerduty")
        # The routing key is a secret: it is added when the event is sent.
        assert event | {"routing_key": written["routing_key"]} == written
        assert "routing_key" not in event
    assert acknowledge.lanes == ("2" * 32,)


@given(hostile_notifications())
@settings(max_examples=25, deadline=None)
def test_whatever_the_texts_services_take_the_messages(planned: Notification) -> None:
    for event in bodies(planned, "pagerduty"):
        check(event | {"routing_key": "k"}, "pagerduty")
        assert len(json.dumps(event)) < 512_000
    for body in bodies(planned, "slack"):
        check(body, "slack")
        assert len(json.dumps(body["blocks"], ensure_ascii=False)) < 13_000
        for block in body["blocks"]:
            _is_escaped(block["text"]["text"])
    for part in bodies(planned, "am"):
        check(part, "alertmanager")
    for body in bodies(planned, "hook"):
        check(body, "webhook")
    for body in bodies(planned, "email")[:1]:
        assert mail_bytes(body) == mail_bytes(body)


def _is_escaped(text: str) -> None:
    """Nothing but our own links stands between angle brackets, and every & begins an escape."""
    for part in text.split("<")[1:]:
        target, _, name = part.partition("|")
        assert target.startswith(("https://", "http://")), text
        assert name.startswith(("alert>", "runbook>")), text
    assert all(rest.startswith(("amp;", "lt;", "gt;")) for rest in text.split("&")[1:]), text


@given(hostile_notifications())
@settings(max_examples=15, deadline=None)
def test_the_same_notification_makes_the_same_messages(planned: Notification) -> None:
    for receiver in RECEIVERS.values():
        once, again = compose(planned, receiver), compose(planned, receiver)
        assert once == again
        keys = [message.key for message in once]
        assert len(set(keys)) == len(keys)
        assert all(message.receiver == receiver.name and message.lanes for message in once)
        assert "body" not in repr(once[0])


def test_severities_of_pagerduty() -> None:
    def severity(name: str) -> str:
        alert = firing(1, labels={"alertname": "a", "severity": name})
        [event] = bodies(notification(alert), "pagerduty", "")
        assert event["payload"]["custom_details"]["severity"] == name
        return str(event["payload"]["severity"])

    names = ("info", "warning", "critical", "emergency")
    assert [severity(name) for name in names] == ["info", "warning", "critical", "critical"]


def test_what_is_no_link_is_not_made_one() -> None:
    planned = notification(firing(1, runbook="docs/runbooks/latency.md"))
    [event] = bodies(planned, "pagerduty", "")
    assert event["links"] == []
    assert "client_url" not in event
    assert event["payload"]["custom_details"]["runbook"] == "docs/runbooks/latency.md"
    [[alert]] = bodies(planned, "am", "")
    assert alert["annotations"]["runbook"] == "docs/runbooks/latency.md"
    assert "generatorURL" not in alert
    [body] = bodies(planned, "slack", "")
    assert "runbook: `docs/runbooks/latency.md`" in body["blocks"][1]["text"]["text"]


def test_alertmanager_is_given_an_end_that_moves_on() -> None:
    planned = notification(firing(1))
    [[alert]] = bodies(planned, "am")
    assert alert["startsAt"] == "2026-01-01T00:00:00Z"
    assert alert["endsAt"] == "2026-01-02T00:05:00Z"  # a day after the message was due
    [[over]] = bodies(notification(ended(firing(1))), "am")
    assert over["endsAt"] == "2026-01-01T00:10:00Z"
    assert over["labels"] == alert["labels"]  # or it would not be the same alert


def test_two_episodes_of_one_slice_are_one_lane_of_alertmanager() -> None:
    [first] = compose(notification(firing(1)), RECEIVERS["am"])
    [second] = compose(notification(firing(2)), RECEIVERS["am"])
    assert first.lanes == second.lanes


def test_many_alerts_are_sent_in_parts() -> None:
    alerts = [firing(1, labels={"alertname": f"a{i}", "severity": "info"}) for i in range(101)]
    first, second = bodies(notification(*alerts), "hook")
    assert (first["part"], second["part"], second["parts"]) == (1, 2, 2)
    assert first["key"] == "ab" * 16 != second["key"]
    assert [len(first["alerts"]), len(second["alerts"])] == [100, 1]
    assert [len(part) for part in bodies(notification(*alerts), "am")] == [100, 1]


def test_slack_counts_what_it_has_no_room_for() -> None:
    [body] = bodies(notification(*[firing(1)] * 60), "slack")
    blocks = body["blocks"]
    shown = len(blocks) - 2
    assert 10 < shown < 40
    assert blocks[-1]["text"]["text"] == f"and {60 - shown} more"


def test_slack_channel_and_escalation() -> None:
    receiver = RECEIVERS["slack"].model_copy(update={"channel": "#ops"})
    [message] = compose(notification(firing(1), stage=2), receiver)
    body = json.loads(message.body)
    assert body["channel"] == "#ops"
    assert body["text"] == "Escalation 2: FIRING 1: latency-p95-high (model=chat-8b)"
