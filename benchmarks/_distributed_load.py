"""Rows, frames and processes that benchmarks/distributed.py and its rivals share."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from penstock.benchmarks.embedded import cpu_s, request_row, rss_mib
from penstock.schemas.frames import FrameHeader, encode_frame
from penstock.schemas.topics import EVENTS
from penstock.tests.support.chstore import StoreServer
from penstock.tests.support.kafka import Broker

FRAME_EVENTS = 500
BOOTS = 64  # pretended workers, spread evenly over the partitions
RATE = 20_000  # events of event time per second, over all boots
POOL = 20_000
CONFIG = """
gates:
  - id: r1
    filter: {model: llama-70b, release: r1}
    metrics:
      - {metric: latency, field: ttft_ms, quantile: 0.95, max_ms: 1200}
      - {metric: error_rate, max_ratio: 0.02}
"""


def now_us() -> int:
    """Integer microseconds since 1970."""
    return time.time_ns() // 1000


def pool(seed: int = 7) -> list[dict[str, object]]:
    """Rows to draw from: building one is slower than encoding it."""
    rng = random.Random(seed)
    return [request_row(rng, 0) for _ in range(POOL)]


@dataclass
class Boot:
    """Numbers the events of one pretended worker."""

    name: str
    home: int
    seq: int = 0
    boot_id: str = field(default_factory=lambda: os.urandom(8).hex())

    def header(self, count: int, ts_us: int) -> FrameHeader:
        """Header of the next frame."""
        header = FrameHeader(
            kind="request",
            worker_id=self.name,
            boot_id=self.boot_id,
            seq0=self.seq,
            count=count,
            next_seq=self.seq + count,
            clock_us=ts_us,
            home=self.home,
        )
        self.seq += count
        return header


def boots(partitions: int, count: int = BOOTS) -> list[Boot]:
    """Workers, each at home in one partition."""
    return [Boot(f"w{number}", number % partitions) for number in range(count)]


def rows_of(
    rng: random.Random, drawn: Sequence[dict[str, object]], count: int, ts_us: int, step_us: int
) -> list[dict[str, object]]:
    """Rows in random order and with ids of their own, so that nothing compresses too well."""
    begin = ts_us - count * step_us
    return [
        {
            **drawn[int(rng.random() * POOL)],
            "ts": begin + i * step_us,
            "request_id": f"{rng.getrandbits(128):032x}",
            "trace_id": f"{rng.getrandbits(128):032x}",
        }
        for i in range(count)
    ]


@dataclass(frozen=True)
class Framed:
    """A message to be."""

    partition: int
    boot_id: str
    value: bytes


def _build(partitions: int, events: int, end_us: int, which: int, of: int) -> list[Framed]:
    """Every `of`-th round of frames; each boot sends in all of them."""
    rng, drawn = random.Random(which), pool()
    senders = boots(partitions, BOOTS // of)
    for boot in senders:
        boot.name = f"{boot.name}-{which}"
    step_us = BOOTS * 1_000_000 // RATE
    rounds = events // (FRAME_EVENTS * BOOTS)
    made = []
    for number in range(rounds):
        ts_us = end_us - (rounds - 1 - number) * FRAME_EVENTS * step_us
        for boot in senders:
            rows = rows_of(rng, drawn, FRAME_EVENTS, ts_us, step_us)
            value = encode_frame(boot.header(FRAME_EVENTS, ts_us), rows)
            made.append(Framed(boot.home, boot.boot_id, value))
    return made


def build(partitions: int, events: int) -> list[Framed]:
    """Frames of `FRAME_EVENTS`, in event time up to now; a multiple of BOOTS frames.

    Args:
        partitions: homes of the boots.
        events: about how many.
    """
    end_us, processes = now_us(), 2
    with ProcessPoolExecutor(processes) as executor:
        halves = [
            executor.submit(_build, partitions, events, end_us, which, processes)
            for which in range(processes)
        ]
        first, second = (half.result() for half in halves)
    # Round by round, as time goes.
    share = BOOTS // processes
    mixed: list[Framed] = []
    for at in range(0, len(first), share):
        mixed += first[at : at + share] + second[at : at + share]
    return mixed


def produce(bootstrap: str, frames: Sequence[Framed]) -> int:
    """Send all and wait for all; the bytes of their values."""
    producer = Producer(
        {"bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True, "linger.ms": 5}
    )
    for frame in frames:
        while True:
            try:
                producer.produce(EVENTS, frame.value, frame.boot_id, frame.partition)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if producer.flush(60):
        raise RuntimeError("not everything was acknowledged")
    return sum(len(frame.value) for frame in frames)


@dataclass
class Stack:
    """Broker and store, migrated, with topics."""

    folder: Path
    broker: Broker
    store: StoreServer
    environ: Mapping[str, str]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, *arguments: str) -> None:
        """One command of penstock."""
        command = [sys.executable, "-m", "penstock", *arguments]
        subprocess.run(
            command, env=self.environ, cwd=self.folder, check=True, stdout=subprocess.DEVNULL
        )

    def worker(self) -> subprocess.Popen[bytes]:
        """Start a processor; it is ready when it says so on /readyz, which nobody waits for here."""
        command = [sys.executable, "-m", "penstock", "worker", "--metrics-port", "0"]
        with (self.folder / f"worker-{len(self.workers)}.log").open("wb") as log:
            process = subprocess.Popen(
                command, env=self.environ, cwd=self.folder, stdout=log, stderr=log
            )
        self.workers.append(process)
        return process

    def stop_workers(self) -> None:
        """SIGTERM; they are given ten seconds."""
        running = [worker for worker in self.workers if worker.poll() is None]
        for worker in running:
            worker.terminate()
        for worker in running:
            try:
                worker.wait(15)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()

    @property
    def broker_pid(self) -> int:
        """The JVM's."""
        process = self.broker._node._process
        assert process is not None
        return process.pid


@contextmanager
def stack(folder: Path, partitions: int = 8) -> Iterator[Stack]:
    """A stack of its own: real Kafka, `penstock store`, one gate."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "penstock.yaml").write_text(CONFIG)
    broker, store = Broker(folder / "kafka"), StoreServer(folder / "store")
    environ = {
        **os.environ,
        "PENSTOCK_KAFKA": broker.bootstrap,
        "PENSTOCK_STORE": store.url,
        "PENSTOCK_CONFIG": str(folder / "penstock.yaml"),
    }
    found = Stack(folder, broker, store, environ)
    try:
        broker.start()
        store.start()
        found.run("migrate")
        found.run("topics", "--partitions", str(partitions))
        yield found
    finally:
        found.stop_workers()
        store.kill()
        broker.kill()


def cpu_of(pids: Mapping[str, int]) -> dict[str, float]:
    """CPU seconds by name."""
    return {name: cpu_s(pid) for name, pid in pids.items()}


def rss_of(pids: Mapping[str, int]) -> str:
    """Resident memory by name, for people."""
    return ", ".join(f"{name} {rss_mib(pid):.0f} MiB" for name, pid in pids.items())


def as_json(row: Mapping[str, Any]) -> bytes:
    """A row as a foreign producer sends it."""
    return json.dumps({"event": "request", **row}, separators=(",", ":")).encode()
