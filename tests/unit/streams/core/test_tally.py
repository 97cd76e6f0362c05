from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.schemas.events import ERROR_TYPES, SAFETY_FLAGS, STATUSES
from penstock.streams.core import metrics as m
from penstock.streams.core.sketch import INFINITE_BIN
from penstock.streams.core.tally import (
    Measured,
    measure_feedback,
    measure_requests,
    measure_steps,
    place,
)
from penstock.streams.core.tiles import Span, Tile, merge


def sums(measured: Measured) -> dict[int, int]:
    return {key: int(values.sum()) for key, values in measured.counters}


def requests(**columns: Any) -> pa.Table:
    n = len(next(iter(columns.values())))
    return pa.table({"ts": pa.array(range(n), pa.int64())} | columns)


def test_columns_that_are_absent_count_nothing() -> None:
    found = measure_requests(requests(status=pa.array(["ok", "ok"])))
    assert sums(found) == {m.key(m.REQUESTS): 2, m.key(m.STATUS, 0): 2}
    assert found.distributions == []
    assert sums(measure_steps(pa.table({"ts": [1, 2]}))) == {m.key(m.STEPS): 2}
    assert sums(measure_feedback(pa.table({"ts": [1]}))) == {m.key(m.FEEDBACK): 1}


def test_an_empty_batch() -> None:
    empty = requests(status=pa.array([], pa.string()))
    found = measure_requests(empty)
    assert place(found, np.empty(0, np.int64), np.empty(0, np.int64)) == {}


def test_errors_without_a_type_count_as_other() -> None:
    found = sums(
        measure_requests(
            requests(
                status=pa.array(["error", "timeout", "ok", "cancelled"]),
                error_type=pa.array(["oom", None, None, "internal"]),
            )
        )
    )
    assert found[m.key(m.ERROR_TYPE, ERROR_TYPES.index("oom"))] == 1
    assert found[m.key(m.ERROR_TYPE, ERROR_TYPES.index("other"))] == 1
    assert m.key(m.ERROR_TYPE, ERROR_TYPES.index("internal")) not in found
    assert found[m.key(m.STATUS, STATUSES.index("cancelled"))] == 1


def test_an_overdue_request_counts_once_as_longer_than_anything() -> None:
    limit = m.Threshold("latency_us", 5000)
    table = requests(
        status=pa.array([None, "ok", "ok", "ok"]),
        overdue=pa.array([True, True, None, False]),
        latency_us=pa.array([None, 90_000, 6000, 4000], pa.int64()),
    )
    found = measure_requests(table, (limit,))
    (latency,) = found.distributions
    assert latency.rows.tolist() == [0, 2, 3]
    assert latency.bins[0] == INFINITE_BIN
    counted = sums(found)
    assert counted[m.key(m.OVERDUE)] == 1
    assert counted[m.key(m.REQUESTS)] == 3
    assert (counted[m.key(limit.number)], counted[m.key(limit.number, 1)]) == (3, 2)


def test_another_latency_is_measured_of_overdue_requests_too() -> None:
    limit = m.Threshold("ttft_us", 5)
    table = requests(
        status=pa.array([None, "ok"]),
        overdue=pa.array([True, True]),
        ttft_us=pa.array([None, 6], pa.int64()),
    )
    counted = sums(measure_requests(table, (limit,)))
    assert (counted[m.key(limit.number)], counted[m.key(limit.number, 1)]) == (1, 1)


def test_cost_above_plan_is_capped_both_ways() -> None:
    score = m.CostScore(limit_nanousd_per_1k_tokens=1000, cap_nanousd=50)
    table = requests(
        status=pa.array(["ok"] * 4),
        input_tokens=pa.array([100, 100, 100, 100], pa.int64()),
        cost_nanousd=pa.array([110, 1000, 0, None], pa.int64()),
    )
    found = measure_requests(table, (score,))
    by_key = dict(found.counters)
    assert by_key[m.key(score.number)].tolist() == [10, 50, -50, 0]
    assert sums(found)[m.key(score.number, 1)] == 3
    assert sums(found)[m.key(m.COSTED_TOKENS)] == 300


