from __future__ import annotations

import numpy as np
from penstock.streams.core import metrics as m
from penstock.streams.core.slices import FLEET
from penstock.streams.core.tiles import EMPTY, Tile, tile_of
from penstock.streams.core.windows import (
    PROBABILITIES,
    WINDOWS,
    Reader,
    coverage_state,
    rows_of,
    tick_s,
)
from penstock.tests.unit.streams.core.bruteforce import WINDOW_LENGTHS, Truth


def tile(items: dict[tuple[int, int, int], int]) -> Tile:
    codes = [number << 32 | m.key(metric, position) for number, metric, position in items]
    return tile_of(np.array(codes, np.uint64), np.array([*items.values()], np.int64))


def test_lengths_and_ticks() -> None:
    assert tuple(WINDOWS.values()) == WINDOW_LENGTHS
    ticks = [tick_s(length) for length in WINDOWS.values()]
    assert ticks == [10, 10, 30, 60, *[300] * 7]
    assert all(tick % 10 == 0 for tick in ticks)


def test_an_empty_window_has_a_row_of_the_fleet_that_says_nothing() -> None:
    slices, columns = rows_of(EMPTY, 60, 0, False)
    assert slices.tolist() == [FLEET]
    truth = Truth().windows(60, 60, 0, 1)["fleet", ()]
    assert columns.keys() == truth.keys()
    assert columns["coverage_state"] == ["no_data"]
    assert np.isnan(columns["error_rate"][0])  # type: ignore[arg-type]
    assert columns["requests"][0] == 0


def test_counters_and_quantiles_of_each_slice() -> None:
    sketch = m.SKETCHES["ttft_ms"]
    built = tile({
        (0, m.REQUESTS, 0): 3, (2, m.REQUESTS, 0): 1, (0, sketch.number, 2048): 2,
        (0, sketch.number, 2200): 1, (2, sketch.number, 65535): 1,
    })  # fmt: skip
    reader = Reader(built, np.array([0, 1, 2]))
    assert reader.counter(m.REQUESTS).tolist() == [3, 0, 1]
    assert reader.counter(m.STEPS).tolist() == [0, 0, 0]
    assert reader.count(sketch).tolist() == [3, 0, 1]
    found = reader.quantiles(sketch, PROBABILITIES)
    assert found[0, 0] == found[0, 3] < 1  # rank floor(0.99 * 2) is the second
    assert np.isnan(found[1]).all()
    assert np.isinf(found[2]).all()


def test_sums_beyond_53_bits_stay_exact() -> None:
    built = tile({(0, m.COST_NANOUSD, 0): 2**62 + 1, (0, m.INPUT_TOKENS, 0): 2**53 + 1})
    _, columns = rows_of(built, 60, 1, False)
    assert columns["input_tokens"][0] == 2**53 + 1
    assert columns["cost_usd"][0] == (2**62 + 1) / 1e9


def test_the_worst_state_is_told() -> None:
    none = {"missing": 0, "gap": 0}
    assert coverage_state(0, none, False) == "no_data"
    assert coverage_state(5, none, False) == "ok"
    assert coverage_state(5, none, True) == "unknown"
    assert coverage_state(5, {"missing": 1, "gap": 0}, True) == "partial"
    assert coverage_state(5, {"missing": 0, "gap": 1}, False) == "partial"
