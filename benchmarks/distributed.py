"""The distributed stack under load, beside its rivals, on one machine with the broker.

    python benchmarks/distributed.py            # as in the documentation, about six minutes
    python benchmarks/distributed.py --quick    # about a minute: fewer events, shorter, without 1 partition

A real Kafka, `penstock store` and `penstock worker` in processes of their own; frames are built and
produced before the clock starts. The rivals read the same kind of rows in the same run. Where the time
of ingestion goes, by stage: benchmarks/_distributed_stages.py.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from penstock.benchmarks import _distributed_latency as latency
from penstock.benchmarks import _distributed_load as load
from penstock.benchmarks import _distributed_stages as stages
from penstock.benchmarks import distributed_rivals as rivals
from penstock.benchmarks._distributed_load import Stack
from penstock.streams.storage.store import Store
from penstock.tests.support.kafka import Broker

BARE_ROWS = 25_000  # in one insert
JOINED_S = 12.0  # after which two processors share the partitions
GOAL_PER_S, GOAL_BARE, GOAL_FAUST, GOAL_CLICKHOUSE = 200_000, 0.4, 15, 6
GOAL_CATCH_UP, GOAL_ROW_S, GOAL_CELL_S, GOAL_RECOVERY_S, GOAL_FLAT = 5, 0.5, 3.5, 13.0, 1.3
ROWS = "SELECT count() AS n FROM penstock.requests_rows"


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    events: int
    json_events: int
    spread_events: int
    partitions: Sequence[int]
    two_workers: bool
    seconds: float
    stage_events: int


FULL = Sizes(1_000_000, 100_000, 500_000, (1, 64), True, 30, 300_000)
QUICK = Sizes(300_000, 30_000, 300_000, (64,), False, 12, 0)


@dataclass(frozen=True)
class Run:
    """What it took from the first to the last stored row."""

    events: int
    seconds: float
    cpu_us: Mapping[str, float]

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.seconds

    @property
    def cpu(self) -> float:
        """CPU microseconds per event, of processors and store."""
        return sum(spent for name, spent in self.cpu_us.items() if name != "broker")


def verdict(value: float, goal: float, least: bool = True) -> str:
    """Whether a figure reaches its goal."""
    good = value >= goal if least else value <= goal
    return f"(goal {'>=' if least else '<='} {goal:,g}: {'ok' if good else 'over'})"


def drain(stack: Stack, expected: int, workers: int = 1, limit_s: float = 120) -> Run:
    """Start processors on a full topic; from the first to the last stored row."""
    for _ in range(workers):
        stack.worker()
    until_s = time.monotonic() + limit_s
    while not (first := stack.value(ROWS)):
        _check(stack, until_s)
        time.sleep(0.02)
    begun_s, cpu = time.monotonic(), load.cpu_of(stack.pids())
    while (now := stack.value(ROWS)) < expected:
        _check(stack, until_s)
        time.sleep(0.05)
    ended_s, after = time.monotonic(), load.cpu_of(stack.pids())
    spent = {name: (after[name] - cpu[name]) / (now - first) * 1e6 for name in after}
    return Run(now - first, ended_s - begun_s, spent)


def _check(stack: Stack, until_s: float) -> None:
    ended = [worker.args for worker in stack.workers if worker.poll() is not None]
    if ended or time.monotonic() > until_s:
        tails = [log.read_text()[-1500:] for log in sorted(stack.folder.glob("worker-*.log"))]
        what = f"{len(ended)} ended" if ended else "it takes too long"
        raise RuntimeError("\n".join([f"processors: {what}", *tails]))


def shown(cpu_us: Mapping[str, float]) -> str:
    """CPU by process, for people."""
    return ", ".join(f"{name} {spent:.2f}" for name, spent in cpu_us.items())


def throughput(stack: Stack, frames: Sequence[load.Framed]) -> Run:
    """The main figure, with what it costs."""
    events = len(frames) * load.FRAME_EVENTS
    load.produce(stack.broker.bootstrap, frames)
    run = drain(stack, events)
    rss = load.rss_of(stack.pids())
    print(f"  {run.events:,} events in {run.seconds:.1f} s: {run.rate:,.0f}/s", end=" ")
    print(verdict(run.rate, GOAL_PER_S))
    print(f"  catch-up: {run.rate / load.RATE:.1f} times 20,000/s", end=" ")
    print(verdict(run.rate / load.RATE, GOAL_CATCH_UP))
    print(f"  CPU us/event: {shown(run.cpu_us)}; RSS: {rss}")
    begun_s = time.monotonic()
    verdicts = "SELECT count() AS n FROM penstock.verdicts_rows WHERE gate_id = 'r1'"
    while not stack.value(verdicts) and time.monotonic() - begun_s < 30:
        time.sleep(0.05)
    counts = {
        name: stack.value(f"SELECT count() AS n FROM penstock.{name}_rows")
        for name in ("panes", "windows", "verdicts")
    }
    print(f"  first verdict {time.monotonic() - begun_s:.1f} s after the last row;", end=" ")
    print(", ".join(f"{count:,} rows of {name}" for name, count in counts.items()))
    parts = (
        "SELECT sum(bytes_on_disk) AS n FROM system.parts WHERE active AND database = 'penstock'"
    )
    stored = stack.value(f"{parts} AND table = 'requests_rows'") / events
    rest = stack.value(f"{parts} AND table != 'requests_rows'") / events
    print(f"  bytes/event: {stack.kafka_bytes() / events:.1f} in Kafka,", end=" ")
    print(f"{stored:.1f} as rows, {rest:.1f} as ledger, panes and windows")
    return run


def captured(stack: Stack, frames: Sequence[load.Framed], rows: int) -> list[pa.Table]:
    """The rows of frames as ingestion would insert them, in tables of BARE_ROWS; nothing is stored."""
    found: list[pa.Table] = []

    class Kept(Store):
        def insert(self, name: str, rows: pa.Table, token: str) -> None:
            if name == "requests_rows":
                found.append(rows)

    store = Kept(stack.server.url)
    for part in stages.batches(frames[: rows // load.FRAME_EVENTS]):
        # Each from the beginning: ingestion would notice that nothing of the one before is stored.
        stages.ingestor_for(store).flush(part)
    store.close()
    whole = pa.concat_tables(found).unify_dictionaries().combine_chunks()
    return [
        whole.slice(at, BARE_ROWS).combine_chunks()
        for at in range(0, whole.num_rows - BARE_ROWS + 1, BARE_ROWS)
    ]


def bare(stack: Stack, tables: Sequence[pa.Table]) -> float:
    """Rows per second of inserts and nothing else, into a table of the same kind."""
    stack.store.command("CREATE TABLE penstock.bare AS penstock.requests_rows")
    stack.store.insert("bare", tables[0], "first")
    begun = time.perf_counter()
    for number, table in enumerate(tables[1:]):
        stack.store.insert("bare", table, str(number))
    rate = sum(table.num_rows for table in tables[1:]) / (time.perf_counter() - begun)
    stack.store.command("DROP TABLE penstock.bare SYNC")
    return rate


def rival_rates(stack: Stack, sizes: Sizes, run: Run) -> None:
    """Faust as documented, and ClickHouse's own Kafka engine."""
    topic, rng, drawn = "rival.requests", random.Random(3), load.pool()
    rows = load.rows_of(rng, drawn, sizes.json_events, load.now_us(), 50)
    messages = [load.Framed(i % 8, "b", load.as_json(row)) for i, row in enumerate(rows)]
    load.make_topic(stack.broker, topic, 8)
    load.produce(stack.broker.bootstrap, messages, topic)
    size = sum(len(message.value) for message in messages) / len(messages)
    print(f"  rivals read {sizes.json_events:,} messages of one JSON event, {size:.0f} bytes each")

    def faust() -> dict[str, float]:
        stack.store.command(f"CREATE TABLE penstock.rival_faust {rivals.TABLE}")
        log = stack.folder / "rival-faust.log"
        with rivals.running_faust(stack.broker.bootstrap, stack.server.url, topic, log):
            count = "SELECT count() AS n FROM penstock.rival_faust"
            return rivals.span(lambda: stack.value(count), sizes.json_events)

    def clickhouse() -> dict[str, float]:
        return rivals.run_clickhouse(stack.broker.bootstrap, topic, sizes.json_events)

    _compare("Faust, take and insert", faust, run, GOAL_FAUST)
    _compare("ClickHouse's Kafka table engine", clickhouse, run, GOAL_CLICKHOUSE)


