"""`KafkaIngest` under test: with short limits, started and stopped, one POST at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from penstock.schemas.config import Configuration
from penstock.schemas.kafka import KafkaAddress
from penstock.schemas.ports import Receipt
from penstock.streams.kafka.produce import KafkaIngest, ProduceSettings
from penstock.streams.kafka.sender import SenderSettings
from penstock.streams.storage.store import Store

PARTITIONS = 4
QUICK = ProduceSettings(
    sender=SenderSettings(delivery_timeout_s=3, request_timeout_s=1, flush_timeout_s=4),
    period_s=0.2,
    broker_timeout_s=1,
    rest_s=0.5,
)


@contextmanager
def started(
    kafka: KafkaAddress,
    store: Store,
    settings: ProduceSettings = QUICK,
    configuration: Configuration | None = None,
) -> Iterator[KafkaIngest]:
    """A port that runs, and is stopped in order."""
    ingest = KafkaIngest(kafka, store, configuration or Configuration(), settings)
    ingest.start()
    try:
        yield ingest
    finally:
        ingest.stop()


def post(ingest: KafkaIngest, body: Any, key: str | None = None) -> Receipt:
    """POST frames (bytes) or events (anything else, as JSON)."""
    if isinstance(body, bytes):
        return asyncio.run(ingest.post(body, "frames", key))
    return asyncio.run(ingest.post(orjson.dumps(body), "json", key))
