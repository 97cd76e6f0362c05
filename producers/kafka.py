"""Frames straight to Kafka: idempotent, acknowledged by all replicas in sync, each boot at home.

The client is confluent-kafka (docs/decisions/0005 says why); it is imported when a transport is made.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import logging
import math
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from ..schemas.errors import InvalidConfiguration
from ..schemas.frames import FrameHeader, read_header
from ..schemas.kafka import KafkaAddress
from ..schemas.rows import MAX_FRAME_BYTES
from ..schemas.topics import EVENTS, home_of
from .transport import FramesRefused, ServerAway

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message, Producer

_LOG = logging.getLogger("penstock.kafka")
_INSTALL = "kafka:// addresses need confluent-kafka: pip install 'penstock[kafka]'"
_SILENCE = "no answer in time"
_GRACE_S = 0.5  # how long a send goes on while no broker can be reached
_FIRST_SLICE_S = 0.25
_MAX_PLACED = 1_000
_QUEUE_KIB = 2 * MAX_FRAME_BYTES // 1024  # a body is at most 1 MiB, or one frame
# librdkafka makes and ends producers under locks of its own, which a fork must not copy while held.
_MAKING = threading.Lock()


def producer_config(address: KafkaAddress, timeout_s: float) -> dict[str, Any]:
    """Settings of librdkafka for one cluster.

    Args:
        address: of the cluster.
        timeout_s: limit of one delivery.
    """
    timeout_ms = max(1000, math.ceil(timeout_s * 1000))
    return {
        **address.librdkafka(),
        "client.id": "penstock-emitter",
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "none",  # frames are compressed already
        "linger.ms": 1,
        # The transport's own limit comes first and ends this producer, so that nothing that was
        # reported as undelivered is delivered afterwards.
        "message.timeout.ms": 2 * timeout_ms,
        "request.timeout.ms": timeout_ms,
        "socket.timeout.ms": timeout_ms,
        "socket.connection.setup.timeout.ms": timeout_ms,
        "socket.nagle.disable": True,
        "socket.keepalive.enable": True,
        "reconnect.backoff.max.ms": 1000,
        "message.max.bytes": MAX_FRAME_BYTES + 2**20,  # the broker decides what is too large
        "queue.buffering.max.kbytes": _QUEUE_KIB,
        "allow.auto.create.topics": False,
        "log.connection.close": False,
    }


def partition_of(header: FrameHeader, partitions: int) -> int:
    """Where a frame goes: its boot's home; a home that does not exist is folded back.

    Args:
        header: of the frame.
        partitions: how many the topic has now.
    """
    home = home_of(header.boot_id, partitions) if header.home is None else header.home
    return home % partitions


class KafkaTransport:
    """Delivers each frame as one message, keyed by boot, to the home partition of its boot.

    Args:
        address: of the cluster.
        topic: for frames.
        timeout_s: limit of one `send`.

    Raises:
        InvalidConfiguration: confluent-kafka is not installed.
    """

    def __init__(
        self, address: KafkaAddress, *, topic: str = EVENTS, timeout_s: float = 10.0
    ) -> None:
        self._client = _import_client()
        self._config = producer_config(address, timeout_s)
        self._servers = address.servers
        self._topic = topic
        self._timeout_s = timeout_s
        self._link: _Link | None = None
        self._placed: dict[str, int] = {}
        _watch_forks()

    def send(self, frames: list[bytes]) -> None:
        """Deliver frames; see `Transport.send`."""
        end = time.monotonic() + self._timeout_s
        if self._link is None:
            self._link = self._connect()
        try:
            self._deliver(self._link, frames, end)
        except ServerAway:
            # What is still on its way ends with this producer, and the next one begins with the
            # first frame again: the first arrivals of a boot's frames are always in order.
            self.close()
            raise

    def partitions(self, limit_s: float) -> int | None:
        """How many partitions the topic has; None when the brokers do not say.

        May be called while another thread sends: the question has a connection of its own.

        Args:
            limit_s: returns after so long at the latest.
        """
        end = time.monotonic() + limit_s
        try:
            link = self._connect()
            try:
                return self._ask(link, end)
            finally:
                link.end()
        except ServerAway as error:
            _LOG.debug("the home partition is chosen without the brokers: %s", error)
            return None

    def close(self) -> None:
        """End the producer; `send` makes another."""
        link, self._link = self._link, None
        if link is not None:
            link.end()

    def abandon(self) -> None:
        """Forget the parent's producer; see `Transport.abandon`."""
        link, self._link = self._link, None
        if link is not None:
            # Its threads do not exist here and its connections are the parent's, so nothing may end
            # it, not even the interpreter's own end: it gets one reference too many.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(link.producer))

    def _connect(self) -> _Link:
        try:
            return _Link(self._client, self._config)
        except (self._client.KafkaException, ValueError, TypeError) as error:
            # A file of certificates that cannot be read, most often: it may be there later.
            raise ServerAway(f"confluent-kafka does not start: {error}") from error

    def _deliver(self, link: _Link, frames: Sequence[bytes], end: float) -> None:
        link.begin()
        reports: list[KafkaError | None] = []
        take_report = partial(_take_report, link, reports)
        for frame in frames:
            header = read_header(frame)
            home = self._home(link, header, end)
            try:
                link.producer.produce(
                    self._topic, frame, header.boot_id, home, on_delivery=take_report
                )
            except (self._client.KafkaException, BufferError) as error:
                raise self._failure(link, _error_of(error)) from error
        while len(reports) < len(frames):
            left = link.patience_end(end) - time.monotonic()
            if left <= 0:
                raise self._failure(link, None)
            link.producer.poll(left)
        failures = [self._failure(link, error) for error in reports if error is not None]
        if failures:  # what may pass later counts before what never will
            raise min(failures, key=lambda failure: isinstance(failure, FramesRefused))

    def _failure(self, link: _Link, error: KafkaError | None) -> ServerAway | FramesRefused:
        """What an error means; None is the end of the time."""
        codes = self._client.KafkaError
        code = None if error is None else error.code()
        why = link.trouble if error is None else error.str()
        if code in (codes.MSG_SIZE_TOO_LARGE, codes.RECORD_LIST_TOO_LARGE):
            return FramesRefused(why)
        if code in (codes._UNKNOWN_PARTITION, codes._UNKNOWN_TOPIC, codes.UNKNOWN_TOPIC_OR_PART):
            self._placed.clear()  # the topic was made anew
        return ServerAway(f"Kafka at {self._servers}: {why}", unreachable=link.down)

    def _home(self, link: _Link, header: FrameHeader, end: float) -> int:
        """Asked once per boot and kept, so that partitions added meanwhile do not move it."""
        known = self._placed.get(header.boot_id)
        if known is None:
            known = partition_of(header, self._ask(link, end))
            if len(self._placed) >= _MAX_PLACED:
                del self._placed[next(iter(self._placed))]
            self._placed[header.boot_id] = known
        return known

    def _ask(self, link: _Link, end: float) -> int:
        """The partitions of the topic.

        Raises:
            ServerAway: the brokers do not say until `end`, or there is no such topic.
        """
        slice_s = _FIRST_SLICE_S
        while True:
            try:
                left = max(0.01, min(slice_s, end - time.monotonic()))
                topic = link.producer.list_topics(self._topic, timeout=left).topics[self._topic]
                break
            except self._client.KafkaException as error:
                link.producer.poll(0)
                slice_s *= 2
                if time.monotonic() >= link.patience_end(end):
                    raise self._failure(link, None) from error
        if topic.error is not None or not topic.partitions:
            raise ServerAway(
                f"topic {self._topic} cannot be used (`penstock topics` makes it): {topic.error}"
            )
        return len(topic.partitions)