def _compare(name: str, work: Callable[[], dict[str, float]], run: Run, goal: float) -> None:
    try:
        found = work()
    except (RuntimeError, OSError) as error:
        print(f"  {name}: not measured: {error}")
        return
    if found["missing"] > 0 or not found["seconds"]:
        print(f"  {name}: not measured: {found}")
        return
    rate = found["rows"] / found["seconds"]
    print(f"  {name}: {rate:,.0f}/s, ratio {run.rate / rate:.1f}", end=" ")
    print(verdict(run.rate / rate, goal))


def steady(stack: Stack, sizes: Sizes) -> None:
    """Latency at a steady pace with two processors, and the death of one."""
    stack.worker()
    latency.stamp(stack.store)
    watch = latency.Watch(stack)
    with latency.paced(stack, 8) as sent:
        time.sleep(3)  # until the second one has joined
        watch.settle()
        from_us, cpu = load.now_us(), load.cpu_of(stack.pids())
        time.sleep(sizes.seconds)
        to_us, after = load.now_us(), load.cpu_of(stack.pids())
        recovered_s = latency.recovery_s(watch)
    frames, late_s = sent
    commit_s = latency.commit_s(stack.store)
    ended_us = to_us - 5_000_000  # later ones may have been delayed by the kill
    rows = [commit_s + s for s in latency.row_delays_s(stack.store, frames, from_us, ended_us)]
    cells = [commit_s + s for s in latency.cell_delays_s(stack.store, from_us, ended_us)]
    p99 = latency.percentile(rows, 0.99)
    print(f"  row visible: p50 {latency.median(rows):.2f} s, p99 {p99:.2f} s", end=" ")
    print(f"{verdict(p99, GOAL_ROW_S, least=False)} of {len(rows):,} events")
    p99 = latency.percentile(cells, 0.99)
    print(f"  closed 1 s cell visible: p50 {latency.median(cells):.2f} s, p99 {p99:.2f} s", end=" ")
    print(f"{verdict(p99, GOAL_CELL_S, least=False)} of {len(cells) // 100} cells")
    print(f"  kill -9 of one of two: {recovered_s:.1f} s until no boot lags over 1 s", end=" ")
    print(verdict(recovered_s, GOAL_RECOVERY_S, least=False))
    events = load.RATE * (to_us - from_us) / 1e6
    spent = {name: (after[name] - cpu[name]) / events * 1e6 for name in cpu}
    print(f"  CPU us/event: {shown(spent)}; the sender was {late_s:.2f} s late at worst")


