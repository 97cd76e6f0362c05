"""Sends messages to Kafka for coroutines: idempotent, acknowledged by all in-sync replicas.

librdkafka's own threads do the work; one thread of ours takes its answers to the event loops.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, Producer

from ...schemas.errors import Backpressure, BrokerAway, PenstockError, TooLarge
from ...schemas.kafka import KafkaAddress
from .messages import Outgoing
from .topics import MAX_MESSAGE_BYTES

log = logging.getLogger("penstock")

_POLL_S = 0.1
_RETRY_AFTER_S = 1.0
_LOG_AGAIN_S = 30.0


@dataclass(frozen=True, slots=True)
class SenderSettings:
    """How long and how much.

    Attributes:
        delivery_timeout_s: after which a message has failed; below the 10 s that emitters wait.
        request_timeout_s: after which a broker is asked again.
        flush_timeout_s: of the end.
        max_pending_bytes: not yet acknowledged, beyond which nothing more is taken.
        max_pending_messages: the same in messages.
    """

    delivery_timeout_s: float = 8.0
    request_timeout_s: float = 4.0
    flush_timeout_s: float = 10.0
    max_pending_bytes: int = 256 * 2**20
    max_pending_messages: int = 100_000


class _Delivery:
    """The outcome of some messages together: their number counts down, the first error stays."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        messages: Sequence[Outgoing],
        done: Callable[[], None],
    ) -> None:
        self.answer: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._left = len(messages)
        self._error: PenstockError | None = None
        self._done = done
        self._lock = threading.Lock()

    def one(self, error: KafkaError | None, _: object) -> None:
        """librdkafka's report for one message, on the serving thread."""
        self.count(1, None if error is None else _failure(error))

    def count(self, messages: int, error: PenstockError | None) -> None:
        """Some have come to an end."""
        with self._lock:
            self._left -= messages
            self._error = self._error or error
            left = self._left
        if left == 0:
            self._done()
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        if self.answer.done():  # whoever asked went away
            return
        if self._error is None:
            self.answer.set_result(None)
        else:
            self.answer.set_exception(self._error)


class Sender:
    """One producer and the thread that serves it.

    Args:
        address: of the cluster.
        settings: limits.
        on_error: called, on the serving thread, when librdkafka has trouble with the cluster.
    """

    def __init__(
        self,
        address: KafkaAddress,
        settings: SenderSettings | None = None,
        on_error: Callable[[], None] = lambda: None,
    ) -> None:
        self._address = address
        self._settings = settings or SenderSettings()
        self._on_error = on_error
        self._lock = threading.Lock()
        self._messages = self._bytes = 0
        self._fatal = ""
        self._logged_s: dict[str, float] = {}
        self._stopping = threading.Event()
        self._producer = self._connect()
        self._thread = threading.Thread(target=self._serve, name="penstock-sender", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Wait for what is under way, up to the flush timeout, and end."""
        left = self._producer.flush(self._settings.flush_timeout_s)
        if left:
            log.warning("%d messages were not acknowledged; their senders were not told so", left)
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=self._settings.flush_timeout_s)

    def check(self) -> None:
        """Whether anything more is taken.

        Raises:
            Backpressure: too much is under way.
        """
        limits = self._settings
        if self._bytes >= limits.max_pending_bytes or self._messages >= limits.max_pending_messages:
            raise _full(f"{self._messages} messages of {self._bytes} bytes are under way to Kafka")

    def send(
        self,
        messages: Sequence[Outgoing],
        loop: asyncio.AbstractEventLoop,
        done: Callable[[], None] = lambda: None,
    ) -> asyncio.Future[None]:
        """Send; from any thread, at once.

        Args:
            messages: at least one.
            loop: where the result is awaited. It raises BrokerAway (the outcome is unknown) or
                TooLarge.
            done: called when the outcome is there, whether it is awaited or not.

        Raises:
            Backpressure: the queue is full; nothing was sent and `done` is not called.
            BrokerAway: the producer refuses; the same.
        """
        size = sum(len(message.value) for message in messages)
        self._account(len(messages), size)

        def over() -> None:
            self._account(-len(messages), -size)
            done()

        delivery = _Delivery(loop, messages, over)
        for number, message in enumerate(messages):
            try:
                self._produce(message, delivery)
            except (BufferError, KafkaException) as error:
                refused = _refusal(error)
                if number == 0:
                    self._account(-len(messages), -size)
                    raise refused from error
                # Some are on their way, so that nobody can say that nothing was applied.
                partly = BrokerAway(f"not all of it was sent: {refused}")
                delivery.count(len(messages) - number, partly)
                break
        return delivery.answer

    def refresh(self, topic: str, timeout_s: float) -> None:
        """Learn of partitions that were added.

        Raises:
            BrokerAway: no broker answers.
        """
        try:
            self._producer.list_topics(topic, timeout=timeout_s)
        except KafkaException as error:
            raise _failure(error.args[0]) from error

    def _produce(self, message: Outgoing, delivery: _Delivery) -> None:
        assert message.partition is not None, "homes are named by us, never by a client library"
        self._producer.produce(
            message.topic,
            message.value,
            key=message.key or None,
            partition=message.partition,
            headers=[*message.headers.items()],
            on_delivery=delivery.one,
        )

    def _account(self, messages: int, size: int) -> None:
        with self._lock:
            self._messages += messages
            self._bytes += size

    def _connect(self) -> Producer:
        limits = self._settings
        return Producer(
            {
                **self._address.librdkafka(),
                "client.id": "penstock-api",
                "acks": "all",
                "enable.idempotence": True,
                "compression.type": "zstd",
                "linger.ms": 5,
                "message.max.bytes": MAX_MESSAGE_BYTES,
                "message.timeout.ms": round(limits.delivery_timeout_s * 1000),
                "request.timeout.ms": round(limits.request_timeout_s * 1000),
                # Bounded by `check`, before a body is taken apart: half a body must not be refused.
                "queue.buffering.max.messages": 0,
                "queue.buffering.max.kbytes": 2**31 // 1024 - 1,
                "reconnect.backoff.max.ms": 1000,
                "allow.auto.create.topics": False,
                # It would tell of every attempt to connect; `_told` does so now and then.
                "log_level": 2,
                "error_cb": self._told,
            },
            logger=log,
        )

    def _told(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = str(error)
        now_s = time.monotonic()
        if now_s - self._logged_s.get(error.name(), -_LOG_AGAIN_S) >= _LOG_AGAIN_S:
            self._logged_s[error.name()] = now_s
            log.warning("Kafka: %s", error.str())
        self._on_error()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(_POLL_S)
            if self._fatal:
                self._renew()

    def _renew(self) -> None:
        """A producer that lost its numbering never sends again: go on with a new one."""
        log.error("the Kafka producer ended (%s); a new one goes on", self._fatal)
        self._fatal = ""
        ended, self._producer = self._producer, self._connect()
        ended.purge()
        ended.flush(self._settings.request_timeout_s)


def _refusal(error: BufferError | KafkaException) -> PenstockError:
    if isinstance(error, BufferError):
        return _full("the queue to Kafka is full")
    return _failure(error.args[0])


def _full(text: str) -> Backpressure:
    return Backpressure(text, _RETRY_AFTER_S)


def _failure(error: KafkaError) -> PenstockError:
    """What a message's error means to who sent it."""
    text = f"Kafka: {error.str() or error.name()}"
    if error.code() in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE):
        return TooLarge(
            f"{text}; send smaller rows or frames, or raise the topic's max.message.bytes"
        )
    return BrokerAway(text)
