"""Cost: false verdicts, and time to true ones, as rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from penstock.benchmarks._simulation_blocks import Found
from penstock.benchmarks._simulation_counts import ALPHAS, Run
from penstock.benchmarks._simulation_means import Cost, bar_of, first_cost_periods
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

AA, MARGIN, POWER = (
    "A/A: cost, no true difference",
    "Cost: true ratio exactly at the margin",
    "Cost: time to FAIL",
)
LEVELS = list(ALPHAS)
STREAMS, POWER_STREAMS = 1000, 1000
"""Fewer than in other rows: every look at a mean takes its levels anew."""


def simulate(run: Run) -> Iterator[Row]:
    """Every row of this module."""
    streams = min(run.streams, STREAMS)
    for at, blocks_of in enumerate((True, False)):
        cost = Cost(1.0, 1.0, 50, 60, blocks_of)
        found = first_cost_periods(run.generator(12, at), cost, streams, {"FAIL": LEVELS})
        yield from _ever(AA, cost, found, EVER_FAIL, three_errors)
        run.progress(f"{AA}: {_units(cost)}")
        cost = Cost(1.1, 1.1, 50, 60, blocks_of)
        found = first_cost_periods(run.generator(17, at), cost, streams, {"PASS": LEVELS})
        yield from _ever(MARGIN, cost, found, EVER_PASS, lambda alpha, _: 100 * alpha)
        run.progress(f"{MARGIN}: {_units(cost)}")
    yield from time_to_fail(run)


def time_to_fail(run: Run) -> Iterator[Row]:
    """Treatment requests until a mean cost is shown to be higher than control's by more than 5 %."""
    streams = min(run.streams, POWER_STREAMS)
    for at, dearer in enumerate((1.2, 1.5)):
        for blocks_of in (False, True):
            step = 50 if blocks_of else 20 // (1 + at)
            cost = Cost(dearer, 1.05, step, 400 if blocks_of else 120, blocks_of)
            rng = run.generator(20, at, int(blocks_of))
            found = first_cost_periods(rng, cost, streams, {"FAIL": LEVELS})
            name = f"cost +{100 * dearer - 100:.0f} %, margin 5 %"
            units = f"treatment requests, judged as {_units(cost)}"
            for (_, alpha), first in found.items():
                value, error = median(first * cost.requests, rng)
                bar = bar_of(cost, alpha)
                yield Row(
                    POWER, name, OURS, MEDIAN, value, error, first.size, units,
                    _horizon(cost), 0.5, alpha, bar,
                )  # fmt: skip
            run.progress(f"{POWER}: {name}, {_units(cost)}")


def _ever(
    section: str, cost: Cost, found: Found, measure: str, bar: Callable[[float, int], float]
) -> Iterator[Row]:
    for (_, alpha), first in found.items():
        value, error = percent(np.isfinite(first))
        limit = bar(alpha, first.size)
        name = f"cost, margin {100 * cost.margin - 100:.0f} %"
        yield Row(section, name, OURS, measure, value, error, first.size, _units(cost),
                  _horizon(cost), 0.5, alpha, limit)  # fmt: skip


def _units(cost: Cost) -> str:
    return f"worker blocks of {cost.requests}" if cost.blocks else "requests"


def _horizon(cost: Cost) -> str:
    return f"{cost.periods} looks, {cost.requests} requests an arm each"
