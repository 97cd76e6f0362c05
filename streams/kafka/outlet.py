"""Messages to Kafka: idempotent, acknowledged by all replicas in sync."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from ...schemas.errors import BrokerAway, PenstockError
from ...schemas.kafka import KafkaAddress
from .messages import Outgoing
from .topics import MAX_DEAD_LETTER_BYTES

_POLL_S = 0.05  # another thread may be given the report that this one waits for
_NEVER = frozenset(  # sending the same again cannot help
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
    }
)


class MessageRefused(PenstockError):
    """Kafka will never take one of the messages; the others may have been delivered."""


class KafkaOutlet:
    """Delivers to a cluster over one producer; safe to call from any thread.

    Args:
        address: of the cluster.
        timeout_s: limit of one `deliver`.
    """

    def __init__(self, address: KafkaAddress, timeout_s: float = 10.0) -> None:
        self._servers = address.servers
        self._timeout_s = timeout_s
        self._config: dict[str, Any] = {
            **address.librdkafka(),
            "client.id": "penstock-worker",
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 5,
            "compression.type": "none",  # what is sent is compressed already
            # Given up before `deliver` is, so that what it reports as unknown does not come later.
            "message.timeout.ms": round(timeout_s * 900),
            "request.timeout.ms": round(timeout_s * 500),
            "reconnect.backoff.max.ms": 1000,
            "message.max.bytes": MAX_DEAD_LETTER_BYTES,
            "queue.buffering.max.kbytes": 2 * MAX_DEAD_LETTER_BYTES // 1024,
            "allow.auto.create.topics": False,
            "log_level": 0,  # what fails is in the error
        }
        self._lock = threading.Lock()
        self._producer: Producer | None = None

    def deliver(self, messages: Sequence[Outgoing]) -> None:
        """Return when all in-sync replicas have every message.

        Raises:
            BrokerAway: the outcome is unknown; deliver the same again.
            MessageRefused: one is too large, or may not be sent.
        """
        producer = self._connected()
        until_s = time.monotonic() + self._timeout_s
        reports: list[KafkaError | None] = []

        def report(error: KafkaError | None, _: Message) -> None:
            reports.append(error)

        for message in messages:
            self._produce(producer, message, report, until_s)
        while len(reports) < len(messages):
            if time.monotonic() > until_s:
                raise self._away("no answer in time")
            producer.poll(_POLL_S)
        errors = [error for error in reports if error is not None]
        for error in errors:
            if error.code() in _NEVER:
                raise MessageRefused(f"Kafka at {self._servers}: {error.str()}")
        if errors:
            if any(error.fatal() for error in errors):
                self._forget(producer)
            raise self._away(errors[0].str())

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has now, 0 where it is missing.

        Raises:
            BrokerAway: the cluster does not answer.
        """
        try:
            found = self._connected().list_topics(topic, timeout=self._timeout_s).topics
        except KafkaException as error:
            raise self._away(error.args[0].str()) from error
        return len(found[topic].partitions) if topic in found else 0

    def close(self) -> None:
        """Wait a moment for what is on its way, and end the producer."""
        with self._lock:
            if self._producer is not None:
                self._producer.flush(1.0)
                self._producer = None

    def _produce(self, producer: Producer, message: Outgoing, report: Any, until_s: float) -> None:
        where: dict[str, Any] = (
            {} if message.partition is None else {"partition": message.partition}
        )
        while True:
            try:
                producer.produce(
                    message.topic,
                    message.value,
                    message.key,
                    headers=list(message.headers.items()),
                    on_delivery=report,
                    **where,
                )
            except BufferError:
                if time.monotonic() > until_s:
                    raise self._away("the queue stays full") from None
                producer.poll(_POLL_S)
            except KafkaException as error:
                reason: KafkaError = error.args[0]
                if reason.code() in _NEVER:
                    raise MessageRefused(f"Kafka at {self._servers}: {reason.str()}") from error
                if reason.fatal():
                    self._forget(producer)
                raise self._away(reason.str()) from error
            else:
                return

    def _connected(self) -> Producer:
        with self._lock:
            if self._producer is None:
                try:
                    self._producer = Producer(self._config)
                except (KafkaException, ValueError) as error:  # a certificate that cannot be read
                    raise self._away(str(error)) from error
            return self._producer

    def _forget(self, producer: Producer) -> None:
        """A producer that failed for good is replaced by the next call."""
        with self._lock, contextlib.suppress(KafkaException):
            if self._producer is producer:
                self._producer = None
                producer.purge()

    def _away(self, why: str) -> BrokerAway:
        return BrokerAway(f"Kafka at {self._servers}: {why}")
