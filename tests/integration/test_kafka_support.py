"""The brokers that other tests rely on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from penstock.schemas.kafka import parse_address
from penstock.tests.support.kafka import Broker, Cluster, choose, unique
from penstock.tests.support.kafka_container import IMAGE, images_present
from penstock.tests.support.kafka_jars import RECIPE, check, checksums, install
from penstock.tests.support.kafka_messages import create_topic, read_all, send, settings_of
from penstock.tests.support.ports import free_port
from penstock.tests.support.proxy import Proxy

FIXTURE_TEST = """
from penstock.tests.support.kafka import kafka_broker

def test_shared(kafka_broker):
    assert kafka_broker.bootstrap
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


def round_trip(bootstrap: str) -> None:
    topic = create_topic(bootstrap, unique("round"))
    assert send(bootstrap, topic, [b"one", b"two"]) == []
    assert read_all(bootstrap, topic, 2) == [b"one", b"two"]


def test_messages_come_back(broker: Broker) -> None:
    topic = create_topic(broker.bootstrap, unique("events"), partitions=2)
    values = [b"%d" % i for i in range(1000)]

    assert send(broker.bootstrap, topic, values, partition=1) == []

    assert read_all(broker.bootstrap, topic, 1000, partition=1) == values


def test_topics_are_not_made_by_being_named(broker: Broker) -> None:
    errors = send(broker.bootstrap, unique("unknown"), [b"lost"], within_s=1)

    assert errors
    assert set(errors) <= {"_MSG_TIMED_OUT", "_UNKNOWN_TOPIC", "UNKNOWN_TOPIC_OR_PART"}


def test_a_paused_broker_answers_after_it_resumed(broker: Broker) -> None:
    client = AdminClient(settings_of(broker.bootstrap))
    broker.pause()
    try:
        with pytest.raises(KafkaException):
            client.list_topics(timeout=0.5)
    finally:
        broker.resume()

    assert list(client.list_topics(timeout=10).brokers) == [1]


@pytest.mark.slow
def test_kill_and_stop_keep_messages(broker: Broker) -> None:
    topic = create_topic(broker.bootstrap, unique("kept"))
    assert send(broker.bootstrap, topic, [b"before kill"]) == []
    broker.kill()
    broker.start()
    assert send(broker.bootstrap, topic, [b"after kill"]) == []
    broker.stop()
    broker.start()

    assert read_all(broker.bootstrap, topic, 2) == [b"before kill", b"after kill"]


@pytest.mark.slow
def test_a_broker_that_cannot_start_shows_its_log(tmp_path: Path, broker: Broker) -> None:
    with pytest.raises(RuntimeError, match="Address already in use"):
        Broker(tmp_path, port=broker.port).start()


