"""Counting, merging and evaluating windows: how fast, and what share of a core at real time.

    python benchmarks/core.py [--quick]

Every figure is the best of several repeats in this process, on one core. The rivals run beside it:
the `ddsketch` package for sketches, and windows that add what enters and subtract what leaves.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from ddsketch import DDSketch
from penstock.streams.core import metrics as m
from penstock.streams.core.history import History
from penstock.streams.core.slices import FLEET
from penstock.streams.core.tally import measure_requests, place
from penstock.streams.core.tiles import TIERS_S, Span, Tile, cover, merge, tile_of
from penstock.streams.core.windows import PROBABILITIES, WINDOWS, Reader, rows_of, tick_s

SECOND_US = 1_000_000
START_S = 1_767_225_600
ROWS = 20_000
BINS = 60  # of a sketch of one slice in one pane's parent: log-normal latencies fill about as many


def best(work: Callable[[], object], repeats: int) -> float:
    """Least seconds of several runs."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def request_table(rng: np.random.Generator) -> pa.Table:
    """Rows of 25 columns, 13 latencies and 2 token counts among them."""
    columns: dict[str, object] = {
        "status": pa.array(np.where(rng.random(ROWS) < 0.99, "ok", "timeout")).dictionary_encode(),
        "cost_nanousd": pa.array(rng.integers(0, 10**7, ROWS)),
        "cache_hit": pa.array(rng.random(ROWS) < 0.3),
        "quality": pa.array(rng.random(ROWS)),
    }
    for name in ("input_tokens", "output_tokens", "cached_tokens"):
        columns[name] = pa.array(rng.lognormal(5, 1, ROWS).astype(np.int64))
    for sketch in m.REQUEST_SKETCHES[: len(m.LATENCIES)]:
        columns[sketch.column] = pa.array(rng.lognormal(11, 0.7, ROWS).astype(np.int64))
    for name in ("model", "release", "variant", "route", "tenant"):
        columns[name] = pa.array(rng.choice(["a", "b", "c"], ROWS)).dictionary_encode()
    return pa.table(columns)


