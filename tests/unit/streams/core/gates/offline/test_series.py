"""Blocks of a run."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.schemas.gates.offline import SeriesMetric
from penstock.streams.core.gates.offline.series import Run, autocorrelation, block_length, blocks_of

from .build import bench, times


def metric(name: str = "step_ms", statistic: str = "mean") -> SeriesMetric:
    return SeriesMetric.model_validate({"metric": name, "statistic": statistic})


@given(st.integers(1, 200), st.integers(1, 50))
def test_no_value_is_dropped(n: int, length: int) -> None:
    values = np.arange(1.0, n + 1)
    blocks = blocks_of(Run({"step_ms": values}), metric(), 0, length)
    assert blocks is not None
    assert len(blocks.values) == max(n // length, 1)
    sizes = np.full(len(blocks.values), float(length))
    sizes[-1] = n - length * (len(blocks.values) - 1)
    assert blocks.values @ sizes == pytest.approx(values.sum())


def test_statistics_of_a_block() -> None:
    run = bench(np.arange(1.0, 101.0))
    told = {}
    for name in ("mean", "median", "p90", "p95", "p99"):
        blocks = blocks_of(run, metric("step_ms", name), 0, 100)
        assert blocks is not None
        told[name] = blocks.values.tolist()
    assert told == {"mean": [50.5], "median": [51], "p90": [91], "p95": [96], "p99": [100]}


def test_a_rate_is_a_sum_by_time_and_a_stalled_last_step_counts() -> None:
    steps = np.full(20, 10.0)
    steps[-1] = 1010.0
    blocks = blocks_of(bench(steps), metric("tokens", "per_s"), 0, 10)
    assert blocks is not None
    assert blocks.values.tolist() == [3200.0, 320_000 / 1100]


def test_what_was_not_measured_is_left_out() -> None:
    values = np.array([np.nan, 1.0, np.nan, 3.0])
    blocks = blocks_of(Run({"step_ms": values}), metric(), 0, 2)
    assert blocks is not None
    assert (blocks.values.tolist(), blocks.measured) == ([2.0], 2)
    assert blocks_of(Run({"step_ms": np.full(3, np.nan)}), metric()) is None
    assert blocks_of(Run({"other": values}), metric()) is None
    assert blocks_of(Run({"tokens": values}), metric("tokens", "per_s")) is None


def test_warmup_is_left_out() -> None:
    blocks = blocks_of(bench(np.array([99.0, 1.0, 1.0])), metric(), 1, 1)
    assert blocks is not None
    assert blocks.values.tolist() == [1.0, 1.0]


def test_autocorrelation_sets_the_length_of_blocks() -> None:
    g = np.random.default_rng(2)
    noise = g.normal(0, 1, 4000)
    ar = np.zeros(4000)
    for at in range(1, 4000):
        ar[at] = 0.9 * ar[at - 1] + noise[at]
    assert autocorrelation(noise) == 0.0
    assert autocorrelation(ar) == pytest.approx(0.89, abs=0.03)
    assert autocorrelation(np.ones(100)) == autocorrelation(np.array([1.0, 2.0])) == 0.0
    assert autocorrelation(np.arange(1000.0)) == 0.98
    assert (block_length(0.0), block_length(0.9)) == (10, 190)


def test_what_never_came() -> None:
    assert bench(times(0, 90), expected=100).missing == 10
    assert bench(times(0, 90), failed=3).missing == 3
    assert bench(times(0, 90), expected=80).missing == 0
    assert len(Run({})) == 0
    assert math.isnan(Run({"x": np.array([np.nan])}).timing("x")[0])
    assert Run({}).timing("took_ms").size == 0
