"""A real HTTP server on 127.0.0.1 that notes what it is sent and answers as a test chooses."""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: after a wait, and with a body that may drip, a byte each so many seconds."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"ok"
    wait: threading.Event | None = None
    drip_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A request."""

    path: str
    headers: dict[str, str]
    body: bytes


class HookServer:
    """Runs from `with` to its end.

    Args:
        replies: one for each request; the last one is for ever.
        context: of TLS, with a certificate.
    """

    def __init__(self, *replies: Reply, context: ssl.SSLContext | None = None) -> None:
        self.replies = list(replies) or [Reply()]
        self.seen: list[Seen] = []
        self.ended = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server._answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.port: int = self._http.server_address[1]
        self._scheme = "http"
        if context is not None:
            self._scheme = "https"
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
            self._http.handle_error = lambda *_: None  # type: ignore[method-assign] # a client that hangs up
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Of a path of it."""
        return f"{self._scheme}://127.0.0.1:{self.port}/hook"

    def __enter__(self) -> HookServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ended.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        self.seen.append(Seen(handler.path, dict(handler.headers.items()), body))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if reply.wait is not None:
            reply.wait.wait(30)
        try:
            if reply.drip_s:
                self._drip(handler, reply.drip_s)
                return
            handler.send_response(reply.status)
            for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(reply.body)
        except OSError:
            pass  # the client did not wait for it, which is what is tested

    def _drip(self, handler: BaseHTTPRequestHandler, pause_s: float) -> None:
        handler.wfile.write(b"HTTP/1.1 200 ")
        while not self.ended.wait(pause_s):
            handler.wfile.write(b"x")
            handler.wfile.flush()
