"""How fast a verdict is told at 100 requests a second, over a small and over a large store.

    python benchmarks/gate_queries.py              # 1 million and 100 million events, long
    python benchmarks/gate_queries.py --quick      # 0.1 and 1 million, a minute

Events, a month of verdicts of three gates and a year of release markers are made in SQL. The API runs
in a process of its own over each store, and both are asked in turns, so that other work on the machine
meets both. Goals: p99 at most 25 ms, and the large store at most 1.5 times the small one.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from penstock.api.app import build_app
from penstock.api.auth import Access
from penstock.benchmarks._gate_load import at_rate, cpu_s, quantile
from penstock.streams.core.gates.canonical import spec_hash
from penstock.streams.storage.migrate import migrate
from penstock.streams.storage.store import Store
from penstock.tests.support.api import CONFIGURATION, Ingest
from penstock.tests.support.ports import free_port

VERDICTS = 30 * 8640  # one each ten seconds
MARKERS = 500
EVIDENCE = 1500  # bytes, as an answer of three metrics has
BATCH = 10_000_000
PATH = f"/v1/gates/{CONFIGURATION.gates[0].id}/verdict"


def fill(folder: Path, events: int) -> None:
    """A store with so many requests, and what gates leave in it."""
    store = Store(f"chdb://{folder / 'store'}")
    migrate(store)
    for start in range(0, events, BATCH):
        rows = min(BATCH, events - start)
        store.command(
            "INSERT INTO penstock.requests_rows (ts, boot_id, seq, request_id, model, variant, "
            "status, latency_us, append_ts, incarnation, offset) SELECT "
            "now64(6) - toIntervalMillisecond(number % 864000000), 'b', number, toString(number), "
            "'m', if(number % 10 = 0, 'canary', 'control'), 'ok', rand() % 2000000, now64(6), 1, "
            f"number FROM numbers({start}, {rows})"
        )
    epoch = int(time.time())  # later than every marker
    for gate in CONFIGURATION.gates:
        store.command(
            "INSERT INTO penstock.verdicts_rows (gate_id, epoch, as_of, version, kind, verdict, "
            f"action, evidence, spec_hash) SELECT '{gate.id}', {epoch}, "
            f"now64(6) - toIntervalSecond(10 * ({VERDICTS} - number)), 1, 'absolute', 'UNDECIDED', "
            f'\'wait\', \'{{"verdict": "UNDECIDED", "action": "wait", "epoch": {epoch}, "evidence": '
            f"[\"{'x' * EVIDENCE}\"]}}', '{spec_hash(gate)}' FROM numbers({VERDICTS})"
        )
    store.command(
        "INSERT INTO penstock.releases_rows (ts, boot_id, seq, release, model, variant, incarnation) "
        f"SELECT now64(6) - toIntervalHour(17 * ({MARKERS} - number)), 'b', number, "
        f"concat('r', toString(number)), 'm', 'canary', 1 FROM numbers({MARKERS})"
    )
    store.close()


def serve(folder: str, port: int) -> None:
    """The API over a store, until it is killed."""
    import uvicorn

    store = Store(f"chdb://{Path(folder) / 'store'}")
    app = build_app(Ingest(), store, CONFIGURATION, Access(required=False))
    uvicorn.run(app, port=port, log_level="error", access_log=False)


@dataclass(slots=True)
class Served:
    """An API in a process of its own over a store of so many events.

    Attributes:
        verdicts, health: latencies in ms of verdicts, and of /health beside them.
        cpu_s: CPU that the verdicts took.
    """

    events: int
    port: int
    pid: int
    verdicts: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def measure(self, per_s: float, seconds: float) -> None:
        """Ask for so long."""
        self.health += asyncio.run(at_rate(self.port, "/health", per_s, seconds / 2))
        before = cpu_s(self.pid)
        self.verdicts += asyncio.run(at_rate(self.port, PATH, per_s, seconds))
        self.cpu_s.append(cpu_s(self.pid) - before)


@contextmanager
def served(events: int) -> Iterator[Served]:
    """Fill a store and serve it."""
    spawned = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        filling = spawned.Process(target=fill, args=(Path(folder), events))
        filling.start()
        filling.join()
        print(f"{events:,} events made in {time.perf_counter() - began:.0f} s", flush=True)
        port = free_port()
        server = spawned.Process(target=serve, args=(folder, port))
        server.start()
        try:
            for _ in range(300):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}{PATH}").close()
                    break
                except OSError:
                    time.sleep(0.2)
            asyncio.run(at_rate(port, PATH, 20, 3))  # warm
            yield Served(events, port, server.pid or 0)
        finally:
            server.terminate()
            server.join()


def show(found: Served, per_s: float) -> float:
    """Print what was found of one store; the 99th percentile of a verdict in ms."""
    verdicts, health = sorted(found.verdicts), sorted(found.health)
    p99 = quantile(verdicts, 0.99)
    cpu_ms = 1000 * sum(found.cpu_s) / len(verdicts)
    print(
        f"{found.events:,} events, {len(verdicts):,} questions at {per_s:g}/s: median "
        f"{quantile(verdicts, 0.5):.1f} ms, p99 {p99:.1f} ms (goal 25), worst {verdicts[-1]:.1f} ms; "
        f"CPU of the server {cpu_ms:.2f} ms each"
    )
    print(f"  /health beside it: p99 {quantile(health, 0.99):.1f} ms", flush=True)
    return p99


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--rounds", type=int, default=6, help="of each store, in turns")
    asked = parser.parse_args()
    small, large, seconds = (100_000, 1_000_000, 3) if asked.quick else (10**6, 10**8, 10)
    with ExitStack() as stack:
        stores = [stack.enter_context(served(events)) for events in (small, large)]
        for turn in range(asked.rounds):
            for one in stores if turn % 2 == 0 else reversed(stores):
                one.measure(asked.rate, seconds)
    p99 = [show(one, asked.rate) for one in stores]
    medians = [quantile(sorted(one.verdicts), 0.5) for one in stores]
    print(
        f"large over small: p99 {p99[1] / p99[0]:.2f} (goal at most 1.5), "
        f"median {medians[1] / medians[0]:.2f}"
    )
    sys.exit(0 if max(p99) <= 25 and p99[1] <= 1.5 * p99[0] else 1)


if __name__ == "__main__":
    main()
