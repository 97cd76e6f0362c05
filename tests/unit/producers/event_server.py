"""A real HTTP server for the emitter's tests: decodes frames, remembers them, answers as told."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from penstock.schemas.frames import FrameHeader, split_frames
from penstock.streams.core.decode import Batch, decode_frame


@dataclass
class Answer:
    """What to answer to one POST, instead of 202."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    body: bytes = b"{}"


@dataclass
class Boot:
    """What arrived from one boot."""

    seqs: list[int] = field(default_factory=list)
    gaps: set[int] = field(default_factory=set)
    next_seq: int = 0
    closed: int = 0

    @property
    def missing(self) -> set[int]:
        """Numbers given out that neither arrived nor were declared lost."""
        return set(range(self.next_seq)) - set(self.seqs) - self.gaps


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients that are killed reset their connections; anything else is a bug.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class EventServer:
    """Use through `event_server`."""

    def __init__(self, port: int = 0) -> None:
        self.batches: list[Batch] = []
        self.bodies: list[int] = []
        self.arrivals: list[tuple[float, int]] = []
        self.requests: list[dict[str, str]] = []
        self.answers: list[Answer] = []
        self.always: Answer | None = None
        self.refuse_seq: int | None = None
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._http = _Http(("127.0.0.1", port), self._handler())
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        for connection in self._connections:  # kept-alive ones die with the server
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def take(self, body: bytes, headers: dict[str, str]) -> Answer:
        with self._lock:
            answer = self.answers.pop(0) if self.answers else self.always
            batches = [decode_frame(frame) for frame in split_frames(body)]
            if answer is None and any(self._refused(batch.header) for batch in batches):
                answer = Answer(400)
            self.arrivals.append((time.monotonic(), answer.status if answer else 202))
            self.requests.append(headers)
            if answer is None or answer.status == 202:
                self.batches.extend(batches)
                self.bodies.append(len(body))
        return answer or Answer(202, body=json.dumps({"accepted": 1, "rejected": 0}).encode())

    def rows(self, kind: str) -> list[dict[str, Any]]:
        with self._lock:
            batches = [batch for batch in self.batches if batch.header.kind == kind]
        return [row for batch in batches for row in batch.table.to_pylist()]

    def headers(self) -> list[FrameHeader]:
        with self._lock:
            return [batch.header for batch in self.batches]

    def boots(self) -> dict[str, Boot]:
        boots: dict[str, Boot] = defaultdict(Boot)
        for header in self.headers():
            boot = boots[header.boot_id]
            boot.seqs.extend(range(header.seq0, header.seq0 + header.count))
            boot.gaps.update(n for low, high in header.gaps for n in range(low, high))
            boot.next_seq = max(boot.next_seq, header.next_seq)
            boot.closed += header.closing
        return dict(boots)

    def wait(self, condition: Any, timeout_s: float = 20.0) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, "the server did not see it in time"
            time.sleep(0.01)

    def _refused(self, header: FrameHeader) -> bool:
        refused = self.refuse_seq
        return refused is not None and header.seq0 <= refused < header.seq0 + header.count

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                server._connections.append(self.connection)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = server.take(body, {"path": self.path, **dict(self.headers.items())})
                time.sleep(answer.delay_s)
                try:
                    self.send_response(answer.status)
                    for name, value in answer.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(answer.body)))
                    self.end_headers()
                    self.wfile.write(answer.body)
                except ConnectionError:
                    self.close_connection = True

            def log_message(self, *args: object) -> None:
                pass

        return Handler


@contextmanager
def event_server(port: int = 0) -> Iterator[EventServer]:
    """A running server on 127.0.0.1."""
    server = EventServer(port)
    try:
        yield server
    finally:
        server.stop()