def count_events(rng: np.random.Generator, repeats: int) -> None:
    """Adds per second, beside the package."""
    table = request_table(rng)
    combos = rng.integers(0, 40, ROWS)
    ts = START_S * SECOND_US + np.sort(rng.integers(0, 2 * SECOND_US, ROWS))
    measured = measure_requests(table)
    adds = sum(len(item.rows) for item in measured.distributions)
    adds_all = adds + len(measured.counters) * ROWS
    took = best(lambda: place(measure_requests(table), combos, ts), repeats)
    values = rng.lognormal(5, 1, 20_000).tolist()

    def package() -> None:
        sketch = DDSketch(0.01)
        for value in values:
            sketch.add(value)

    rival = len(values) / best(package, max(repeats // 2, 2))
    print(f"events/s                       {ROWS / took:14,.0f}")
    print(f"sketch adds/s                  {adds / took:14,.0f}")
    print(f"sketch and counter adds/s      {adds_all / took:14,.0f}")
    print(f"ddsketch package adds/s        {rival:14,.0f}   ours is {adds / took / rival:,.0f} x")


def tile(rng: np.random.Generator, slices: int, fill: float = 1.0) -> Tile:
    """A tile as traffic fills it: 20 counters and 15 sketches of each slice."""
    keys = [m.key(metric) for metric in range(1, 21)]
    for sketch in m.REQUEST_SKETCHES:
        bins = 2048 + 230 + np.flatnonzero(rng.random(BINS) < fill)
        keys += [m.key(sketch.number, int(position)) for position in bins]
    heads = np.arange(slices, dtype=np.uint64) << np.uint64(32)
    codes = (heads[:, None] | np.array(keys, np.uint64)[None, :]).ravel()
    return Tile(codes, rng.integers(1, 50, len(codes)))


class Days:
    """Thirty days of tiles: a few distinct ones, shown for every span."""

    def __init__(self, rng: np.random.Generator, slices: int) -> None:
        fills = dict(zip(TIERS_S, (0.15, 0.4, 0.9, 1.0), strict=True))
        self.tiles = {
            length: [tile(rng, slices, fill) for _ in range(3)] for length, fill in fills.items()
        }

    def load(self, spans: Sequence[Span]) -> Mapping[Span, Tile]:
        """As a store that answers at once."""
        return {span: self.of(span) for span in spans}

    def of(self, span: Span) -> Tile:
        """The tile of a span."""
        return self.tiles[span.length_s][span.start_s // span.length_s % 3]


def evaluate(rng: np.random.Generator, slices: int, repeats: int) -> None:
    """Cost of each window, and of the whole ladder as a share of a core."""
    days = Days(rng, slices)
    end_s = START_S + 31 * 86_400 + 13 * 3600 + 25 * 60
    print(f"\n{slices} slices: ms per window (merge, rows), tiles, integers merged")
    share = share_merge = 0.0
    for name, length_s in WINDOWS.items():
        spans = cover(end_s - length_s, end_s)
        tiles = [days.of(span) for span in spans]
        merged = merge(tiles)
        rounds = repeats if len(merged) * len(tiles) < 5_000_000 else 1
        merging = best(lambda tiles=tiles: merge(tiles), rounds)  # type: ignore[misc]
        reading = best(lambda merged=merged: rows_of(merged, 60, 1, False), rounds)  # type: ignore[misc]
        share += (merging + reading) / tick_s(length_s)
        share_merge += merging / tick_s(length_s)
        total = sum(len(part) for part in tiles)
        print(
            f"  {name:>4}  {merging * 1e3:9.2f} {reading * 1e3:9.2f}  {len(tiles):5d} {total:12,}"
        )
    print(f"  share of a core at real time: {share:.1%}, of it merging {share_merge:.1%}")
    slide(days, end_s, share_merge, repeats)
    remembered(days, end_s, share_merge, repeats)


def remembered(days: Days, end_s: int, stateless: float, repeats: int) -> None:
    """What the pipeline does: the whole hours within are summed once an hour, then only the edges."""
    history = History(days.load, capacity=1_000_000_000)
    history.oldest_s = START_S
    share = 0.0
    for length_s in WINDOWS.values():
        tick = tick_s(length_s)
        began = time.perf_counter()
        history.total(end_s - length_s, end_s)
        first = time.perf_counter() - began
        warm = best(
            lambda length_s=length_s, tick=tick: history.total(
                end_s + tick - length_s, end_s + tick
            ),  # type: ignore[misc]
            repeats,
        )
        share += warm / tick + (first / 3600 if length_s > 2 * 3600 else 0.0)
    print(
        f"  merging with whole hours remembered: {share:.1%} of a core"
        f" ({stateless / share:.1f} x less than stateless)"
    )


def slide(days: Days, end_s: int, stateless: float, repeats: int) -> None:
    """The rival: keep each window's sum, add what enters, subtract what leaves."""
    share, held = 0.0, 0
    for length_s in WINDOWS.values():
        tick = tick_s(length_s)
        window = merge(days.of(span) for span in cover(end_s - length_s, end_s))
        entering = [days.of(span) for span in cover(end_s, end_s + tick)]
        leaving = [days.of(span) for span in cover(end_s - length_s, end_s - length_s + tick)]

        def step(
            window: Tile = window, entering: list[Tile] = entering, leaving: list[Tile] = leaving
        ) -> Tile:
            gone = merge(leaving)
            return merge([window, *entering, Tile(gone.codes, -gone.counts)])

        share += best(step, max(repeats // 2, 1)) / tick
        held += len(window)
    print(
        f"  merging by sliding: {share:.1%} of a core ({stateless / share:.1f} x less than stateless),"
        f" holding {held * 16 / 1e6:,.0f} MB"
    )


def merge_rate(rng: np.random.Generator, repeats: int) -> None:
    """Integers per second that a merge of sixty tiles takes in."""
    tiles = [tile(rng, 50, 0.3) for _ in range(60)]
    took = best(lambda: merge(tiles), repeats)
    count = sum(len(part) for part in tiles)
    print(f"merge, integers/s              {count / took:14,.0f}   ({len(tiles)} tiles)")
    merged = merge(tiles)
    reader = Reader(merged, np.unique(merged.slices))
    took = best(lambda: reader.quantiles(m.SKETCHES["ttft_ms"], PROBABILITIES), repeats)
    print(f"4 quantiles of 50 slices, us   {took * 1e6:14,.0f}")
    codes = rng.integers(0, 50_000, 200_000).astype(np.uint64) | np.uint64(FLEET)
    ones = np.ones(len(codes), np.int64)
    took = best(lambda: tile_of(codes, ones), repeats)
    print(f"tile of unsorted codes, codes/s{len(codes) / took:14,.0f}")


def main() -> None:
    """Print the tables."""
    quick = "--quick" in sys.argv
    repeats = 3 if quick else 15
    rng = np.random.default_rng(1)
    count_events(rng, repeats)
    merge_rate(rng, repeats)
    evaluate(rng, 50, repeats)
    evaluate(rng, 200 if quick else 2000, 1 if quick else 2)


if __name__ == "__main__":
    main()
