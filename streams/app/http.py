"""GET /healthz, /readyz and /metrics of a processor, from a thread of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, NamedTuple

from ...schemas.errors import InvalidConfiguration
from .ports import Lease
from .status import WorkerStatus

STUCK_S = 60.0  # an event loop that does not turn for so long is dead
CIRCUIT_STATES = {"closed": 0, "half-open": 1, "open": 2}


class Definition(NamedTuple):
    """A metric of the closed list; see api/openmetrics.py for the fields."""

    name: str
    kind: Literal["counter", "gauge"]
    unit: str
    help: str


class Reading(NamedTuple):
    """A value under some labels; None is left out."""

    definition: Definition
    value: float | None
    labels: Mapping[str, str]


def _gauge(name: str, unit: str, text: str) -> Definition:
    return Definition(f"penstock_worker_{name}", "gauge", unit, text)


READY = _gauge("ready", "", "1 while every partition that is ours is worked on, else 0.")
LAG = _gauge("lag_messages", "", "Messages in Kafka that are not durable in the store.")
OLDEST = _gauge(
    "oldest_message_age_seconds", "seconds", "Age of the oldest message read and not durable."
)
HEARTBEAT = _gauge("heartbeat_age_seconds", "seconds", "Since the broker answered a heartbeat.")
WATERMARK = _gauge(
    "watermark_age_seconds", "seconds", "How far the watermark of ingestion is behind the clock."
)
CIRCUIT = _gauge("circuit_state", "", "Of calls outwards: 0 closed, 1 half-open, 2 open.")

# Counter of the process -> what it counts. A counter that is not here is not told.
COUNTERS = {
    "messages": "Messages of the events topic that became durable.",
    "batches": "Batches of messages flushed.",
    "stored": "Events stored.",
    "duplicate": "Events dropped because they were stored before.",
    "rejected": "Rows put into quarantine.",
    "late": "Events that came after their pane had closed.",
    "redacted": "Values redacted.",
    "unpriced": "Requests with tokens and neither a cost nor a price.",
    "forwarded": "Messages forwarded to the home partition of their boot.",
    "offsets_lost": "Offsets that Kafka had deleted before they were read.",
    "strays": "Deliveries of Faust that were not the next message, dropped.",
    "healed": "Partitions read again because Faust did not deliver what it had.",
    "retries": "Calls to the store or the broker repeated after an error.",
    "rebalances": "Assignments of partitions to this processor.",
    "outgoing": "Messages sent to the panes topic.",
    "outgoing_dropped": "Messages for the panes topic that were dropped because the broker was away.",
    "deltas": "Messages of the panes topic applied.",
    "deltas_refilled": "Ranges of rows read from the store because their delta was missing.",
    "deltas_invalid": "Messages of the panes topic that were no deltas.",
    "panes_published": "Rows of panes written.",
    "windows_written": "Rows of windows written.",
}
COUNTS = {
    name: Definition(f"penstock_worker_{name}", "counter", "", text)
    for name, text in COUNTERS.items()
}


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the answers come from; every call is cheap and may come from any thread.

    Attributes:
        status: of the processor.
        watermark_age_s: None while there is no watermark.
    """

    status: Callable[[], WorkerStatus]
    watermark_age_s: Callable[[], float | None] = lambda: None


def readings(sources: Sources) -> Iterator[Reading]:
    """Every metric of the closed list that has a value."""
    status = sources.status()
    yield Reading(READY, float(not status.waiting_for), {})
    for part in status.partitions:
        yield Reading(LAG, part.lag, {"topic": part.topic, "partition": str(part.partition)})
    yield Reading(OLDEST, status.oldest_s, {})
    yield Reading(HEARTBEAT, status.heartbeat_age_s, {})
    yield Reading(WATERMARK, sources.watermark_age_s(), {})
    for name, state in status.circuits.items():
        yield Reading(CIRCUIT, CIRCUIT_STATES[state], {"circuit": name})
    for name, definition in COUNTS.items():
        yield Reading(definition, status.totals.get(name, 0), {})


class WorkerHTTP:
    """The server; it answers while the event loop is stuck, and says so.

    Args:
        host: address to listen on.
        port: 0 picks a free one.
        sources: where the answers come from.
        render: makes the text of /metrics.
        content_type: of that text.

    Attributes:
        port: it listens on.

    Raises:
        InvalidConfiguration: nothing can listen there.
    """

    def __init__(
        self,
        host: str,
        port: int,
        sources: Sources,
        render: Callable[[Sequence[Reading]], str],
        content_type: str,
    ) -> None:
        self._sources = sources
        self._render = render
        self._content_type = content_type
        try:
            self._server = ThreadingHTTPServer((host, port), self._handler())
        except OSError as error:
            raise InvalidConfiguration(
                f"cannot listen on {host}:{port} ({error.strerror}): choose another --metrics-port"
            ) from error
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="worker-http", daemon=True
        )

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str) -> tuple[int, str, str]:
        """Status, content type and body of a path."""
        status = self._sources.status()
        if path == "/metrics":
            return 200, self._content_type, self._render([*readings(self._sources)])
        if path == "/readyz":
            return _json(503 if status.waiting_for else 200, status.waiting_for or "ready")
        if path == "/healthz":
            stuck_s = Lease.now_s() - status.turned_s
            if stuck_s > STUCK_S:
                return _json(503, f"the event loop did not turn for {stuck_s:.0f} s")
            return _json(200, "ok")
        return _json(404, "there are /healthz, /readyz and /metrics")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self.answer

        class Handler(BaseHTTPRequestHandler):
            timeout = 10  # seconds that a client may keep a thread

            def do_GET(self) -> None:
                status, content_type, text = answer(self.path.partition("?")[0])
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Nothing: probes come every few seconds."""

        return Handler


def _json(status: int, text: str) -> tuple[int, str, str]:
    return status, "application/json", json.dumps({"status": text})
