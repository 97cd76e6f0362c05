from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.schemas.errors import (
    InvalidConfiguration,
    InvalidEvent,
    InvalidFrame,
    InvalidQuery,
    Unauthorized,
)
from penstock.schemas.frames import FrameHeader, encode_frame, read_header
from penstock.schemas.ports import Receipt, Rejection
from penstock.streams.core.decode import decode_frame
from penstock.streams.core.json_events import read_json
from penstock.streams.dead_letters.letters import (
    DeadLetter,
    LetterId,
)
from penstock.streams.dead_letters.redrive import Form, NotSent, parse_changes, prepare
from penstock.streams.dead_letters.senders import HttpSender

TS_US = 1_767_225_600_000_000
ID = LetterId(1, 0, 17, 3)


def letter(**changes: Any) -> DeadLetter:
    known: dict[str, Any] = {
        "id": ID,
        "taken_us": TS_US,
        "topic": "",
        "kind": "request",
        "worker_id": "w-1",
        "boot_id": "b-1",
        "seq": 5,
        "reason": "bad_value",
        "detail": "",
        "source": "http",
        "sealed": False,
        "preview": "",
        "size_bytes": 0,
    }
    return DeadLetter(**(known | changes))


def prepared(body: dict[str, Any], *changes: str, **about: Any) -> dict[str, Any]:
    """The row that would be sent."""
    found = prepare(letter(**about), json.dumps(body).encode(), parse_changes(changes), None)
    assert found.form == "json"
    row: dict[str, Any] = json.loads(found.body)
    return row


# ---- what is sent again


def test_a_row_as_it_came_keeps_its_worker_and_gets_its_own_boot() -> None:
    body = {"event": "request", "ts": TS_US, "boot_id": "b-1", "seq": 5, "model": "m"}
    assert prepared(body) == {
        "event": "request",
        "ts": TS_US,
        "model": "m",
        "worker_id": "w-1",
        "boot_id": "redrive-1-0-17-3",
        "seq": 0,
    }


def test_a_row_of_columns_gets_its_public_names_and_units_back() -> None:
    """As `Flush` writes it: stored names, integers, maps as pairs, everything there is."""
    event = {
        "ts": TS_US,
        "latency_ms": 812.345,
        "cost_usd": 0.00123,
        "model": "m",
        "status": "nonsense",
        "features": {"x": 1.5},
        "attributes": {"n": "5"},
        "safety_flags": ["pii"],
        "cache_hit": True,
        "quality": None,
    }
    header = FrameHeader(
        kind="request", worker_id="w-1", boot_id="b-1", seq0=5, count=1, next_seq=6, clock_us=TS_US
    )
    stored = decode_frame(encode_frame(header, [event])).table.to_pylist()[0]
    row = prepared(orjson.loads(orjson.dumps(stored, default=str)), "status=ok")
    kept = {name: value for name, value in event.items() if value is not None}
    assert row == {
        **kept,
        "event": "request",
        "status": "ok",
        "worker_id": "w-1",
        "boot_id": "redrive-1-0-17-3",
        "seq": 0,
    }


def test_a_row_of_a_frame_that_did_not_fit_says_its_kind_in_the_quarantine_only() -> None:
    row = prepared({"ts": TS_US, "step_ms": "'fast'"}, "step_ms=3.5", kind="step")
    assert (row["event"], row["step_ms"]) == ("step", 3.5)


@given(st.integers(0, 2**50), st.integers(0, 2**50))
@settings(max_examples=300, deadline=None)
def test_times_and_money_come_back_to_the_last_digit(micros: int, nanos: int) -> None:
    row = prepared(
        {"ts": TS_US, "boot_id": "b", "seq": 1, "latency_us": micros, "cost_nanousd": nanos}
    )
    table = read_json(
        orjson.dumps(row), default_boot_id="-", default_worker_id="-"
    ).batches[0].table  # fmt: skip
    assert table["latency_us"].to_pylist() == [micros]
    assert table["cost_nanousd"].to_pylist() == [nanos]


def test_the_boot_of_a_row_is_closed_at_its_own_time() -> None:
    body = {"event": "request", "ts": TS_US, "model": "m"}
    found = prepare(letter(), json.dumps(body).encode(), {}, None)
    header = read_header(found.closing)
    assert (header.kind, header.boot_id, header.worker_id) == ("control", ID.boot_id, "w-1")
    assert (header.next_seq, header.clock_us, header.closing) == (1, TS_US, True)


