from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock import Emitter, EmitterSettings
from penstock.producers.framer import Boot, Framer
from penstock.producers.gaps import gap_frame
from penstock.producers.kafka import KafkaTransport, partition_of, producer_config
from penstock.producers.settings import Environment, spool_folder
from penstock.producers.transport import ServerAway
from penstock.schemas.errors import InvalidConfiguration
from penstock.schemas.frames import FrameHeader, encode_frame, read_header
from penstock.schemas.kafka import parse_address
from penstock.schemas.topics import DEFAULT_PARTITIONS, home_of
from penstock.tests.support.ports import free_port
from penstock.tests.unit.producers.event_server import EventServer

SECURE = "kafka://me:top-hush@a:9092,b:9092?tls=true&sasl=SCRAM-SHA-512&ca=/etc/ca.pem"


def header(boot: str = "boot", home: int | None = None, count: int = 0) -> FrameHeader:
    return FrameHeader(
        kind="step" if count else "control",
        worker_id="w",
        boot_id=boot,
        seq0=0,
        count=count,
        next_seq=count,
        clock_us=1,
        home=home,
    )


def nobody() -> KafkaTransport:
    """To a port where nobody listens."""
    return KafkaTransport(parse_address(f"127.0.0.1:{free_port()}"), timeout_s=5.0)


class Partitioned:
    """A transport with partitions, into a list."""

    def __init__(self, ask: Callable[[], int | None]) -> None:
        self.frames: list[bytes] = []
        self.asked = 0
        self._ask = ask

    def partitions(self, limit_s: float) -> int | None:
        self.asked += 1
        return self._ask()

    def send(self, frames: list[bytes]) -> None:
        self.frames.extend(frames)

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        pass

    def homes(self) -> set[int | None]:
        return {read_header(frame).home for frame in self.frames}


