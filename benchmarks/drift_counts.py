"""What a drift monitor costs evaluation: counting raw rows at once and step by step, and one look.

    python benchmarks/drift_counts.py [--quick]

Rows are made in SQL, in a store in a folder of its own. Then event time passes second by second, as
evaluation sees it, and every turn is timed: what a monitor holds it up for. Beside it, the same rows
counted at once, as a look that had not counted before would have to.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from penstock.schemas.drift.monitors import DriftConfiguration, DriftMonitor
from penstock.streams.core.drift.concept import Evidence
from penstock.streams.core.drift.reference_sets import reference_set
from penstock.streams.core.drift.series_counts import total
from penstock.streams.core.drift.stored import Piece, counting_of
from penstock.streams.core.drift.watcher import MonitorWatcher
from penstock.streams.drift.counts import count_rows
from penstock.streams.drift.monitors import DriftLooks
from penstock.streams.storage.migrate import migrate
from penstock.streams.storage.store import Store

HOUR_S = 3600
FRAME = 500
AT_ONCE = 1_000_000  # rows made by one insert
SPEC = DriftMonitor.model_validate({"id": "m", "filter": {"model": "chat"}, "design_effect": 1})
TIME = "fromUnixTimestamp64Micro({start} * 1000000 + toInt64(number * {step_us}))"
ROWS = (
    "INSERT INTO penstock.requests_rows (ts, boot_id, seq, model, status, route, finish_reason,"
    " output_class, input_tokens, output_tokens, latency_us, output_score, features, categories,"
    " sample_reason, append_ts, incarnation, partition, offset) SELECT "
    + TIME
    + " AS at, 'b', number,"
    " 'chat', 'ok', ['/a', '/b', '/c'][number % 3 + 1], 'stop', ['yes', 'no'][number % 2 + 1],"
    " 100 + rand(1) % 1000, 50 + rand(2) % 500, 1000 + rand(3) % 2000000, (rand(4) % 1000) / 1000,"
    " map('toxicity', (rand(5) % 1000) / 1000), map('language', ['en', 'de'][number % 2 + 1]),"
    " 'head', at, 1, 0, intDiv(number, {frame}) FROM numbers({first}, {rows})"
)
FRAMES = (
    "INSERT INTO penstock.frames_rows (incarnation, partition, offset, kind, boot_id, stored,"
    " append_ts) SELECT 1, 0, number, 'request', 'b', {frame}, " + TIME + " FROM numbers({frames})"
)


def fill(store: Store, rows: int, start_s: int, length_s: int) -> None:
    """Rows spread evenly over a stretch, in frames."""
    step_us = length_s * 1e6 / rows
    for first in range(0, rows, AT_ONCE):
        some = min(AT_ONCE, rows - first)
        store.command(
            ROWS.format(start=start_s, step_us=step_us, frame=FRAME, first=first, rows=some)
        )
    frames = FRAMES.format(
        start=start_s, step_us=step_us * FRAME, frame=FRAME, frames=rows // FRAME
    )
    store.command(frames)


Took = tuple[float, float]
"""Seconds by the clock, and of CPU: on a busy machine only the latter tells much."""


def timed(work: Callable[[], object]) -> Took:
    """What some work takes, merges in the background included."""
    begun = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def turns(store: Store, spec: DriftMonitor, rows: int, start_s: int) -> list[Took]:
    """What each turn of evaluation is held while a stretch passes, the look at its end last."""
    looks = DriftLooks(store, [spec], DriftConfiguration(), inserting(store), {})
    took = []
    for second in range(spec.every_s):
        at_s = start_s + second
        cut = rows * (second + 1) // spec.every_s // FRAME - 1
        took.append(timed(partial(looks.look, at_s, at_s + 1, {(1, 0): cut}, (1, cut + 1), 0)))
    return took


def inserting(store: Store) -> Callable[..., None]:
    """What puts rows into a table of a store."""
    return lambda name, rows: store.insert(name, rows, f"{time.perf_counter_ns()}")


def counting(rows: int, length_s: int) -> Piece:
    """Print what counting costs in one store; returns the counts."""
    spec = SPEC.model_copy(update={"every_s": length_s, "window_s": length_s})
    counts = replace(counting_of(spec), piece_s=length_s)
    start_s = int(time.time()) // HOUR_S * HOUR_S - 2 * HOUR_S
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"chdb://{folder}/db")
        migrate(store)
        fill(store, rows, start_s, length_s)
        found: list[Piece] = []
        upto = {(1, 0): rows}
        once = timed(lambda: found.extend(count_rows(store, counts, start_s, {}, upto).values()))
        took = turns(store, spec, rows, start_s)
        store.close()
    print(f"{rows:>9,} rows in {length_s} s ({rows / length_s:,.0f}/s)")
    for name, at in (("clock", 0), ("CPU", 1)):
        all_of_them = sorted(turn[at] for turn in took)
        print(
            f"  {name:>5}: at once {once[at]:.2f} s; turns p99 {quantile(all_of_them):.3f}, longest"
            f" {all_of_them[-1]:.3f}, the look's {took[-1][at]:.3f} s;"
            f" {sum(all_of_them) / length_s:.2%} of the time",
            flush=True,
        )
    return found[0]


def quantile(ordered: Sequence[float]) -> float:
    """The 99th percentile of ascending values."""
    return ordered[int(len(ordered) * 0.99)]


def look(piece: Piece) -> None:
    """Print what one look at counts costs."""
    past = {at * HOUR_S: piece for at in range(168)}
    references = reference_set("m", {}, past, SPEC.features, SPEC.categories).revised(None)
    found = references.of(SPEC.features, SPEC.categories)
    window = {name: total([piece[name]]) for name in SPEC.series}
    times = []
    for _ in range(3):
        watcher = MonitorWatcher(SPEC, DriftConfiguration())
        begun = time.perf_counter()
        watcher.look(200 * HOUR_S, found, window, window, Evidence())
        times.append(time.perf_counter() - begun)
    print(f"one look against a week of counts: {min(times) * 1000:.0f} ms")


def main() -> None:
    if "--quick" in sys.argv:
        look(counting(100_000, 120))
        return
    counting(1_000_000, HOUR_S)
    counting(5_000_000, HOUR_S)
    look(counting(6_000_000, 300))


if __name__ == "__main__":
    main()
