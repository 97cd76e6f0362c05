"""A real Kafka for tests: one node or three that a test owns, and the one that all tests share.

The shared one is what PENSTOCK_TEST_KAFKA names, else a container where Docker answers and has the
image, else a node from jars. Tests use topics and groups of their own: see `unique`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest
from penstock.tests.support.kafka_brokers import Broker, Cluster, unique
from penstock.tests.support.kafka_container import IMAGE, container, images_present
from penstock.tests.support.kafka_jars import KafkaMissing
from penstock.tests.support.kafka_node import await_brokers

__all__ = [
    "Broker",
    "Cluster",
    "KafkaMissing",
    "SharedBroker",
    "choose",
    "kafka_broker",
    "unique",
]

VARIABLE = "PENSTOCK_TEST_KAFKA"


@dataclass(frozen=True, slots=True)
class SharedBroker:
    """The broker that tests share; nobody may stop it.

    Attributes:
        bootstrap: `host:port` for clients.
        way: how it was found, for people.
    """

    bootstrap: str
    way: str


def choose(folder: Path, environ: Mapping[str, str]) -> AbstractContextManager[SharedBroker]:
    """The first way there is; opening it takes the time of a start.

    Args:
        folder: for a node from jars.
        environ: what PENSTOCK_TEST_KAFKA is read from.
    """
    if given := environ.get(VARIABLE):
        return _given(given)
    if images_present(IMAGE):
        return _contained()
    return _from_jars(folder)


@contextmanager
def _given(bootstrap: str) -> Iterator[SharedBroker]:
    await_brokers(bootstrap, within_s=3)
    yield SharedBroker(bootstrap, f"given by {VARIABLE}")


@contextmanager
def _contained() -> Iterator[SharedBroker]:
    with container() as bootstrap:
        yield SharedBroker(bootstrap, f"container of {IMAGE}")


@contextmanager
def _from_jars(folder: Path) -> Iterator[SharedBroker]:
    with Broker(folder) as broker:
        yield SharedBroker(broker.bootstrap, "node from jars")


@pytest.fixture(scope="session")
def kafka_broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SharedBroker]:
    """The broker that tests share. Without any, tests are skipped; where `CI=true`, they fail."""
    with ExitStack() as stack:
        try:
            found = stack.enter_context(choose(tmp_path_factory.mktemp("kafka"), os.environ))
        except KafkaMissing as missing:
            message = f"no Kafka for this test: {VARIABLE} is not set, no container, and {missing}"
            if os.environ.get("CI") == "true":
                pytest.fail(message)
            pytest.skip(message)
        _say(request.config, f"Kafka at {found.bootstrap}: {found.way}")
        yield found


def _say(config: pytest.Config, line: str) -> None:
    """Write a line that people see though the output of tests is captured."""
    capture = config.pluginmanager.get_plugin("capturemanager")
    shown = capture.global_and_fixture_disabled() if capture else nullcontext()
    with shown:
        sys.stdout.write(f"\n{line}\n")
        sys.stdout.flush()
