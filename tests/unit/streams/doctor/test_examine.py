"""The doctor: what it says of things that work, and of each thing that does not."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]
from penstock.api.keys import create_key
from penstock.cli.checks import doctor
from penstock.schemas.config import Retention
from penstock.schemas.kafka import KafkaAddress, parse_address
from penstock.schemas.topics import DEAD_LETTERS, EVENTS, PANES
from penstock.streams.dead_letters.seal import load_or_make_key
from penstock.streams.doctor import examine as module
from penstock.streams.doctor.examine import (
    Line,
    check_data,
    check_store,
    check_url,
    clock_line,
)
from penstock.streams.doctor.kafka import GROUP, check_kafka
from penstock.streams.kafka.brokers import TopicAdmin
from penstock.streams.kafka.topics import Topics, ensure_topics
from penstock.streams.storage.store import Store
from penstock.tests.support.kafka import Broker
from penstock.tests.support.ports import free_port
from penstock.tests.support.store import opened_store


def states(lines: list[Line]) -> dict[str, str]:
    return {line.what: line.state for line in lines}


def of(lines: list[Line], what: str, state: str) -> Line:
    """The line of that state; whatever is not ok says what to do."""
    assert all(line.todo for line in lines if line.state != "ok"), lines
    found = [line for line in lines if line.what == what and line.state == state]
    assert found, lines
    return found[0]


def test_a_store_that_works_and_one_that_has_another_retention(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        lines = check_store(store, Retention())
        assert {"store", "store clock", "store schema", "retention", "store writes"} <= {
            line.what for line in lines if line.state == "ok"
        }
        assert of(lines, "store parts", "ok").found.startswith("at most")
        assert of(lines, "store disk default", lines[-1].state).found.endswith("free")
        other = check_store(store, Retention(warm_days=20))
        assert "migrate" in of(other, "retention", "warn").todo


def test_a_store_without_schema_or_without_folder(tmp_path: Path) -> None:
    absent = check_store(Store(f"chdb://{tmp_path / 'absent'}"), Retention())
    assert "no folder" in of(absent, "store", "fail").found
    assert not (tmp_path / "absent").exists()
    (tmp_path / "empty").mkdir()
    store = Store(f"chdb://{tmp_path / 'empty'}")
    try:
        lines = check_store(store, Retention())
        assert "0001" in of(lines, "store schema", "fail").found
        of(lines, "store writes", "fail")
    finally:
        store.close()


def test_a_server_that_is_away_is_one_line() -> None:
    port = free_port()
    lines = check_store(Store(f"clickhouse://writer:pw@127.0.0.1:{port}/penstock"), Retention())
    assert [(line.what, line.state) for line in lines] == [("store", "fail")]


def test_many_parts_and_little_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened_store(tmp_path) as store:
        monkeypatch.setattr(module, "PARTS_WARN", 1)
        monkeypatch.setattr(module, "FREE_FAIL", 1 << 60)
        lines = check_store(store, Retention())
        assert "merges" in of(lines, "store parts", "warn").todo
        assert "make room" in of(lines, "store disk default", "fail").todo
        monkeypatch.setattr(module, "PARTS_FAIL", 1)
        of(check_store(store, Retention()), "store parts", "fail")


def test_clocks() -> None:
    assert clock_line("clock", 0.01) == Line("ok", "clock", "as this machine's")
    assert clock_line("clock", 2.0).state == "warn"
    assert clock_line("clock", 31.0).state == "fail"


def test_a_data_folder_and_its_key(tmp_path: Path) -> None:
    of(check_data(tmp_path / "absent"), "data", "fail")
    assert "made at the first start" in of(check_data(tmp_path), "sealing key", "ok").found
    assert not (tmp_path / "sealing.key").exists()
    load_or_make_key(tmp_path / "sealing.key")
    assert "can be read" in of(check_data(tmp_path), "sealing key", "ok").found
    (tmp_path / "sealing.key").chmod(0o644)
    assert "chmod 600" in of(check_data(tmp_path), "sealing key", "fail").found
    of(check_data(tmp_path, tmp_path / "elsewhere.key"), "sealing key", "fail")
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        of(check_data(tmp_path), "data", "fail")


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server whose /readyz answers so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ready = self.path == "/readyz"
            self.send_response(status if ready else 200)
            self.end_headers()
            self.wfile.write(body if ready else b"{}")

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.slow
def test_an_api_that_is_ready_one_that_is_not_and_none() -> None:
    with answering(200, b"{}") as url:
        assert states(check_url(url)) == {"healthz": "ok", "readyz": "ok"}
    with answering(503, b'{"detail": "store: does not answer"}') as url:
        lines = check_url(f"{url}/")
        assert of(lines, "readyz", "fail").found == "503: store: does not answer"
        of(lines, "healthz", "ok")
    with answering(503, b"not json") as url:
        assert "not json" in of(check_url(url), "readyz", "fail").found
    assert states(check_url(url)) == {"healthz": "fail", "readyz": "fail"}
    assert states(check_url("file:///etc")) == {"healthz": "fail", "readyz": "fail"}


def test_the_command_says_what_it_did_not_look_at(tmp_path: Path) -> None:
    config = tmp_path / "penstock.yaml"
    config.write_text("gates: 1")
    asked = ["--data", str(tmp_path), "--config", str(config)]
    (tmp_path / "keys.json").write_text("{")
    done = CliRunner().invoke(doctor, [*asked, "--json"])
    assert done.exit_code == 1
    told = json.loads(done.output)
    by_name = {line["what"]: line for line in told["lines"]}
    assert not told["ok"]
    assert "penstock.yaml:1" in by_name["configuration"]["found"]
    assert by_name["API keys"]["state"] == "fail"
    assert by_name["not looked at"]["found"] == "--kafka, --store, --url"
    config.write_text("")
    (tmp_path / "keys.json").unlink()
    done = CliRunner().invoke(doctor, asked)
    assert done.exit_code == 0, done.output
    assert "-> penstock keys create" in done.output
    create_key(tmp_path / "keys.json", "me", ["read"])
    assert "API keys: 1 in" in CliRunner().invoke(doctor, asked).output
    assert CliRunner().invoke(doctor, []).exit_code == 2


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("kafka")) as found:
        yield found


@contextmanager
def member(address: KafkaAddress, commit: int | None = None) -> Iterator[None]:
    """A member of the workers' group."""
    settings = {**address.librdkafka(), "group.id": GROUP, "auto.offset.reset": "earliest"}
    consumer = Consumer({**settings, "enable.auto.commit": False})
    consumer.subscribe([EVENTS])
    try:
        until = time.monotonic() + 30
        while not consumer.assignment():
            assert time.monotonic() < until
            consumer.poll(0.2)
        yield
    finally:
        consumer.close()


