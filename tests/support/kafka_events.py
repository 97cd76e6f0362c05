"""Messages of the events topic: made, and read back with all that belongs to them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import Consumer, TopicPartition
from penstock.schemas.frames import FrameHeader, encode_frame
from penstock.schemas.kafka import KafkaAddress
from penstock.schemas.topics import EVENTS
from penstock.streams.kafka.topics import describe

T = TypeVar("T")


@dataclass(frozen=True)
class Got:
    """A message as it was read back."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: dict[str, bytes]


def ends(kafka: KafkaAddress) -> dict[int, int]:
    """Offset after the last message of each partition."""
    consumer = Consumer({**kafka.librdkafka(), "group.id": "ends"})
    try:
        count = describe(kafka).partitions[EVENTS]
        return {
            partition: consumer.get_watermark_offsets(TopicPartition(EVENTS, partition), 10)[1]
            for partition in range(count)
        }
    finally:
        consumer.close()


def since(kafka: KafkaAddress, starts: dict[int, int]) -> list[Got]:
    """Messages from these offsets up to the present ends."""
    upto = {p: end for p, end in ends(kafka).items() if end > starts.get(p, 0)}
    consumer = Consumer({**kafka.librdkafka(), "group.id": "since", "enable.auto.commit": False})
    found: list[Got] = []
    try:
        consumer.assign([TopicPartition(EVENTS, p, starts.get(p, 0)) for p in upto])
        until = time.monotonic() + 15
        while upto:
            assert time.monotonic() < until, f"not all was read: {upto}"
            message = consumer.poll(0.2)
            if message is None or message.error() is not None:
                continue
            partition, offset = message.partition() or 0, message.offset() or 0
            headers: Any = dict(message.headers() or [])
            found.append(Got(partition, offset, message.key(), message.value() or b"", headers))
            if upto.get(partition) == offset + 1:
                del upto[partition]
        return sorted(found, key=lambda got: (got.partition, got.offset))
    finally:
        consumer.close()


def request(**fields: Any) -> dict[str, Any]:
    """A request event of now, as JSON holds it."""
    return {"event": "request", "ts": time.time_ns() // 1000, "status": "ok", **fields}


def frame(boot_id: str, home: int | None = None, **fields: Any) -> bytes:
    """A frame with one request."""
    header = FrameHeader(
        kind="request", worker_id="w", boot_id=boot_id, seq0=0, count=1, next_seq=1,
        clock_us=time.time_ns() // 1000, home=home,
    )  # fmt: skip
    return encode_frame(header, [request(**fields)])


def eventually(look: Callable[[], T], seconds: float = 30.0) -> T:
    """What `look` gives once it is true."""
    until = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < until, f"not within {seconds} s: {found!r}"
        time.sleep(0.02)
    return found
