"""How soon events are seen at a steady pace, and how long the death of a processor is felt."""

from __future__ import annotations

import math
import multiprocessing
import random
import statistics
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from penstock.benchmarks._distributed_load import (
    RATE,
    Stack,
    boots,
    make_producer,
    now_us,
    pool,
    rows_of,
)
from penstock.schemas.frames import encode_frame
from penstock.schemas.topics import EVENTS
from penstock.streams.storage.store import Store

SENDERS, PERIOD_S = 8, 0.1  # workers that send a frame every 100 ms
FRAME_EVENTS = int(RATE * PERIOD_S) // SENDERS
SETTLE_LIMIT_S = 20.0
NORMAL_S = 1.0  # a lag below this is normal
RECOVERY_LIMIT_S = 30.0
# Frames by the tables' keys: a look must take little of the machine that is measured.
SEEN = "SELECT partition, boot_id, max(offset) AS last, max(toUnixTimestamp64Micro(clock_ts)) AS"
SEEN += " clock_us FROM penstock.frames_rows"
SEEN += " WHERE incarnation = (SELECT max(incarnation) FROM penstock.incarnations) AND ({new})"
SEEN += " GROUP BY partition, boot_id"
STAMPED = ("frames_rows", "panes_rows")
STAMP = "ALTER TABLE penstock.{table} ADD COLUMN written_us Int64"
STAMP += " MATERIALIZED toUnixTimestamp64Micro(now64(6))"
ROWS = "SELECT boot_id, next_seq, min(written_us) AS us FROM penstock.frames_rows"
ROWS += " WHERE written_us > 0 GROUP BY boot_id, next_seq ORDER BY boot_id, next_seq"
# A second is closed when every shard has told so: that of its last pane or checkpoint.
CELLS = "SELECT partition, toUnixTimestamp(pane_start) AS second, min(written_us) AS us"
CELLS += " FROM penstock.panes_rows WHERE pane_s = 1 AND written_us > 0 GROUP BY partition, second"


@dataclass(frozen=True)
class Sent:
    """A frame: events of `boot_id` up to `next_seq`, spread over the period that ends at `ts_us`."""

    boot_id: str
    next_seq: int
    ts_us: int
    events: int


def _send(bootstrap: str, partitions: int, events: int, stop: Any, results: Any) -> None:
    """In a process of its own: a frame of each sender every period, until told to stop."""
    step_us = int(PERIOD_S * 1e6) // events
    rng, drawn, senders = random.Random(1), pool(), boots(partitions, SENDERS)
    producer = make_producer(bootstrap)
    sent: list[Sent] = []
    late_s, turn, begun_s = 0.0, 0, time.time()
    while not stop.is_set():
        for number, boot in enumerate(senders):
            # Flushers of different workers do not beat together.
            due_s = begun_s + (turn + number / SENDERS) * PERIOD_S
            time.sleep(max(due_s - time.time(), 0))
            late_s = max(late_s, time.time() - due_s)
            ts_us = int(due_s * 1e6)
            rows = rows_of(rng, drawn, events, ts_us, step_us)
            value = encode_frame(boot.header(events, ts_us), rows)
            producer.produce(EVENTS, value, boot.boot_id, boot.home)
            producer.poll(0)
            sent.append(Sent(boot.boot_id, boot.seq, ts_us, events))
        turn += 1
    producer.flush(10)
    results.send((sent, late_s))


@contextmanager
def paced(stack: Stack, partitions: int, frame_events: int = FRAME_EVENTS) -> Iterator[list[Any]]:
    """Load while the block runs; afterwards the list holds the frames sent and the worst lateness."""
    context = multiprocessing.get_context("spawn")
    stop, (here, there) = context.Event(), context.Pipe(duplex=False)
    found: list[Any] = []
    arguments = (stack.broker.bootstrap, partitions, frame_events, stop, there)
    process = context.Process(target=_send, args=arguments)
    process.start()
    try:
        yield found
        stop.set()
        found += here.recv()
    finally:
        stop.set()
        process.join(20)
        if process.is_alive():
            process.kill()


def stamp(store: Store) -> None:
    """Have the store write down when it writes: what is looked at afterwards costs nothing meanwhile."""
    for table in STAMPED:
        store.command(STAMP.format(table=table))


