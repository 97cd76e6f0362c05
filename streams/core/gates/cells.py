"""Rows of a query as the tests count them: sorted, and by group of workers.

Leave-one-worker-out needs sums per worker, and fleets can be large: each arm's first seven workers
are groups of their own, all later ones share the eighth. Leaving out a group leaves out at least the
worker, so a FAIL that survives it does not rest on one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .interface import SUMS, GateInputs, IntArray, MetricRows

GROUPS = 8

Workers = tuple[tuple[str, ...], tuple[str, ...]]
"""Names of the groups of control and of treatment, in the order of their first appearance."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Rows of some blocks, sorted by block, stratum, arm and worker.

    Attributes:
        blocks: number of blocks.
        block, arm, group: of each row, shape (N,).
        cell: number of the (block, stratum) of each row, ascending, shape (N,).
        cell_block: block of each (block, stratum), shape (P,).
        assigned: units assigned, shape (N,).
        seen: groups of control and of treatment that had appeared by the end of each block, (B, 2).
        metrics: sums of each row.
    """

    blocks: int
    block: IntArray
    arm: IntArray
    group: IntArray
    cell: IntArray
    cell_block: IntArray
    assigned: IntArray
    seen: IntArray
    metrics: Mapping[str, MetricRows]

    def table(self, values: IntArray) -> IntArray:
        """Sums per (block, stratum), arm and group, shape (P, 2, 8)."""
        out = np.zeros((len(self.cell_block), 2, GROUPS), np.int64)
        np.add.at(out, (self.cell, self.arm, self.group), values)
        return out

    def per_block(self, values: IntArray) -> IntArray:
        """Sums per block, arm and group, shape (B, 2, 8)."""
        out = np.zeros((self.blocks, 2, GROUPS), np.int64)
        np.add.at(out, (self.block, self.arm, self.group), values)
        return out

    def highest(self, values: IntArray) -> IntArray:
        """Largest value per block, arm and group, 0 without rows, shape (B, 2, 8)."""
        out = np.zeros((self.blocks, 2, GROUPS), np.int64)
        np.maximum.at(out, (self.block, self.arm, self.group), values)
        return out


def cells_of(inputs: GateInputs, start: int, stop: int, workers: Workers) -> tuple[Cells, Workers]:
    """The rows of blocks `start` up to `stop`, renumbered from 0, and the groups known after them.

    Raises:
        ValueError: rows that no correct caller sends.
    """
    check_rows(inputs)
    inside = np.flatnonzero((inputs.block >= start) & (inputs.block < stop))
    order = sorted(
        inside.tolist(),
        key=lambda row: (
            int(inputs.block[row]), inputs.stratum[row], int(inputs.arm[row]), inputs.worker[row]
        ),
    )  # fmt: skip
    names = [list(workers[0]), list(workers[1])]
    groups = [_group(names[int(inputs.arm[row])], inputs.worker[row]) for row in order]
    keys = [(int(inputs.block[row]) - start, inputs.stratum[row]) for row in order]
    distinct = sorted(set(keys))
    numbers = {key: number for number, key in enumerate(distinct)}
    taken = np.array(order, np.int64)
    return Cells(
        blocks=stop - start,
        block=inputs.block[taken] - start,
        arm=inputs.arm[taken],
        group=np.array(groups, np.int64),
        cell=np.array([numbers[key] for key in keys], np.int64),
        cell_block=np.array([block for block, _ in distinct], np.int64),
        assigned=inputs.assigned[taken],
        seen=_seen(workers, inputs.block[taken] - start, inputs.arm[taken], groups, stop - start),
        metrics={name: _rows(rows, taken) for name, rows in inputs.metrics.items()},
    ), (tuple(names[0]), tuple(names[1]))


def _group(known: list[str], worker: str) -> int:
    if worker in known:
        return known.index(worker)
    if len(known) < GROUPS - 1:
        known.append(worker)
        return len(known) - 1
    if len(known) < GROUPS:
        known.append("(others)")
    return GROUPS - 1


def _seen(
    before: Workers, block: IntArray, arm: IntArray, groups: Sequence[int], blocks: int
) -> IntArray:
    found = np.zeros((blocks, 2), np.int64)
    np.maximum.at(found, (block, arm), np.array(groups, np.int64) + 1)
    known = np.array([[len(before[0]), len(before[1])]], np.int64)
    return np.asarray(np.maximum.accumulate(np.concatenate([known, found]))[1:], np.int64)


def _rows(rows: MetricRows, taken: IntArray) -> MetricRows:
    def pick(values: IntArray | None) -> IntArray | None:
        return None if values is None else values[taken]

    def pick_all(values: Sequence[IntArray] | None) -> Sequence[IntArray] | None:
        return None if values is None else [values[row] for row in taken]

    return MetricRows(
        n=rows.n[taken],
        bad=pick(rows.bad),
        bins=pick_all(rows.bins),
        counts=pick_all(rows.counts),
        a=pick(rows.a),
        b=pick(rows.b),
        aa=pick(rows.aa),
        ab=pick(rows.ab),
        bb=pick(rows.bb),
        top_a=pick(rows.top_a),
        top_b=pick(rows.top_b),
    )


def check_rows(inputs: GateInputs) -> None:
    """Refuse arrays that no correct caller sends.

    Raises:
        ValueError: naming what is wrong.
    """
    blocks, rows = len(inputs.end_us), len(inputs.block)
    if blocks > 1 and not bool(np.all(np.diff(inputs.end_us) > 0)):
        raise ValueError("end_us must increase strictly")
    if len(inputs.coverage) != blocks or len(inputs.share) != blocks:
        raise ValueError(f"coverage and share must have {blocks} blocks")
    if rows and not (int(inputs.block.min()) >= 0 and int(inputs.block.max()) < blocks):
        raise ValueError("block must be positions in end_us")
    if rows and not bool(np.isin(inputs.arm, (0, 1)).all()):
        raise ValueError("arm must be 0 (control) or 1 (treatment)")
    lengths = {len(inputs.arm), len(inputs.stratum), len(inputs.worker), len(inputs.assigned)}
    if lengths != {rows}:
        raise ValueError(f"arm, stratum, worker and assigned must have {rows} rows")
    for name, metric in inputs.metrics.items():
        for column in SUMS:
            _check_column(name, getattr(metric, column), rows)


def _check_column(name: str, column: IntArray | None, rows: int) -> None:
    if column is None:
        return
    if len(column) != rows:
        raise ValueError(f"the sums of {name} must have {rows} rows")
    if rows and int(column.min()) < 0:
        raise ValueError(f"the sums of {name} must not be negative")


def contradictory(cells: Cells) -> npt.NDArray[np.bool_]:
    """Blocks whose sums contradict themselves, shape (B,): more bad units than units, and the like."""
    broken = np.zeros(cells.blocks, np.bool_)
    for rows in cells.metrics.values():
        wrong = np.zeros(len(cells.block), np.bool_)
        if rows.bad is not None:
            wrong |= rows.bad > rows.n
        if rows.counts is not None:
            wrong |= np.array([int(c.sum()) for c in rows.counts], np.int64) != rows.n
        if rows.a is not None and rows.b is not None:
            wrong |= (rows.a > rows.n * 1_000_000) | (rows.b > rows.n * 1_000_000)
        broken[cells.block[wrong]] = True
    return broken
