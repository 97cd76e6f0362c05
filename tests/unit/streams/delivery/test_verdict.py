"""Messages of a change of a verdict: what each kind of receiver is sent, whatever the texts."""

from __future__ import annotations

import json
from email import message_from_bytes, policy
from typing import Any

import pytest
from hypothesis import given, settings
from penstock.streams.core.gates.changes import VerdictChange
from penstock.streams.delivery.mail import mail_bytes
from penstock.streams.delivery.message import Message
from penstock.streams.delivery.verdict import verdict_messages
from penstock.tests.unit.streams.delivery.planned import BEGAN_S, RECEIVERS, hostile
from penstock.tests.unit.streams.delivery.shape import check

CHANGE = VerdictChange("chat-canary", 3, BEGAN_S * 1_000_000, "FAIL", "s" * 64, "PASS")
DOCUMENT: dict[str, Any] = {
    "verdict": "FAIL",
    "action": "rollback",
    "reasons": ["limit_exceeded"],
    "evidence": [{"metric": "error_rate", "n": 500}],
    "text": "FAIL: error_rate is above <= 1 %: 2 % of 500 requests are bad (allowed 1 %)",
    "n": 500,
    "epoch": 3,
    "digest": "d" * 64,
    "gate_kind": "absolute",
}


def messages(name: str, document: dict[str, Any] = DOCUMENT) -> list[Message]:
    return verdict_messages(CHANGE, document, RECEIVERS[name])


def test_a_webhook_is_sent_the_verdict_as_it_is() -> None:
    (message,) = messages("hook")
    assert json.loads(message.body) == DOCUMENT | {
        "version": 1,
        "kind": "verdict",
        "key": message.key,
        "receiver": "hook",
        "id": CHANGE.id,
        "gate": "chat-canary",
        "before": "PASS",
    }
    assert message.lanes == ("gate chat-canary",)
    first = VerdictChange("chat-canary", 3, 1, "FAIL")
    (other,) = verdict_messages(first, DOCUMENT, RECEIVERS["hook"])
    assert json.loads(other.body)["before"] is None
    assert other.key != message.key


def test_slack_is_told_in_a_few_lines() -> None:
    (message,) = messages("slack")
    body = json.loads(message.body)
    check(body, "slack")
    assert body["text"] == "FAIL: chat-canary"
    assert body["blocks"][1]["text"]["text"].splitlines() == [
        "*gate*  chat-canary, absolute, epoch 3",
        "*verdict*  FAIL, before PASS",
        "*why*  FAIL: error_rate is above &lt;= 1 %: 2 % of 500 requests are bad (allowed 1 %)",
        "*action*  rollback",
        "*as of*  2026-01-01T00:00:00Z",
    ]
    channel = RECEIVERS["slack"].model_copy(update={"channel": "#ops"})
    (there,) = verdict_messages(CHANGE, DOCUMENT, channel)
    assert json.loads(there.body)["channel"] == "#ops"


def test_each_recipient_gets_a_mail() -> None:
    first, second = messages("email")
    assert first.key != second.key
    assert first.lanes != second.lanes
    mail = message_from_bytes(mail_bytes(json.loads(first.body)), policy=policy.SMTP)
    assert mail["Subject"] == "FAIL: chat-canary"
    text = mail.get_body(("plain",))
    assert text is not None
    assert "action: rollback" in text.get_content()
    later = verdict_messages(
        VerdictChange("chat-canary", 3, CHANGE.as_of_us + 1, "PASS"), DOCUMENT, RECEIVERS["email"]
    )
    assert json.loads(later[0].body)["thread"] == json.loads(first.body)["thread"]


@given(hostile)
@settings(max_examples=25, deadline=None)
def test_whatever_the_text(text: str) -> None:
    said = DOCUMENT | {"text": text}
    (slack,) = messages("slack", said)
    body = json.loads(slack.body)
    check(body, "slack")
    assert "<" not in body["blocks"][1]["text"]["text"]
    for name in ("hook", "slack", "email"):
        assert messages(name, said) == messages(name, said)
    mail_bytes(json.loads(messages("email", said)[0].body))


def test_a_pager_is_refused() -> None:
    with pytest.raises(ValueError, match="a pagerduty receiver takes no verdicts"):
        messages("pagerduty")
