"""The emitter and a real Kafka: every event exactly once by (boot, seq), whatever happens between."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions
from penstock import Emitter, EmitterSettings
from penstock.schemas.topics import DEFAULT_PARTITIONS, EVENTS, home_of
from penstock.tests.support.kafka import unique
from penstock.tests.support.kafka_messages import settings_of
from penstock.tests.unit.producers.kafka_behind_proxy import (
    FORKING,
    PARTITIONS,
    SCRIPT,
    Kafka,
    child_of_multiprocessing,
    emit_steps,
    or_skipped,
    script,
    spooled_files,
    wait_until,
)

pytestmark = [
    pytest.mark.slow,
    # Forking with threads is what is tested here; Python warns of it from 3.12 on.
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def module_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with or_skipped(lambda: Kafka(tmp_path_factory.mktemp("kafka"))) as kafka:
        kafka.topic(EVENTS)
        yield kafka


@pytest.fixture
def kafka(module_kafka: Kafka) -> Iterator[Kafka]:
    yield module_kafka
    module_kafka.proxy.heal()
    module_kafka.broker.resume()


@pytest.fixture
def settings(tmp_path: Path) -> EmitterSettings:
    return EmitterSettings(
        flush_interval_s=0.02,
        spool_dir=tmp_path / "spool",
        retry_base_s=0.05,
        retry_cap_s=0.3,
        timeout_s=5.0,
        close_timeout_s=15.0,
        hash_key="k",
    )


@pytest.fixture(autouse=True)
def _quiet(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """librdkafka's own lines go to our logger."""
    yield
    assert "rdkafka" not in capfd.readouterr().err


class TestArrival:
    def test_each_frame_arrives_once_at_the_home_of_its_boot(
        self, kafka: Kafka, settings: EmitterSettings
    ) -> None:
        small = replace(settings, max_frame_events=50)
        with Emitter(url=kafka.url, settings=small) as emit:
            for i in range(1000):
                emit.step(step=i)
                emit.request(request_id=str(i), status="ok", latency_ms=1.0)
        delivered = emit.snapshot()["delivery"]
        found = kafka.boots()[emit.boot_id]
        home = home_of(emit.boot_id, PARTITIONS)
        assert found.partitions == {home}
        assert {header.home for header in found.headers} == {home}
        assert found.keys == {emit.boot_id.encode()}
        assert found.first_seqs == list(range(2000))
        assert len(found.headers) == delivered["delivered_frames"] >= 40
        assert sum(header.count for header in found.headers) == 2000, "nothing twice"
        assert [header.closing for header in found.headers] == [False] * (
            len(found.headers) - 1
        ) + [True]
        assert spooled_files(settings) == []


