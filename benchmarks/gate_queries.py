"""How fast a verdict is told at 100 requests a second, over a small and over a large store.

    python benchmarks/gate_queries.py              # 1 million and 100 million events, long
    python benchmarks/gate_queries.py --quick      # 0.1 and 1 million, a minute

Events, a month of verdicts of three gates and a year of release markers are made in SQL. The API runs
in a process of its own over that store. Goals: p99 at most 25 ms, and the large store at most 1.5
times the small one.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from penstock.api.app import build_app
from penstock.api.auth import Access
from penstock.benchmarks._gate_load import at_rate, cpu_s, quantile
from penstock.streams.core.gates.canonical import spec_hash
from penstock.streams.storage.migrate import migrate
from penstock.streams.storage.store import Store
from penstock.tests.support.api import CONFIGURATION, Ingest
from penstock.tests.support.server import free_port

VERDICTS = 30 * 8640  # one each ten seconds
MARKERS = 500
EVIDENCE = 1500  # bytes, as an answer of three metrics has
BATCH = 10_000_000


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
    for gate in CONFIGURATION.gates:
        store.command(
            "INSERT INTO penstock.verdicts_rows (gate_id, epoch, as_of, version, kind, verdict, "
            f"action, evidence, spec_hash) SELECT '{gate.id}', {MARKERS}, "
            f"now64(6) - toIntervalSecond(10 * ({VERDICTS} - number)), 1, 'absolute', 'UNDECIDED', "
            f'\'wait\', \'{{"verdict": "UNDECIDED", "action": "wait", "epoch": {MARKERS}, "evidence": '
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


@dataclass(frozen=True, slots=True)
class Found:
    """Latencies in ms, ascending, of verdicts and of /health; CPU in ms per verdict."""

    verdicts: list[float]
    health: list[float]
    cpu_ms: float


def measure(events: int, seconds: float, per_s: float) -> Found:
    """Ask over a store of so many events."""
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
            path = f"/v1/gates/{CONFIGURATION.gates[0].id}/verdict"
            for _ in range(300):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}{path}").close()
                    break
                except OSError:
                    time.sleep(0.2)
            health = asyncio.run(at_rate(port, "/health", per_s, seconds / 2))
            asyncio.run(at_rate(port, path, per_s, 3))  # warm
            before = cpu_s(server.pid or 0)
            verdicts = asyncio.run(at_rate(port, path, per_s, seconds))
            cpu_ms = 1000 * (cpu_s(server.pid or 0) - before) / len(verdicts)
            return Found(verdicts, health, cpu_ms)
        finally:
            server.terminate()
            server.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rate", type=float, default=100)
    asked = parser.parse_args()
    small, large, seconds = (100_000, 1_000_000, 10) if asked.quick else (10**6, 10**8, 60)
    p99 = []
    for events in (small, large):
        found = measure(events, seconds, asked.rate)
        p99.append(quantile(found.verdicts, 0.99))
        print(
            f"  {asked.rate:g} questions/s for {seconds} s: median {quantile(found.verdicts, 0.5):.1f}"
            f" ms, p99 {p99[-1]:.1f} ms (goal 25), worst {found.verdicts[-1]:.1f} ms; "
            f"CPU of the server {found.cpu_ms:.2f} ms each"
        )
        print(f"  /health beside it: p99 {quantile(found.health, 0.99):.1f} ms", flush=True)
    print(f"  p99, large over small: {p99[1] / p99[0]:.2f} (goal at most 1.5)")
    sys.exit(0 if max(p99) <= 25 and p99[1] <= 1.5 * p99[0] else 1)


if __name__ == "__main__":
    main()
