"""From the event that makes a condition true to the alert in the outbox, wall clock, end to end.

    python benchmarks/alert_latency.py                  # `penstock up`, about three minutes
    python benchmarks/alert_latency.py --distributed    # Kafka, store, two workers and the notifier
    python benchmarks/alert_latency.py --quick          # fewer bursts
    python benchmarks/alert_latency.py --rate 2000      # on a machine that cannot do more

A steady 20,000 events/s, unless said, from eight senders, each with what happened since its last
frame, every 100 ms or when that was answered. Now and then a model, and a route,
that never failed begins to fail: the first error makes `errors > 0` true, with `for_s: 0`. Of each model
and of each route there is a rule. The store writes down when it takes the alert and the message in the
outbox; a webhook receiver notes when it was told. Events have the times at which they are due, so
no delay is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from penstock.benchmarks import _distributed_load as load
from penstock.benchmarks.embedded import Sender
from penstock.schemas.frames import encode_frame
from penstock.schemas.topics import EVENTS
from penstock.streams.storage.migrate import migrate
from penstock.streams.storage.store import Store
from penstock.tests.support.kafka import Broker
from penstock.tests.support.server import Server

LIMIT_S = 5.0
SENDERS, PERIOD_S = 8, 0.1
PARTITIONS = 8
WARM_UP_S, SETTLE_S = 15.0, 15.0
BURST_EVENTS, BURST_EVERY_S = 20, (0.7, 1.3)
KINDS = ("model", "route")
STAMP = "ALTER TABLE penstock.{} ADD COLUMN written_us Int64 MATERIALIZED"
STAMP += " toUnixTimestamp64Micro(now64(6))"
ALERTS = "SELECT alert_id, rule_id, min(written_us) AS us FROM penstock.alert_transitions_rows"
ALERTS += " WHERE kind = 'firing' AND written_us > 0 GROUP BY alert_id, rule_id"
OUTBOX = "SELECT arrayJoin(lanes) AS alert_id, min(written_us) AS us FROM penstock.deliveries_rows"
OUTBOX += " WHERE written_us > 0 GROUP BY alert_id"

Deliver = Callable[[int, load.Boot, bytes], None]


def configuration(bursts: int, port: int) -> str:
    """Rules of every model and route that will fail, and a receiver that is told at once."""
    rules = [
        f"    - {{id: {kind}-{number}, filter: {{{kind}: {kind}-{number}}}, for_s: 0, condition:"
        ' {kind: threshold, metric: errors, window: 1m, op: ">", value: 0}}'
        for number in range(bursts)
        for kind in KINDS
    ]
    hook = f"    - {{kind: webhook, name: hook, url: 'http://127.0.0.1:{port}/'}}"
    route = "  route: {receivers: [hook], group_by: [alertname], group_wait_s: 0}"
    return "\n".join(["alerts:", "  receivers:", hook, route, "  rules:", *rules])


class Receiver:
    """A webhook that notes when it was first told of each rule's alert."""

    def __init__(self) -> None:
        self.told: dict[str, float] = {}
        told = self.told

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                at_s = time.time()
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                for alert in body["alerts"]:
                    told.setdefault(alert["labels"]["alertname"], at_s)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()