def commit_s(store: Store) -> float:
    """Seconds that an insert of a row takes at most, 99 of 100: a stamp is made at its beginning."""
    store.command("CREATE TABLE penstock.stamped AS penstock.frames_rows")
    took = []
    for number in range(100):
        begun = time.perf_counter()
        store.insert("stamped", pa.table({"boot_id": ["b"], "offset": [number]}), str(number))
        took.append(time.perf_counter() - begun)
    store.command("DROP TABLE penstock.stamped SYNC")
    return percentile(took, 0.99)


@dataclass
class Watch:
    """How far behind the boots are, looked at now and then."""

    stack: Stack
    lag_s: float = math.inf
    _last: dict[int, int] = field(default_factory=dict)  # partition -> newest offset seen
    _clocks: dict[str, int] = field(default_factory=dict)

    def look(self, senders: int = SENDERS) -> None:
        """One look at the ledger, four a second."""
        begun = time.monotonic()
        known = [f"(partition = {p} AND offset > {last})" for p, last in self._last.items()]
        known.append(f"partition NOT IN {[*self._last, 4294967295]}")
        found = self.stack.store.query(SEEN.format(new=" OR ".join(known)))
        at_us = now_us()
        for row in found:
            partition = int(row["partition"])
            self._last[partition] = max(self._last.get(partition, -1), int(row["last"]))
            self._clocks[str(row["boot_id"])] = int(row["clock_us"])
        recent = sorted(self._clocks.values(), reverse=True)[:senders]
        if recent:
            self.lag_s = (at_us - recent[-1]) / 1e6
        time.sleep(max(begun + 0.25 - time.monotonic(), 0))

    def settle(self) -> None:
        """Look until nothing has lagged for two seconds."""
        until_s, calm_s = time.monotonic() + SETTLE_LIMIT_S, time.monotonic()
        while time.monotonic() < until_s and time.monotonic() - calm_s < 2.0:
            self.look()
            if self.lag_s > NORMAL_S:
                calm_s = time.monotonic()


def row_delays_s(store: Store, sent: Sequence[Sent], from_us: int, to_us: int) -> list[float]:
    """From each event that ended in the time given until the ledger had its frame."""
    written: dict[str, list[tuple[int, int]]] = {}
    for row in store.query(ROWS):
        written.setdefault(str(row["boot_id"]), []).append((int(row["next_seq"]), int(row["us"])))
    delays: list[float] = []
    for frame in sent:
        seen = written.get(frame.boot_id, [])
        at = bisect_left(seen, (frame.next_seq, 0))
        if at < len(seen) and from_us <= frame.ts_us < to_us:
            newest = (seen[at][1] - frame.ts_us) / 1e6
            delays += (
                newest + np.linspace(PERIOD_S / frame.events, PERIOD_S, frame.events)
            ).tolist()
    return delays


def cell_delays_s(store: Store, from_us: int, to_us: int) -> list[float]:
    """From events, spread evenly over their second, until every shard that has its cell showed it."""
    shown: dict[int, int] = {}
    for row in store.query(CELLS):
        second = int(row["second"])
        shown[second] = max(shown.get(second, 0), int(row["us"]))
    delays: list[float] = []
    for second in range(from_us // 1_000_000 + 1, to_us // 1_000_000):
        if second in shown:
            # The earliest event of a second waits longest.
            delays += (shown[second] / 1e6 - second - np.linspace(0, 1, 100)).tolist()
    return delays


def percentile(values: Sequence[float], share: float) -> float:
    """A quantile, NaN of nothing."""
    return float(np.quantile(values, share)) if len(values) else float("nan")


def recovery_s(watch: Watch) -> float:
    """Kill a processor with -9: seconds until the lag was normal again, infinite where it never was."""
    victim = watch.stack.workers[0]
    victim.kill()
    victim.wait()
    killed_s = time.monotonic()
    last_s, quiet_s = killed_s, 0.0  # when it last was not normal, and since how long it is
    while time.monotonic() - killed_s < RECOVERY_LIMIT_S:
        watch.look()
        if watch.lag_s > NORMAL_S:
            last_s = time.monotonic()
        quiet_s = time.monotonic() - last_s
        # The lag rises at once where the dead one had partitions, so two seconds of calm tell.
        if quiet_s > 2.0 and last_s > killed_s:
            break
        if quiet_s > 12.0:
            break
    watch.stack.workers.remove(victim)
    return last_s - killed_s if quiet_s > 2.0 else math.inf


def median(values: Sequence[float]) -> float:
    """The middle, NaN of nothing."""
    return statistics.median(values) if values else float("nan")
