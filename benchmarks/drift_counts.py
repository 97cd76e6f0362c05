"""What a look of a drift monitor costs: counting an hour of raw rows, and one look at the counts.

    python benchmarks/drift_counts.py [--quick]

Rows are made in SQL, in a store in a folder of its own. The limit beside it is the same store reading one
column of the same rows.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable

from penstock.schemas.drift.monitors import DriftConfiguration, DriftMonitor
from penstock.streams.core.drift.concept import Evidence
from penstock.streams.core.drift.reference_sets import reference_set
from penstock.streams.core.drift.series_counts import total
from penstock.streams.core.drift.stored import counting_of
from penstock.streams.core.drift.watcher import MonitorWatcher
from penstock.streams.drift.counts import count_rows
from penstock.streams.storage.migrate import migrate
from penstock.streams.storage.store import Store

HOUR_S = 3600
SPEC = DriftMonitor.model_validate({"id": "m", "filter": {"model": "chat"}, "design_effect": 1})
ROWS = """
INSERT INTO penstock.requests_rows (ts, boot_id, seq, model, status, route, finish_reason, output_class,
    input_tokens, output_tokens, latency_us, output_score, features, categories, sample_reason, append_ts,
    incarnation, partition, offset)
SELECT fromUnixTimestamp64Micro({start} * 1000000 + toInt64(number * 3600000000 / {rows})), 'b', number,
    'chat', 'ok', ['/a', '/b', '/c'][number % 3 + 1], 'stop', ['yes', 'no'][number % 2 + 1],
    100 + rand(1) % 1000, 50 + rand(2) % 500, 1000 + rand(3) % 2000000, (rand(4) % 1000) / 1000,
    map('toxicity', (rand(5) % 1000) / 1000), map('language', ['en', 'de'][number % 2 + 1]), 'head',
    now64(6), 1, 0, intDiv(number, 500)
FROM numbers({rows})
"""


def best(work: Callable[[], object], repeats: int = 3) -> float:
    """Least seconds of several runs."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def counting(store: Store, rows: int, start_s: int) -> None:
    """Seconds of counting, and of reading one column."""
    store.command(ROWS.format(start=start_s, rows=rows))
    counts = counting_of(SPEC)
    upto = {(1, 0): rows}
    took = best(lambda: count_rows(store, counts, start_s, start_s + HOUR_S, upto))
    one = best(
        lambda: store.query(
            "SELECT sum(latency_us) FROM penstock.requests_rows FINAL"
            f" WHERE ts >= toDateTime({start_s}) AND ts < toDateTime({start_s + HOUR_S})"
        )
    )
    print(
        f"{rows:>9,} rows, {len(SPEC.series)} series: counted in {took:.2f} s, one column {one:.2f} s"
    )
    (piece,) = count_rows(store, counts, start_s, start_s + HOUR_S, upto).values()
    past = {at * HOUR_S: piece for at in range(168)}
    references = reference_set("m", {}, past, SPEC.features, SPEC.categories).revised(None)
    found = references.of(SPEC.features, SPEC.categories)
    window = {name: total([piece[name]]) for name in SPEC.series}

    def look() -> None:
        watcher = MonitorWatcher(SPEC, DriftConfiguration())
        watcher.look(start_s + HOUR_S, found, window, window, Evidence())

    print(f"{'':>9}  one look against a week: {best(look) * 1000:.0f} ms")


def main() -> None:
    quick = "--quick" in sys.argv
    start_s = int(time.time()) // HOUR_S * HOUR_S - 2 * HOUR_S
    for rows in (100_000,) if quick else (100_000, 1_000_000, 5_000_000):
        with tempfile.TemporaryDirectory() as folder:
            store = Store(f"chdb://{folder}/db")
            migrate(store)
            counting(store, rows, start_s)
            store.close()


if __name__ == "__main__":
    main()