@pytest.mark.parametrize(
    ("body", "about", "match"),
    [
        ({"event": "request", "ts": TS_US, "latency_ms": "x"}, {}, "bad_value: latency_ms"),
        ({"event": "request", "ts": TS_US, "latency_ms": -1}, {}, "out_of_range"),
        ({"event": "request"}, {}, "missing_field: ts"),
        ({"ts": TS_US}, {"kind": ""}, "unknown_event"),
        ({"event": "request", "ts": TS_US}, {"reason": "not_finite"}, "JSON cannot say"),
    ],
)
def test_what_would_be_rejected_again_is_not_sent(
    body: dict[str, Any], about: dict[str, Any], match: str
) -> None:
    with pytest.raises(InvalidEvent, match=match):
        prepared(body, **about)


def test_what_is_too_old_is_not_sent() -> None:
    body = json.dumps({"event": "request", "ts": TS_US}).encode()
    with pytest.raises(InvalidEvent, match=r"too_late.*--set ts"):
        prepare(letter(), body, {}, TS_US + 1)
    assert prepare(letter(), body, {}, TS_US).body
    assert prepare(letter(), body, {"ts": TS_US + 9}, TS_US + 1).body


def test_not_a_number_is_no_null() -> None:
    with pytest.raises(InvalidEvent, match="bad_value: quality"):
        prepare(letter(), b'{"event":"request","ts":%d,"quality":NaN}' % TS_US, {}, None)
    mended = prepare(
        letter(reason="not_finite"),
        b'{"event":"request","ts":%d,"quality":null}' % TS_US,
        {"quality": None},
        None,
    )
    assert "quality" not in json.loads(mended.body)


@pytest.mark.parametrize("body", [b"{broken", b"[1]", b"17", b"\xff\xfe", b"[" * 100_000])
def test_bytes_that_are_no_row(body: bytes) -> None:
    with pytest.raises(InvalidFrame, match="its bytes are"):
        prepare(letter(), body, {}, None)


def test_frames_travel_as_they_are() -> None:
    header = FrameHeader(
        kind="request", worker_id="w", boot_id="b", seq0=0, count=1, next_seq=1, clock_us=TS_US
    )
    frame = encode_frame(header, [{"ts": TS_US, "model": "m"}])
    found = prepare(letter(kind=""), frame, {}, None)
    assert (found.body, found.form) == (frame, "frames")
    with pytest.raises(InvalidFrame, match="damaged"):
        prepare(letter(kind=""), frame[:-1] + b"?", {}, None)
    with pytest.raises(InvalidQuery, match="cannot be mended"):
        prepare(letter(kind=""), frame, {"model": "n"}, None)


def test_changes() -> None:
    assert parse_changes(["a=1", "b=x=y", "c=", 'd={"e":"f"}', "g=NaN", "h=null"]) == {
        "a": 1, "b": "x=y", "c": "", "d": {"e": "f"}, "g": "NaN", "h": None,
    }  # fmt: skip
    for text in ("a", "=1"):
        with pytest.raises(InvalidQuery, match="field=value"):
            parse_changes([text])
    for name in ("boot_id", "seq", "worker_id"):
        with pytest.raises(InvalidQuery, match="stored once"):
            parse_changes([f"{name}=1"])


def test_a_field_misspelt_is_told() -> None:
    body = {"event": "span", "ts": TS_US, "trace_id": "t", "own": 1}
    with pytest.raises(InvalidQuery, match="a span has no field durations"):
        prepared(body, "durations=1")
    # `own` is there already, `duration` is what other writers call it.
    assert prepared(body, "own=2", "duration=3")["duration"] == 3
    assert prepared({"ts": TS_US}, "event=request", "model=m", kind="")["model"] == "m"


# ---- senders


class Recorder:
    """Takes everything and answers what it was told to."""

    def __init__(self, receipt: Receipt | None) -> None:
        self.receipt = receipt
        self.sent: list[tuple[bytes, Form, str | None]] = []

    def send(self, body: bytes, form: Form, key: str | None) -> Receipt | None:
        self.sent.append((body, form, key))
        return self.receipt


