"""Explaining one alert from raw rows: seconds and CPU of the query on the embedded engine.

    python benchmarks/explain.py [--quick]

Seven minutes of requests at 20,000 a second (quick: 2,000) in a store of its own; an alert of one model
over 1 minute against the 5 minutes before, so 360 s of rows are in question. A tenth of them is a
canary's, which begins to fail: the answer must name it.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from penstock.streams.core.explain.explanation import explain
from penstock.streams.core.explain.measures import measure_of
from penstock.streams.core.explain.question import Question, Stretch
from penstock.streams.core.explain.words import one_line
from penstock.streams.explain.query import ask
from penstock.streams.storage.store import Store
from penstock.tests.support.store import opened_store

SPAN_S, AT_ONCE, REPEATS = 420, 1_000_000, 5
METRICS = {"error_rate": None, "ttft_ms_p95": 1200.0}


def fill(store: Store, rate: int, end_s: int) -> None:
    """Requests up to `end_s`; in the last minute 40 % of the canary's fail and are slow."""
    for first in range(0, rate * SPAN_S, AT_ONCE):
        count = min(AT_ONCE, rate * SPAN_S - first)
        store.command(
            "INSERT INTO penstock.requests_rows (ts, append_ts, boot_id, seq, worker_id, model,"
            " variant, release, route, tenant, status, ttft_us, input_tokens, cost_nanousd) SELECT"
            f" fromUnixTimestamp64Micro({(end_s - SPAN_S) * 1_000_000}"
            f" + intDiv((number + {first}) * 1000000, {rate}), 'UTC') AS t, t,"
            f" concat('b', toString(number % 20)), number + {first},"
            " concat('w', toString(number % 19)), 'chat', if(number % 10 = 0, 'canary', 'control'),"
            " if(number % 10 = 0, 'r2', 'r1'), concat('/', toString(number % 7)),"
            " concat('t', toString(rand() % 200)),"
            f" if(rand(1) % 100 < if(number % 10 = 0 AND toUnixTimestamp(t) >= {end_s - 60}, 40, 1),"
            " 'error', 'ok') AS s, if(s = 'error', 3000000, 200000), rand(2) % 4000, 1000"
            f" FROM numbers({count})"
        )


def measure(store: Store, metric: str, limit: float | None, end_s: int) -> str:
    """A line of the table."""
    found = measure_of(metric)
    assert found is not None
    now, before = Stretch(end_s - 60, end_s), Stretch(end_s - 420, end_s - 120)
    question = Question(found, limit, {"model": "chat"}, now, before, end_s - 60, end_s)
    took = []
    for _ in range(REPEATS):
        begun, used = time.perf_counter(), time.process_time()
        told = explain(question, ask(store, question))
        took.append((time.perf_counter() - begun, time.process_time() - used))
    assert told.slices[0].slice["variant"] == "canary", told
    seconds, cpu = min(took)
    return f"{metric:<12} {seconds:6.2f} s, {cpu:5.2f} s of CPU   {one_line(told)}"


def main() -> None:
    """Print the table."""
    rate = 2000 if "--quick" in sys.argv[1:] else 20_000
    end_s = int(time.time()) - 60
    with tempfile.TemporaryDirectory() as folder, opened_store(Path(folder)) as store:
        fill(store, rate, end_s)
        print(f"{rate * 360:,} rows in question of {rate * SPAN_S:,}, best of {REPEATS}")
        for metric, limit in METRICS.items():
            print(measure(store, metric, limit, end_s))


if __name__ == "__main__":
    main()