def test_safety_flags_of_a_request_count_it_once() -> None:
    flags = pa.array([["pii", "toxic"], None, [], ["own", "mine", "pii"]], pa.list_(pa.string()))
    found = sums(measure_requests(requests(status=pa.array(["ok"] * 4), safety_flags=flags)))
    assert found[m.key(m.SAFETY_VIOLATIONS)] == 2
    assert found[m.key(m.SAFETY_FLAG, SAFETY_FLAGS.index("pii"))] == 2
    assert found[m.key(m.SAFETY_FLAG, len(SAFETY_FLAGS))] == 1


@pytest.mark.parametrize("value", [1e300, -1e300, 2.0**53])
def test_a_score_beyond_what_integers_hold_is_bounded(value: float) -> None:
    found = sums(
        measure_requests(requests(status=pa.array(["ok"] * 3), quality=pa.array([value] * 3)))
    )
    assert found[m.key(m.QUALITY_COUNT)] == 3
    assert np.sign(found[m.key(m.QUALITY_MICRO)]) == np.sign(value)


def test_device_memory_of_any_size_is_a_ratio() -> None:
    table = pa.table(
        {
            "ts": [1, 2, 3],
            "gpu_memory_used_bytes": pa.array([2**62, 40, 5], pa.int64()),
            "gpu_memory_total_bytes": pa.array([2**62, 80, 0], pa.int64()),
        }
    )
    found = sums(measure_steps(table))
    assert found[m.key(m.SKETCHES["gpu_memory_ratio"].number + m.SUM_OFFSET)] == 1_500_000


def test_labels_that_the_store_holds_as_empty_are_missing() -> None:
    table = pa.table(
        {
            "ts": [1, 2, 3],
            "label": pa.array(["a", "", "b"]).dictionary_encode(),
            "predicted": pa.array(["a", "", "a"]),
        }
    )
    found = sums(measure_feedback(table))
    assert (found[m.key(m.LABELLED)], found[m.key(m.LABEL_CORRECT)]) == (2, 1)


rows = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 45_000_000), st.integers(0, 10**7)), min_size=1,
    max_size=60,
)  # fmt: skip


@given(rows, st.booleans())
def test_counting_by_table_and_by_sorting_is_the_same(
    items: list[tuple[int, int, int]], narrow: bool
) -> None:
    """One row at a time, and all at once: the second uses either path of `_place_distributions`."""
    scale = 1 if narrow else 1000
    columns = {
        "status": pa.array(["ok"] * len(items)),
        "latency_us": pa.array([100 + latency % scale for _, _, latency in items], pa.int64()),
        "ttft_us": pa.array([latency * scale for _, _, latency in items], pa.int64()),
    }
    table = requests(**columns)
    combos = np.array([combo for combo, _, _ in items], np.int64)
    ts = np.array([at for _, at, _ in items], np.int64)
    whole = place(measure_requests(table), combos, ts)
    parts: dict[Span, list[Tile]] = {}
    for at in range(len(items)):
        one = place(measure_requests(table.slice(at, 1)), combos[at : at + 1], ts[at : at + 1])
        for span, tile in one.items():
            parts.setdefault(span, []).append(tile)
    assert whole == {span: merge(tiles) for span, tiles in parts.items()}
    assert {span.length_s for span in whole} == {1, 10}


def test_cells_hold_no_sketches() -> None:
    table = requests(status=pa.array(["ok"]), latency_us=pa.array([5000], pa.int64()))
    placed = place(measure_requests(table), np.zeros(1, np.int64), np.array([12_000_000]))
    metrics_in = {span: set((tile.keys >> m.BIN_BITS).tolist()) for span, tile in placed.items()}
    latency = m.SKETCHES["latency_ms"].number
    assert latency in metrics_in[Span(10, 10)]
    assert latency not in metrics_in[Span(1, 12)]
    assert latency + m.SUM_OFFSET in metrics_in[Span(1, 12)]


def test_numbers_of_metrics_do_not_collide() -> None:
    plain = [
        value
        for name, value in vars(m).items()
        if name.isupper() and isinstance(value, int) and 0 < value < 100 and name != "BIN_BITS"
    ]
    numbers = [sketch.number for sketch in m.SKETCHES.values()]
    numbers += [number + m.SUM_OFFSET for number in numbers]
    assert len(set(plain)) == len(plain)
    assert len(set(plain + numbers)) == len(plain) + len(numbers)
    assert max(numbers) < m.CONFIGURED_BASE