@pytest.mark.parametrize(
    ("receipt", "messages"),
    [
        (Receipt(1), 2),
        (Receipt(0, 1), 2),
        (None, 2),
        (Receipt(0, 0, 1, [Rejection(0, "r", "d")]), 1),
    ],
)
def test_a_row_goes_first_then_the_end_of_its_boot(receipt: Receipt | None, messages: int) -> None:
    found = prepare(letter(), b'{"event":"request","ts":%d}' % TS_US, {}, None)
    recorder = Recorder(receipt)
    assert found.send(recorder) is receipt
    expected = [(found.body, "json", ID.boot_id), (found.closing, "frames", None)]
    assert recorder.sent == expected[:messages]


class Api(BaseHTTPRequestHandler):
    """Answers the next of `answers` and keeps what it was asked."""

    answers: ClassVar[list[tuple[int, dict[str, str], bytes]]]
    asked: ClassVar[list[tuple[str, dict[str, str], bytes]]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append((self.path, dict(self.headers), body))
        status, headers, answer = self.answers.pop(0)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def api() -> Iterator[tuple[str, type[Api]]]:
    class Mine(Api):
        answers: ClassVar[list[tuple[int, dict[str, str], bytes]]] = []
        asked: ClassVar[list[tuple[str, dict[str, str], bytes]]] = []

    server = ThreadingHTTPServer(("127.0.0.1", 0), Mine)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", Mine
    server.shutdown()
    thread.join()
    server.server_close()


TAKEN: tuple[int, dict[str, str], bytes] = (
    202,
    {},
    b'{"accepted":1,"duplicate":0,"rejected":0,"rejections":[]}',
)


def test_http(api: tuple[str, type[Api]]) -> None:
    url, seen = api
    rejected = (
        b'{"accepted":0,"duplicate":0,"rejected":1,'
        b'"rejections":[{"index":0,"reason":"r","detail":"d"}]}'
    )
    seen.answers += [TAKEN, (202, {}, rejected)]
    sender = HttpSender(f"{url}/", api_key="psk_x")
    assert sender.send(b"{}", "json", "redrive-1-0-17-3") == Receipt(1)
    assert sender.send(b"PSF1", "frames", None) == Receipt(0, 0, 1, (Rejection(0, "r", "d"),))
    (path, headers, body), (_, more, _) = seen.asked
    assert (path, body) == ("/v1/events", b"{}")
    assert headers["Authorization"] == "Bearer psk_x"
    assert headers["Content-Type"] == "application/json"
    assert more["Content-Type"] == "application/vnd.penstock.frames"


def test_a_busy_server_is_asked_again(api: tuple[str, type[Api]]) -> None:
    url, seen = api
    busy = (503, {"Retry-After": "0.01"}, b"")
    seen.answers += [busy, (429, {"Retry-After": "0"}, b""), TAKEN, busy, busy]
    sender = HttpSender(url, attempts=3)
    assert sender.send(b"{}", "json", "k").accepted == 1
    with pytest.raises(NotSent, match="is busy"):
        HttpSender(url, attempts=2).send(b"{}", "json", "k")
    assert len(seen.asked) == 5


@pytest.mark.parametrize(
    ("status", "error"), [(400, InvalidFrame), (413, InvalidFrame), (401, Unauthorized)]
)
def test_a_server_that_refuses(
    api: tuple[str, type[Api]], status: int, error: type[Exception]
) -> None:
    url, seen = api
    seen.answers.append((status, {}, b"not so"))
    with pytest.raises(error, match=f"{status} not so"):
        HttpSender(url).send(b"{}", "json", "k")


def test_an_answer_of_something_else(api: tuple[str, type[Api]]) -> None:
    url, seen = api
    seen.answers.append((200, {}, b"<html>"))
    with pytest.raises(NotSent, match="right --url"):
        HttpSender(url).send(b"{}", "json", "k")


def test_no_server() -> None:
    with pytest.raises(NotSent, match="did not answer"):
        HttpSender("http://127.0.0.1:1", timeout_s=2).send(b"{}", "json", "k")
    with pytest.raises(InvalidConfiguration, match="http"):
        HttpSender("127.0.0.1:8080")
