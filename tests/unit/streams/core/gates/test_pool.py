"""Buckets of traffic put together to arms: nothing is lost, whatever goes where."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from penstock.streams.core.gates.interface import CONTROL, TREATMENT, GateInputs
from penstock.streams.core.gates.pool import joined, picked, stretch

from .blocks import Row, inputs_of

BLOCKS, BUCKETS = 4, 6
ROWS = st.lists(
    st.builds(
        Row,
        block=st.integers(0, BLOCKS - 1),
        arm=st.integers(0, BUCKETS - 1),
        units=st.integers(0, 5),
        bad=st.fixed_dictionaries({"error_rate": st.integers(0, 5)}),
        latencies_ms=st.fixed_dictionaries({"latency": st.lists(st.sampled_from([0.0, 1.0, 9.0]))}),
        values=st.fixed_dictionaries({"cost_usd": st.lists(st.sampled_from([0.1, 0.9]))}),
        stratum=st.sampled_from(["", "a"]),
        worker=st.sampled_from(["w", "v"]),
    ),
    min_size=1,
    max_size=20,
)


def sums_of(inputs: GateInputs, row: int) -> Counter[Any]:
    found: Counter[Any] = Counter({"assigned": int(inputs.assigned[row])})
    for name, metric in inputs.metrics.items():
        for column in ("n", "bad", "a", "b", "aa", "ab", "bb"):
            values = getattr(metric, column)
            if values is not None:
                found[name, column] += int(values[row])
        if metric.top_a is not None and metric.top_a[row]:
            found[name, "top", int(metric.top_a[row])] += 1
        if metric.bins is not None and metric.counts is not None:
            for bin_, count in zip(metric.bins[row], metric.counts[row], strict=True):
                found[name, int(bin_)] += int(count)
    return +found


def by_key(inputs: GateInputs, arm_of: Any = int) -> dict[Any, Counter[Any]]:
    """Sums by block, arm, stratum and worker, added one row at a time."""
    found: dict[Any, Counter[Any]] = {}
    for row, arm in enumerate(inputs.arm.tolist()):
        key = inputs.block[row], arm_of(arm), inputs.stratum[row], inputs.worker[row]
        found[key] = _together(found.get(key, Counter()), sums_of(inputs, row))
    return {key: sums for key, sums in found.items() if sums}


def _together(one: Counter[Any], other: Counter[Any]) -> Counter[Any]:
    """Sums added; of the largest values of a metric the larger."""
    total = one + other
    tops = [key for key in total if len(key) == 3 and key[1] == "top"]
    for name in {key[0] for key in tops}:
        mine = [key for key in tops if key[0] == name]
        for key in mine:
            del total[key]
        total[max(mine)] = 1
    return total


@given(rows=ROWS, treated=st.sets(st.integers(0, BUCKETS - 1)))
def test_arms_are_the_sums_of_their_buckets(rows: list[Row], treated: set[int]) -> None:
    pool = inputs_of(rows, BLOCKS)
    is_treated = np.isin(pool.arm, [*treated])
    arms = joined(
        picked(pool, np.flatnonzero(~is_treated), CONTROL),
        picked(pool, np.flatnonzero(is_treated), TREATMENT),
    )
    keys = [*zip(arms.block, arms.arm, arms.stratum, arms.worker, strict=True)]
    assert len(keys) == len(set(keys))
    expected = by_key(pool, lambda bucket: TREATMENT if bucket in treated else CONTROL)
    assert by_key(arms) == expected
    assert arms.end_us.tolist() == pool.end_us.tolist()


@given(rows=ROWS, at=st.integers(1, BLOCKS - 1))
def test_stretches_hold_every_row_once(rows: list[Row], at: int) -> None:
    pool = inputs_of(rows, BLOCKS)
    parts = [stretch(pool, 0, at), stretch(pool, at, BLOCKS)]
    assert [*parts[0].end_us, *parts[1].end_us] == pool.end_us.tolist()
    found = by_key(parts[0])
    for (block, *key), sums in by_key(parts[1]).items():
        found[(block + at, *key)] = sums
    assert found == by_key(pool)
