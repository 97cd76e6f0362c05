"""How soon events are seen at a steady pace, and how long the death of a processor is felt."""

from __future__ import annotations

import math
import multiprocessing
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
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

SENDERS, PERIOD_S = 8, 0.1  # workers that send a frame every 100 ms
FRAME_EVENTS = int(RATE * PERIOD_S) // SENDERS
SETTLE_LIMIT_S = 20.0
NORMAL_S = 1.0  # a lag below this is normal
RECOVERY_LIMIT_S = 30.0
SEEN = "SELECT boot_id, max(next_seq) AS seq, max(toUnixTimestamp64Micro(clock_ts)) AS clock_us"
SEEN += " FROM penstock.frames_rows WHERE append_ts > now() - 60 GROUP BY boot_id"
CLOSED = "SELECT partition, max(toUnixTimestamp(pane_start)) AS second FROM penstock.panes_rows"
CLOSED += " WHERE pane_s = 1 AND pane_start > now() - 60 GROUP BY partition"


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


@dataclass
class Watch:
    """What the store showed, and when: looked at again and again."""

    stack: Stack
    rows: list[tuple[int, dict[str, int]]] = field(default_factory=list)
    cells: list[tuple[int, int]] = field(default_factory=list)
    lag_s: float = 0.0
    _looks: int = 0

    def look(self, senders: int = SENDERS) -> None:
        """One look at the ledger, every other time at the cells; takes about 50 ms."""
        begun = time.monotonic()
        found = self.stack.store.query(SEEN)
        at_us = now_us()
        recent = sorted(found, key=lambda row: -int(row["clock_us"]))[:senders]
        self.rows.append((at_us, {str(row["boot_id"]): int(row["seq"]) for row in found}))
        if recent:
            self.lag_s = at_us / 1e6 - min(int(row["clock_us"]) for row in recent) / 1e6
        if self._looks % 2 == 0:
            closed = self.stack.store.query(CLOSED)
            if closed:
                self.cells.append((now_us(), min(int(row["second"]) for row in closed)))
        self._looks += 1
        time.sleep(max(begun + 0.05 - time.monotonic(), 0))

    def look_for(self, seconds: float) -> None:
        """Look until so much time has passed."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            self.look()

    def settle(self) -> None:
        """Look until nothing has lagged for two seconds."""
        until_s, calm_s = time.monotonic() + SETTLE_LIMIT_S, time.monotonic()
        while time.monotonic() < until_s and time.monotonic() - calm_s < 2.0:
            self.look()
            if not self.rows[-1][1] or self.lag_s > NORMAL_S:
                calm_s = time.monotonic()


def row_delays_s(watch: Watch, sent: Sequence[Sent], from_us: int, to_us: int) -> list[float]:
    """From each event that ended in the time given to the look that showed its row."""
    delays: list[float] = []
    cursors: dict[str, int] = {}
    for frame in sent:
        at = cursors.get(frame.boot_id, 0)
        while at < len(watch.rows) and watch.rows[at][1].get(frame.boot_id, 0) < frame.next_seq:
            at += 1
        cursors[frame.boot_id] = at
        if at < len(watch.rows) and from_us <= frame.ts_us < to_us:
            newest = (watch.rows[at][0] - frame.ts_us) / 1e6
            delays += (
                newest + np.linspace(PERIOD_S / frame.events, PERIOD_S, frame.events)
            ).tolist()
    return delays


def cell_delays_s(watch: Watch, from_us: int, to_us: int) -> list[float]:
    """From events, spread evenly over their second, to the look that showed its cell everywhere."""
    delays: list[float] = []
    for second in range(from_us // 1_000_000 + 1, to_us // 1_000_000):
        shown = next((at for at, closed in watch.cells if closed >= second), None)
        if shown is not None:
            # The earliest event of a second waits longest.
            delays += (shown / 1e6 - second - np.linspace(0, 1, 100)).tolist()
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
