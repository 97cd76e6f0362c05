"""A store and a broker for the tests of one module, and the cluster with our topics."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from penstock.schemas.kafka import KafkaAddress, parse_address
from penstock.schemas.topics import EVENTS
from penstock.streams.kafka.topics import Topics, describe, ensure_topics
from penstock.streams.storage.store import Store
from penstock.tests.support.kafka import Broker
from penstock.tests.support.kafka_ingest import PARTITIONS
from penstock.tests.support.store import opened_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with opened_store(tmp_path_factory.mktemp("store")) as opened:
        yield opened


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("kafka")) as found:
        yield found


@pytest.fixture
def kafka(broker: Broker, store: Store) -> KafkaAddress:
    """The cluster with our topics."""
    address = parse_address(broker.bootstrap)
    if EVENTS not in describe(address).partitions:
        ensure_topics(address, store, Topics(partitions=PARTITIONS, shards=1))
    return address