class TestOutages:
    def test_a_broker_that_is_killed_and_comes_back(
        self, kafka: Kafka, settings: EmitterSettings
    ) -> None:
        with Emitter(url=kafka.url, settings=settings) as emit:
            emit_steps(emit, range(500))
            kafka.broker.kill()
            emit_steps(emit, range(500, 1500))
            wait_until(lambda: bool(spooled_files(settings)))
            kafka.broker.start()
            emit_steps(emit, range(1500, 2000))
            assert emit.flush(30.0)
        found = kafka.boots()[emit.boot_id]
        assert found.first_seqs == list(range(2000)), "none missing, first arrivals in order"
        assert found.partitions == {home_of(emit.boot_id, PARTITIONS)}
        assert (found.closed, found.gaps) == (True, set())
        assert spooled_files(settings) == []

    @pytest.mark.parametrize("how", ["paused broker", "cut network", "silent network"])
    def test_answers_that_do_not_come(
        self, kafka: Kafka, settings: EmitterSettings, how: str
    ) -> None:
        hurried = replace(settings, timeout_s=1.0)
        interrupt, heal = {
            "paused broker": (kafka.broker.pause, kafka.broker.resume),
            "cut network": (kafka.proxy.cut, kafka.proxy.heal),
            "silent network": (kafka.proxy.blackhole, kafka.proxy.heal),
        }[how]
        with Emitter(url=kafka.url, settings=hurried) as emit:
            stop = threading.Event()

            def traffic() -> None:
                for i in range(10_000):
                    emit.step(step=i)
                    if i % 10 == 0 and stop.wait(0.002):
                        return

            thread = threading.Thread(target=traffic)
            thread.start()
            time.sleep(0.3)
            interrupt()
            time.sleep(2.0)
            heal()
            time.sleep(0.3)
            stop.set()
            thread.join()
            assert emit.flush(30.0)
            assert emit.snapshot()["delivery"]["failed_deliveries"] > 0
        found = kafka.boots()[emit.boot_id]
        sent = max(header.next_seq for header in found.headers)
        assert sent > 500
        assert found.first_seqs == list(range(sent)), "none missing, first arrivals in order"
        assert (found.closed, found.gaps) == (True, set())

    def test_a_broker_that_is_away_at_the_start(
        self, kafka: Kafka, settings: EmitterSettings
    ) -> None:
        """The home is chosen without it, and kept."""
        kafka.proxy.cut()
        with Emitter(url=kafka.url, settings=settings) as emit:
            emit_steps(emit, range(100))
            wait_until(lambda: bool(spooled_files(settings)))
            kafka.proxy.heal()
            assert emit.flush(30.0)
        found = kafka.boots()[emit.boot_id]
        home = home_of(emit.boot_id, DEFAULT_PARTITIONS)
        assert {header.home for header in found.headers} == {home}
        assert found.partitions == {home % PARTITIONS}
        assert found.first_seqs == list(range(100))

    @pytest.mark.parametrize("how", ["cut", "blackhole"])
    def test_close_is_bounded_and_another_emitter_delivers(
        self, kafka: Kafka, settings: EmitterSettings, how: str
    ) -> None:
        hurried = replace(settings, close_timeout_s=1.0, timeout_s=3.0)
        with Emitter(url=kafka.url, settings=hurried) as emit:
            emit.step(step=0)
            assert emit.flush(15.0)
            getattr(kafka.proxy, how)()
            emit.step(step=1)
            begun = time.monotonic()
        assert time.monotonic() - begun < 2.0
        assert spooled_files(settings)
        kafka.proxy.heal()
        with Emitter(url=kafka.url, settings=settings) as later:
            later.step(step=2)
            kafka.wait_closed(emit.boot_id)
        found = kafka.boots()
        assert found[emit.boot_id].first_seqs == [0, 1]
        assert found[emit.boot_id].partitions == {home_of(emit.boot_id, PARTITIONS)}
        assert found[later.boot_id].first_seqs == [0]
        assert spooled_files(settings) == []

    def test_partitions_added_while_frames_wait_do_not_move_them(
        self, kafka: Kafka, settings: EmitterSettings
    ) -> None:
        topic = kafka.topic(unique("growing"), PARTITIONS)
        hurried = replace(settings, close_timeout_s=1.0)
        emit = Emitter(transport=kafka.transport(topic), settings=hurried)
        while home_of(emit.boot_id, PARTITIONS) == home_of(emit.boot_id, 12):
            emit = Emitter(transport=kafka.transport(topic), settings=hurried)
        later = Emitter(transport=kafka.transport(topic), settings=settings)
        while home_of(later.boot_id, 12) < PARTITIONS:
            later = Emitter(transport=kafka.transport(topic), settings=settings)
        with emit:
            emit_steps(emit, range(100))
            assert emit.flush(15.0)
            kafka.proxy.cut()
            emit_steps(emit, range(100, 200))
            wait_until(lambda: bool(spooled_files(settings)))
            admin = AdminClient(settings_of(kafka.broker.direct))
            admin.create_partitions([NewPartitions(topic, 12)])[topic].result(10)
        assert spooled_files(settings)
        kafka.proxy.heal()
        with later:
            emit_steps(later, range(100))
            kafka.wait_closed(emit.boot_id, topic)
        found = kafka.boots(topic)
        assert found[emit.boot_id].partitions == {home_of(emit.boot_id, PARTITIONS)}
        assert found[emit.boot_id].first_seqs == list(range(200))
        assert found[later.boot_id].partitions == {home_of(later.boot_id, 12)}
        assert found[later.boot_id].first_seqs == list(range(100))


