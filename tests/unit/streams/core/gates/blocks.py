"""Blocks of two arms as a query would deliver them, made from requests of a seeded simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from penstock.streams.core.gates.interface import (
    CONTROL,
    PPM,
    TREATMENT,
    GateInputs,
    MetricRows,
    fine_bins_of,
)

SECOND_US = 1_000_000
Values = Sequence[float] | np.ndarray[Any, np.dtype[np.float64]]


@dataclass
class Row:
    """One (block, arm, stratum, worker): units, bad ones per rate, latencies and values."""

    block: int
    arm: int
    units: int
    bad: dict[str, int] = field(default_factory=dict)
    latencies_ms: Mapping[str, Values] = field(default_factory=dict)
    values: Mapping[str, Values] = field(default_factory=dict)
    weights: Mapping[str, Values] = field(default_factory=dict)
    stratum: str = ""
    worker: str = "w"


def inputs_of(
    rows: Sequence[Row],
    blocks: int,
    block_s: int = 10,
    first: int = 0,
    coverage: float = 1.0,
    share: float = float("nan"),
) -> GateInputs:
    """What one query delivers. Values and weights are in caps, 0 to 1."""
    names = sorted({name for row in rows for name in (*row.bad, *row.latencies_ms, *row.values)})
    return GateInputs(
        end_us=(np.arange(blocks, dtype=np.int64) + 1 + first) * block_s * SECOND_US,
        coverage=np.full(blocks, coverage),
        share=np.full(blocks, share),
        block=ints(row.block for row in rows),
        arm=ints(row.arm for row in rows),
        stratum=[row.stratum for row in rows],
        worker=[row.worker for row in rows],
        assigned=ints(row.units for row in rows),
        metrics={name: metric_rows(rows, name) for name in names},
    )


def ints(values: Any) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(list(values), np.int64)


def metric_rows(rows: Sequence[Row], name: str) -> MetricRows:
    if any(name in row.bad for row in rows):
        return MetricRows(
            ints(row.units for row in rows), bad=ints(row.bad.get(name, 0) for row in rows)
        )
    if any(name in row.latencies_ms for row in rows):
        found = [
            np.unique(
                fine_bins_of(np.array(row.latencies_ms.get(name, ()), float)), return_counts=True
            )
            for row in rows
        ]
        return MetricRows(
            ints(counts.sum() for _, counts in found),
            bins=[bins for bins, _ in found],
            counts=[counts.astype(np.int64) for _, counts in found],
        )
    pairs = []
    for row in rows:
        a = np.rint(np.clip(np.array(row.values.get(name, ()), float), 0, 1) * PPM)
        b = np.rint(np.array(row.weights.get(name, np.ones(len(a))), float) * PPM)
        pairs.append((a.astype(np.int64), b.astype(np.int64)))
    return MetricRows(
        ints(len(a) for a, _ in pairs),
        a=ints(a.sum() for a, _ in pairs),
        b=ints(b.sum() for _, b in pairs),
        aa=ints((a * a).sum() for a, _ in pairs),
        ab=ints((a * b).sum() for a, b in pairs),
        bb=ints((b * b).sum() for _, b in pairs),
        top_a=ints(a.max(initial=0) for a, _ in pairs),
        top_b=ints(b.max(initial=0) for _, b in pairs),
    )


def rate_rows(
    rng: np.random.Generator,
    blocks: int,
    per_block: tuple[int, int],
    rates: tuple[float, float],
    name: str = "error_rate",
    workers: int = 2,
) -> list[Row]:
    """Rows of one rate: (control, treatment) units per block and rates, spread over workers."""
    rows = []
    for block in range(blocks):
        for arm in (CONTROL, TREATMENT):
            for worker in range(workers):
                units = per_block[arm] // workers
                bad = int(rng.binomial(units, rates[arm]))
                rows.append(Row(block, arm, units, {name: bad}, worker=f"w{worker}"))
    return rows
