"""The quantile test on a running stream: what it remembers, and how blocks advance it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .cells import GROUPS, Cells, Workers
from .dependence import Series
from .eprocess import FloatArray
from .interface import CONTROL, TREATMENT, IntArray, MetricRows
from .quantiles import Shares, control_edges, counts_below, edges_around, log_e_quantile
from .tested import QuantileTest
from .trace import Peaks, Trace, groups_seen, least_of_blocks, left_out, mask_without, traced
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
        peaks: running maxima.
        series: of control and treatment, each block's share below the anchor.
    """

    anchor: int | None = None
    requests: IntArray = field(default_factory=lambda: np.zeros((2, GROUPS), np.int64))
    n: FloatArray = field(default_factory=lambda: np.zeros((2, GROUPS)))
    below: FloatArray = field(default_factory=lambda: np.zeros((2, GROUPS, 0)))
    squares: FloatArray = field(default_factory=lambda: np.zeros((2, GROUPS, 0)))
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
        _, trace = traced(state.peaks, zero, zero, total_requests, lambda block: 0.0)
        return state, trace
    counts = _counts(test, cells, rows, edges_around(anchor))
    n, below, squares = _running(test, state, requests, counts)

    def log_e(keep: FloatArray, blocks: slice | IntArray, direction: Direction) -> FloatArray:
        treatment, control = (
            _shares(n[blocks], below[blocks], squares[blocks], keep, arm)
            for arm in (TREATMENT, CONTROL)
        )
        return log_e_quantile(treatment, control, test.quantile, direction, test.blocks)

    everything = slice(None)
    fail = log_e(_EVERYBODY, everything, "FAIL")
    rising = np.flatnonzero(fail > state.peaks.fail)
    least = least_of_blocks(cells.seen, rising, lambda keep, some: log_e(keep, some, "FAIL"))
    peaks, trace = traced(
        state.peaks,
        fail,
        log_e(_EVERYBODY, everything, "PASS"),
        total_requests,
        lambda block: float(least[block]),
    )
    return QuantileState(
        anchor=anchor,
        requests=state.requests + requests.sum(axis=0),
        n=n[-1],
        below=below[-1],
        squares=squares[-1],
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


def _running(
    test: QuantileTest, state: QuantileState, requests: IntArray, counts: IntArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Observations, sums and squares after each block: (B, 2, 8) and twice (B, 2, 8, K)."""
    size = counts.shape[-1]
    start = state.below if state.anchor is not None else np.zeros((2, GROUPS, size))
    if not test.blocks:
        below = _cumulative(start, counts.astype(np.float64))
        return _cumulative(state.n, requests.astype(np.float64)), below, below
    there = requests > 0
    share = counts / np.where(there, requests, 1)[..., None]
    squares = state.squares if state.anchor is not None else np.zeros((2, GROUPS, size))
    return (
        _cumulative(state.n, there.astype(np.float64)),
        _cumulative(start, share),
        _cumulative(squares, share * share),
    )


def _cumulative(start: FloatArray, steps: FloatArray) -> FloatArray:
    return np.asarray(np.cumsum(np.concatenate([start[None], steps]), axis=0)[1:], np.float64)


def _shares(
    n: FloatArray, below: FloatArray, squares: FloatArray, keep: FloatArray, arm: int
) -> Shares:
    """One arm over the groups that are kept; added group by group."""
    mask = keep[arm]
    total = np.zeros_like(n[..., arm, 0])
    sums = np.zeros_like(below[..., arm, 0, :])
    second = np.zeros_like(sums)
    for group in np.flatnonzero(mask):
        total = total + n[..., arm, group]
        sums = sums + below[..., arm, group, :]
        second = second + squares[..., arm, group, :]
    return Shares(np.asarray(total)[..., None], sums, second)


def shares_of(state: QuantileState, arm: int, factor: float = 1.0) -> Shares:
    """One arm of a state, as if everything had happened `factor` times."""
    shares = _shares(state.n, state.below, state.squares, _EVERYBODY, arm)
    return Shares(shares.n * factor, shares.below * factor, shares.squares * factor)


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


def scaled_quantile(test: QuantileTest, state: QuantileState, factor: float) -> tuple[float, float]:
    """Log e-values for FAIL and PASS if everything so far had happened `factor` times."""
    if state.anchor is None:
        return 0.0, 0.0
    treatment, control = shares_of(state, TREATMENT, factor), shares_of(state, CONTROL, factor)
    return (
        float(log_e_quantile(treatment, control, test.quantile, "FAIL", test.blocks)),
        float(log_e_quantile(treatment, control, test.quantile, "PASS", test.blocks)),
    )


def least_without(
    state: QuantileState, test: QuantileTest, workers: Workers
) -> tuple[float, str] | None:
    """Smallest log e-value for FAIL over leaving out a worker, and which; None where none can be."""
    if state.anchor is None:
        return None
    found: list[tuple[float, str]] = []
    for arm, group in left_out(groups_seen(workers)):
        keep = mask_without(arm, group)
        treatment, control = (
            _shares(state.n, state.below, state.squares, keep, side)
            for side in (TREATMENT, CONTROL)
        )
        log_e = float(log_e_quantile(treatment, control, test.quantile, "FAIL", test.blocks))
        found.append((log_e, workers[arm][group]))
    return min(found) if found else None
