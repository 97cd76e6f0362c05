"""Rows, frames and processes that benchmarks/distributed.py and its rivals share."""

from __future__ import annotations

import json
import multiprocessing
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
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from penstock.benchmarks.embedded import cpu_s, request_row, rss_mib
from penstock.schemas.frames import FrameHeader, encode_frame
from penstock.schemas.kafka import parse_address
from penstock.schemas.topics import EVENTS
from penstock.streams.kafka.topics import Topics, ensure_topics
from penstock.streams.storage.migrate import migrate
from penstock.streams.storage.store import Store
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

    def header(self, count: int, ts_us: int, closing: bool = False) -> FrameHeader:
        """Header of the next frame."""
        header = FrameHeader(
            kind="request",
            worker_id=self.name,
            boot_id=self.boot_id,
            seq0=self.seq,
            count=count,
            next_seq=self.seq + count,
            clock_us=ts_us,
            closing=closing,
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
            # Boots end in order, so that nobody waits for them afterwards.
            header = boot.header(FRAME_EVENTS, ts_us, closing=number == rounds - 1)
            value = encode_frame(header, rows)
            made.append(Framed(boot.home, boot.boot_id, value))
    return made


def build(partitions: int, events: int) -> list[Framed]:
    """Frames of `FRAME_EVENTS`, in event time up to now; a multiple of BOOTS frames.

    Args:
        partitions: homes of the boots.
        events: about how many.
    """
    end_us, processes = now_us(), 2
    # Not forked: the caller's threads would be missing in the child.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context) as executor:
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


def make_producer(bootstrap: str) -> Producer:
    """With the settings of an emitter; a broker that has just started is waited for in silence."""
    settings = {"acks": "all", "enable.idempotence": True, "linger.ms": 5, "log_level": 2}
    return Producer({"bootstrap.servers": bootstrap, **settings})


def produce(bootstrap: str, frames: Sequence[Framed], topic: str = EVENTS) -> None:
    """Send all and wait until all are acknowledged."""
    producer = make_producer(bootstrap)
    for frame in frames:
        while True:
            try:
                producer.produce(topic, frame.value, frame.boot_id, frame.partition)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if producer.flush(60):
        raise RuntimeError("not everything was acknowledged")


@dataclass
class Stack:
    """A broker with topics made anew, an empty store, and processors."""

    folder: Path
    broker: Broker
    server: StoreServer
    store: Store
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def worker(self) -> subprocess.Popen[bytes]:
        """Start a processor; nobody waits for it here."""
        environ = {
            **os.environ,
            "PENSTOCK_KAFKA": self.broker.bootstrap,
            "PENSTOCK_STORE": self.server.url,
            "PENSTOCK_CONFIG": str(self.folder / "penstock.yaml"),
        }
        command = [sys.executable, "-m", "penstock", "worker", "--metrics-port", "0"]
        with (self.folder / f"worker-{len(self.workers)}.log").open("wb") as log:
            process = subprocess.Popen(
                command, env=environ, cwd=self.folder, stdout=log, stderr=log
            )
        self.workers.append(process)
        return process

    def stop_workers(self) -> None:
        """SIGTERM, and SIGKILL where that takes too long."""
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            try:
                worker.wait(15)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        self.workers.clear()

    def value(self, sql: str) -> int:
        """One number, named n."""
        return int(self.store.query(sql)[0]["n"] or 0)

    def pids(self) -> dict[str, int]:
        """Of everything that runs, by name."""
        process = self.broker._node._process
        assert process is not None
        workers = {f"worker {number}": p.pid for number, p in enumerate(self.workers, 1)}
        return {**workers, "store": self.server.pid, "broker": process.pid}

    def kafka_bytes(self) -> int:
        """Size of the events topic on disk."""
        return sum(
            file.stat().st_size for file in (self.broker_folder / "data").glob(f"{EVENTS}-*/*.log")
        )

    @property
    def broker_folder(self) -> Path:
        """Where the broker keeps its data."""
        return self.folder.parent / "kafka"


@contextmanager
def stack(folder: Path, broker: Broker, partitions: int) -> Iterator[Stack]:
    """A life of its own for the topics of a broker, and a store; one gate."""
    folder.mkdir(parents=True)
    (folder / "penstock.yaml").write_text(CONFIG)
    server = StoreServer(folder / "store")
    server.start()
    store = Store(server.url)
    found = Stack(folder, broker, server, store)
    try:
        migrate(store)
        remake_topics(broker, store, partitions)
        yield found
    finally:
        found.stop_workers()
        store.close()
        server.kill()


def remake_topics(broker: Broker, store: Store, partitions: int) -> None:
    """Delete what an earlier stack left, and make the topics."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 2})
    old = [name for name in admin.list_topics(timeout=10).topics if name.startswith("penstock.")]
    for done in admin.delete_topics(old).values() if old else ():
        done.result(10)
    until_s = time.monotonic() + 10
    while set(old) & set(admin.list_topics(timeout=10).topics) and time.monotonic() < until_s:
        time.sleep(0.1)
    ensure_topics(parse_address(broker.bootstrap), store, Topics(partitions=partitions))


def make_topic(broker: Broker, name: str, partitions: int) -> None:
    """A topic that is none of ours."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 2})
    for done in admin.create_topics([NewTopic(name, partitions, 1)]).values():
        done.result(10)


def cpu_of(pids: Mapping[str, int]) -> dict[str, float]:
    """CPU seconds by name."""
    return {name: cpu_s(pid) for name, pid in pids.items()}


def rss_of(pids: Mapping[str, int]) -> str:
    """Resident memory by name, for people."""
    return ", ".join(f"{name} {rss_mib(pid):.0f} MiB" for name, pid in pids.items())


def as_json(row: Mapping[str, Any]) -> bytes:
    """A row as a message of the rivals."""
    return json.dumps(row, separators=(",", ":")).encode()
