"""Delivery to a real broker: acknowledged, refused, away, and from several threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic  # type: ignore[attr-defined]
from penstock.schemas.errors import BrokerAway
from penstock.schemas.kafka import KafkaAddress, parse_address
from penstock.streams.kafka.messages import Outgoing
from penstock.streams.kafka.outlet import KafkaOutlet, MessageRefused
from penstock.tests.support.kafka import Broker
from penstock.tests.support.kafka_events import eventually
from penstock.tests.support.ports import free_port

pytestmark = pytest.mark.slow  # a broker starts once for all of them

TOPIC = "outlet"
MAX_BYTES = 9 * 2**20


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("kafka")) as found:
        topic = NewTopic(TOPIC, 3, 1, config={"max.message.bytes": str(MAX_BYTES)})
        admin = AdminClient(client(found))
        for future in admin.create_topics([topic]).values():
            future.result(20)
        yield found


@pytest.fixture
def outlet(broker: Broker) -> Iterator[KafkaOutlet]:
    found = KafkaOutlet(parse_address(broker.bootstrap), timeout_s=3.0)
    yield found
    found.close()


def client(broker: Broker) -> dict[str, str | int | float | bool]:
    return {"bootstrap.servers": broker.bootstrap, "log_level": 0}


def read(broker: Broker, partition: int) -> list[tuple[Any, ...]]:
    """Key, value and headers of everything in a partition."""
    consumer = Consumer({**client(broker), "group.id": "none", "fetch.message.max.bytes": 2**24})
    place = TopicPartition(TOPIC, partition, 0)
    consumer.list_topics(TOPIC, timeout=10)  # else its partitions may be unknown
    consumer.assign([place])
    _, end = consumer.get_watermark_offsets(place, timeout=10)
    found: list[tuple[Any, ...]] = []
    while len(found) < end:
        message = consumer.poll(10)
        assert message is not None
        assert message.error() is None
        found.append((message.key(), message.value(), dict(message.headers() or ())))
    consumer.close()
    return found


def test_delivered_when_it_returns(broker: Broker, outlet: KafkaOutlet) -> None:
    large = b"p" * (8 * 2**20)
    outlet.deliver([])
    outlet.deliver(
        [
            Outgoing(TOPIC, 1, b"key", b"first", {"name": b"value"}),
            Outgoing(TOPIC, 1, b"", large),
        ]
    )
    assert read(broker, 1) == [(b"key", b"first", {"name": b"value"}), (b"", large, {})]


def test_partition_may_be_left_to_the_client(broker: Broker, outlet: KafkaOutlet) -> None:
    before = sum(len(read(broker, partition)) for partition in range(3))
    outlet.deliver([Outgoing(TOPIC, None, b"%d" % number, b"") for number in range(20)])
    assert sum(len(read(broker, partition)) for partition in range(3)) == before + 20


def test_too_large_is_refused(outlet: KafkaOutlet) -> None:
    with pytest.raises(MessageRefused, match="too large"):
        outlet.deliver([Outgoing(TOPIC, 0, b"", b"x" * (MAX_BYTES + 1))])
    with pytest.raises(MessageRefused, match="too large"):
        outlet.deliver([Outgoing(TOPIC, 0, b"", b"x" * (97 * 2**20))])
    outlet.deliver([Outgoing(TOPIC, 0, b"", b"after it")])


def test_silent_broker(broker: Broker, outlet: KafkaOutlet) -> None:
    """Within its time limit it says that the outcome is unknown; later the same goes through."""
    outlet.deliver([Outgoing(TOPIC, 2, b"", b"before")])
    broker.pause()
    try:
        started_s = time.monotonic()
        with pytest.raises(BrokerAway):
            outlet.deliver([Outgoing(TOPIC, 2, b"", b"again")])
        assert time.monotonic() - started_s < 4
    finally:
        broker.resume()
    for _ in range(5):
        try:
            outlet.deliver([Outgoing(TOPIC, 2, b"", b"again")])
        except BrokerAway:
            continue
        break
    values = [value for _, value, _ in read(broker, 2)]
    assert values[-1] == b"again"
    assert values.index(b"before") < values.index(b"again")


def test_no_broker() -> None:
    port = free_port()
    outlet = KafkaOutlet(KafkaAddress((f"127.0.0.1:{port}",)), timeout_s=1.5)
    with pytest.raises(BrokerAway, match=f"127.0.0.1:{port}"):
        outlet.deliver([Outgoing(TOPIC, 0, b"", b"")])
    outlet.close()


def test_unreadable_certificate() -> None:
    address = parse_address("kafka://127.0.0.1:9092?tls=true&ca=/nowhere.pem")
    with pytest.raises(BrokerAway, match=r"ssl\.ca\.location"):
        KafkaOutlet(address).deliver([Outgoing(TOPIC, 0, b"", b"")])


def test_several_threads(broker: Broker, outlet: KafkaOutlet) -> None:
    before = len(read(broker, 0))

    def send(number: int) -> None:
        for index in range(20):
            outlet.deliver([Outgoing(TOPIC, 0, b"", b"%d-%d" % (number, index))])

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    values = [value for _, value, _ in read(broker, 0)][before:]
    assert len(values) == 80
    for number in range(4):
        own = [value for value in values if value.startswith(b"%d-" % number)]
        assert own == [b"%d-%d" % (number, index) for index in range(20)]


def test_how_many_partitions_there_are(broker: Broker, outlet: KafkaOutlet) -> None:
    assert outlet.partitions(TOPIC) == 3
    assert outlet.partitions("missing") == 0
    admin = AdminClient(client(broker))
    (created,) = admin.create_topics([NewTopic("grows", 1, 1)]).values()
    created.result(20)
    # A broker takes a moment to tell of what its controller knows.
    eventually(lambda: outlet.partitions("grows") == 1)
    (grown,) = admin.create_partitions([NewPartitions("grows", 5)]).values()
    grown.result(20)
    eventually(lambda: outlet.partitions("grows") == 5)


def test_partitions_of_a_cluster_that_is_away() -> None:
    port = free_port()
    outlet = KafkaOutlet(parse_address(f"127.0.0.1:{port}"), timeout_s=0.5)
    with pytest.raises(BrokerAway):
        outlet.partitions(TOPIC)
    outlet.close()