class TestProcesses:
    def test_the_spool_of_a_killed_process_is_delivered_by_the_next(
        self, kafka: Kafka, tmp_path: Path
    ) -> None:
        kafka.proxy.cut()
        dead = script(SCRIPT, kafka.url, tmp_path, "1000000")
        assert dead.stdout is not None
        assert dead.stderr is not None
        wait_until(lambda: bool(list(tmp_path.glob("*/*.seg"))))
        boot_id, framed = "", "0"
        while int(framed) < 500:
            boot_id, framed = dead.stdout.readline().split()
        dead.send_signal(signal.SIGKILL)
        dead.wait(20)
        dead.stdout.close()
        dead.stderr.close()
        kafka.proxy.heal()
        out, err = script(SCRIPT, kafka.url, tmp_path, "1").communicate(timeout=30)
        assert err == ""
        kafka.wait_closed(out.split()[0])
        seqs = kafka.boots()[boot_id].first_seqs
        assert seqs == list(range(len(seqs)))
        assert len(seqs) >= int(framed)
        assert not list(tmp_path.glob("*.boot/*.seg"))

    def test_a_process_ends_while_the_broker_is_away(self, kafka: Kafka, tmp_path: Path) -> None:
        kafka.proxy.blackhole()
        process = script(SCRIPT, kafka.url, tmp_path, "1")
        begun = time.monotonic()
        _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")
        assert time.monotonic() - begun < 6.0
        assert list(tmp_path.glob("*.boot/*.seg"))

    def test_a_forked_child_is_a_boot_of_its_own(self, kafka: Kafka, tmp_path: Path) -> None:
        process = script(FORKING, kafka.url, tmp_path)
        out, err = process.communicate(timeout=40)
        assert (process.returncode, err) == (0, "")
        found = kafka.boots()
        parent, child = sorted(out.split()[::2], key=lambda boot: -len(found[boot].first_seqs))
        assert parent != child
        assert found[parent].first_seqs == list(range(150))
        assert found[child].first_seqs == list(range(50))
        assert found[parent].closed
        assert found[child].closed

    def test_forks_amid_traffic_never_hang(self, kafka: Kafka, settings: EmitterSettings) -> None:
        stop = threading.Event()
        with Emitter(url=kafka.url, settings=settings) as emit:

            def traffic() -> None:
                while not stop.wait(0.0005):
                    emit.step(step=1)

            def child() -> None:
                status = 1
                try:
                    signal.alarm(30)  # a deadlock ends the child, and the test sees it
                    emit.step(step=2)
                    assert emit.flush(20.0)
                    emit.close()
                    status = 0
                finally:
                    os._exit(status)

            thread = threading.Thread(target=traffic)
            thread.start()
            before = set(kafka.boots())
            try:
                for _ in range(10):
                    if (pid := os.fork()) == 0:
                        child()
                    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            finally:
                stop.set()
                thread.join()
            assert emit.flush(20.0)
        found = {boot: what for boot, what in kafka.boots().items() if boot not in before}
        found[emit.boot_id] = kafka.boots()[emit.boot_id]
        assert len(found) == 11
        for boot in found.values():
            assert boot.closed
            assert boot.first_seqs == list(range(boot.headers[-1].next_seq))

    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_children_of_multiprocessing_deliver_at_their_end(
        self, kafka: Kafka, tmp_path: Path, method: Any
    ) -> None:
        context = multiprocessing.get_context(method)
        before = set(kafka.boots())
        processes = [
            context.Process(target=child_of_multiprocessing, args=(kafka.url, str(tmp_path), i))
            for i in range(3)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(40)
            assert process.exitcode == 0
        found = [boot for name, boot in kafka.boots().items() if name not in before]
        assert [(boot.first_seqs, boot.closed) for boot in found] == [([0], True)] * 3
