"""Mails are parsed again by the standard library, and say what they should."""

from __future__ import annotations

import json
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from hypothesis import given, settings
from penstock.streams.core.alerts.notify import Notification
from penstock.streams.delivery.compose import compose
from penstock.streams.delivery.mail import mail_bytes
from penstock.tests.unit.streams.delivery.planned import (
    ALERT_URL,
    RECEIVERS,
    ended,
    firing,
    hostile_notifications,
    notification,
)

HEADERS = (
    "Message-ID", "In-Reply-To", "References", "Date", "From", "To", "Subject",
    "Auto-Submitted", "MIME-Version", "Content-Type",
)  # fmt: skip


def parsed(raw: bytes) -> Any:
    return message_from_bytes(raw, policy=policy.default)


def mails(planned: Notification) -> list[EmailMessage]:
    messages = compose(planned, RECEIVERS["email"], ALERT_URL)
    return [parsed(mail_bytes(json.loads(message.body))) for message in messages]


def test_a_mail_for_each_recipient_that_names_all() -> None:
    messages = compose(notification(firing(1)), RECEIVERS["email"])
    recipients = [json.loads(message.body)["recipient"] for message in messages]
    assert recipients == ["Ann <ann@example.org>", "bob@example.org"]
    assert {message.lanes for message in messages} == {
        (f"{recipient} {'1' * 32}",) for recipient in recipients
    }
    first, second = mails(notification(firing(1)))
    assert first["To"] == second["To"] == "Ann <ann@example.org>, bob@example.org"
    assert first["From"] == "Penstock <penstock@example.org>"
    assert first["Message-ID"] == second["Message-ID"] == f"<{'ab' * 16}@example.org>"
    assert first["Date"].datetime.isoformat() == "2026-01-01T00:05:00+00:00"


def test_mails_of_an_alert_are_one_thread() -> None:
    fires, ends = notification(firing(1)), notification(ended(firing(1)), firing(2))
    parents = {mails(planned)[0][name] for planned in (fires, ends)
               for name in ("In-Reply-To", "References")}  # fmt: skip
    assert parents == {f"<{'1' * 32}@example.org>"}
    assert mails(ends)[0]["Subject"] == "FIRING 1, RESOLVED 1: latency-p95-high (model=chat-8b)"


def test_ids_of_long_domains_are_not_cut() -> None:
    sender = "penstock@" + "observability." * 8 + "example.org"
    receiver = RECEIVERS["email"].model_copy(update={"sender": sender})
    [message, _] = compose(notification(firing(1)), receiver)
    raw = mail_bytes(json.loads(message.body))
    assert f"In-Reply-To: <{'1' * 32}@{sender[9:]}>".encode() in raw
    assert f"References: <{'1' * 32}@{sender[9:]}>".encode() in raw


def test_many_alerts_are_counted() -> None:
    mail = mails(notification(*[firing(1)] * 53))[0]
    for kind in ("plain", "html"):
        part = mail.get_body((kind,))
        assert part is not None
        assert "and 3 more" in part.get_content()


@given(hostile_notifications())
@settings(max_examples=25, deadline=None)
def test_whatever_the_texts_headers_are_ours(planned: Notification) -> None:
    for message in compose(planned, RECEIVERS["email"], ALERT_URL)[:1]:
        raw = mail_bytes(json.loads(message.body))
        mail = parsed(raw)
        assert sorted(mail.keys()) == sorted(HEADERS)
        assert mail["To"] == "Ann <ann@example.org>, bob@example.org"
        assert max(map(len, raw.split(b"\r\n"))) <= 998
        assert b"\n" not in raw.replace(b"\r\n", b"")
        text, html = (mail.get_body((kind,)).get_content() for kind in ("plain", "html"))
        assert "state: " in text
        # Every tag of the page is one of ours.
        tags = {part.partition(">")[0].split(" ")[0] for part in html.split("<")[1:]}
        ours = {"!DOCTYPE", "html", "body", "h3", "table", "tr", "th", "td", "a", "p"}
        assert {tag.lstrip("/") for tag in tags} <= ours