class TestSettings:
    def test_delivery_is_idempotent_and_acknowledged_by_all(self) -> None:
        config = producer_config(parse_address("a:9092"), 10.0)
        assert config["enable.idempotence"] is True
        assert config["acks"] == "all"
        assert config["compression.type"] == "none"
        assert config["security.protocol"] == "PLAINTEXT"

    def test_tls_and_sasl_reach_the_client(self) -> None:
        config = producer_config(parse_address(SECURE), 10.0)
        assert config["bootstrap.servers"] == "a:9092,b:9092"
        assert config["security.protocol"] == "SASL_SSL"
        assert config["sasl.mechanism"] == "SCRAM-SHA-512"
        assert (config["sasl.username"], config["sasl.password"]) == ("me", "top-hush")
        assert config["ssl.ca.location"] == "/etc/ca.pem"

    def test_the_client_gives_up_later_than_the_transport(self) -> None:
        assert producer_config(parse_address("a:9092"), 7.5)["message.timeout.ms"] == 15_000
        assert producer_config(parse_address("a:9092"), 0.01)["message.timeout.ms"] == 2_000

    def test_librdkafka_takes_every_setting(self) -> None:
        """A name or a value that it does not know would show at the first send only."""
        transport = nobody()
        with pytest.raises(ServerAway, match="Connection refused"):
            transport.send([encode_frame(header(), [])])
        transport.close()

    def test_without_the_package_the_error_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "confluent_kafka", None)
        with pytest.raises(InvalidConfiguration, match=r"pip install 'penstock\[kafka\]'"):
            Emitter(url="kafka://a:9092")

    def test_without_a_kafka_address_no_client_is_imported(self) -> None:
        code = (
            "import sys; from penstock import Emitter; Emitter(url='http://h:1').close(); "
            "sys.exit(any(n in sys.modules for n in ('confluent_kafka', 'aiokafka')))"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

    @pytest.mark.parametrize("url", ["kafka://", "kafka://a", "kafka://a:9092/topic", "kafka:a:1"])
    def test_addresses_that_are_none(self, url: str) -> None:
        with pytest.raises(InvalidConfiguration):
            Emitter(url=url)


class TestPasswords:
    def test_the_folder_of_the_spool_does_not_depend_on_them(self) -> None:
        settings = EmitterSettings()
        folder = spool_folder(settings, SECURE)
        assert folder == spool_folder(settings, SECURE.replace("top-hush", "changed"))
        assert folder == spool_folder(settings, "kafka://b:9092,a:9092")
        assert folder != spool_folder(settings, "kafka://a:9092")
        assert spool_folder(settings, "http://me:pw@h:80/p") == spool_folder(
            settings, "http://h:80/p"
        )
        assert spool_folder(settings, "http://h:80/p") != spool_folder(settings, "http://h:80/q")

    def test_errors_and_settings_do_not_show_them(self) -> None:
        for url in (
            "kafak://me:top-hush@a:9092",
            "me:top-hush@a:9092",
            "http://me:top-hush@",
        ):
            with pytest.raises(InvalidConfiguration) as caught:
                Emitter(url=url)
            assert "top-hush" not in str(caught.value)
        assert "top-hush" not in repr(Environment.read({"PENSTOCK_URL": SECURE}))

    @pytest.mark.slow
    def test_an_outage_does_not_log_them(
        self,
        settings: EmitterSettings,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        """And what librdkafka has to say goes to our logger."""
        port = free_port()
        hurried = replace(settings, close_timeout_s=4.0)
        with (
            caplog.at_level(logging.DEBUG),
            Emitter(url=f"kafka://me:top-hush@127.0.0.1:{port}", settings=hurried) as emit,
        ):
            emit.step(step=1)
        assert emit.snapshot()["delivery"]["pending"]
        assert "top-hush" not in caplog.text
        assert "top-hush" not in repr(emit._settings)
        (told,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert told.name == "penstock"
        assert f"127.0.0.1:{port}" in told.message
        assert "penstock.kafka" in {record.name for record in caplog.records}
        assert capfd.readouterr().err == ""


class TestPlaces:
    def test_a_frame_goes_to_the_home_that_its_header_states(self) -> None:
        assert partition_of(header(home=3), 8) == 3
        assert partition_of(header(home=3), 64) == 3

    def test_a_home_that_does_not_exist_is_folded_back(self) -> None:
        assert partition_of(header(home=7), 4) == 3

    @given(st.text(min_size=1, max_size=40), st.integers(1, 512))
    def test_without_a_stated_home_the_boot_decides(self, boot: str, partitions: int) -> None:
        assert partition_of(header(boot), partitions) == home_of(boot, partitions)

    @given(st.integers(0, 1000), st.integers(1, 512))
    def test_every_place_exists(self, home: int, partitions: int) -> None:
        assert 0 <= partition_of(header(home=home), partitions) < partitions


class TestHomeOfABoot:
    def test_it_is_chosen_once(self) -> None:
        boot = Boot("w", "boot-1")
        boot.settle(8)
        assert boot.home == home_of("boot-1", 8)
        boot.settle(3)
        assert boot.home == home_of("boot-1", 8)

    def test_without_an_answer_the_usual_number_of_partitions_is_taken(self) -> None:
        boot = Boot("w")
        boot.settle(None)
        assert boot.home == home_of(boot.boot_id, DEFAULT_PARTITIONS)

    def test_every_frame_carries_it(self) -> None:
        boot = Boot("w", home=5)
        framer = Framer(boot)
        frames = [*framer.frames("step", [{"ts": 1}], 2), framer.control(3, closing=True)]
        assert [read_header(frame).home for frame in frames] == [5, 5]

    def test_a_declared_gap_goes_there_too(self) -> None:
        frame = gap_frame([header(home=6, count=3)])
        assert frame is not None
        assert read_header(frame).home == 6

    def test_over_http_there_is_none(self, server: EventServer, settings: EmitterSettings) -> None:
        with Emitter(url=server.url, settings=settings) as emit:
            emit.step(step=1)
        assert {each.home for each in server.headers()} == {None}

    @pytest.mark.parametrize("answer", [1, 12, None])
    def test_the_transport_is_asked_once_and_before_the_first_frame(
        self, settings: EmitterSettings, answer: int | None
    ) -> None:
        transport = Partitioned(lambda: answer)
        with Emitter(transport=transport, settings=settings) as emit:
            for i in range(100):
                emit.step(step=i)
                emit.flush(0.01)
        assert transport.asked == 1
        assert transport.homes() == {home_of(emit.boot_id, answer or DEFAULT_PARTITIONS)}

    def test_events_wait_in_memory_for_the_answer(self, settings: EmitterSettings) -> None:
        answer = threading.Event()
        transport = Partitioned(lambda: 64 if answer.wait(20) else None)
        with Emitter(transport=transport, settings=settings) as emit:
            emit.step(step=1)
            begun = time.monotonic()
            assert not emit.flush(0.1)
            assert time.monotonic() - begun < 1.0
            assert transport.frames == []
            answer.set()
            assert emit.flush(20.0)
            assert emit.snapshot()["events"] == {"step": 1}
        assert transport.homes() == {home_of(emit.boot_id, 64)}

    def test_a_transport_that_fails_at_the_question_is_survived(
        self, settings: EmitterSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reported: list[threading.ExceptHookArgs] = []
        monkeypatch.setattr(threading, "excepthook", reported.append)
        transport = Partitioned(lambda: 1 // 0)
        with Emitter(transport=transport, settings=settings) as emit:
            emit.step(step=1)
            assert emit.flush(20.0)
            end = time.monotonic() + 10
            while not reported and time.monotonic() < end:
                time.sleep(0.01)
        assert [args.exc_type for args in reported] == [ZeroDivisionError]
        assert transport.homes() == {home_of(emit.boot_id, DEFAULT_PARTITIONS)}


class TestNobodyListens:
    def test_the_server_is_away_at_once_and_says_so(self) -> None:
        transport = nobody()
        begun = time.monotonic()
        with pytest.raises(ServerAway) as caught:
            transport.send([encode_frame(header(), [])])
        assert caught.value.unreachable
        assert time.monotonic() - begun < 4.0, "not the whole time limit"
        transport.close()

    def test_nobody_tells_how_many_partitions_there_are(self) -> None:
        begun = time.monotonic()
        assert nobody().partitions(0.3) is None
        assert time.monotonic() - begun < 2.0

    def test_a_file_of_authorities_that_is_missing_is_told(self) -> None:
        transport = KafkaTransport(parse_address("kafka://127.0.0.1:1?tls=true&ca=/no/such.pem"))
        with pytest.raises(ServerAway, match=r"ssl\.ca\.location"):
            transport.send([encode_frame(header(), [])])