@pytest.mark.slow
def test_kafka_from_nothing_to_what_is_wrong_with_it(broker: Broker, tmp_path: Path) -> None:
    address = parse_address(broker.bootstrap)
    with opened_store(tmp_path) as store:
        lines = check_kafka(address, store)
        assert "1 brokers" in of(lines, "kafka", "ok").found
        assert of(lines, EVENTS, "fail").todo == "run penstock topics"
        of(lines, "topics and store", "fail")
        of(lines, "workers", "fail")

        ensure_topics(address, store, Topics(partitions=2, shards=2))
        producer = Producer({**address.librdkafka()})
        for partition in (0, 1, 1):
            producer.produce(EVENTS, b"[]", partition=partition)
        assert producer.flush(20) == 0
        with member(address):
            lines = check_kafka(address, store)
        assert [line for line in lines if line.state not in ("ok",)] == []
        assert of(lines, EVENTS, "ok").found == "2 partitions, in sync, kept 168 h"
        assert of(lines, "topics and store", "ok").found == "2 home partitions, 2 shards"
        assert of(lines, "workers", "ok").found == f"1 members of the group {GROUP}"
        assert of(lines, "lag", "ok").found == "3 messages are not stored yet"
        of(lines, "kafka clock", "ok")

        TopicAdmin(address).alter(EVENTS, {"message.timestamp.type": "CreateTime"})
        TopicAdmin(address).alter(DEAD_LETTERS, {"retention.ms": "1000"})
        client = AdminClient({**address.librdkafka()})
        client.create_partitions([NewPartitions(PANES, 3)])[PANES].result(20)
        hour_ms = time.time_ns() // 1_000_000 + 3_600_000
        producer.produce(EVENTS, b"[]", partition=0, timestamp=hour_ms)
        assert producer.flush(20) == 0
        lines = check_kafka(address, store)
        assert "CreateTime" in of(lines, EVENTS, "fail").found
        assert "--alter" in of(lines, DEAD_LETTERS, "warn").todo
        assert "3 partitions" in of(lines, "shards", "fail").found
        assert "no members" in of(lines, "workers", "fail").found
        assert "3600" in of(lines, "kafka clock", "fail").found or "3599" in lines[-1].found
    without = check_kafka(address, None)
    of(without, "topics and store", "skip")


def test_a_broker_that_is_away_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.streams.doctor.kafka.TIMEOUT_S", 1.0)
    port = free_port()
    lines = check_kafka(parse_address(f"127.0.0.1:{port}"), None)
    assert [(line.what, line.state) for line in lines] == [("kafka", "fail")]
    assert "does it run there" in lines[0].todo
