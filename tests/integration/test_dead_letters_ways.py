"""Dead letters sent again other than over HTTP: into a store of chdb, and to Kafka."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition
from penstock import cli
from penstock.schemas.frames import FrameHeader, encode_frame, read_header
from penstock.schemas.kafka import parse_address
from penstock.schemas.topics import EVENTS, home_of
from penstock.streams.dead_letters.redrive import NotSent
from penstock.streams.dead_letters.senders import KafkaSender
from penstock.streams.storage.store import Store
from penstock.tests.support.kafka import Broker, KafkaMissing
from penstock.tests.support.kafka_messages import create_topic
from penstock.tests.support.letters import NAME, World, now_us, opened_world, request
from penstock.tests.support.server import Server
from penstock.tests.support.store import unique

IN_A_PROCESS = (
    "from penstock import cli; "
    f"cli.COMMANDS[{NAME!r}] = ('dead_letters', 'dead_letters'); cli.main()"
)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.COMMANDS, NAME, ("dead_letters", "dead_letters"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with opened_world(tmp_path_factory.mktemp("letters")) as found:
        yield found


# ---- a server that is stopped


@pytest.mark.slow
def test_a_store_of_chdb_takes_them_in_while_its_server_is_stopped(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    stopped = World(server, Store(server.store_url), server.store_url)
    row = request(status="okay", model="chat")
    try:
        assert stopped.post(row)["rejected"] == 1
    finally:
        server.stop()

    def run(*arguments: str) -> str:
        command = [sys.executable, "-c", IN_A_PROCESS, NAME, *arguments]
        env = {**os.environ, "PENSTOCK_STORE": server.store_url}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, done.stderr
        return done.stdout

    (letter,) = json.loads(run("list", "--json"))["dead_letters"]
    assert "status = 'okay'" in run("show", letter["id"])
    assert "1 stored" in run("redrive", letter["id"], "--set", "status=ok")
    assert "1 stored before" in run("redrive", letter["id"], "--set", "status=ok")
    server.start()
    try:
        found = server.get("/v1/requests", worker_id=row["worker_id"]).json()["requests"]
        assert [(one["model"], one["status"]) for one in found] == [("chat", "ok")]
    finally:
        server.stop()


# ---- Kafka


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    try:
        found = Broker(tmp_path / "kafka")
    except KafkaMissing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))
    with found:
        yield found


def consume(bootstrap: str, partitions: int, count: int) -> list[Message]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": unique("g"), "log_level": 0})
    try:
        consumer.assign([TopicPartition(EVENTS, n, OFFSET_BEGINNING) for n in range(partitions)])
        found: list[Message] = []
        until = time.monotonic() + 20
        while len(found) < count and time.monotonic() < until:
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                found.append(message)
        return found
    finally:
        consumer.close()


@pytest.mark.slow
def test_kafka(world: World, broker: Broker) -> None:
    """Every message is where its boot is at home, with the headers that say what it is."""
    create_topic(broker.bootstrap, EVENTS, partitions=8)
    row = request(status="okay")
    letter = world.rejected(row)
    arguments = ("redrive", letter["id"], "--set", "status=ok", "--kafka", broker.bootstrap)
    assert "run penstock topics" in world.run(*arguments).output
    settings = pa.table({"name": ["home_partitions"], "value": ["8"]})
    world.store.insert("settings", settings, unique("settings"))
    assert "1 sent" in world.ok(*arguments).output
    header = FrameHeader(
        kind="request", worker_id="w", boot_id="b", seq0=0, count=1, next_seq=1,
        clock_us=now_us(), home=5,
    )  # fmt: skip
    frame = encode_frame(header, [{"ts": now_us()}])
    sender = KafkaSender(parse_address(broker.bootstrap), 8)
    sender.send(frame, "frames", None)
    boot = f"redrive-{letter['id']}"
    found = consume(broker.bootstrap, 8, 3)
    assert [message.partition() for message in found if message.key() == b"b"] == [5]
    event, closing = [message for message in found if message.key() == boot.encode()]
    assert {event.partition(), closing.partition()} == {home_of(boot, 8)}
    assert dict(event.headers() or []) == {
        "penstock-form": b"json",
        "penstock-boot": boot.encode(),
        "penstock-worker": b"http",
    }
    told = json.loads(event.value() or b"")
    assert (told["boot_id"], told["seq"], told["status"]) == (boot, 0, "ok")
    assert told["worker_id"] == row["worker_id"]
    assert dict(closing.headers() or []) == {"penstock-form": b"frame"}
    assert read_header(closing.value() or b"").closing
    broker.stop()
    with pytest.raises(NotSent, match="Kafka did not confirm"):
        KafkaSender(parse_address(broker.bootstrap), 8, timeout_s=1.0).send(frame, "frames", None)