def spread(folder: Path, broker: Broker, sizes: Sizes, run: Run) -> None:
    """CPU per event by partitions and by processors; broker left out, whose work is not ours."""
    found = {"8 partitions, processors: 1": run.cpu}
    print(f"  8 partitions, processors: 1: {run.cpu:.2f} us/event, as above")
    cases = [(partitions, 1) for partitions in sizes.partitions]
    cases += [(8, 2)] if sizes.two_workers else []
    for partitions, workers in cases:
        with load.stack(folder / f"spread-{partitions}-{workers}", broker, partitions) as stack:
            frames = load.build(partitions, sizes.spread_events)
            if workers > 1:  # else the second one would join when half is done
                for _ in range(workers):
                    stack.worker()
                time.sleep(JOINED_S)
            load.produce(broker.bootstrap, frames)
            run = drain(stack, len(frames) * load.FRAME_EVENTS, 0 if workers > 1 else 1)
        name = f"{partitions} partitions, processors: {workers}"
        found[name] = run.cpu
        print(
            f"  {name}: {run.cpu:.2f} us/event, {run.rate:,.0f}/s; {shown(run.cpu_us)}", flush=True
        )
    ratio = max(found.values()) / min(found.values())
    print(f"  dearest to cheapest: {ratio:.2f} {verdict(ratio, GOAL_FLAT, least=False)}")


def measure(folder: Path, sizes: Sizes) -> None:
    """Everything, in one run."""
    with Broker(folder / "kafka") as broker:
        frames = load.build(8, sizes.events)
        with load.stack(folder / "main", broker, 8) as stack:
            tables = captured(stack, frames, min(sizes.events, 500_000))
            print(
                "Kafka to stored rows, cells, panes, windows and a gate, one processor", flush=True
            )
            run = throughput(stack, frames)
            print("at 20,000/s, 8 emitters with frames of 100 ms, two processors", flush=True)
            steady(stack, sizes)
            stack.stop_workers()
            print("beside it", flush=True)
            rate = bare(stack, tables)
            print(f"  bare Arrow insert: {rate:,.0f}/s, ratio {run.rate / rate:.2f}", end=" ")
            print(verdict(run.rate / rate, GOAL_BARE), flush=True)
            rival_rates(stack, sizes, run)
        print("CPU by partitions and processors", flush=True)
        spread(folder, broker, sizes, run)
    if sizes.stage_events:
        print("ingestion by stage, in one process, without Kafka", flush=True)
        stages.measure(sizes.stage_events)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute")
    options = parser.parse_args()
    # Whoever ends this ends what it has started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"load average at the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        measure(Path(folder), QUICK if options.quick else FULL)


if __name__ == "__main__":
    main()
