from __future__ import annotations

import logging
import os
import stat
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from penstock import Emitter, EmitterSettings
from penstock.producers.sender import Backoff
from penstock.producers.settings import check_private, spool_folder
from penstock.schemas.frames import read_header
from penstock.tests.support.ports import free_port
from penstock.tests.unit.producers.event_server import Answer, EventServer, event_server


def spooled_files(settings: EmitterSettings) -> list[Path]:
    assert settings.spool_dir is not None
    return sorted(Path(settings.spool_dir).glob("**/*.seg"))


def test_a_server_that_comes_back_gets_everything_in_order(settings: EmitterSettings) -> None:
    port = free_port()
    with Emitter(url=f"http://127.0.0.1:{port}", settings=settings) as emit:
        for i in range(300):
            emit.step(step=i)
            if i % 100 == 0:
                assert not emit.flush(0.05)
        assert spooled_files(settings)
        with event_server(port) as server:
            assert emit.flush(20.0)
            emit.close()
            assert [row["step"] for row in server.rows("step")] == list(range(300))
            headers = server.headers()
            assert [h.seq0 for h in headers] == sorted(h.seq0 for h in headers)
            (boot,) = server.boots().values()
            assert (boot.closed, boot.gaps, boot.missing) == (1, set(), set())
    assert spooled_files(settings) == []


def test_one_flush_is_one_post(server: EventServer, settings: EmitterSettings) -> None:
    quiet = replace(settings, flush_interval_s=60.0, heartbeat_s=3600.0)
    with Emitter(url=server.url, settings=quiet) as emit:
        for _ in range(10):
            emit.step(step=1)
            emit.request(latency_ms=1.0)
            emit.span(trace_id="t", name="x")
            assert emit.flush()
        assert len(server.bodies) == 10
        assert len(server.headers()) == 30


@pytest.mark.parametrize("status", [429, 500, 503, 401, 403])
def test_refusals_that_pass_are_waited_out(
    server: EventServer, settings: EmitterSettings, status: int
) -> None:
    server.answers = [Answer(status) for _ in range(3)]
    with Emitter(url=server.url, settings=settings) as emit:
        for i in range(50):
            emit.step(step=i)
        server.wait(lambda: len(server.rows("step")) == 50)
        assert emit.snapshot()["delivery"]["failed_deliveries"] == 3
    assert [row["seq"] for row in server.rows("step")] == list(range(50))


def test_retry_after_is_honoured(server: EventServer, settings: EmitterSettings) -> None:
    server.answers = [Answer(429, {"Retry-After": "0.6"})]
    with Emitter(url=server.url, settings=settings) as emit:
        emit.step(step=1)
        server.wait(lambda: len(server.rows("step")) == 1)
    (refused, _), (taken, _) = server.arrivals[:2]
    assert taken - refused >= 0.6


def test_a_crashing_server_is_away(server: EventServer, settings: EmitterSettings) -> None:
    """The answer never comes: sent again, the same frames with the same numbers."""
    server.answers = [Answer(202, delay_s=1.0)]
    with Emitter(url=server.url, settings=replace(settings, timeout_s=0.2)) as emit:
        emit.step(step=1)
        server.wait(lambda: len([h for h in server.headers() if h.kind == "step"]) == 2)
    assert {row["seq"] for row in server.rows("step")} == {0}


def test_one_refused_frame_does_not_take_its_neighbours_along(
    settings: EmitterSettings, caplog: pytest.LogCaptureFixture
) -> None:
    small = replace(settings, max_frame_events=10)
    assert small.spool_dir is not None
    with (
        event_server() as server,
        caplog.at_level(logging.ERROR, "penstock"),
        Emitter(url=server.url, settings=small) as emit,
    ):
        server.refuse_seq = 25
        for i in range(50):
            emit.step(step=i)
        emit.close()
        (boot,) = server.boots().values()
    assert sorted(boot.seqs) == [*range(20), *range(30, 50)]
    assert boot.gaps == set(range(20, 30))
    assert boot.missing == set()
    (kept,) = (Path(small.spool_dir) / "refused").iterdir()
    assert kept.name.endswith("-20.psf")
    assert len(caplog.records) == 1