@pytest.mark.slow
def test_one_lost_broker_of_three_is_survived_two_are_refused(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        topic = create_topic(cluster.bootstrap, unique("replicated"))
        assert send(cluster.bootstrap, topic, [b"three"]) == []

        leader = AdminClient(settings_of(cluster.bootstrap)).list_topics(topic).topics[topic]
        cluster.kill(leader.partitions[0].leader)
        assert send(cluster.bootstrap, topic, [b"two"]) == []

        other = leader.partitions[0].leader % 3 + 1
        cluster.kill(other)
        assert send(cluster.bootstrap, topic, [b"one"], within_s=2) != []

        cluster.start()
        assert send(cluster.bootstrap, topic, [b"three again"]) == []
        # The refused message has no stated fate: it may be there, but what was acknowledged must be.
        found = [value for value in read_all(cluster.bootstrap, topic, 3) if value != b"one"]
        assert found[:2] == [b"three", b"two"]


def first_error(settings: dict[str, str]) -> str:
    """Why a client is not let in."""
    errors: list[KafkaError] = []
    client = Producer({**settings_of(settings), "error_cb": errors.append})
    until = time.monotonic() + 10
    while not errors and time.monotonic() < until:
        client.poll(0.05)
    return errors[0].name() if errors else "none"


@pytest.mark.slow
def test_a_secure_broker_lets_in_who_has_the_password_and_the_authority(tmp_path: Path) -> None:
    with Broker(tmp_path, secure=True) as broker:
        topic = create_topic(broker.direct, unique("secret"))
        for mechanism in ("PLAIN", "SCRAM-SHA-512"):
            address = parse_address(broker.address_for(mechanism))
            assert send(address.librdkafka(), topic, [mechanism.encode()]) == []
        known = parse_address(broker.address).librdkafka()
        assert read_all(known, topic, 2) == [b"PLAIN", b"SCRAM-SHA-512"]

        without_authority = {k: v for k, v in known.items() if k != "ssl.ca.location"}
        assert first_error(known | {"sasl.password": "guessed"}) == "_AUTHENTICATION"
        assert first_error(without_authority) == "_SSL"
        assert first_error({"bootstrap.servers": broker.bootstrap}) in (
            "_TRANSPORT",
            "_ALL_BROKERS_DOWN",
        )


@pytest.mark.slow
def test_a_proxy_sits_between_clients_and_the_broker(tmp_path: Path) -> None:
    port = free_port()
    with (
        Proxy("127.0.0.1", port) as proxy,
        Broker(tmp_path, port=port, advertised_port=proxy.port) as broker,
    ):
        topic = create_topic(broker.bootstrap, unique("proxied"))
        assert send(broker.bootstrap, topic, [b"through"]) == []

        for fault in (proxy.cut, proxy.blackhole):
            fault()
            assert send(broker.bootstrap, topic, [b"lost"], within_s=1) != []
            assert send(broker.direct, topic, [b"round it"]) == []
            proxy.heal()

        assert send(broker.bootstrap, topic, [b"healed"]) == []
        values = read_all(broker.bootstrap, topic, 4)
        assert values == [b"through", b"round it", b"round it", b"healed"]


def run_fixture(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The shared fixture in a pytest of its own, on a machine without Docker."""
    test = folder / "test_fixture.py"
    test.write_text(FIXTURE_TEST)
    known = {k: v for k, v in os.environ.items() if k not in ("CI", "PENSTOCK_TEST_KAFKA")}
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", str(test)]
    return subprocess.run(
        command,
        cwd=folder,
        env=known | {"DOCKER_HOST": "unix:///nowhere"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_given_broker_comes_first(tmp_path: Path, broker: Broker) -> None:
    done = run_fixture(tmp_path, PENSTOCK_TEST_KAFKA=broker.bootstrap, PATH="/nowhere")

    assert "1 passed" in done.stdout, done.stdout
    assert done.stdout.count(f"Kafka at {broker.bootstrap}: given by PENSTOCK_TEST_KAFKA") == 1


def test_a_given_broker_must_answer(tmp_path: Path) -> None:
    port = free_port()
    start_s = time.monotonic()
    environ = {"PENSTOCK_TEST_KAFKA": f"127.0.0.1:{port}"}

    with pytest.raises(RuntimeError, match="should have"), choose(tmp_path, environ):
        pass

    assert time.monotonic() - start_s < 20


@pytest.mark.slow
def test_jars_come_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")

    with choose(tmp_path, {}) as shared:
        assert shared.way == "node from jars"
        round_trip(shared.bootstrap)


@pytest.mark.slow
def test_a_container_comes_before_jars(tmp_path: Path) -> None:
    if not images_present(IMAGE):
        message = f"Docker does not answer, or has no image {IMAGE}"
        if os.environ.get("PENSTOCK_TEST_CONTAINER") == "true":  # where one was built on the spot
            pytest.fail(message)
        pytest.skip(f"{message}; make compose-test builds one")

    with choose(tmp_path, {}) as shared:
        assert shared.way == f"container of {IMAGE}"
        round_trip(shared.bootstrap)


@pytest.mark.parametrize(("ci", "outcome"), [("", "1 skipped"), ("true", "1 error")])
def test_no_broker_is_said(tmp_path: Path, ci: str, outcome: str) -> None:
    done = run_fixture(tmp_path, CI=ci, PATH="/nowhere", JAVA_HOME="")

    assert outcome in done.stdout, done.stdout
    assert "no Kafka for this test" in done.stdout
    assert "install a Java runtime" in done.stdout


def test_another_jar_is_refused(tmp_path: Path) -> None:
    jars = install().jars
    assert checksums(jars) == (RECIPE / "checksums.txt").read_text()
    for jar in jars.iterdir():
        (tmp_path / jar.name).symlink_to(jar)
    check(tmp_path)

    changed = next(tmp_path.glob("kafka-clients-*.jar"))
    changed.unlink()
    changed.write_bytes(b"something else")

    with pytest.raises(ValueError, match=changed.name):
        check(tmp_path)


def test_compose_runs_the_same_kafka() -> None:
    compose = Path(__file__).parents[2] / "docker-compose.yml"

    assert f"image: {IMAGE}\n" in compose.read_text()
