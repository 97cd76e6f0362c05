from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from penstock.producers.transport import (
    FramesRefused,
    HttpTransport,
    ServerAway,
    retry_after_s,
)
from penstock.schemas.errors import InvalidConfiguration
from penstock.schemas.frames import FrameHeader, encode_frame
from penstock.tests.unit.producers.event_server import Answer, EventServer, event_server


def frame(seq0: int = 0) -> bytes:
    header = FrameHeader(
        kind="step",
        worker_id="w",
        boot_id="b",
        seq0=seq0,
        count=1,
        next_seq=seq0 + 1,
        clock_us=1,
    )
    return encode_frame(header, [{"ts": 1}])


def test_frames_are_concatenated_and_the_connection_is_kept(server: EventServer) -> None:
    transport = HttpTransport(server.url + "/prefix/", api_key="psk_x")
    transport.send([frame(0), frame(1)])
    transport.send([frame(2)])
    transport.close()
    assert [header.seq0 for header in server.headers()] == [0, 1, 2]
    assert server.requests[0]["path"] == "/prefix/v1/events"
    assert server.requests[0]["Authorization"] == "Bearer psk_x"
    assert server.requests[0]["Content-Type"] == "application/vnd.penstock.frames"


def test_a_server_that_was_restarted_is_found_again() -> None:
    with event_server() as first:
        transport = HttpTransport(first.url)
        transport.send([frame(0)])
        port = first.port
    with event_server(port) as second:
        transport.send([frame(1)])
        assert [header.seq0 for header in second.headers()] == [1]
    with pytest.raises(ServerAway):
        transport.send([frame(2)])
    transport.close()


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_what_may_pass_later(server: EventServer, status: int) -> None:
    server.always = Answer(status, {"Retry-After": "7"})
    transport = HttpTransport(server.url)
    with pytest.raises(ServerAway) as caught:
        transport.send([frame()])
    transport.close()
    assert caught.value.retry_after_s == 7.0
    assert str(status) in str(caught.value)


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_what_never_passes(server: EventServer, status: int) -> None:
    server.always = Answer(status)
    transport = HttpTransport(server.url)
    with pytest.raises(FramesRefused):
        transport.send([frame()])
    transport.close()


def test_a_slow_server_is_away(server: EventServer) -> None:
    server.answers.append(Answer(202, delay_s=0.5))
    transport = HttpTransport(server.url, timeout_s=0.05)
    with pytest.raises(ServerAway):
        transport.send([frame()])
    transport.close()


def test_rejected_rows_are_reported_and_logged_once(
    server: EventServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.always = Answer(202, body=b'{"accepted": 0, "rejected": 3, "rejections": []}')
    told: list[int] = []
    transport = HttpTransport(server.url, on_rejected=told.append)
    with caplog.at_level(logging.WARNING, "penstock"):
        transport.send([frame()])
        transport.send([frame()])
    transport.close()
    assert told == [3, 3]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("body", [b"", b"ok", b"[]"])
def test_answers_without_counts_are_fine(server: EventServer, body: bytes) -> None:
    server.always = Answer(202, body=body)
    transport = HttpTransport(server.url)
    transport.send([frame()])
    transport.close()


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://host", "http://"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(InvalidConfiguration):
        HttpTransport(url)


def test_retry_after() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 80 < retry_after_s(soon) <= 90
    assert retry_after_s("1.5") == 1.5
    assert [retry_after_s(v) for v in (None, "", "soon", "-1", "nan")] == [0.0] * 5
