"""Brokers that die, hang, lose their topics or take too long: what POSTs are told, and after."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import orjson
import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient
from penstock.schemas.config import parse
from penstock.schemas.errors import Backpressure, BrokerAway
from penstock.schemas.kafka import KafkaAddress
from penstock.schemas.topics import EVENTS
from penstock.streams.kafka.messages import Outgoing
from penstock.streams.kafka.produce import KafkaIngest
from penstock.streams.kafka.sender import Sender
from penstock.streams.kafka.topics import Topics, describe, ensure_topics, incarnation_of
from penstock.streams.kafka.watch import StoreWatch
from penstock.streams.storage.store import Store
from penstock.tests.support.kafka import Broker
from penstock.tests.support.kafka_events import ends, eventually, frame, request, since
from penstock.tests.support.kafka_ingest import PARTITIONS, QUICK, post, started

pytestmark = pytest.mark.slow  # a broker starts once for all of them


def delete(address: KafkaAddress, topic: str) -> None:
    client = AdminClient({**address.librdkafka()})
    client.delete_topics([topic])[topic].result(20)
    eventually(lambda: topic not in describe(address).partitions)


def test_a_topic_made_anew_is_a_new_life(kafka: KafkaAddress, store: Store) -> None:
    with started(kafka, store) as ingest:
        post(ingest, frame("before"))
        assert incarnation_of(kafka, store) == 1
        delete(kafka, EVENTS)
        eventually(lambda: "run penstock topics" in ingest.broker_failure())
        with pytest.raises(BrokerAway, match="run penstock topics"):
            post(ingest, frame("between"))
        ensure_topics(kafka, store, Topics(partitions=PARTITIONS))
        assert incarnation_of(kafka, store) == 2
        eventually(lambda: not ingest.broker_failure())

        def accepted() -> bool:
            try:
                return post(ingest, frame("after")).accepted == 1
            except BrokerAway:
                return False

        eventually(accepted)
        assert b"after" in {message.key for message in since(kafka, {})}


def test_a_dead_broker_is_told_fast_and_comes_back(
    broker: Broker, kafka: KafkaAddress, store: Store
) -> None:
    with started(kafka, store) as ingest:
        post(ingest, frame("alive"))
        before = ends(kafka)
        broker.kill()
        try:
            with pytest.raises(BrokerAway):
                post(ingest, frame("unknown"))
            eventually(lambda: ingest.broker_failure() != "")
            began_s = time.monotonic()
            for _ in range(20):
                with pytest.raises(BrokerAway, match="nothing was sent"):
                    post(ingest, frame("refused"))
            assert time.monotonic() - began_s < 1
            assert "does it run there" in ingest.status().failure
            assert ingest.status().totals["refused_posts"] == 21
            assert ingest.status().pending_events == 0
        finally:
            broker.start()
        eventually(lambda: not ingest.broker_failure())
        assert post(ingest, frame("back")).accepted == 1
        assert ingest.status().failure == ""
        assert {message.key for message in since(kafka, before)} <= {b"unknown", b"back"}


def test_a_process_may_start_before_the_broker(
    broker: Broker, kafka: KafkaAddress, store: Store
) -> None:
    broker.stop()
    try:
        with started(kafka, store) as ingest:
            with pytest.raises(BrokerAway, match="nothing was sent"):
                post(ingest, frame("early"))
            broker.start()
            eventually(lambda: not ingest.broker_failure())
            assert post(ingest, frame("late")).accepted == 1
    finally:
        if ingest.broker_failure():
            broker.start()


def test_a_paused_broker_is_waited_for_and_then_told(
    broker: Broker, kafka: KafkaAddress, store: Store
) -> None:
    with started(kafka, store) as ingest:
        post(ingest, frame("before"))
        broker.pause()
        try:
            began_s = time.monotonic()
            with pytest.raises(BrokerAway):
                post(ingest, frame("waiting"))
            assert time.monotonic() - began_s < 5, "emitters give up after 10 s"
        finally:
            broker.resume()
        eventually(lambda: not ingest.broker_failure())
        assert post(ingest, frame("after")).accepted == 1


def test_a_producer_that_ends_is_replaced(
    broker: Broker, kafka: KafkaAddress, caplog: pytest.LogCaptureFixture
) -> None:
    sender = Sender(kafka, QUICK.sender)
    sender.start()
    message = Outgoing(EVENTS, 0, b"boot", frame("boot"))

    async def run_it() -> None:
        loop = asyncio.get_running_loop()
        await sender.send([message], loop)
        broker.pause()
        lost = sender.send([message], loop)
        # As librdkafka tells it; a broker that really loses what it acknowledged is not to be had.
        sender._told(KafkaError(KafkaError._FATAL, "numbers lost", fatal=True))
        with pytest.raises(BrokerAway):
            await lost
        broker.resume()
        await sender.send([message], loop)

    try:
        asyncio.run(run_it())
    finally:
        broker.resume()
        sender.stop()
    assert "numbers lost" in caplog.text


def test_too_much_under_way_is_backpressure(
    broker: Broker, kafka: KafkaAddress, store: Store
) -> None:
    limits = parse("limits: {max_pending_events: 2}")

    async def fill(ingest: KafkaIngest) -> None:
        body = orjson.dumps([request(), request()])
        under_way = asyncio.create_task(ingest.post(body, "json", None))
        while ingest.status().pending_events < 2:
            await asyncio.sleep(0.001)
        with pytest.raises(Backpressure, match="2 events"):
            await ingest.post(body, "json", None)
        broker.resume()
        assert (await under_way).accepted == 2
        assert (await ingest.post(body, "json", None)).accepted == 2

    with started(kafka, store, configuration=limits) as ingest:
        post(ingest, frame("before"))
        broker.pause()
        try:
            asyncio.run(fill(ingest))
        finally:
            broker.resume()


def test_bytes_under_way_are_bounded(broker: Broker, kafka: KafkaAddress, store: Store) -> None:
    tight = replace(QUICK, sender=replace(QUICK.sender, max_pending_bytes=1))

    async def fill(ingest: KafkaIngest) -> None:
        under_way = asyncio.create_task(ingest.post(frame("first"), "frames", None))
        while not ingest.status().pending_events:
            await asyncio.sleep(0.001)
        with pytest.raises(Backpressure, match="under way to Kafka"):
            await ingest.post(frame("second"), "frames", None)
        broker.resume()
        assert (await under_way).accepted == 1

    with started(kafka, store, tight) as ingest:
        post(ingest, frame("before"))
        broker.pause()
        try:
            asyncio.run(fill(ingest))
        finally:
            broker.resume()


def test_a_store_that_hangs_is_told(store: Store) -> None:
    watch = StoreWatch(store, boot_timeout_s=30, period_s=1, silence_s=0.05)
    time.sleep(0.1)
    assert "has not answered" in watch.failure
    watch.look()
    assert watch.failure == ""
