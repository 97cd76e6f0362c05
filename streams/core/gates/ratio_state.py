"""The rate-ratio test on a running stream: what it remembers, and how blocks advance it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from .cells import GROUPS, Cells, Workers
from .dependence import Series
from .eprocess import BetaPrior, FloatArray, log_e_below
from .interface import CONTROL, TREATMENT, IntArray
from .tested import RatioTest
from .trace import Peaks, Trace, least_of_blocks, traced, views_without, weakest_group
from .two_arm import NODES, Grid, grid_of, log_e_ratio, log_likelihood_steps

VIEWS = 1 + 2 * GROUPS
"""All workers, then all but each group of control, then all but each group of treatment."""


def _zeros() -> FloatArray:
    return np.zeros((VIEWS, NODES))


@dataclass(frozen=True, slots=True)
class RatioState:
    """Totals and log likelihoods of one rate by ratio.

    Attributes:
        n, bad: units and bad ones of each arm and group, shape (2, 8).
        fail: log L_r at the nodes for FAIL, of each view, shape (17, 48).
        passed: log L_r at the nodes for PASS, shape (48,).
        expected: Mantel-Haenszel sums: of bad1 n0 / N and of bad0 n1 / N over panes and strata.
        peaks: running maxima.
        series: block rates of control and treatment.
    """

    n: IntArray = field(default_factory=lambda: np.zeros((2, GROUPS), np.int64))
    bad: IntArray = field(default_factory=lambda: np.zeros((2, GROUPS), np.int64))
    fail: FloatArray = field(default_factory=_zeros)
    passed: FloatArray = field(default_factory=lambda: np.zeros(NODES))
    expected: tuple[float, float] = (0.0, 0.0)
    peaks: Peaks = field(default_factory=Peaks)
    series: tuple[Series, Series] = field(default_factory=lambda: (Series(), Series()))

    @property
    def estimate(self) -> float | None:
        """Mantel-Haenszel rate ratio; None without a bad unit in control."""
        return self.expected[0] / self.expected[1] if self.expected[1] > 0 else None


def advance_ratio(test: RatioTest, state: RatioState, cells: Cells) -> tuple[RatioState, Trace]:
    """Count further blocks; the result does not depend on how they are grouped into calls."""
    rows = cells.metrics[test.name]
    if rows.bad is None:
        raise ValueError(f"the sums of {test.name} must have bad")
    n, bad = cells.table(rows.n), cells.table(rows.bad)
    fail, passed = grid_of(test.margin, "FAIL"), grid_of(test.margin, "PASS")
    views = _views(state.fail, n, bad, cells, fail)
    likelihood = _accumulated(state.passed, _steps(n, bad, passed), cells)
    units = state.n.sum(axis=1) + np.cumsum(cells.per_block(rows.n).sum(axis=2), axis=0)
    bad_units = state.bad.sum(axis=1) + np.cumsum(cells.per_block(rows.bad).sum(axis=2), axis=0)
    log_pass = log_e_ratio(likelihood, passed)
    if test.floor is not None:
        log_pass = _with_floor(log_pass, bad_units[:, TREATMENT], units[:, TREATMENT], test.floor)
    log_fail = log_e_ratio(views[0], fail)

    peaks, trace = traced(
        state.peaks,
        log_fail,
        log_pass,
        units,
        lambda rising: least_of_blocks(
            cells.seen,
            rising,
            lambda arm, group, some: log_e_ratio(views[1 + arm * GROUPS + group][some], fail),
        ),
    )
    if cells.blocks == 0:
        return state, trace
    return RatioState(
        n=state.n + n.sum(axis=0),
        bad=state.bad + bad.sum(axis=0),
        fail=np.stack([view[-1] for view in views]),
        passed=likelihood[-1],
        expected=_mantel_haenszel(state.expected, n.sum(axis=2), bad.sum(axis=2)),
        peaks=peaks,
        series=rate_series(state.series, cells.per_block(rows.n), cells.per_block(rows.bad)),
    ), trace


def _views(
    start: FloatArray, n: IntArray, bad: IntArray, cells: Cells, grid: Grid
) -> list[FloatArray]:
    """Log L_r after each block, of every view: (B, 48) each."""
    everything, seen = _steps(n, bad, grid), cells.seen
    views = [_accumulated(start[0], everything, cells)]
    for arm in (CONTROL, TREATMENT):
        for group in range(GROUPS):
            at = 1 + arm * GROUPS + group
            if not len(seen) or group >= seen[-1, arm]:
                views.append(views[0])  # nobody to leave out yet: the same as all
                continue
            steps = everything.copy()
            there = np.flatnonzero(n[:, arm, group] > 0)
            fewer_n, fewer_bad = n[there].copy(), bad[there].copy()
            fewer_n[:, arm, group] = fewer_bad[:, arm, group] = 0
            steps[there] = _steps(fewer_n, fewer_bad, grid)
            views.append(_accumulated(start[at], steps, cells))
    return views


def _steps(n: IntArray, bad: IntArray, grid: Grid) -> FloatArray:
    units, failed = n.sum(axis=2), bad.sum(axis=2)
    return log_likelihood_steps(
        failed[:, TREATMENT], failed[:, CONTROL], units[:, TREATMENT], units[:, CONTROL], grid
    )


def _accumulated(start: FloatArray, steps: FloatArray, cells: Cells) -> FloatArray:
    """start plus the steps of all blocks up to each, shape (B, nodes)."""
    blocks = np.zeros((cells.blocks, steps.shape[1]))
    np.add.at(blocks, cells.cell_block, steps)
    return np.cumsum(np.concatenate([start[None], blocks]), axis=0)[1:]


def _with_floor(log_pass: FloatArray, bad: IntArray, n: IntArray, floor: float) -> FloatArray:
    """Half the mean of two e-values: within the margin, or the treatment alone below its floor."""
    below = log_e_below(bad, n, floor, _prior(floor))
    return np.asarray(np.logaddexp(log_pass, below) - np.log(2.0), np.float64)


@lru_cache(maxsize=64)
def _prior(rate: float) -> BetaPrior:
    return BetaPrior.around(rate)


def _mantel_haenszel(
    before: tuple[float, float], n: IntArray, bad: IntArray
) -> tuple[float, float]:
    total = n.sum(axis=1)
    some = total > 0
    safe = np.where(some, total, 1)
    up = np.where(some, bad[:, TREATMENT] * n[:, CONTROL] / safe, 0.0)
    down = np.where(some, bad[:, CONTROL] * n[:, TREATMENT] / safe, 0.0)
    return (
        float(np.cumsum(np.concatenate([[before[0]], up]))[-1]),
        float(np.cumsum(np.concatenate([[before[1]], down]))[-1]),
    )


def rate_series(before: tuple[Series, Series], n: IntArray, bad: IntArray) -> tuple[Series, Series]:
    """The block rates of both arms, one block more for each with units."""
    found = list(before)
    units, failed = n.sum(axis=2), bad.sum(axis=2)
    for block in range(len(units)):
        for arm in (CONTROL, TREATMENT):
            count = int(units[block, arm])
            rate = float(failed[block, arm]) / count if count else 0.0
            found[arm] = found[arm].add(rate, count)
    return found[0], found[1]


def scaled_ratio(
    test: RatioTest, state: RatioState, factors: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Log e-values for FAIL and PASS if everything so far had happened so many times, shape (F,)."""
    times = factors[:, None]
    fail = log_e_ratio(state.fail[0] * times, grid_of(test.margin, "FAIL"))
    passed = log_e_ratio(state.passed * times, grid_of(test.margin, "PASS"))
    if test.floor is not None:
        n, bad = (float(v[TREATMENT].sum()) * factors for v in (state.n, state.bad))
        below = log_e_below(bad, n, test.floor, _prior(test.floor))
        passed = np.asarray(np.logaddexp(passed, below) - np.log(2.0), np.float64)
    return fail, passed


def least_without(state: RatioState, test: RatioTest, workers: Workers) -> tuple[float, str] | None:
    """Smallest log e-value for FAIL over leaving out a worker, and which; None where none can be."""
    grid = grid_of(test.margin, "FAIL")
    return weakest_group(workers, lambda out: log_e_ratio(state.fail[views_without(out)], grid))
