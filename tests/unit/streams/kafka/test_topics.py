"""Topics on a real broker: made once, grown, refused, mended, and numbered by their lives."""

from __future__ import annotations

import threading

import pytest
from confluent_kafka.admin import AdminClient
from penstock.schemas.errors import InvalidConfiguration, StoreError
from penstock.schemas.kafka import KafkaAddress, parse_address
from penstock.schemas.topics import ALERTS, DEAD_LETTERS, EVENTS, PANES
from penstock.streams.kafka.brokers import BrokerError, BrokerRefused, TopicAdmin
from penstock.streams.kafka.topics import (
    MAX_MESSAGE_BYTES,
    TOPICS,
    Change,
    Topics,
    describe,
    ensure_topics,
    home_partitions,
    incarnation,
    incarnation_of,
    shards,
)
from penstock.streams.storage.store import Store
from penstock.tests.support.kafka import Broker
from penstock.tests.support.kafka_events import eventually
from penstock.tests.support.ports import free_port
from penstock.tests.support.rows import at
from penstock.tests.support.store import insert

pytestmark = pytest.mark.slow  # a broker starts once for all of them


@pytest.fixture
def kafka(broker: Broker, store: Store) -> KafkaAddress:
    """A cluster without topics, beside a store that knows of none."""
    address = parse_address(broker.bootstrap)
    delete(address, *describe(address).partitions)
    for table in ("settings", "incarnations", "frames_rows"):
        store.command(f"TRUNCATE TABLE penstock.{table}")
    return address


def delete(address: KafkaAddress, *topics: str) -> None:
    if topics:
        client = AdminClient({**address.librdkafka()})
        for future in client.delete_topics([*topics]).values():
            future.result(20)
    eventually(lambda: not {*topics} & {*describe(address).partitions})


def told(changes: list[Change]) -> set[tuple[str, str, str, str, bool]]:
    return {(c.topic, c.what, c.before, c.after, c.done) for c in changes}


def test_topics_are_made_once_with_their_settings(kafka: KafkaAddress, store: Store) -> None:
    with pytest.raises(InvalidConfiguration, match="run penstock topics"):
        home_partitions(store)
    made = ensure_topics(kafka, store, Topics(partitions=3, shards=2, retention_hours=12))
    assert [(change.topic, change.what) for change in made] == [(name, "topic") for name in TOPICS]
    state = describe(kafka)
    assert state.partitions == {EVENTS: 3, PANES: 2, ALERTS: 1, DEAD_LETTERS: 1}
    assert len(set(state.ids.values())) == 4
    assert (home_partitions(store), shards(store)) == (3, 2)
    admin = TopicAdmin(kafka)
    events = admin.settings(EVENTS)
    assert events["message.timestamp.type"] == "LogAppendTime"
    assert events["retention.ms"] == str(12 * 3_600_000)
    assert events["max.message.bytes"] == str(MAX_MESSAGE_BYTES)
    assert events["min.insync.replicas"] == "1"
    assert admin.settings(PANES)["retention.ms"] == str(6 * 3_600_000)
    assert admin.settings(DEAD_LETTERS)["retention.ms"] == str(30 * 24 * 3_600_000)

    assert ensure_topics(kafka, store, Topics(partitions=3, shards=2, retention_hours=12)) == []
    assert ensure_topics(kafka, store, Topics()) == []
    assert describe(kafka) == state


def test_partitions_are_added_and_homes_stay(kafka: KafkaAddress, store: Store) -> None:
    ensure_topics(kafka, store, Topics(partitions=3))
    grown = ensure_topics(kafka, store, Topics(partitions=5))
    assert told(grown) == {(EVENTS, "partitions", "3", "5", True)}
    assert describe(kafka).partitions[EVENTS] == 5
    assert home_partitions(store) == 3
    assert ensure_topics(kafka, store, Topics()) == []
    with pytest.raises(InvalidConfiguration, match="has 5 partitions and cannot have 4"):
        ensure_topics(kafka, store, Topics(partitions=4))
    # Made anew, it must still hold every home.
    delete(kafka, EVENTS)
    with pytest.raises(InvalidConfiguration, match="has 3 partitions and cannot have 2"):
        ensure_topics(kafka, store, Topics(partitions=2))
    assert EVENTS not in describe(kafka).partitions
    ensure_topics(kafka, store, Topics(partitions=6))
    assert home_partitions(store) == 3


def test_shards_never_change(kafka: KafkaAddress, store: Store) -> None:
    ensure_topics(kafka, store, Topics(partitions=2, shards=3))
    with pytest.raises(InvalidConfiguration, match="each slice belongs to one of them"):
        ensure_topics(kafka, store, Topics(shards=4))
    delete(kafka, PANES)
    with pytest.raises(InvalidConfiguration, match="has 3 partitions and keeps them"):
        ensure_topics(kafka, store, Topics(shards=4))
    ensure_topics(kafka, store, Topics())
    assert describe(kafka).partitions[PANES] == 3
    TopicAdmin(kafka).grow(PANES, 5)  # behind our back
    eventually(lambda: describe(kafka).partitions[PANES] == 5)
    with pytest.raises(InvalidConfiguration, match="written with 3 shards"):
        ensure_topics(kafka, store, Topics())


