from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from penstock.tests.support.proxy import Proxy


class Handler(BaseHTTPRequestHandler):
    """Remembers what was posted, and answers with it."""

    protocol_version = "HTTP/1.1"
    server: Target

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(body)
        self.send_response(200)
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(body), body))
            time.sleep(0.1)
            self.server.finished.append(body)
            self.wfile.write(b"0\r\n\r\n")
            return
        if self.path == "/until-closed":
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Target(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[bytes] = []
        self.finished: list[bytes] = []

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # connections are reset here on purpose


@pytest.fixture
def target() -> Iterator[Target]:
    with Target() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def proxy(target: Target) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", target.server_address[1]) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{proxy.port}", timeout=5) as client:
        yield client


def post(client: httpx.Client, body: bytes, path: str = "/") -> bytes:
    return client.post(path, content=body).content


def test_forwards(client: httpx.Client, target: Target) -> None:
    large = bytes(3_000_000)

    assert post(client, b"one") == b"one"
    assert post(client, large) == large
    assert post(client, b"two", "/chunked") == b"two"
    assert post(client, b"three", "/until-closed") == b"three"
    assert target.got == [b"one", large, b"two", b"three"]


def test_cut_refuses_and_heals(client: httpx.Client, proxy: Proxy, target: Target) -> None:
    post(client, b"before")
    proxy.cut()

    for body in (b"on the open connection", b"on a new one"):
        with pytest.raises(httpx.NetworkError):
            post(client, body)
    proxy.heal()

    assert post(client, b"after") == b"after"
    assert target.got == [b"before", b"after"]


def test_cut_ends_an_answer_that_is_under_way(
    client: httpx.Client, proxy: Proxy, target: Target
) -> None:
    proxy.slow(1000)
    cutter = threading.Timer(0.3, proxy.cut)
    cutter.start()

    with pytest.raises(httpx.NetworkError):
        post(client, bytes(100_000))

    cutter.join()
    assert target.got == []


def test_a_blackhole_keeps_connections_open_and_silent(proxy: Proxy, target: Target) -> None:
    proxy.blackhole()
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=0.3) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nheld")
        with pytest.raises(TimeoutError):
            client.recv(100)
        assert target.got == []

        proxy.heal()
        client.settimeout(5)

        assert client.recv(100).startswith(b"HTTP/1.1 200")
    assert target.got == [b"held"]


def test_a_blackhole_swallows_the_answers_of_open_connections(
    client: httpx.Client, proxy: Proxy, target: Target
) -> None:
    post(client, b"before")
    proxy.blackhole()

    with pytest.raises(httpx.ReadTimeout):
        client.post("/", content=b"silence", timeout=0.3)

    assert target.got == [b"before"]


@pytest.mark.parametrize("path", ["/", "/chunked", "/until-closed"])
def test_a_dropped_response_was_written(
    client: httpx.Client, proxy: Proxy, target: Target, path: str
) -> None:
    post(client, b"before")
    proxy.drop_responses(2)

    for body in (b"first", b"second"):
        with pytest.raises(httpx.NetworkError):
            post(client, body, path)

    assert target.got == [b"before", b"first", b"second"]
    assert proxy.dropped == 2
    assert post(client, b"after", path) == b"after"


def test_a_response_is_dropped_only_when_it_is_whole(
    client: httpx.Client, proxy: Proxy, target: Target
) -> None:
    proxy.drop_responses(1)

    with pytest.raises(httpx.NetworkError):
        post(client, b"body", "/chunked")

    assert target.finished == [b"body"]


def test_a_request_under_way_keeps_its_response(
    client: httpx.Client, proxy: Proxy, target: Target
) -> None:
    proxy.slow(200_000)
    dropper = threading.Timer(0.1, proxy.drop_responses, [1])
    dropper.start()

    assert post(client, bytes(60_000)) == bytes(60_000)

    dropper.join()
    with pytest.raises(httpx.NetworkError):
        post(client, b"next")


def test_slow_keeps_its_pace(client: httpx.Client, proxy: Proxy) -> None:
    proxy.slow(100_000)
    start_s = time.monotonic()

    post(client, bytes(20_000))  # there and back

    assert 0.35 < time.monotonic() - start_s < 4
    proxy.heal()
    start_s = time.monotonic()
    post(client, bytes(200_000))
    assert time.monotonic() - start_s < 2


def test_an_absent_target_resets(proxy: Proxy) -> None:
    with Proxy("127.0.0.1", 1) as nowhere, pytest.raises(httpx.NetworkError):
        httpx.post(f"http://127.0.0.1:{nowhere.port}/", content=b"lost")
