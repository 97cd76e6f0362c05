"""Delivery to real servers: HTTP on 127.0.0.1, and Alertmanager where it is installed."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from penstock.schemas.alerts.routing import Receiver
from penstock.streams.core.alerts.log import Alert
from penstock.streams.delivery.compose import compose
from penstock.streams.delivery.errors import DeliveryDelayed, DeliveryRefused, ReceiverAway
from penstock.streams.delivery.post import MAX_ANSWER_BYTES
from penstock.streams.delivery.secret import MissingSecret, Secrets
from penstock.streams.delivery.sender import Sender
from penstock.streams.delivery.signing import HEADER, InvalidSignature, verify
from penstock.tests.support.certificates import make_certificates
from penstock.tests.support.hook_server import HookServer, Reply
from penstock.tests.support.ports import free_port
from penstock.tests.support.smtp_server import SmtpServer
from penstock.tests.unit.streams.delivery.planned import (
    ALERT_URL,
    RECEIVERS,
    ended,
    firing,
    notification,
)
from penstock.tests.unit.streams.delivery.shape import check

NOW_S = 1_767_225_900.0
KEY = "0123456789abcdef0123456789abcdef"


def at(name: str, **more: Any) -> Receiver:
    """A receiver of the tests, elsewhere."""
    receiver: Receiver = RECEIVERS[name].model_copy(update=more)
    return receiver


def send(
    receiver: Receiver, sender: Sender | None = None, environment: dict[str, str] | None = None
) -> None:
    sender = sender or Sender(Secrets(environment or {}), timeout_s=10)
    for message in compose(notification(firing(1)), receiver, ALERT_URL):
        sender(receiver, message, NOW_S)


def hook(server: HookServer) -> Receiver:
    return at("hook", url=server.url, signing_secret=None)


def test_each_service_is_sent_what_it_takes() -> None:
    with HookServer(Reply(202)) as server:
        environment = {"SLACK_URL": server.url, "PAGERDUTY_KEY": KEY, "HOOK_SECRET": "s"}
        for receiver in (
            at("slack"),
            at("pagerduty", url=server.url),
            at("hook", url=server.url),
            at("am", url=f"http://127.0.0.1:{server.port}/prefix/"),
            at("am", url=f"http://127.0.0.1:{server.port}/api/v2/alerts"),
        ):
            send(receiver, environment=environment)
    names = ("slack", "pagerduty", "webhook", "alertmanager", "alertmanager")
    for seen, name in zip(server.seen, names, strict=True):
        check(json.loads(seen.body), name)
        assert seen.headers["Content-Type"] == "application/json"
        assert len(seen.headers["Idempotency-Key"]) == 32
    paths = [seen.path for seen in server.seen]
    assert paths == ["/hook"] * 3 + ["/prefix/api/v2/alerts", "/api/v2/alerts"]
    assert json.loads(server.seen[1].body)["routing_key"] == KEY


def test_a_receiver_can_tell_who_signed() -> None:
    with HookServer() as server:
        send(at("hook", url=server.url), environment={"HOOK_SECRET": "s"})
    [seen] = server.seen
    verify(["s"], seen.headers[HEADER], seen.body, NOW_S)
    with pytest.raises(InvalidSignature):
        verify(["other"], seen.headers[HEADER], seen.body, NOW_S)


@pytest.mark.parametrize(
    ("reply", "outcome", "retry_after_s"),
    [
        (Reply(429, {"Retry-After": "17"}), DeliveryDelayed, 17.0),
        (Reply(503, {"Retry-After": "Thu, 01 Jan 2026 00:06:00 GMT"}), ReceiverAway, 60.0),
        (Reply(500), ReceiverAway, None),
        (Reply(400, body=b"invalid_payload"), DeliveryRefused, None),
        (Reply(404), DeliveryRefused, None),
    ],
)
def test_answers(reply: Reply, outcome: type[Exception], retry_after_s: float | None) -> None:
    with HookServer(reply) as server, pytest.raises(outcome) as caught:
        send(hook(server))
    assert type(caught.value) is outcome
    assert getattr(caught.value, "retry_after_s", None) == retry_after_s
    assert reply.body.decode() in str(caught.value)


def test_redirects_are_not_followed() -> None:
    with HookServer() as other, HookServer(Reply(307, {"Location": other.url})) as server:
        with pytest.raises(DeliveryRefused, match="HTTP 307"):
            send(hook(server))
        assert len(server.seen) == 1
        assert other.seen == []


def test_an_answer_that_does_not_end_is_read_so_far() -> None:
    huge = Reply(200, {"Content-Length": str(10**12)}, b"x" * (2 * MAX_ANSWER_BYTES))
    with HookServer(huge) as server:
        send(hook(server))


def test_an_answer_that_drips_is_not_waited_for() -> None:
    with HookServer(Reply(drip_s=0.05)) as server, pytest.raises(ReceiverAway):
        send(hook(server), Sender(Secrets({}), timeout_s=1))


def test_a_receiver_that_says_nothing_or_is_not_there() -> None:
    with pytest.raises(ReceiverAway, match="refused"):
        send(at("hook", url=f"http://127.0.0.1:{free_port()}/", signing_secret=None))
    with HookServer() as server:
        wait = server.ended
        server.replies = [Reply(wait=wait)]
        with pytest.raises(ReceiverAway):
            send(hook(server), Sender(Secrets({}), timeout_s=0.3))


def test_a_receiver_that_speaks_something_else() -> None:
    with SmtpServer() as server, pytest.raises(ReceiverAway, match="BadStatusLine"):
        send(at("hook", url=f"http://127.0.0.1:{server.port}/", signing_secret=None))


def test_certificates_are_checked(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    trusting = ssl.create_default_context(cafile=str(made.ca))
    with HookServer(context=context) as server:
        with pytest.raises(ReceiverAway, match="certificate"):
            send(hook(server))
        assert server.seen == []
        send(hook(server), Sender(Secrets({}), context=trusting))
        assert len(server.seen) == 1


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/",
        "nonsense",
        "http://",
        "http://127.0.0.1:99999/",
        "http://a/\x7f",
        "http://a b/",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(DeliveryRefused) as caught:
        send(at("slack"), environment={"SLACK_URL": url})
    assert url not in str(caught.value)


def test_secrets_are_in_no_text(tmp_path: Path) -> None:
    with HookServer(Reply(400, body=f"unknown key {KEY}".encode())) as server:
        with pytest.raises(DeliveryRefused) as caught:
            send(at("pagerduty", url=server.url), environment={"PAGERDUTY_KEY": KEY})
        assert KEY not in str(caught.value)
        assert "unknown key ***" in str(caught.value)
        url = f"{server.url}/services/T0/B0/token"
        server.replies = [Reply(404, body=f"no {url}".encode())]
        with pytest.raises(DeliveryRefused) as caught:
            send(at("slack"), environment={"SLACK_URL": url})
        assert "token" not in str(caught.value)
    with pytest.raises(MissingSecret, match="no secret PAGERDUTY_KEY"):
        send(at("pagerduty"))


# -- Alertmanager

ALERTMANAGER = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[str]:
    """The URL of a real Alertmanager."""
    binary = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if binary is None:
        message = "no Alertmanager on this machine: it was not sent an alert"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    config = tmp_path / "alertmanager.yml"
    config.write_text(ALERTMANAGER)
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        binary, f"--config.file={config}", f"--storage.path={tmp_path / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}", "--cluster.listen-address=",
    ]  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _until(lambda: httpx.get(f"{url}/-/ready").status_code == 200)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if holds():
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_alertmanager_takes_an_alert_and_its_end(alertmanager: str) -> None:
    sender, now_s = Sender(Secrets({})), int(time.time())

    def tell(alert: Alert) -> None:
        planned = replace(notification(alert), slot_s=now_s)
        for message in compose(planned, at("am", url=alertmanager), ALERT_URL):
            sender(at("am", url=alertmanager), message, now_s)

    def active() -> list[Any]:
        answer = httpx.get(f"{alertmanager}/api/v2/alerts")
        assert answer.status_code == 200
        return list(answer.json())

    alert = firing(1)
    alert = replace(alert, last=replace(alert.last, started_s=now_s - 1200, at_s=now_s - 900))
    tell(alert)
    _until(active)
    [seen] = active()
    assert seen["labels"] == alert.labels
    assert seen["annotations"]["alert_id"] == alert.id
    assert seen["generatorURL"] == ALERT_URL.replace("{id}", alert.id)
    assert seen["status"]["state"] in ("active", "unprocessed")
    tell(alert)
    assert len(active()) == 1
    tell(ended(alert))  # ten minutes after it began
    _until(lambda: not active())
