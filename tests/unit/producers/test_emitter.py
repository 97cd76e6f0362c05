from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from penstock import Emitter, EmitterSettings
from penstock.producers.guards import NULL_GUARD
from penstock.schemas.errors import InvalidConfiguration
from penstock.schemas.frames import FrameHeader, read_header
from penstock.tests.unit.producers.event_server import EventServer


class Collector:
    """A transport into a list."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def send(self, frames: list[bytes]) -> None:
        self.frames.extend(frames)

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        self.frames = []

    def headers(self) -> list[FrameHeader]:
        return [read_header(frame) for frame in self.frames]


def test_every_kind_arrives_with_defaults_and_one_count(
    server: EventServer, settings: EmitterSettings
) -> None:
    with Emitter(
        url=server.url,
        worker_id="w1",
        model="m",
        model_version="2",
        release="r1",
        variant="canary",
        region="eu",
        settings=settings,
    ) as emit:
        emit.request(request_id="a", status="ok", latency_ms=12.5)
        emit.step(step=1, step_ms=3.0)
        emit.feedback(request_id="a", accepted=True)
        emit.release(release="r2", stage="canary", variant_share=0.2)
        emit.span(trace_id="t", name="gateway.auth", duration_ms=1.0)
    (request,) = server.rows("request")
    assert request["latency_us"] == 12_500
    assert (request["model"], request["release"], request["variant"]) == ("m", "r1", "canary")
    assert (request["worker_id"], request["region"]) == ("w1", "eu")
    (marker,) = server.rows("release")
    assert (marker["release"], marker["model"]) == ("r2", "m")
    (boot,) = server.boots().values()
    assert sorted(boot.seqs) == [0, 1, 2, 3, 4]
    assert (boot.next_seq, boot.closed, boot.gaps) == (5, 1, set())
    assert server.headers()[-1].closing


def test_frames_hold_at_most_what_was_asked(settings: EmitterSettings) -> None:
    collector = Collector()
    small = replace(settings, max_frame_events=100, flush_interval_s=0.5)
    with Emitter(transport=collector, settings=small) as emit:
        for i in range(950):
            emit.step(step=i)
    counts = [h.count for h in collector.headers() if h.kind == "step"]
    assert sum(counts) == 950
    assert max(counts) == 100


def test_many_threads_lose_and_repeat_nothing(
    server: EventServer, settings: EmitterSettings
) -> None:
    with Emitter(url=server.url, settings=settings) as emit:

        def work(thread: int) -> None:
            for i in range(2000):
                emit.step(step=thread * 10_000 + i)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    rows = server.rows("step")
    expected = {n * 10_000 + i for n in range(8) for i in range(2000)}
    assert {row["step"] for row in rows} == expected
    assert sorted(row["seq"] for row in rows) == list(range(16_000))


def test_no_later_frame_is_earlier_than_the_promise(
    server: EventServer, settings: EmitterSettings
) -> None:
    """The clock of a frame is what watermarks rest on."""
    with Emitter(url=server.url, settings=replace(settings, flush_interval_s=0.001)) as emit:

        def work() -> None:
            for i in range(5000):
                emit.step(step=i)
                emit.request(latency_ms=1.0)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    promised = 0
    for batch in list(server.batches):
        if batch.header.count:
            assert min(row["ts"] for row in batch.table.to_pylist()) >= promised
        assert batch.header.clock_us >= promised
        promised = batch.header.clock_us
    assert len(server.batches) > 10


def test_time_comes_from_the_clock_or_the_call(settings: EmitterSettings) -> None:
    now = 5_000_000
    collector = Collector()
    with Emitter(transport=collector, settings=settings, clock=lambda: now) as emit:
        emit.step(step=1)
        assert emit.flush()
        emit.step(step=2, ts=1_000)
        assert emit.flush()
    headers = [h for h in collector.headers() if h.kind == "step"]
    assert [h.clock_us for h in headers] == [5_000_000, 5_000_000]


def test_a_clock_set_back_is_followed(settings: EmitterSettings) -> None:
    now = [10_000_000_000]
    collector = Collector()
    with Emitter(transport=collector, settings=settings, clock=lambda: now[0]) as emit:
        emit.step()
        assert emit.flush()
        now[0] -= 3_600_000_000
        emit.step()
        assert emit.flush()
    clocks = [h.clock_us for h in collector.headers() if h.kind == "step"]
    assert clocks == [10_000_000_000, 6_400_000_000]


def test_an_idle_emitter_says_that_it_lives(server: EventServer, settings: EmitterSettings) -> None:
    hurried = replace(settings, heartbeat_s=0.05)
    with Emitter(url=server.url, settings=hurried):
        server.wait(lambda: len(server.headers()) >= 3)
    headers = server.headers()
    assert {h.kind for h in headers} == {"control"}
    assert [h.closing for h in headers] == [False] * (len(headers) - 1) + [True]
    clocks = [h.clock_us for h in headers]
    assert clocks == sorted(clocks)
    assert clocks[0] < clocks[-1]


def test_over_the_memory_bound_the_oldest_go_and_are_declared(settings: EmitterSettings) -> None:
    collector = Collector()
    tight = replace(settings, max_buffered_events=100, flush_interval_s=60.0)
    with Emitter(transport=collector, settings=tight) as emit:
        for i in range(250):
            emit.step(step=i)
        assert emit.flush()
        lost = emit.snapshot()["delivery"]["lost_events"]
    assert lost == 150
    first = next(h for h in collector.headers() if h.kind == "step")
    assert (first.seq0, first.count, first.gaps) == (150, 100, ((0, 150),))


def test_a_call_that_makes_no_sense_is_declared_and_hurts_nobody(
    server: EventServer, settings: EmitterSettings, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING, "penstock"),
        Emitter(url=server.url, settings=settings) as emit,
    ):
        emit.step(step=1)
        emit.step(ts="yesterday")
        emit.request(features=3, status="error")
        emit.request(attributes=3)
        emit.step(step=2)
        assert emit.flush()
    assert [row["step"] for row in server.rows("step")] == [1, 2]
    (boot,) = server.boots().values()
    assert not boot.missing
    assert len([r for r in caplog.records if "dropped" in r.message]) == 1


def test_flush_waits_for_the_server(server: EventServer, settings: EmitterSettings) -> None:
    with Emitter(url=server.url, settings=replace(settings, flush_interval_s=60.0)) as emit:
        emit.step(step=1)
        assert emit.flush()
        assert len(server.rows("step")) == 1


def test_events_after_the_end_are_dropped_with_one_warning(
    server: EventServer, settings: EmitterSettings, caplog: pytest.LogCaptureFixture
) -> None:
    emit = Emitter(url=server.url, settings=settings)
    emit.step(step=1)
    emit.close()
    with caplog.at_level(logging.WARNING, "penstock"):
        emit.step(step=2)
        emit.step(step=3)
    emit.close()
    assert [row["step"] for row in server.rows("step")] == [1]
    assert len(caplog.records) == 1
    assert "closed" in caplog.text


def test_an_emitter_that_is_never_used_starts_and_sends_nothing(
    server: EventServer, settings: EmitterSettings
) -> None:
    emit = Emitter(url=server.url, settings=settings)
    assert not [t for t in threading.enumerate() if t.name.startswith("penstock-")]
    emit.close()
    assert server.batches == []


def test_default_worker_id_names_host_and_process(
    server: EventServer, settings: EmitterSettings
) -> None:
    import os
    import socket

    with Emitter(url=server.url, settings=settings) as emit:
        assert emit.worker_id == f"{socket.gethostname()}-{os.getpid()}"
        assert len(emit.boot_id) == 32


class TestEnvironment:
    def test_url_and_key(
        self, server: EventServer, settings: EmitterSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PENSTOCK_URL", server.url)
        monkeypatch.setenv("PENSTOCK_API_KEY", "psk_env")
        with Emitter(settings=settings) as emit:
            emit.step(step=1)
        assert server.requests[0]["Authorization"] == "Bearer psk_env"

    def test_somewhere_to_send_is_needed(self) -> None:
        with pytest.raises(InvalidConfiguration, match="PENSTOCK_URL"):
            Emitter()

    def test_transport_timing(
        self, server: EventServer, settings: EmitterSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Emitter(url=server.url, settings=settings) as emit:
            stamp = emit.stamp()
            assert stamp > 0
            waited = emit.since_stamp_ms(stamp)
            assert waited is not None
            assert waited >= 0.0
        monkeypatch.setenv("PENSTOCK_TRANSPORT_TIMING", "0")
        with Emitter(url=server.url, settings=settings) as emit:
            assert emit.stamp() == 0
            assert emit.since_stamp_ms(stamp) is None
            emit.step(transport_ms=1.0, step_ms=1.0)
            assert "transport_ms" not in emit.snapshot()["sketches"]
        assert server.rows("step")[0].get("transport_us") is None

    def test_secrets_are_not_shown(self) -> None:
        shown = repr(EmitterSettings(api_key="psk_hush", hash_key="hush"))
        assert "hush" not in shown

    @pytest.mark.parametrize(
        "bad",
        [
            {"flush_interval_s": 0.0},
            {"max_frame_events": 0},
            {"max_frame_events": 5001},
            {"spool_max_bytes": 0},
        ],
    )
    def test_settings_that_make_no_sense(self, bad: dict[str, Any]) -> None:
        with pytest.raises(InvalidConfiguration):
            EmitterSettings(**bad)

    def test_unknown_arguments(self) -> None:
        wrong: dict[str, Any] = {"modle": "m"}
        with pytest.raises(TypeError, match="modle"):
            Emitter("http://127.0.0.1:1", **wrong)


class TestDisabled:
    @pytest.fixture(params=["environment", "argument"])
    def emit(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Emitter:
        if request.param == "environment":
            monkeypatch.setenv("PENSTOCK_DISABLED", "1")
            return Emitter(url="http://127.0.0.1:1", model="m")
        return Emitter(disabled=True)

    def test_nothing_happens(self, emit: Emitter, tmp_path: Path) -> None:
        with emit:
            emit.request(status="ok")
            emit.step(step=1)
            emit.feedback(request_id="a")
            emit.release(release="r")
            emit.span(trace_id="t")
            assert emit.flush()
            assert emit.snapshot()["events"] == {}
        assert emit.disabled
        assert not [t for t in threading.enumerate() if t.name.startswith("penstock-")]

    def test_guards_are_one_shared_object(self, emit: Emitter) -> None:
        assert emit.track_request(route="/") is NULL_GUARD
        assert emit.timed_step(kind="train") is NULL_GUARD
        with emit.track_request() as r:
            r.first_token()
            r.set(output_tokens=1)

        def function() -> None:
            pass

        assert emit.timed_step(function) is function
        assert emit.timed_step(kind="train")(function) is function

    def test_guards_still_let_exceptions_through(self, emit: Emitter) -> None:
        with pytest.raises(ValueError), emit.track_request():  # noqa: PT011
            raise ValueError

    def test_all_recorders_are_one_empty_function(self, emit: Emitter) -> None:
        assert len({emit.request, emit.step, emit.feedback, emit.release, emit.span}) == 1


def test_importing_the_package_is_cheap() -> None:
    code = (
        "import sys, penstock; assert not {'numpy', 'msgpack', 'http.client'} & set(sys.modules); "
        "penstock.Emitter; "
        "heavy = {'pyarrow', 'pydantic', 'fastapi', 'chdb', 'scipy', 'multiprocessing'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_threads_take_no_part_in_a_callers_wait(
    server: EventServer, settings: EmitterSettings
) -> None:
    """A call returns while the server hangs and the flusher's lock is held."""
    with Emitter(url=server.url, settings=settings) as emit:
        assert emit._session is not None
        with emit._session._flusher.lock, emit._session._outbox.changed:
            begun = time.monotonic()
            for i in range(1000):
                emit.step(step=i)
            assert time.monotonic() - begun < 5.0
    assert len(server.rows("step")) == 1000