class _Link:
    """One producer, and what it says of its connections while it is polled."""

    def __init__(self, client: Any, config: Mapping[str, Any]) -> None:
        self._health = _Health(client.KafkaError)
        hooks = {"error_cb": self._health.hear, "logger": _Lines()}
        with _MAKING:
            self.producer: Producer = client.Producer({**config, **hooks})

    @property
    def trouble(self) -> str:
        """The newest complaint."""
        return self._health.trouble

    @property
    def down(self) -> bool:
        """Whether no broker could be reached."""
        return self._health.down_since is not None

    def begin(self) -> None:
        """What was wrong while nothing was sent does not count against what is sent now."""
        self.producer.poll(0)
        if self.down:
            self._health.down_since = time.monotonic()
        else:
            self._health.trouble = _SILENCE

    def delivered(self) -> None:
        """A broker answered."""
        self._health.down_since = None

    def patience_end(self, end: float) -> float:
        """When to give up (time.monotonic), `end` at the latest."""
        down_since = self._health.down_since
        return end if down_since is None else min(end, down_since + _GRACE_S)

    def end(self) -> None:
        """End the producer together with what it has not delivered."""
        self.producer.purge()
        self.producer.poll(0)  # lets go of what waits for reports
        with _MAKING:
            del self.producer


@dataclass
class _Health:
    """Takes librdkafka's errors; refers to nothing, so that a producer ends when it is let go."""

    codes: type[KafkaError]
    trouble: str = _SILENCE
    down_since: float | None = None

    def hear(self, error: KafkaError) -> None:
        if error.code() in (self.codes._ALL_BROKERS_DOWN, self.codes._AUTHENTICATION):
            self.down_since = self.down_since or time.monotonic()
        if error.code() != self.codes._ALL_BROKERS_DOWN:
            self.trouble = error.str()


class _Lines:
    """Takes librdkafka's log; what matters of it comes as an error too, and is told once by us."""

    def log(self, level: int, template: str, *values: object) -> None:
        _LOG.log(min(level, logging.DEBUG), template, *values)


def _take_report(
    link: _Link, reports: list[KafkaError | None], error: KafkaError | None, message: Message
) -> None:
    if error is None:
        link.delivered()
    reports.append(error)


def _error_of(error: Exception) -> KafkaError | None:
    """What a KafkaException carries."""
    carried = error.args[0] if error.args else None
    return cast("KafkaError", carried) if hasattr(carried, "code") else None


def _import_client() -> Any:
    try:
        return importlib.import_module("confluent_kafka")
    except ImportError as error:
        raise InvalidConfiguration(_INSTALL) from error


@functools.cache
def _watch_forks() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=_MAKING.acquire,
            after_in_parent=_MAKING.release,
            after_in_child=_MAKING.release,
        )
