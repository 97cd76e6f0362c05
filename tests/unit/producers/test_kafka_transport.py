"""The transport and a real broker that wants TLS and a password."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from penstock import Emitter, EmitterSettings
from penstock.producers.kafka import KafkaTransport
from penstock.producers.transport import ServerAway
from penstock.schemas.kafka import parse_address
from penstock.schemas.topics import EVENTS, home_of
from penstock.tests.support.kafka import Broker, unique
from penstock.tests.support.kafka_messages import create_topic, settings_of
from penstock.tests.unit.producers.kafka_behind_proxy import (
    PARTITIONS,
    Arrived,
    arrived,
    control,
    emit_steps,
    or_skipped,
    send_until_taken,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with or_skipped(lambda: Broker(tmp_path_factory.mktemp("secure"), secure=True)) as broker:
        create_topic(broker.direct, EVENTS, PARTITIONS, message_timestamp_type="LogAppendTime")
        yield broker


@pytest.fixture
def transport(broker: Broker) -> Iterator[Callable[..., KafkaTransport]]:
    made: list[KafkaTransport] = []

    def make(topic: str = EVENTS, url: str = broker.address) -> KafkaTransport:
        made.append(KafkaTransport(parse_address(url), topic=topic, timeout_s=10.0))
        return made[-1]

    yield make
    for each in made:
        each.close()


def boot(broker: Broker, boot_id: str, topic: str = EVENTS) -> Arrived:
    return arrived(settings_of(broker.direct), topic)[boot_id]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_tls_and_a_password(broker: Broker, settings: EmitterSettings, mechanism: str) -> None:
    with Emitter(url=broker.address_for(mechanism), settings=settings) as emit:
        emit_steps(emit, range(100))
    found = boot(broker, emit.boot_id)
    assert found.first_seqs == list(range(100))
    assert found.partitions == {home_of(emit.boot_id, PARTITIONS)}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda url: url.replace("penstock:", "penstock:not-"), "uthentication"),
        (lambda url: url.partition("&ca=")[0], "certificate verify failed"),
    ],
    ids=["password", "authority"],
)
def test_what_is_wrong_is_said_without_the_password(
    broker: Broker,
    transport: Callable[..., KafkaTransport],
    change: Callable[[str], str],
    why: str,
) -> None:
    with pytest.raises(ServerAway, match=why) as caught:
        transport(url=change(broker.address_for("PLAIN"))).send([control("b")])
    assert "not-" not in str(caught.value)


def test_a_frame_without_a_home_goes_where_its_boot_belongs(
    broker: Broker, transport: Callable[..., KafkaTransport]
) -> None:
    """As an emitter over HTTP has spooled it, before it was told another address."""
    boot_id = unique("boot")
    transport().send([control(boot_id, None)])
    assert boot(broker, boot_id).partitions == {home_of(boot_id, PARTITIONS)}


def test_the_number_of_partitions_is_told(
    broker: Broker, transport: Callable[..., KafkaTransport]
) -> None:
    topic = create_topic(broker.direct, unique("events"), 7)
    assert transport(topic).partitions(10.0) == 7
    assert transport(unique("none")).partitions(10.0) is None


def test_a_topic_that_is_made_late(
    broker: Broker, transport: Callable[..., KafkaTransport]
) -> None:
    topic = unique("late")
    late = transport(topic)
    with pytest.raises(ServerAway, match="penstock topics"):
        late.send([control("b")])
    create_topic(broker.direct, topic)
    late.send([control("b")])
    assert len(boot(broker, "b", topic).headers) == 1


def test_a_topic_that_is_made_anew_with_fewer_partitions(
    broker: Broker, transport: Callable[..., KafkaTransport]
) -> None:
    """What was known of the old one is forgotten."""
    topic = create_topic(broker.direct, unique("events"), 8)
    lasting = transport(topic)
    lasting.send([control("b", 6)])
    admin = AdminClient(settings_of(broker.direct))
    admin.delete_topics([topic])[topic].result(10)
    create_topic(broker.direct, topic, 4)
    send_until_taken(lasting, control("b", 6))
    assert boot(broker, "b", topic).partitions == {2}


def test_a_frame_that_is_too_large_is_refused_and_declared(
    broker: Broker, transport: Callable[..., KafkaTransport], settings: EmitterSettings
) -> None:
    topic = create_topic(broker.direct, unique("small"), 2, max_message_bytes="20000")
    small = replace(settings, max_frame_events=10, flush_interval_s=0.2)
    with Emitter(transport=transport(topic), settings=small) as emit:
        for i in range(50):
            # Random enough that compression does not help.
            large = os.urandom(30_000).hex() if i == 25 else ""
            emit.step(step=i, attributes={"note": large})
        assert emit.flush(20.0)
    found = boot(broker, emit.boot_id, topic)
    assert sorted(found.first_seqs) == [*range(20), *range(30, 50)]
    assert found.gaps == set(range(20, 30))
    assert emit.snapshot()["delivery"]["refused_frames"] == 1
    assert settings.spool_dir is not None
    assert len(list((Path(settings.spool_dir) / "refused").iterdir())) == 1
