"""Blocks of a live gate: gathered from what queries answer, and as the text that is stored of each.

What is stored of a block is what the gate counted, so that a verdict is computed again from it to the
last bit, whatever arrived since.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .canonical import canonical_json
from .interface import PPM, Context, GateInputs, MetricRows, Wanted, WantedMetric

Key = tuple[int, int, str, str]
"""Start of the block in us, arm, stratum, worker."""
Row = dict[str, Any]

BLOCKS_SQL = (
    "SELECT toUnixTimestamp64Micro(i.end) AS end_us, coverage, share, rows, context"
    " FROM penstock.gate_inputs AS i WHERE gate_id = {gate:String} AND epoch = {epoch:UInt32}"
    " AND spec_hash = {hash:String} AND i.end > fromUnixTimestamp64Micro({after:Int64}, 'UTC')"
    " ORDER BY i.end"
)
"""What a gate counted in an epoch, in event-time order, as rows for `block_of`."""
_NEEDED = {
    "rate": ("n", "bad"),
    "bins": ("n", "bins", "counts"),
    "moments": ("n", "a", "b", "aa", "ab", "bb", "top_a", "top_b"),
}
_UNKNOWN = {"top_a": PPM, "top_b": PPM}
"""Of requests whose largest value nobody counted, or of which there are none."""


@dataclass(frozen=True, slots=True)
class Block:
    """One closed block of a gate.

    Attributes:
        end_us: its end.
        coverage: share of the fleet's events that was received in the minute that it ends, None unknown.
        share: configured share of the treatment, None where no marker states it.
        text: what was counted; of absolute and budget gates, which have no blocks, what they evaluated.
        context: what was known beside it, of the evaluation that read it.
    """

    end_us: int
    coverage: float | None
    share: float | None
    text: str
    context: Context


def block_of(row: Mapping[str, Any]) -> Block:
    """A row of `BLOCKS_SQL`."""
    context = Context(**json.loads(row["context"]))
    return Block(int(row["end_us"]), row["coverage"], row["share"], row["rows"], context)


def evaluations(wanted: Wanted, blocks: Sequence[Block]) -> list[tuple[GateInputs, Context]]:
    """Blocks as they were counted: those of one evaluation together, with what it knew."""
    groups: list[list[Block]] = []
    for block in blocks:
        if not groups or groups[-1][-1].context != block.context:
            groups.append([])
        groups[-1].append(block)
    return [(inputs_of(wanted, group), group[-1].context) for group in groups]


def block_texts(
    wanted: Wanted, starts_us: Sequence[int], assigned: Mapping[Key, int], sums: Mapping[Key, Row]
) -> list[str]:
    """What is counted in each block, as canonical JSON: a list of its rows.

    Args:
        wanted: what the gate needs.
        starts_us: of the blocks.
        assigned: units by row.
        sums: by row, then by metric, its sums; what is absent is zero.
    """
    keys = sorted({*assigned, *sums})
    rows: dict[int, list[Row]] = {start_us: [] for start_us in starts_us}
    for key in keys:
        start_us, arm, stratum, worker = key
        found = sums.get(key, {})
        rows[start_us].append(
            {
                "arm": arm,
                "stratum": stratum,
                "worker": worker,
                "assigned": assigned.get(key, 0),
                "metrics": {
                    metric.name: {**_nothing(metric), **found.get(metric.name, {})}
                    for metric in wanted.metrics
                },
            }
        )
    return [canonical_json(rows[start_us]) for start_us in starts_us]


def inputs_of(wanted: Wanted, blocks: Sequence[Block]) -> GateInputs:
    """Blocks in event-time order as a gate counts them.

    Raises:
        ValueError: the text of one is not what `block_texts` makes.
    """
    rows: list[Row] = []
    block: list[int] = []
    for at, counted in enumerate(blocks):
        found = json.loads(counted.text)
        rows += found
        block += [at] * len(found)
    try:
        metrics = {metric.name: _metric(metric, rows) for metric in wanted.metrics}
        return GateInputs(
            end_us=np.array([counted.end_us for counted in blocks], np.int64),
            coverage=_floats([counted.coverage for counted in blocks]),
            share=_floats([counted.share for counted in blocks]),
            block=np.array(block, np.int64),
            arm=_ints(rows, "arm"),
            stratum=[row["stratum"] for row in rows],
            worker=[row["worker"] for row in rows],
            assigned=_ints(rows, "assigned"),
            metrics=metrics,
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not what a gate counts in a block: {error}") from error


def _nothing(metric: WantedMetric) -> Row:
    zeros: Row = {name: [] if name in ("bins", "counts") else 0 for name in _NEEDED[metric.kind]}
    return zeros | _UNKNOWN if metric.kind == "moments" else zeros


def _metric(metric: WantedMetric, rows: Sequence[Row]) -> MetricRows:
    mine = [_UNKNOWN | row["metrics"][metric.name] for row in rows]
    needed = _NEEDED[metric.kind]
    arrays: dict[str, Any] = {
        name: [np.array(row[name], np.int64) for row in mine]
        if name in ("bins", "counts")
        else _ints(mine, name)
        for name in needed
    }
    return MetricRows(**arrays)


def _ints(rows: Sequence[Row], name: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array([row[name] for row in rows], np.int64)


def _floats(values: Sequence[float | None]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([math.nan if value is None else value for value in values], np.float64)
