"""The quantile test on a running stream: what it remembers, and how blocks advance it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .cells import GROUPS, Cells, Workers
from .dependence import Series
from .eprocess import FloatArray
from .interface import CONTROL, TREATMENT, IntArray, MetricRows
from .quantiles import Shares, control_edges, counts_below, edges_around, log_e_quantile
from .tested import QuantileTest
from .trace import Peaks, Trace, least_of_blocks, mask_without, masks_without, traced, weakest_group
from .two_arm import Direction


@dataclass(frozen=True, slots=True)
class QuantileState:
    """Shares below each edge, of one latency.

    Attributes:
        anchor: bin that the edges lie around; None before the first request.
        requests: requests of each arm and group, shape (2, 8).
        n: observations (requests or blocks), shape (2, 8).
        below: sum of shares at or below each edge, shape (2, 8, K).
        squares: sum of their squares, shape (2, 8, K); `below` again where requests are observations.
        least: smallest share of any block, 1 before the first, shape (2, 8, K); requests have none.
        peaks: running maxima.
        series: of control and treatment, each block's share below the anchor.
    """

    anchor: int | None = None
    requests: IntArray = field(default_factory=lambda: np.zeros((2, GROUPS), np.int64))
    n: FloatArray = field(default_factory=lambda: np.zeros((2, GROUPS)))
    below: FloatArray = field(default_factory=lambda: np.zeros((2, GROUPS, 0)))
    squares: FloatArray = field(default_factory=lambda: np.zeros((2, GROUPS, 0)))
    least: FloatArray = field(default_factory=lambda: np.ones((2, GROUPS, 0)))
    peaks: Peaks = field(default_factory=Peaks)
    series: tuple[Series, Series] = field(default_factory=lambda: (Series(), Series()))

    @property
    def edges(self) -> IntArray:
        """The treatment's edges."""
        return edges_around(self.anchor or 0)


def advance_quantile(
    test: QuantileTest, state: QuantileState, cells: Cells
) -> tuple[QuantileState, Trace]:
    """Count further blocks; the result does not depend on how they are grouped into calls."""
    rows = cells.metrics[test.name]
    if rows.bins is None or rows.counts is None:
        raise ValueError(f"the sums of {test.name} must have bins and counts")
    requests = cells.per_block(rows.n)
    total_requests = state.requests.sum(axis=1) + np.cumsum(requests.sum(axis=2), axis=0)
    anchor = state.anchor if state.anchor is not None else _anchor(test, cells, rows)
    if anchor is None:
        zero = np.zeros(cells.blocks)
        _, trace = traced(state.peaks, zero, zero, total_requests, lambda rising: zero)
        return state, trace
    counts = _counts(test, cells, rows, edges_around(anchor))
    sums = _running(test, state, requests, counts)

    def log_e(keep: FloatArray, blocks: slice | IntArray, direction: Direction) -> FloatArray:
        treatment, control = (sums.at(blocks).kept(keep, arm) for arm in (TREATMENT, CONTROL))
        return log_e_quantile(treatment, control, test.quantile, direction, test.blocks)

    everything = slice(None)
    fail = log_e(_EVERYBODY, everything, "FAIL")
    peaks, trace = traced(
        state.peaks,
        fail,
        log_e(_EVERYBODY, everything, "PASS"),
        total_requests,
        lambda rising: least_of_blocks(
            cells.seen,
            rising,
            lambda arm, group, some: log_e(mask_without(arm, group), some, "FAIL"),
        ),
    )
    return QuantileState(
        anchor=anchor,
        requests=state.requests + requests.sum(axis=0),
        n=sums.n[-1],
        below=sums.below[-1],
        squares=sums.squares[-1],
        least=sums.least[-1],
        peaks=peaks,
        series=_series(state, requests, counts, anchor),
    ), trace


_EVERYBODY = np.ones((2, GROUPS))


def _anchor(test: QuantileTest, cells: Cells, rows: MetricRows) -> int | None:
    """The bin of the quantile of the first block with requests, over both arms."""
    assert rows.bins is not None
    assert rows.counts is not None
    there = np.flatnonzero(rows.n > 0)
    if not len(there):
        return None
    first = int(cells.block[there[0]])
    mine = [row for row in there.tolist() if cells.block[row] == first]
    bins = np.concatenate([rows.bins[row] for row in mine])
    counts = np.concatenate([rows.counts[row] for row in mine])
    order = np.argsort(bins, kind="stable")
    rank = np.searchsorted(np.cumsum(counts[order]), test.quantile * counts.sum())
    return int(bins[order][min(int(rank), len(bins) - 1)])