def test_settings_that_differ_are_told_and_mended(kafka: KafkaAddress, store: Store) -> None:
    admin = TopicAdmin(kafka)
    # As a broker makes topics by itself.
    admin.create(EVENTS, 2, 1, {"retention.ms": "1000", "min.insync.replicas": "1"})
    eventually(lambda: describe(kafka).partitions)
    first = ensure_topics(kafka, store, Topics())
    assert home_partitions(store) == 2
    left = {change.what for change in first if change.topic == EVENTS and not change.done}
    assert {"message.timestamp.type", "max.message.bytes"} <= left
    assert "retention.ms" not in left  # nobody asked for another
    asked = Topics(retention_hours=1, replication=2)
    found = told(ensure_topics(kafka, store, asked))
    assert (EVENTS, "retention.ms", "1000", "3600000", False) in found
    assert (EVENTS, "replication", "1", "2", False) in found
    (text,) = [str(c) for c in ensure_topics(kafka, store, asked) if c.what == "retention.ms"]
    assert text == f"{EVENTS}: retention.ms is 1000, not 3600000: --alter mends it"
    mended = told(ensure_topics(kafka, store, Topics(retention_hours=1, alter=True)))
    assert (EVENTS, "retention.ms", "1000", "3600000", True) in mended
    assert ensure_topics(kafka, store, Topics(retention_hours=1)) == []


def test_a_topic_made_anew_lives_again(kafka: KafkaAddress, store: Store) -> None:
    with pytest.raises(InvalidConfiguration, match="run penstock topics"):
        incarnation_of(kafka, store)
    ensure_topics(kafka, store, Topics(partitions=1))
    assert [incarnation_of(kafka, store) for _ in range(2)] == [1, 1]
    assert incarnation_of(kafka, store, PANES) == 1
    delete(kafka, EVENTS)
    ensure_topics(kafka, store, Topics(partitions=1))
    assert [incarnation_of(kafka, store) for _ in range(2)] == [2, 2]
    store.command("OPTIMIZE TABLE penstock.incarnations FINAL")
    assert incarnation_of(kafka, store) == 2
    assert incarnation_of(kafka, store, PANES) == 1


def test_rows_of_the_embedded_server_are_a_life_of_their_own(store: Store) -> None:
    store.command("TRUNCATE TABLE penstock.incarnations")
    insert(store, "frames_rows", [{"incarnation": 1, "append_ts": at(0)}])
    assert incarnation(store, EVENTS, "one") == 2
    assert incarnation(store, PANES, "other") == 1
    assert incarnation(store, EVENTS, "one") == 2


def test_processes_that_ask_at_once_get_the_same_life(store: Store) -> None:
    for table in ("incarnations", "frames_rows"):
        store.command(f"TRUNCATE TABLE penstock.{table}")
    for life in range(1, 6):
        found: list[int] = []
        begin = threading.Barrier(4)

        def ask(topic_id: str, begin: threading.Barrier, found: list[int]) -> None:
            begin.wait(10)
            found.append(incarnation(store, EVENTS, topic_id))

        threads = [
            threading.Thread(target=ask, args=(f"id-{life}", begin, found)) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert found == [life] * 4


def test_two_lives_with_one_number_are_told(store: Store) -> None:
    store.command("TRUNCATE TABLE penstock.incarnations")
    rows = [{"topic": EVENTS, "topic_id": name, "incarnation": 7} for name in ("gone", "here")]
    insert(store, "incarnations", rows)
    with pytest.raises(StoreError, match="two lives"):
        incarnation(store, EVENTS, "here")


def test_a_broker_that_is_away_is_told() -> None:
    port = free_port()
    admin = TopicAdmin(parse_address(f"127.0.0.1:{port}"), timeout_s=1)
    with pytest.raises(BrokerError, match=f"127.0.0.1:{port}.*does it run there") as caught:
        admin.describe(TOPICS)
    assert caught.value.retryable


def test_what_kafka_refuses_is_told(kafka: KafkaAddress, store: Store) -> None:
    with pytest.raises(BrokerRefused, match="replication"):
        ensure_topics(kafka, store, Topics(replication=3))
    assert describe(kafka).partitions == {}
    with pytest.raises(InvalidConfiguration, match="run penstock topics"):
        home_partitions(store)
    ensure_topics(kafka, store, Topics(replication=1))


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(InvalidConfiguration, match="partitions must be more than 0"):
        Topics(partitions=0)
