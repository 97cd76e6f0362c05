"""How frames leave a worker: the `Transport` protocol and the one that speaks HTTP.

The one that speaks to Kafka is in kafka.py.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import ssl
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from socket import gaierror
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

from ..schemas.errors import InvalidConfiguration, PenstockError

_LOG = logging.getLogger("penstock")
CONTENT_TYPE = "application/vnd.penstock.frames"
_REFUSED = frozenset({400, 413, 415, 422})
_MAX_ANSWER_BYTES = 1 << 20
# What a server's closing of an idle connection looks like from here.
_STALE = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)
# Connections of the parent, kept alive in a forked child so that nothing finalises them there.
_ABANDONED: list[http.client.HTTPConnection] = []


class DeliveryError(PenstockError):
    """Frames were not delivered."""

    slug = "delivery"


class ServerAway(DeliveryError):
    """Not now: send the same frames again later. Their outcome may be unknown.

    Attributes:
        retry_after_s: how long the server asked to wait, 0 when it did not say.
        unreachable: nobody listens there, so that the end of the process need not wait.
    """

    slug = "server-away"

    def __init__(
        self, message: str, retry_after_s: float = 0.0, *, unreachable: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.unreachable = unreachable


class FramesRefused(DeliveryError):
    """The server will never take this body as it is."""

    slug = "frames-refused"


class Transport(Protocol):
    """Delivers frames. Called by one thread at a time; may block up to its own time limit."""

    def send(self, frames: list[bytes]) -> None:
        """Deliver all frames, in order; returning means that they are durable.

        Raises:
            ServerAway: send the same again later.
            FramesRefused: at least one of them will never be taken.
        """
        ...

    def close(self) -> None:
        """Let connections go; `send` may open them again."""
        ...

    def abandon(self) -> None:
        """In a forked child: forget connections without touching what the parent still uses."""
        ...


@runtime_checkable
class Partitioned(Protocol):
    """A transport whose frames go to partitions: each boot gets a home among them."""

    def partitions(self, limit_s: float) -> int | None:
        """How many there are; None when nobody says so within `limit_s`. Any thread may ask."""
        ...


class HttpTransport:
    """POSTs concatenated frames to `{url}/v1/events` over one kept-alive connection.

    Args:
        url: http:// or https:// address of the server, a path prefix allowed.
        api_key: bearer key, if the server wants one.
        timeout_s: limit of every blocking socket operation.
        on_rejected: told how many rows the server stored no part of, per answer.

    Raises:
        InvalidConfiguration: the URL is not one of HTTP.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 10.0,
        on_rejected: Callable[[int], None] | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            # Not shown, because there may be a password in it.
            raise InvalidConfiguration(
                "events go to an address like http://host:8080, https://host or kafka://host:9092"
            )
        self._host, self._port, self._secure = parts.hostname, parts.port, parts.scheme == "https"
        self._path = parts.path.rstrip("/") + "/v1/events"
        self._timeout_s = timeout_s
        self._headers = {"Content-Type": CONTENT_TYPE, "User-Agent": "penstock-emitter"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._on_rejected = on_rejected
        self._warned_rejected = False
        self._connection: http.client.HTTPConnection | None = None

    def send(self, frames: list[bytes]) -> None:
        """Deliver frames; see `Transport.send`."""
        body = frames[0] if len(frames) == 1 else b"".join(frames)
        reused = self._connection is not None
        try:
            answer = self._post(body)
        except _STALE as error:
            self.close()
            if not reused:
                raise ServerAway(f"connection lost: {error!r}") from error
            # Sending again is safe: the server knows frames by their identity.
            answer = self._post_or_away(body)
        except (OSError, http.client.HTTPException) as error:
            raise self._away(error) from error
        self._judge(*answer)

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def abandon(self) -> None:
        """Forget the parent's connection; see `Transport.abandon`."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        # Buffered readers hold locks that a thread of the parent may have owned at the fork:
        # the file descriptor goes, the objects stay.
        _ABANDONED.append(connection)
        if connection.sock is not None:
            descriptor = connection.sock.detach()
            if descriptor >= 0:
                os.close(descriptor)

    def _post_or_away(self, body: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
        try:
            return self._post(body)
        except (OSError, http.client.HTTPException) as error:
            raise self._away(error) from error

    def _away(self, error: Exception) -> ServerAway:
        self.close()
        return ServerAway(
            f"cannot reach {self._host}: {error!r}",
            unreachable=isinstance(error, (ConnectionRefusedError, gaierror)),
        )

    def _post(self, body: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
        if self._connection is None:
            self._connection = self._connect()
        self._connection.request("POST", self._path, body, self._headers)
        response = self._connection.getresponse()
        answer = response.read(_MAX_ANSWER_BYTES)
        if response.will_close or not response.isclosed():
            self.close()
        return response.status, response.headers, answer

    def _connect(self) -> http.client.HTTPConnection:
        if self._secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=self._timeout_s, context=context
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)

    def _judge(self, status: int, headers: http.client.HTTPMessage, answer: bytes) -> None:
        if status in (200, 202):
            self._report_rejected(answer)
            return
        text = answer[:300].decode("utf-8", "replace")
        if status in _REFUSED:
            raise FramesRefused(f"{status} {text}")
        raise ServerAway(f"{status} {text}", retry_after_s(headers.get("Retry-After")))

    def _report_rejected(self, answer: bytes) -> None:
        try:
            receipt = json.loads(answer)
        except ValueError:
            return
        rejected = receipt.get("rejected", 0) if isinstance(receipt, dict) else 0
        if not rejected:
            return
        if self._on_rejected is not None:
            self._on_rejected(rejected)
        if not self._warned_rejected:
            self._warned_rejected = True
            _LOG.warning(
                "the server rejected %d rows (said once): %s",
                rejected,
                receipt.get("rejections", [])[:3],
            )


def retry_after_s(value: str | None) -> float:
    """Seconds that a Retry-After header asks for: a number or an HTTP date; 0 when unreadable."""
    if not value:
        return 0.0
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0