@dataclass
class Load:
    """A steady pace, and the bursts in it.

    Attributes:
        deliver: takes a frame of a sender.
        bursts: how many.
        rate: events per second of all senders.
        began: number of a burst -> when its first event ended, seconds since 1970.
        held_s: the longest time that a frame holds: a POST is answered when it is durable.
    """

    deliver: Deliver
    bursts: int
    rate: int
    began: dict[int, float] = field(default_factory=dict)
    held_s: float = 0.0
    _due_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Until some time after the last burst."""
        self._due_s = time.time() + WARM_UP_S
        drawn = load.pool()
        senders = load.boots(PARTITIONS, SENDERS)
        threads = [
            threading.Thread(target=self._send, args=(number, boot, drawn))
            for number, boot in enumerate(senders)
        ]
        for thread in threads:
            thread.start()
        while len(self.began) < self.bursts:
            time.sleep(0.5)
        time.sleep(SETTLE_S)
        self._over.set()
        for thread in threads:
            thread.join()

    def _send(self, number: int, boot: load.Boot, drawn: Sequence[dict[str, object]]) -> None:
        rng = random.Random(number)
        # Flushers of different workers do not beat together.
        told_s = time.time() - number / SENDERS * PERIOD_S
        while not self._over.is_set():
            time.sleep(max(told_s + PERIOD_S - time.time(), 0))
            due_s = time.time()
            # As the emitter does: a frame holds what happened since the one before was begun.
            events = max(int(self.rate * (due_s - told_s)) // SENDERS, 1)
            step_us = int((due_s - told_s) * 1e6) // events
            self.held_s = max(self.held_s, due_s - told_s)
            told_s = due_s
            rows = load.rows_of(rng, drawn, events, int(due_s * 1e6), step_us)
            self._fail(rng, rows, due_s)
            self.deliver(number, boot, encode_frame(boot.header(len(rows), int(due_s * 1e6)), rows))

    def _fail(self, rng: random.Random, rows: list[dict[str, object]], due_s: float) -> None:
        """Let a model and a route fail from somewhere within a frame on, if a burst is due."""
        with self._lock:
            which = len(self.began)
            if due_s < self._due_s or which == self.bursts:
                return
            first = rng.randrange(max(len(rows) - BURST_EVENTS, 1))
            self.began[which] = float(str(rows[first]["ts"])) / 1e6
            self._due_s = due_s + rng.uniform(*BURST_EVERY_S)
        names = {kind: f"{kind}-{which}" for kind in KINDS}
        for row in rows[first : first + BURST_EVENTS]:
            row |= {"status": "error", **names}


def stamp(store: Store) -> None:
    """Have the store write down when it writes: looking meanwhile would cost what is measured."""
    for table in ("alert_transitions_rows", "deliveries_rows"):
        store.command(STAMP.format(table))


def report(running: Load, store: Store, told: Mapping[str, float]) -> None:
    """Print the delays of each kind of rule."""
    alerts = {
        row["rule_id"]: (row["alert_id"], int(row["us"]) / 1e6) for row in store.query(ALERTS)
    }
    outbox = {row["alert_id"]: int(row["us"]) / 1e6 for row in store.query(OUTBOX)}
    print(f"  {running.bursts} bursts; a frame holds {running.held_s:.2f} s at most")
    for kind in KINDS:
        stages: dict[str, list[float]] = {"stored": [], "outbox": [], "received": []}
        for number, began_s in running.began.items():
            rule = f"{kind}-{number}"
            alert_id, stored_s = alerts.get(rule, ("", float("inf")))
            stages["stored"].append(stored_s - began_s)
            stages["outbox"].append(outbox.get(alert_id, float("inf")) - began_s)
            stages["received"].append(told.get(rule, float("inf")) - began_s)
        parts = [f"{name} {quantiles(delays)}" for name, delays in stages.items()]
        p99 = float(np.quantile(stages["outbox"], 0.99, method="higher"))
        reached = "reached" if p99 <= LIMIT_S else "MISSED"
        print(f"  rules of one {kind}: {', '.join(parts)}; outbox within {LIMIT_S:g} s: {reached}")


def quantiles(delays: Sequence[float]) -> str:
    """Median and 99th percentile, for people; an alert that never came is infinite."""
    found = np.quantile(delays, [0.5, 0.99], method="higher")
    return f"p50 {found[0]:.2f} p99 {found[1]:.2f} s"


def embedded(folder: Path, bursts: int, rate: int) -> None:
    """`penstock up` in a process of its own."""
    receiver = Receiver()
    server = Server(folder, configuration(bursts, receiver.port))
    prepare(server.store_url)
    server.start()
    port = int(server.url.rsplit(":", 1)[1])
    kept = [Sender(port) for _ in range(SENDERS)]
    running = Load(lambda number, boot, frame: (kept[number].send(frame), None)[1], bursts, rate)
    try:
        running.run()
    finally:
        server.signal(15)
    store = Store(server.store_url)
    report(running, store, receiver.told)
    store.close()


def prepare(url: str) -> None:
    """Migrate and stamp a store before its server starts; a folder is open in one process at a time."""
    code = (
        "import sys; from penstock.benchmarks.alert_latency import prepared; prepared(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, url], check=True)


def prepared(url: str) -> None:
    """See `prepare`."""
    store = Store(url)
    migrate(store)
    stamp(store)
    store.close()


@contextmanager
def notifying(stack: load.Stack) -> Iterator[None]:
    """`penstock notify` while the block runs."""
    command = [sys.executable, "-m", "penstock", "notify", "--store", stack.server.url]
    command += ["--config", str(stack.folder / "penstock.yaml"), "--metrics-port", "0"]
    with (stack.folder / "notify.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        process.kill()


def distributed(folder: Path, bursts: int, rate: int) -> None:
    """A real Kafka, `penstock store`, two `penstock worker` and `penstock notify`."""
    receiver = Receiver()
    with (
        Broker(folder / "kafka") as broker,
        load.stack(folder / "stack", broker, PARTITIONS) as stack,
    ):
        (stack.folder / "penstock.yaml").write_text(configuration(bursts, receiver.port))
        stamp(stack.store)
        for _ in range(2):
            stack.worker()
        with notifying(stack):
            time.sleep(12)  # until they share the partitions
            producer = load.make_producer(broker.bootstrap)

            def produce(_: int, boot: load.Boot, frame: bytes) -> None:
                producer.produce(EVENTS, frame, boot.boot_id, boot.home)
                producer.poll(0)

            running = Load(produce, bursts, rate)
            running.run()
            producer.flush(10)
        report(running, stack.store, receiver.told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--distributed", action="store_true", help="Kafka, workers and a store")
    parser.add_argument("--quick", action="store_true", help="20 bursts instead of 120 (40)")
    parser.add_argument("--rate", type=int, default=load.RATE, help="events per second")
    options: Any = parser.parse_args()
    print(
        f"load average at the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True
    )
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        if options.distributed:
            distributed(Path(folder), 20 if options.quick else 40, options.rate)
        else:
            embedded(Path(folder), 20 if options.quick else 120, options.rate)


if __name__ == "__main__":
    main()
