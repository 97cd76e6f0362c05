"""Short ways to make a topic, to put messages into it and to read all of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

_WAIT_S = 20.0


def settings_of(where: str | Mapping[str, str]) -> dict[str, str | int | float | bool]:
    """Client settings: those given, or of a plain `host:port`; librdkafka's own log is off."""
    given = {"bootstrap.servers": where} if isinstance(where, str) else dict(where)
    return {"log_level": "0", **given}


def create_topic(
    where: str | Mapping[str, str], name: str, partitions: int = 1, **config: str
) -> str:
    """Make a topic with the broker's replication; returns its name.

    Args:
        where: `host:port`, or settings as `KafkaAddress.librdkafka` gives them.
        name: of the topic; see `unique`.
        partitions: how many.
        config: of the topic, with _ for the dots.
    """
    topic = NewTopic(name, partitions, config={k.replace("_", "."): v for k, v in config.items()})
    admin = AdminClient(settings_of(where))
    admin.create_topics([topic], operation_timeout=_WAIT_S)[name].result(_WAIT_S)
    return name


def send(
    where: str | Mapping[str, str],
    topic: str,
    values: Iterable[bytes],
    partition: int = 0,
    within_s: float = _WAIT_S,
    idempotent: bool = False,
) -> list[str]:
    """Send with acks=all and wait for the outcomes; returns the names of the errors there were.

    Args:
        where: `host:port`, or settings as `KafkaAddress.librdkafka` gives them.
        topic: where to.
        values: the messages.
        partition: of the topic.
        within_s: after which a message is given up.
        idempotent: a retry never doubles a message; costs librdkafka 0.5 to 1 s for its first one.
    """
    outcomes: list[str] = []

    def delivered(error: KafkaError | None, message: object) -> None:
        if error is not None:
            outcomes.append(error.name())

    safety = {"acks": "all", "enable.idempotence": idempotent}
    timeout = {"message.timeout.ms": int(within_s * 1000)}
    producer = Producer({**safety, **timeout, **settings_of(where)})
    for value in values:
        producer.produce(topic, value, partition=partition, on_delivery=delivered)
    left = producer.flush(within_s + 5)
    return outcomes + ["_NOT_ANSWERED"] * left


def read_all(
    where: str | Mapping[str, str], topic: str, count: int, partition: int = 0
) -> list[bytes]:
    """Read a partition from its beginning until so many messages came; fewer where time is up."""
    group = {"group.id": f"reader-of-{topic}", "enable.auto.commit": False}
    consumer = Consumer({**group, **settings_of(where)})
    try:
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
        found: list[bytes] = []
        until = time.monotonic() + _WAIT_S
        while len(found) < count and time.monotonic() < until:
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                found.append(message.value() or b"")
        return found
    finally:
        consumer.close()
