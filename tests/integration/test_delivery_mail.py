"""Mail to real servers: our own small one with encryption and users, and one that others wrote."""

from __future__ import annotations

import importlib.util
import os
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from penstock.schemas.alerts.routing import EmailReceiver
from penstock.streams.delivery.compose import compose
from penstock.streams.delivery.errors import DeliveryDelayed, DeliveryRefused, ReceiverAway
from penstock.streams.delivery.secret import Secrets
from penstock.streams.delivery.sender import Sender
from penstock.tests.support.certificates import make_certificates
from penstock.tests.support.ports import free_port
from penstock.tests.support.smtp_server import SmtpServer
from penstock.tests.unit.streams.delivery.planned import RECEIVERS, firing, notification

LOGIN = ("penstock", "correct horse")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of the server and of who trusts it."""
    made = make_certificates(tmp_path_factory.mktemp("certificates"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    return context, ssl.create_default_context(cafile=str(made.ca))


def receiver(port: int, **more: Any) -> EmailReceiver:
    given = {"host": "127.0.0.1", "port": port, "tls": "none"} | more
    found: EmailReceiver = RECEIVERS["email"].model_copy(update=given)
    return found


def send(
    to: EmailReceiver, trusting: ssl.SSLContext | None = None, password: str = LOGIN[1]
) -> None:
    sender = Sender(Secrets({"PASSWORD": password}), timeout_s=10, context=trusting)
    for message in compose(notification(firing(1)), to):
        sender(to, message, 0.0)


@pytest.mark.parametrize("mode", ["starttls", "tls"])
def test_encrypted_and_logged_in(tls: tuple[ssl.SSLContext, ssl.SSLContext], mode: str) -> None:
    with SmtpServer(tls[0], from_start=mode == "tls", login=LOGIN) as server:
        to = receiver(server.port, tls=mode, username=LOGIN[0], password_secret="PASSWORD")
        send(to, tls[1])
    assert [recipients for _, recipients, _, _ in server.mails] == [
        ["ann@example.org"],
        ["bob@example.org"],
    ]
    for sender, _, raw, encrypted in server.mails:
        assert encrypted
        assert sender == "penstock@example.org"
        mail: Any = message_from_bytes(raw, policy=policy.default)
        assert mail["Message-ID"] == f"<{'ab' * 16}@example.org>"
        assert mail["In-Reply-To"] == f"<{'1' * 32}@example.org>"
        assert "8.31 % of requests" in mail.get_body(("plain",)).get_content()


def test_a_wrong_password_is_refused(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    with SmtpServer(tls[0], login=LOGIN) as server:
        to = receiver(server.port, tls="starttls", username=LOGIN[0], password_secret="PASSWORD")
        with pytest.raises(DeliveryRefused, match="SMTP 535") as caught:
            send(to, tls[1], "wrong password")
        assert "wrong password" not in str(caught.value)
        assert server.mails == []


def test_nothing_goes_in_clear_where_encryption_is_asked_for(
    tls: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    with SmtpServer() as server:
        with pytest.raises(DeliveryDelayed, match="STARTTLS"):
            send(receiver(server.port, tls="starttls"), tls[1])
        assert server.commands == [line for line in server.commands if line.startswith("ehlo")]
    with SmtpServer(tls[0]) as server:  # a certificate that nobody trusts
        with pytest.raises(ReceiverAway, match="certificate"):
            send(receiver(server.port, tls="starttls"))
        assert server.mails == []


@pytest.mark.parametrize(
    ("replies", "outcome"),
    [
        ({"RCPT": "450 mailbox is busy"}, DeliveryDelayed),
        ({"RCPT": "550 no such user"}, DeliveryRefused),
        ({"MAIL": "421 closing"}, ReceiverAway),
        ({"MAIL": "553 sender not allowed"}, DeliveryRefused),
        ({"DATA": "451 disk is full"}, DeliveryDelayed),
        ({"DATA": ""}, ReceiverAway),
        ({"EHLO": "", "HELO": ""}, ReceiverAway),
        ({"MAIL": "what?"}, ReceiverAway),
    ],
)
def test_replies(replies: dict[str, str], outcome: type[Exception]) -> None:
    with SmtpServer(replies=replies) as server, pytest.raises(outcome) as caught:
        send(receiver(server.port))
    assert type(caught.value) is outcome
    assert server.mails == []


@pytest.mark.parametrize("goodbye", ["", "500 what?"])
def test_what_follows_the_mail_does_not_matter(goodbye: str) -> None:
    with SmtpServer(replies={"QUIT": goodbye}) as server:
        send(receiver(server.port))
    assert len(server.mails) == 2


def test_an_address_refused_keeps_nobody_else_from_being_told() -> None:
    to = receiver(0, to=("ann@exämple.org", "bob@example.org"))
    first, second = compose(notification(firing(1)), to)
    with SmtpServer() as server:
        there = receiver(server.port)
        sender = Sender(Secrets({}))
        with pytest.raises(DeliveryRefused):
            sender(there, first, 0.0)
        sender(there, second, 0.0)
    assert [recipients for _, recipients, _, _ in server.mails] == [["bob@example.org"]]


def test_nobody_listens() -> None:
    with pytest.raises(ReceiverAway, match="refused"):
        send(receiver(free_port()))


@pytest.fixture
def debugging_server(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """The SMTP server that came with Python until 3.11, in a process of its own: port and log.

    It prints what it is sent. It knows neither encryption nor users.
    """
    if importlib.util.find_spec("smtpd") is None:
        message = "this Python brings no SMTP server (3.12 dropped it): mail went to our own only"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    port, log = free_port(), tmp_path / "mails"
    command = [sys.executable, "-u", "-W", "ignore", "-m", "smtpd", "-n"]
    command += ["-c", "DebuggingServer", f"127.0.0.1:{port}"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        yield port, log
    finally:
        process.terminate()
        process.wait(30)


def test_a_server_that_others_wrote(debugging_server: tuple[int, Path]) -> None:
    port, log = debugging_server
    deadline = time.monotonic() + 60
    while True:
        try:
            send(receiver(port))
            break
        except ReceiverAway:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    text = log.read_text()
    assert text.count("MESSAGE FOLLOWS") == 2
    assert len(re.findall(f"Message-ID: <{'ab' * 16}@example.org>", text)) == 2
    assert "To: Ann <ann@example.org>, bob@example.org" in text
