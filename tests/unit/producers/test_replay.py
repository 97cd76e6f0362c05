from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from penstock.producers.replay import (
    Progress,
    ReplayFailed,
    ReplayOptions,
    ReplaySummary,
    parse_speed,
    run_replay,
)
from penstock.schemas.errors import InvalidConfiguration
from penstock.schemas.frames import read_header, split_frames


@dataclass
class Sink:
    """A server that takes frames and counts them."""

    url: str = ""
    received: Counter[str] = field(default_factory=Counter)
    clocks: dict[str, int] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    ahead_us: int = 0
    spread_us: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, body: bytes) -> int:
        with self.lock:
            rows = 0
            for frame in split_frames(body):
                header = read_header(frame)
                rows += header.count
                self.received[header.kind] += header.count
                self.clocks[header.boot_id] = header.clock_us
                self.ahead_us = max(self.ahead_us, header.clock_us - time.time_ns() // 1000)
                if header.closing:
                    self.closed.add(header.boot_id)
            open_clocks = [at for boot, at in self.clocks.items() if boot not in self.closed]
            if open_clocks:
                self.spread_us = max(self.spread_us, max(open_clocks) - min(open_clocks))
            return rows


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_POST(self) -> None:
            rows = sink.take(self.rfile.read(int(self.headers["Content-Length"])))
            answer = {"accepted": rows, "duplicate": 0, "rejected": 0, "rejections": []}
            body = json.dumps(answer).encode()
            self.send_response(202)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    sink.url = f"http://127.0.0.1:{server.server_port}"
    yield sink
    server.shutdown()
    thread.join()
    server.server_close()


def test_everything_emitted_arrives_and_workers_stay_in_step(sink: Sink, tmp_path: Path) -> None:
    options = ReplayOptions(
        url=sink.url,
        speed=parse_speed("max"),
        workers=3,
        canary="errors",
        canary_share=0.33,
        head_s=100,
        spool_dir=tmp_path,
        turn_s=10,
    )
    seen: list[Progress] = []
    asked: list[ReplaySummary] = []

    def settle(summary: ReplaySummary) -> None:
        assert not sink.closed or len(sink.closed) == 1, "only the worker that made room"
        asked.append(summary)

    summary = run_replay(options, seen.append, settle=settle)
    assert asked == [summary]
    assert summary.emitted["request"] == len(options.fleet().traffic.trace)
    assert summary.emitted["release"] == 2
    assert summary.emitted.total() == sum(summary.workers.values())
    assert +sink.received == summary.emitted
    assert summary.undelivered == 0
    assert len(sink.closed) == len(sink.clocks) == 4
    assert sink.ahead_us <= 0
    assert sink.spread_us <= 21_000_000
    assert [step.done for step in seen] == sorted(step.done for step in seen)
    assert summary.canary_us is not None
    assert summary.start_us < summary.canary_us < summary.end_us


@pytest.mark.slow
def test_a_paced_replay_follows_the_wall_clock(sink: Sink, tmp_path: Path) -> None:
    options = ReplayOptions(url=sink.url, speed=60, workers=1, head_s=60, spool_dir=tmp_path)
    summary = run_replay(options)
    assert +sink.received == summary.emitted
    assert sink.ahead_us <= 0
    assert summary.wall_s >= (summary.end_us - summary.start_us) / 60e6
    assert summary.canary_us is None


def test_the_seed_decides_what_is_emitted(sink: Sink, tmp_path: Path) -> None:
    options = ReplayOptions(
        url=sink.url, speed=parse_speed("max"), workers=1, head_s=30, spool_dir=tmp_path, seed=4
    )
    assert run_replay(options).emitted == run_replay(options).emitted


@pytest.mark.filterwarnings("default")
def test_a_dead_worker_is_told(
    sink: Sink, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # The workers cannot make an emitter without a proper address.
    options = ReplayOptions(url="ftp://nowhere", speed=60, workers=2, head_s=10, spool_dir=tmp_path)
    with pytest.raises(ReplayFailed, match="worker-"):
        run_replay(options)
    assert "Traceback" in capfd.readouterr().err


def test_a_trace_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="nothing"):
        run_replay(ReplayOptions(path=tmp_path / "nothing"))


@pytest.mark.parametrize("text", ["0.5", "-1", "nan", "fast"])
def test_speeds_that_make_no_sense(text: str) -> None:
    with pytest.raises(ValueError, match=r"speed|float"):
        parse_speed(text)


def test_a_replay_slower_than_real_is_refused() -> None:
    with pytest.raises(ReplayFailed, match="at least 1"):
        run_replay(ReplayOptions(speed=0.5))
