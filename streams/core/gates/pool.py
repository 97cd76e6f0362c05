"""Rows of closed blocks, put together anew: parts of them as arms of a comparison.

Every sum of `GateInputs` is a sum over units or requests (or their largest value), so the rows of any set
of buckets of traffic, put together, are what the query of a gate would have delivered of that set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .blocks import Block, Key, Row, block_texts, inputs_of
from .interface import SUMS, Context, GateInputs, IntArray, MetricRows, Wanted

_BINS = 1 << 16


def pool_of(
    wanted: Wanted,
    starts_us: Sequence[int],
    assigned: Mapping[Key, int],
    sums: Mapping[Key, Mapping[str, Row]],
    coverage: Sequence[float | None],
) -> GateInputs:
    """Closed blocks whose column `arm` is a bucket (split.py).

    Args:
        wanted: what the gate needs.
        starts_us: of the blocks, those without rows too.
        assigned, sums: as `query.gathered` gives them.
        coverage: of each block, None where it is unknown.
    """
    texts = block_texts(wanted, starts_us, assigned, {key: dict(row) for key, row in sums.items()})
    block_us = wanted.block_s * 1_000_000
    blocks = [
        Block(start_us + block_us, share, None, text, Context(0))
        for start_us, share, text in zip(starts_us, coverage, texts, strict=True)
    ]
    return inputs_of(wanted, blocks)


def picked(inputs: GateInputs, rows: IntArray, arm: int) -> GateInputs:
    """Some rows, as one arm.

    Args:
        inputs: closed blocks; all of them stay.
        rows: positions of the rows.
        arm: what they become.
    """
    return replace(
        inputs,
        block=inputs.block[rows],
        arm=np.full(len(rows), arm, np.int64),
        stratum=_texts(inputs.stratum, rows),
        worker=_texts(inputs.worker, rows),
        assigned=inputs.assigned[rows],
        metrics={name: _picked(metric, rows) for name, metric in inputs.metrics.items()},
    )


def stretch(inputs: GateInputs, low: int, high: int) -> GateInputs:
    """Blocks `low` up to `high`, and their rows."""
    rows = np.flatnonzero((inputs.block >= low) & (inputs.block < high))
    found = picked(inputs, rows, 0)
    return replace(
        found,
        end_us=inputs.end_us[low:high],
        coverage=inputs.coverage[low:high],
        share=inputs.share[low:high],
        block=found.block - low,
        arm=inputs.arm[rows],
    )


def joined(one: GateInputs, other: GateInputs) -> GateInputs:
    """Rows of both, which are of the same blocks; those of one block, arm, stratum and worker added.

    The coverage and the share are those of `one`.
    """
    block = np.concatenate([one.block, other.block])
    arm = np.concatenate([one.arm, other.arm])
    strata, workers = [*one.stratum, *other.stratum], [*one.worker, *other.worker]
    stratum, stratum_names = _numbered(strata)
    worker, worker_names = _numbered(workers)
    key = ((block * 2 + arm) * len(stratum_names) + stratum) * len(worker_names) + worker
    _, first, row = np.unique(key, return_index=True, return_inverse=True)
    return replace(
        one,
        block=block[first],
        arm=arm[first],
        stratum=_texts(strata, first),
        worker=_texts(workers, first),
        assigned=_added(row, len(first), np.concatenate([one.assigned, other.assigned])),
        metrics={
            name: _joined(one.metrics[name], other.metrics[name], row, len(first))
            for name in one.metrics
        },
    )


def _picked(metric: MetricRows, rows: IntArray) -> MetricRows:
    sums: dict[str, Any] = {
        name: found[rows] for name in SUMS if (found := getattr(metric, name)) is not None
    }
    if metric.bins is None or metric.counts is None:
        return MetricRows(**sums)
    return MetricRows(
        **sums,
        bins=[metric.bins[row] for row in rows],
        counts=[metric.counts[row] for row in rows],
    )


def _joined(one: MetricRows, other: MetricRows, row: IntArray, size: int) -> MetricRows:
    sums: dict[str, Any] = {
        name: (_highest if name.startswith("top_") else _added)(
            row, size, np.concatenate([getattr(one, name), getattr(other, name)])
        )
        for name in SUMS
        if getattr(one, name) is not None
    }
    if one.bins is None or one.counts is None:
        return MetricRows(**sums)
    assert other.bins is not None
    assert other.counts is not None
    bins, counts = _histograms([*one.bins, *other.bins], [*one.counts, *other.counts], row, size)
    return MetricRows(**sums, bins=bins, counts=counts)


def _histograms(
    bins: Sequence[IntArray], counts: Sequence[IntArray], row: IntArray, size: int
) -> tuple[list[IntArray], list[IntArray]]:
    """Histograms of the same new row, added."""
    none = np.empty(0, np.int64)
    lengths = [len(found) for found in bins]
    key = np.repeat(row, lengths) * _BINS + np.concatenate([none, *bins])
    distinct, at = np.unique(key, return_inverse=True)
    total = _added(at, len(distinct), np.concatenate([none, *counts]))
    ends = np.searchsorted(distinct // _BINS, np.arange(1, size))
    return np.split(distinct % _BINS, ends), np.split(total, ends)


def _texts(texts: Sequence[str], rows: IntArray) -> list[str]:
    return list(np.array(texts, object)[rows])


def _numbered(names: Sequence[str]) -> tuple[IntArray, list[str]]:
    """Position of each name among the different ones."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], np.int64), [*numbers]


def _added(row: IntArray, size: int, values: IntArray) -> IntArray:
    out = np.zeros(size, np.int64)
    np.add.at(out, row, values)
    return out


def _highest(row: IntArray, size: int, values: IntArray) -> IntArray:
    out = np.zeros(size, np.int64)
    np.maximum.at(out, row, values)
    return out
