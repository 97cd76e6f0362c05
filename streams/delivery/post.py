"""One POST over HTTP: no redirects, no proxies, and an end to waiting, whatever the other side does."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from .errors import DeliveryRefused, ReceiverAway, shown

MAX_ANSWER_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status, the header Retry-After, and the beginning of the body."""

    status: int
    retry_after: str | None
    text: str


def post(
    url: str, body: bytes, headers: Mapping[str, str], timeout_s: float, context: ssl.SSLContext
) -> Answer:
    """Send a body and wait for the answer.

    Args:
        url: http or https.
        body: sent as it is.
        headers: besides Host and Content-Length.
        timeout_s: of connecting, and again of all the rest.
        context: of TLS.

    Raises:
        ReceiverAway: no answer in time, or none that is HTTP.
        DeliveryRefused: the URL cannot be used; the text does not show it.
    """
    try:
        connection, target = _connection(url, timeout_s, context)
        with contextlib.closing(connection):
            connection.connect()
            with _ended_after(connection.sock, timeout_s) as ended:
                connection.request("POST", target, body, dict(headers))
                with connection.getresponse() as response:
                    if ended.is_set():  # half a header is taken for a whole one
                        raise TimeoutError("no answer in time")
                    text = response.read(MAX_ANSWER_BYTES).decode(errors="replace")
                    return Answer(response.status, response.headers["Retry-After"], text)
    except OSError as error:  # before ValueError: a certificate that is not trusted is both
        raise ReceiverAway(shown(f"{type(error).__name__}: {error}")) from error
    except (http.client.InvalidURL, ValueError):
        raise DeliveryRefused("the URL or a header cannot be used") from None
    except http.client.HTTPException as error:
        raise ReceiverAway(shown(f"{type(error).__name__}: {error}")) from error


def _connection(
    url: str, timeout_s: float, context: ssl.SSLContext
) -> tuple[http.client.HTTPConnection, str]:
    """A connection that is not open yet, and what is asked for."""
    parts = urlsplit(url)
    if not re.fullmatch("https?://[!-~]+", url) or parts.hostname is None:
        raise ValueError
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host, port = parts.hostname, parts.port
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=timeout_s), target
    return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context), target


@contextlib.contextmanager
def _ended_after(sock: socket.socket, timeout_s: float) -> Iterator[threading.Event]:
    """End a connection that drips: timeouts of sockets begin anew with every byte."""

    ended = threading.Event()

    def end() -> None:
        ended.set()
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(timeout_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield ended
    finally:
        timer.cancel()