def _counts(test: QuantileTest, cells: Cells, rows: MetricRows, edges: IntArray) -> IntArray:
    """Requests at or below each edge, per block, arm and group, shape (B, 2, 8, K)."""
    assert rows.bins is not None
    assert rows.counts is not None
    at = (control_edges(edges, test.bins), edges)
    out = np.zeros((cells.blocks, 2, GROUPS, len(edges)), np.int64)
    for row in range(len(cells.block)):
        arm = int(cells.arm[row])
        found = counts_below(rows.bins[row], rows.counts[row], at[arm])
        out[cells.block[row], arm, cells.group[row]] += found
    return out


@dataclass(frozen=True, slots=True)
class _Sums:
    """What `QuantileState` keeps of observations, after each of some blocks: (B, 2, 8[, K])."""

    n: FloatArray
    below: FloatArray
    squares: FloatArray
    least: FloatArray

    def at(self, blocks: slice | IntArray) -> _Sums:
        """Some of the blocks."""
        return _Sums(self.n[blocks], self.below[blocks], self.squares[blocks], self.least[blocks])

    def kept(self, keep: FloatArray, arm: int) -> Shares:
        """One arm over the groups that are kept, shape (..., 2, 8); added group by group."""
        total, below, squares, least = np.zeros(()), np.zeros(1), np.zeros(1), np.ones(1)
        for group in range(GROUPS):
            mine = keep[..., arm, group]
            total = total + mine * self.n[..., arm, group]
            below = below + mine[..., None] * self.below[..., arm, group, :]
            squares = squares + mine[..., None] * self.squares[..., arm, group, :]
            lowest = np.where(mine[..., None] > 0, self.least[..., arm, group, :], 1.0)
            least = np.minimum(least, lowest)
        return Shares(np.asarray(total)[..., None], below, squares, least)


def _running(
    test: QuantileTest, state: QuantileState, requests: IntArray, counts: IntArray
) -> _Sums:
    """Sums after each block."""
    empty = np.zeros((2, GROUPS, counts.shape[-1] if state.anchor is None else 0))
    start = empty if state.anchor is None else state.below
    if not test.blocks:
        below = _cumulative(start, counts.astype(np.float64))
        none = np.zeros((*below.shape[:-1], 0))
        return _Sums(_cumulative(state.n, requests.astype(np.float64)), below, below, none)
    there = requests > 0
    share = counts / np.where(there, requests, 1)[..., None]
    lowest = np.where(there[..., None], share, 1.0)
    first = empty + 1.0 if state.anchor is None else state.least
    return _Sums(
        _cumulative(state.n, there.astype(np.float64)),
        _cumulative(start, share),
        _cumulative(empty if state.anchor is None else state.squares, share * share),
        np.minimum.accumulate(np.concatenate([first[None], lowest]), axis=0)[1:],
    )


def _cumulative(start: FloatArray, steps: FloatArray) -> FloatArray:
    return np.asarray(np.cumsum(np.concatenate([start[None], steps]), axis=0)[1:], np.float64)


def _kept(state: QuantileState, keep: FloatArray, arm: int) -> Shares:
    return _Sums(state.n, state.below, state.squares, state.least).kept(keep, arm)


def shares_of(state: QuantileState, arm: int) -> Shares:
    """One arm of a state."""
    return _kept(state, _EVERYBODY, arm)


def _series(
    state: QuantileState, requests: IntArray, counts: IntArray, anchor: int
) -> tuple[Series, Series]:
    """Each block's share below the anchor."""
    at = int(np.searchsorted(edges_around(anchor), anchor))
    found = list(state.series)
    units, below = requests.sum(axis=2), counts[..., at].sum(axis=2)
    for block in range(len(units)):
        for arm in (CONTROL, TREATMENT):
            n = int(units[block, arm])
            found[arm] = found[arm].add(float(below[block, arm]) / n if n else 0.0, n)
    return found[0], found[1]


def scaled_quantile(
    test: QuantileTest, state: QuantileState, factors: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Log e-values for FAIL and PASS if everything so far had happened so many times, shape (F,)."""
    if state.anchor is None:
        return np.zeros(len(factors)), np.zeros(len(factors))
    times = factors[:, None]
    treatment, control = (
        replace(
            shares, n=shares.n * times, below=shares.below * times, squares=shares.squares * times
        )
        for shares in (shares_of(state, TREATMENT), shares_of(state, CONTROL))
    )
    return (
        log_e_quantile(treatment, control, test.quantile, "FAIL", test.blocks),
        log_e_quantile(treatment, control, test.quantile, "PASS", test.blocks),
    )


def least_without(
    state: QuantileState, test: QuantileTest, workers: Workers
) -> tuple[float, str] | None:
    """Smallest log e-value for FAIL over leaving out a worker, and which; None where none can be."""
    if state.anchor is None:
        return None

    def log_e(out: Sequence[tuple[int, int]]) -> FloatArray:
        keep = masks_without(out)
        treatment, control = (_kept(state, keep, side) for side in (TREATMENT, CONTROL))
        return log_e_quantile(treatment, control, test.quantile, "FAIL", test.blocks)

    return weakest_group(workers, log_e)
