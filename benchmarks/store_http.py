"""`penstock store` against the same engine in-process: Arrow inserts and reads, rows per second.

    python benchmarks/store_http.py [--rows 100000] [--rounds 8]

Both insert the same Arrow stream into an empty table like `requests` (25 columns filled) with a token,
and read it back. Client and server share the machine's cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from penstock.streams.storage.store import Store
from penstock.tests.support.chstore import StoreServer

TABLE = "bench_rows"
TEXTS = ("worker_id", "boot_id", "model", "model_version", "adapter", "route", "release", "variant")
NUMBERS = (
    *("seq", "latency_us", "ttft_us", "queue_us", "decode_us", "input_tokens", "output_tokens"),
    *("cached_tokens", "cost_nanousd", "first_step", "last_step", "row_index", "offset"),
)
IDS = ("request_id", "trace_id", "session_id")


def create(store: Store) -> None:
    columns = [
        "`ts` DateTime64(6, 'UTC')",
        *(f"`{name}` LowCardinality(String)" for name in TEXTS),
        *(f"`{name}` UInt64" for name in NUMBERS),
        *(f"`{name}` String" for name in IDS),
    ]
    store.command("CREATE DATABASE IF NOT EXISTS penstock")
    store.command(f"DROP TABLE IF EXISTS penstock.{TABLE}")
    store.command(
        f"CREATE TABLE penstock.{TABLE} ({', '.join(columns)}) ENGINE = MergeTree ORDER BY ts"
        " SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1"
    )


def rows(count: int, seed: int) -> pa.Table:
    draw = np.random.default_rng(seed)
    made: dict[str, Any] = {
        "ts": pa.array(1_700_000_000_000_000 + np.arange(count) * 50, pa.timestamp("us", tz="UTC"))
    }
    for name in TEXTS:
        made[name] = pa.array([f"{name}-{value}" for value in draw.integers(0, 20, count)])
    for name in NUMBERS:
        made[name] = pa.array(draw.integers(0, 1_000_000, count), pa.uint64())
    for name in IDS:
        made[name] = pa.array([f"{value:016x}" for value in draw.integers(0, 2**62, count)])
    return pa.table(made)


def rate(run: Callable[[int], int], rounds: int) -> float:
    """Median rows per second; the first round is a warm-up."""
    found = []
    for number in range(rounds + 1):
        began = time.perf_counter()
        count = run(number)
        found.append(count / (time.perf_counter() - began))
    return statistics.median(found[1:])


def measure(url: str, count: int, rounds: int) -> dict[str, float]:
    store = Store(url)
    create(store)
    batches = [rows(count, seed) for seed in range(3)]

    def insert(number: int) -> int:
        store.insert(TABLE, batches[number % 3], f"batch-{number}")
        return count

    def read(_: int) -> int:
        limit = f"LIMIT {count * rounds}"
        return int(store.arrow(f"SELECT * FROM penstock.{TABLE} {limit}").num_rows)

    def small(_: int) -> int:
        for _ in range(100):
            store.query("SELECT 1")
        return 100

    found = {"insert": rate(insert, rounds), "read": rate(read, 3), "small": rate(small, 3)}
    stored = store.query(f"SELECT count() AS n FROM penstock.{TABLE}")[0]["n"]
    assert stored == count * (rounds + 1), stored
    store.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="rows of one insert")
    parser.add_argument("--rounds", type=int, default=8, help="inserts that are measured")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(measure(f"chdb://{options.inside}", options.rows, options.rounds)))
        return
    with tempfile.TemporaryDirectory() as folder:
        server = StoreServer(Path(folder) / "http")
        server.start()
        try:
            http = measure(server.url, options.rows, options.rounds)
        finally:
            server.stop()
        # In a process of its own, as the server is.
        command = [sys.executable, __file__, "--inside", str(Path(folder) / "inside")]
        command += ["--rows", str(options.rows), "--rounds", str(options.rounds)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        inside: dict[str, float] = json.loads(answer.stdout)
    for name, unit in (("insert", "rows/s in"), ("read", "rows/s out"), ("small", "queries/s")):
        ratio = http[name] / inside[name]
        print(f"{unit:11} HTTP {http[name]:12,.0f}  in-process {inside[name]:12,.0f}  {ratio:.2f}")


if __name__ == "__main__":
    main()