def test_over_the_bound_the_server_learns_the_exact_gap(settings: EmitterSettings) -> None:
    port = free_port()
    bound = 32 << 10
    small = replace(settings, spool_max_bytes=bound, max_frame_events=50)
    with Emitter(url=f"http://127.0.0.1:{port}", settings=small) as emit:
        for i in range(20_000):
            emit.span(trace_id=os.urandom(16).hex(), name="x")
            if i % 500 == 0:
                emit.flush(0.01)
        emit.flush(0.01)
        assert sum(path.stat().st_size for path in spooled_files(small)) <= 2 * bound
        lost = emit.snapshot()["delivery"]["lost_events"]
        assert lost > 0
        with event_server(port) as server:
            assert emit.flush(20.0)
            emit.close()
            (boot,) = server.boots().values()
    assert len(boot.gaps) == lost
    assert boot.missing == set()
    assert not boot.gaps & set(boot.seqs)
    assert boot.next_seq == 20_000
    # The oldest go; what was being sent at that moment stays, one run of events.
    kept = set(range(max(boot.gaps) + 1)) - boot.gaps
    assert kept == set(range(min(kept, default=0), max(kept, default=-1) + 1))
    assert len(kept) < 1000


def test_what_close_could_not_deliver_a_later_emitter_does(settings: EmitterSettings) -> None:
    port = free_port()
    hurried = replace(settings, close_timeout_s=0.2)
    with Emitter(url=f"http://127.0.0.1:{port}", settings=hurried) as first:
        for i in range(100):
            first.step(step=i)
    assert spooled_files(hurried)
    with event_server(port) as server:
        with Emitter(url=server.url, settings=hurried) as second:
            second.step(step=1000)
            assert second.flush(20.0)
            server.wait(lambda: not spooled_files(hurried))
        boots = server.boots()
        assert boots[first.boot_id].closed == 1
        assert boots[first.boot_id].seqs == list(range(100))
        assert [row["step"] for row in server.rows("step")][:100] == list(range(100))
        assert boots[second.boot_id].seqs == [0]
    assert settings.spool_dir is not None
    assert not list(Path(settings.spool_dir).glob("*.boot"))


@pytest.mark.slow
def test_close_is_bounded_while_the_server_hangs(
    server: EventServer, settings: EmitterSettings
) -> None:
    server.always = Answer(202, delay_s=2.0)
    hurried = replace(settings, close_timeout_s=0.2)
    emit = Emitter(url=server.url, settings=hurried)
    emit.step(step=1)
    begun = time.monotonic()
    emit.close()
    assert time.monotonic() - begun < 1.5
    assert spooled_files(hurried)
    # The answer that comes after all must not touch what a later emitter may own by now.
    assert emit._session is not None
    emit._session._sender._thread.join(20.0)
    assert spooled_files(hurried)
    assert emit.snapshot()["events"] == {"step": 1}
    assert not emit.flush(0.0)


def test_a_transport_that_raises_what_it_should_not_is_reported_and_survived(
    settings: EmitterSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        calls = 0
        frames: list[bytes]

        def send(self, frames: list[bytes]) -> None:
            self.calls += 1
            if self.calls == 1:
                raise ZeroDivisionError
            self.frames = frames

        def close(self) -> None:
            pass

        def abandon(self) -> None:
            pass

    reported: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", reported.append)
    transport = Broken()
    with Emitter(transport=transport, settings=settings) as emit:
        emit.step(step=1)
        end = time.monotonic() + 10
        while transport.calls < 2 and time.monotonic() < end:
            time.sleep(0.01)
        assert emit.flush()
    assert [args.exc_type for args in reported] == [ZeroDivisionError]
    assert read_header(transport.frames[0]).next_seq == 1


def test_without_a_folder_for_the_spool_memory_holds(
    server: EventServer, settings: EmitterSettings, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    server.answers = [Answer(503) for _ in range(3)]
    with Emitter(url=server.url, settings=replace(settings, spool_dir=blocked / "spool")) as emit:
        emit.step(step=1)
        server.wait(lambda: len(server.rows("step")) == 1)


def test_the_default_folder_is_the_users_and_the_servers_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    one = spool_folder(EmitterSettings(), "http://a")
    assert one.parent == tmp_path / f"penstock-spool-{os.getuid()}"
    assert one != spool_folder(EmitterSettings(), "http://b")
    check_private(one)
    assert stat.S_IMODE(one.parent.stat().st_mode) == 0o700
    one.parent.chmod(0o777)
    with pytest.raises(PermissionError):
        check_private(one)


def test_backoff_doubles_with_jitter_and_respects_the_server() -> None:
    backoff = Backoff(base_s=1.0, cap_s=8.0)
    waits = [backoff.next_s() for _ in range(6)]
    for wait, plain in zip(waits, [1, 2, 4, 8, 8, 8], strict=True):
        assert 0.5 * plain <= wait <= 1.5 * plain
    assert backoff.next_s(100.0) >= 100.0
    assert backoff.next_s(float("inf")) == 300.0
    backoff.reset()
    assert backoff.next_s() <= 1.5
