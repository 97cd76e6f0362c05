"""Where the time of ingestion goes: one process, no Faust, messages from memory, a real store.

    python benchmarks/_distributed_stages.py [--quick] [--functions]

Stages are timed by wrapping the functions that do them, each without what it calls of the others. The
store is written by a thread of its own, so waits overlap with computing. With --functions, cProfile lists
the dearest functions of the main thread instead.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.httpclient import HttpClient
from penstock.benchmarks._distributed_load import CONFIG, Framed, build, now_us
from penstock.benchmarks.embedded import cpu_s
from penstock.schemas.config import parse
from penstock.schemas.kafka import parse_address
from penstock.streams.app.ports import WorkerSettings
from penstock.streams.core import checking, counting, ingest, tally
from penstock.streams.core.delta import Collector
from penstock.streams.dead_letters.seal import Sealer
from penstock.streams.ingest import admission, ingestion
from penstock.streams.ingest.ingestor import Ingestor, IngestorSettings
from penstock.streams.ingest.parcels import Layout
from penstock.streams.kafka.messages import Message, Outgoing
from penstock.streams.storage.migrate import migrate
from penstock.streams.storage.store import Store
from penstock.tests.support.chstore import StoreServer

PARTITIONS, SHARDS = 8, 4
SETTINGS = WorkerSettings(parse_address("127.0.0.1:9092"))


class Stages:
    """Seconds by stage, each without the stages that it calls: waited and computed."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = defaultdict(float)
        self.cpu: dict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self._of_thread = threading.local()

    def wrap(self, owner: Any, name: str, stage: str) -> None:
        """Time a function of a module or class."""
        setattr(owner, name, self.timed(getattr(owner, name), stage))

    def timed(self, call: Callable[..., Any], stage: str) -> Callable[..., Any]:
        """A function that is timed."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            inner_of = self._of_thread.__dict__.setdefault("inner", [])
            inner_of.append([0.0, 0.0])
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                took = time.perf_counter() - wall, time.thread_time() - cpu
                inner = inner_of.pop()
                self.wall[stage] += took[0] - inner[0]
                self.cpu[stage] += took[1] - inner[1]
                self.calls[stage] += 1
                if inner_of:
                    inner_of[-1][0] += took[0]
                    inner_of[-1][1] += took[1]

        return wrapped


class Nowhere:
    """An outlet; well-formed frames at home need none."""

    def deliver(self, messages: Sequence[Outgoing]) -> None:
        raise AssertionError(f"{len(messages)} messages forwarded or refused")

    def partitions(self, topic: str) -> int:
        raise AssertionError(f"a frame states a partition of {topic} that is not there")


def instrument(stages: Stages) -> None:
    """Wrap the functions that do a stage's work, where they are called."""
    stages.wrap(admission, "decode_frame", "decode")
    stages.wrap(checking, "validate", "validate")
    stages.wrap(ingest.Flush, "admit", "admit")
    stages.wrap(ingest, "redact_table", "redact")
    stages.wrap(ingest.Flush, "tables", "tables: concatenate, arrival, overflow")
    stages.wrap(ingestion, "event_rows", "timestamps")
    stages.wrap(ingestion, "ledger_rows", "ledger: table")
    stages.wrap(Store, "insert", "Arrow serialise")
    stages.wrap(HttpClient, "raw_insert", "HTTP insert")
    stages.wrap(counting, "measure_requests", "count: measure")
    stages.wrap(counting, "place", "count: place")
    stages.wrap(tally, "tile_of", "count: tiles")
    stages.wrap(ingestion, "counted", "count: number")
    stages.wrap(Collector, "count", "count: into the delta")
    stages.wrap(Ingestor, "_tell", "deltas: boots, shards, encode")


def batches(frames: Sequence[Framed]) -> list[list[Message]]:
    """Messages in batches as a processor's inbox gives them."""
    offsets: Counter[int] = Counter()
    found: list[list[Message]] = [[]]
    size = 0
    for frame in frames:
        if (
            size + len(frame.value) > SETTINGS.max_flush_bytes
            or len(found[-1]) >= SETTINGS.max_flush_messages
        ):
            found.append([])
            size = 0
        place = offsets[frame.partition]
        offsets[frame.partition] += 1
        found[-1].append(Message(frame.partition, place, now_us(), frame.value))
        size += len(frame.value)
    return found


def ingestor_for(store: Store) -> Ingestor:
    """As serve/worker.py makes it."""
    settings = IngestorSettings(1, Layout(PARTITIONS, PARTITIONS), SHARDS)
    configuration = parse(CONFIG)
    sealer = Sealer(os.urandom(32))
    ingestor = Ingestor(store, configuration, settings, Nowhere(), sealer, Counter(), now_us)
    for partition in range(PARTITIONS):
        ingestor.assign(partition)
    return ingestor


def work(ingestor: Ingestor, parts: Sequence[Sequence[Message]]) -> None:
    """Flush all, and tell as often as a processor does."""
    told_s = time.monotonic()
    for part in parts:
        ingestor.stage(part)
        if time.monotonic() - told_s > SETTINGS.tick_s:
            told_s = time.monotonic()
            ingestor.deltas(now_us(), {})
    ingestor.settle()


def report(stages: Stages, events: int, wall_s: float, cpu: float, store_cpu: float) -> None:
    """A line per stage, the dearest first."""
    print(f"{'us per event':>50}  waited  computed   calls")
    for stage in sorted(stages.wall, key=lambda name: -stages.wall[name]):
        wall, spent = stages.wall[stage] / events * 1e6, stages.cpu[stage] / events * 1e6
        print(f"{stage:>50}  {wall:6.3f}  {spent:8.3f}  {stages.calls[stage]:6,}")
    print(
        f"{'in all':>50}  {wall_s / events * 1e6:6.3f}  {cpu / events * 1e6:8.3f}  "
        f"= {events / wall_s:,.0f} events/s; store process "
        f"{store_cpu / events * 1e6:.2f} us/event"
    )


def measure(events: int, functions: bool = False) -> None:
    """Print the stages of so many events."""
    parts = batches(build(PARTITIONS, events))
    with tempfile.TemporaryDirectory() as folder:
        server = StoreServer(Path(folder))
        server.start()
        try:
            store = Store(server.url)
            migrate(store)
            ingestor = ingestor_for(store)
            ingestor.flush(parts[0])  # what happens once
            stages, profile = Stages(), cProfile.Profile()
            if not functions:
                instrument(stages)
            wall, cpu = time.perf_counter(), time.process_time()
            store_cpu = cpu_s(server.pid)
            if functions:
                profile.enable()
            work(ingestor, parts[1:])
            profile.disable()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            counted = sum(len(part) for part in parts[1:]) * 500
            if functions:
                pstats.Stats(profile, stream=sys.stdout).sort_stats("tottime").print_stats(45)
            report(stages, counted, wall, cpu, cpu_s(server.pid) - store_cpu)
            store.close()
        finally:
            server.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="300 thousand events, not a million")
    parser.add_argument("--functions", action="store_true", help="by function, with cProfile")
    options = parser.parse_args()
    measure(300_000 if options.quick else 1_000_000, options.functions)


if __name__ == "__main__":
    main()
