"""Absolute gates: false verdicts at the limit, and how soon true ones come, as rows.

The rival is the test most scripts use: a one-sided z-test of the rate at the same nominal level, asked
again at every cell. Time to a verdict is held against the fixed sample that has 80 % power at one look.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from penstock.benchmarks._simulation_counts import Run
from penstock.benchmarks._simulation_streams import FloatArray, IntArray
from penstock.benchmarks._simulation_table import (
    EVER_FAIL,
    EVER_PASS,
    MEDIAN,
    OURS,
    Row,
    median,
    percent,
    three_errors,
)
from penstock.streams.core.gates.betting import BettingState, advance
from penstock.streams.core.gates.eprocess import BetaPrior, log_e_above, log_e_below
from scipy.stats import norm

CELLS = 400
AT_LIMIT = "Absolute: rate exactly at the limit"
TIME = "Absolute: time to a true verdict"
COST = "Absolute: cost by betting, values in caps"
_CASES = (
    (0.05, 1.2, "FAIL"),
    (0.05, 1.5, "FAIL"),
    (0.05, 2.0, "FAIL"),
    (0.001, 3.0, "FAIL"),
    (0.05, 0.8, "PASS"),
    (0.05, 0.5, "PASS"),
    (0.05, 0.2, "PASS"),
    (0.001, 0.5, "PASS"),
    (0.001, 0.0, "PASS"),
)
_PRIORS = (1.0, 0.25, 4.0, 16.0)
_LEVEL = {"FAIL": 0.01, "PASS": 0.05}
_HORIZON = f"{CELLS} cells"


def simulate(run: Run) -> Iterator[Row]:
    """Every row of this module."""
    yield from false_verdicts(run)
    yield from decision_times(run)
    yield from costs(run)


def streams_of(
    rng: np.random.Generator, rate: float, per_cell: int, streams: int
) -> tuple[IntArray, IntArray]:
    """Bad units and units after each cell, shape (S, 400)."""
    bad = rng.binomial(per_cell, rate, (streams, CELLS)).cumsum(axis=1)
    return bad, np.broadcast_to(np.arange(1, CELLS + 1) * per_cell, bad.shape)


def crossings(
    bad: IntArray, units: IntArray, limit: float, direction: str, alpha: float, prior: float = 1.0
) -> npt.NDArray[np.bool_]:
    """Where the e-value is at its threshold; `prior` is its weight in bad units."""
    test = log_e_above if direction == "FAIL" else log_e_below
    values = test(bad.ravel(), units.ravel(), limit, BetaPrior.around(limit, prior))
    return np.asarray(values.reshape(bad.shape) >= math.log(1 / alpha))


def z_crossings(
    bad: IntArray, units: IntArray, limit: float, direction: str, alpha: float
) -> npt.NDArray[np.bool_]:
    """Where the z-test rejects."""
    z = (bad - units * limit) / np.sqrt(units * limit * (1 - limit))
    return np.asarray((z if direction == "FAIL" else -z) >= norm.isf(alpha))


def fixed_sample(limit: float, rate: float, alpha: float) -> float:
    """Units of a one-look normal test with 80 % power."""
    spread = norm.isf(alpha) * math.sqrt(limit * (1 - limit))
    spread += norm.isf(0.2) * math.sqrt(rate * (1 - rate))
    return float((spread / (rate - limit)) ** 2)


def false_verdicts(run: Run) -> Iterator[Row]:
    """Ever decided, with the rate at the limit."""
    for at, (limit, per_cell) in enumerate(((0.001, 100), (0.01, 20), (0.05, 20), (0.5, 5))):
        bad, units = streams_of(run.generator(41, at), limit, per_cell, run.streams)
        for direction, alpha in _LEVEL.items():
            measure = EVER_FAIL if direction == "FAIL" else EVER_PASS
            for rule, method in ((OURS, crossings), ("z-test, repeated", z_crossings)):
                hit = np.asarray(method(bad, units, limit, direction, alpha).any(axis=1))
                value, error = percent(hit)
                bar = three_errors(alpha, hit.size) if rule == OURS else None
                yield Row(AT_LIMIT, f"rate {limit:.1%}", rule, measure, value, error, hit.size,
                          "requests", f"{_HORIZON} of {per_cell}", None, alpha, bar)  # fmt: skip
        run.progress(f"{AT_LIMIT}: {limit:.1%}")


def decision_times(run: Run) -> Iterator[Row]:
    """Units until the verdict; the fixed sample is in the name of the case."""
    streams = max(run.streams // 5, 100)
    for at, (limit, factor, direction) in enumerate(_CASES):
        alpha, rate = _LEVEL[direction], limit * factor
        fixed = fixed_sample(limit, rate, alpha)
        per_cell = max(1, round(fixed * 5 / CELLS))
        rng = run.generator(42, at)
        bad, units = streams_of(rng, rate, per_cell, streams)
        name = f"limit {limit:.1%}, true {rate:.3g}, fixed n {fixed:,.0f}"
        for prior in _PRIORS:
            times = first_cell(crossings(bad, units, limit, direction, alpha, prior)) * per_cell
            value, error = median(times, rng)
            rule = OURS if prior == 1 else f"with a prior of {prior:g} bad units"
            yield Row(
                TIME, name, rule, f"{direction}: {MEDIAN}", value, error, streams, "requests",
                f"{_HORIZON} of {per_cell}", None, alpha,
            )  # fmt: skip
    run.progress(TIME)


def first_cell(crossed: npt.NDArray[np.bool_]) -> FloatArray:
    """Number of the first crossing, infinite for a stream without one."""
    return np.where(crossed.any(axis=1), crossed.argmax(axis=1) + 1.0, np.inf)


def costs(run: Run) -> Iterator[Row]:
    """Bets on a mean: ever decided, and how often its interval misses."""
    streams = max(run.streams * 2 // 5, 100)
    for at, (mean, sd) in enumerate(((0.0, 0.1), (0.0, 0.5), (0.05, 0.1), (0.1, 0.2))):
        rng = run.generator(43, at)
        values = np.clip(rng.normal(mean, sd, (streams, CELLS)), -1, 1)
        fails, passes, misses = (np.zeros(streams, np.bool_) for _ in range(3))
        for stream, row in enumerate(values):
            state, up, down = advance(BettingState(), row, 0.05)
            low, high = state.interval(1.0, 0.05)
            fails[stream] = (up >= math.log(100)).any()
            passes[stream] = (down >= math.log(20)).any()
            misses[stream] = not low <= mean <= high
        for measure, alpha, hit in (
            (EVER_FAIL, 0.01, fails),
            (EVER_PASS, 0.05, passes),
            ("interval misses at the end, %", 0.05, misses),
        ):
            value, error = percent(hit)
            is_null = mean == 0.0 or measure != EVER_FAIL
            bar = three_errors(alpha, streams) if is_null else None
            yield Row(COST, f"mean {mean:g}, sd of a cell {sd:g}", OURS, measure, value, error, streams,
                      "cells", _HORIZON, None, alpha, bar)  # fmt: skip
    run.progress(COST)
