"""Latency: false verdicts, and time to true ones, as rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from penstock.benchmarks import _simulation_blocks as blocks
from penstock.benchmarks._simulation_blocks import BIN, Latency
from penstock.benchmarks._simulation_counts import ALPHAS, Run
from penstock.benchmarks._simulation_rules import PolledMannWhitney
from penstock.benchmarks._simulation_streams import FloatArray
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
from penstock.streams.core.gates.two_arm import Direction

AA, STALLS, MARGIN, POWER = (
    "A/A: latency p95, no true difference",
    "Latency p95: as much worse as is allowed, by stalls of control",
    "Latency p95: true ratio exactly at the margin",
    "Latency p95: time to FAIL",
)
LEVELS = list(ALPHAS)
MARGIN_BINS = 19
POWER_STREAMS = 200
Found = dict[tuple[Direction, float], FloatArray]
Bar = Callable[[float, int], float] | None


def simulate(run: Run) -> Iterator[Row]:
    """Every row of this module."""
    yield from no_difference(run)
    yield from unseen_stalls(run)
    yield from at_the_margin(run)
    yield from time_to_fail(run)


def no_difference(run: Run) -> Iterator[Row]:
    """The same latencies in both arms, with a margin of two bins (1 %)."""
    shapes = [
        Latency(0.0, 100, 120, blocks=False),
        Latency(0.0, 100, 60),
        Latency(0.0, 100, 60, workers=(1, 9)),
        Latency(0.6, 100, 60),
        Latency(0.9, 200, 60),
        Latency(0.6, 100, 60, workers=(1, 9)),
    ]
    for at, shape in enumerate(shapes):
        rng = run.generator(11, at)
        found = blocks.first_periods(rng, shape, run.streams, {"FAIL": LEVELS})
        yield from _ever(AA, shape, found, EVER_FAIL, three_errors)
        run.progress(f"{AA}: {_name(shape)}, {_units(shape)}")
    yield from _rivals(run)


def _rivals(run: Run) -> Iterator[Row]:
    """What not knowing the units costs, and Kayenta's judge on points a minute apart."""
    shape = Latency(0.9, 200, 60, blocks=False)
    found = blocks.first_periods(run.generator(13), shape, run.streams, {"FAIL": LEVELS})
    for row in _ever(AA, shape, found, EVER_FAIL, None):
        yield replace(row, rule="the same e-value, requests taken as independent")
    for phi in (0.0, 0.6, 0.9):
        shape = Latency(phi, 200 if phi == 0.9 else 100, 60)
        first = blocks.repeated_share_test(run.generator(14, int(10 * phi)), shape, run.streams)
        value, error = percent(np.isfinite(first))
        yield Row(AA, _name(shape), "z-test of the share above p95, repeated", EVER_FAIL, value, error,
                  first.size, "requests", _horizon(shape), 0.5, 0.05)  # fmt: skip
        wrong = blocks.kayenta_on_points(run.generator(15, int(10 * phi)), phi, run.streams)
        value, error = percent(np.isfinite(wrong))
        yield Row(AA, f"points a minute apart, AR(1) {phi:g}", PolledMannWhitney.name,
                  "ever High or Low, %", value, error, wrong.size, "points", "2 to 60 points", 0.5)  # fmt: skip
    run.progress(f"{AA}: rivals")


def at_the_margin(run: Run) -> Iterator[Row]:
    """Slower by exactly the margin of 19 bins (10 %)."""
    slower = math.exp(MARGIN_BINS * BIN)
    shapes = [
        Latency(0.0, 100, 120, slower=slower, margin_bins=MARGIN_BINS, blocks=False),
        Latency(0.6, 100, 60, slower=slower, margin_bins=MARGIN_BINS),
        Latency(0.9, 200, 60, slower=slower, margin_bins=MARGIN_BINS),
    ]
    for at, shape in enumerate(shapes):
        rng = run.generator(16, at)
        found = blocks.first_periods(rng, shape, run.streams, {"PASS": LEVELS})
        yield from _ever(MARGIN, shape, found, EVER_PASS, lambda alpha, _: 100 * alpha)
        run.progress(f"{MARGIN}: {_name(shape)}, {_units(shape)}")


def time_to_fail(run: Run) -> Iterator[Row]:
    """Treatment requests until p95 is shown to be worse, against twice a fixed sample."""
    streams = min(run.streams, POWER_STREAMS)
    for at, slower in enumerate((1.05, 1.1, 1.2, 1.45)):
        planned = {alpha: blocks.fixed_latency(slower, 2, 0.5, alpha) for alpha in LEVELS}
        step = max(1, round(planned[0.05] / 40))
        shape = Latency(0.0, step, 240, slower=slower, blocks=False)
        rng = run.generator(18, at)
        found = blocks.first_periods(rng, shape, streams, {"FAIL": LEVELS})
        yield from _times(shape, f"p95 +{100 * slower - 100:.0f} %", found, planned, rng)
        run.progress(f"{POWER}: +{100 * slower - 100:.0f} % in requests")
    yield from _in_blocks(run, streams)


def _in_blocks(run: Run, streams: int) -> Iterator[Row]:
    """As `time_to_fail` where worker blocks are units, and so they are of the fixed sample."""
    for at, (slower, workers) in enumerate(
        ((1.2, (1, 1)), (1.45, (1, 1)), (1.2, (1, 9)), (1.45, (1, 9)))
    ):
        shape = Latency(0.6, 100, 400, workers, slower)
        rng = run.generator(19, at)
        planned = {}
        for alpha in LEVELS:
            normal, _ = blocks.block_test(rng, shape, streams, alpha)
            planned[alpha] = 100 * blocks.fixed_blocks(normal, shape, alpha)
        found = blocks.first_periods(rng, shape, streams, {"FAIL": LEVELS})
        yield from _times(shape, f"p95 +{100 * slower - 100:.0f} %", found, planned, rng)
        run.progress(f"{POWER}: +{100 * slower - 100:.0f} % in worker blocks, {workers} workers")


def unseen_stalls(run: Run) -> Iterator[Row]:
    """Slower whenever anybody looks, and yet no worse: one of control's blocks in some is all slow."""
    for at, slower in enumerate((1.2, 1.45)):
        stalls = blocks.stalls_of(slower, 2)
        shape = Latency(0.6, 100, 200, slower=slower, stalls=stalls)
        name = f"+{100 * slower - 100:.0f} %, and {100 * stalls:.1f} % of control's blocks stall"
        rng = run.generator(21, at)
        found = blocks.first_periods(rng, shape, run.streams, {"FAIL": LEVELS})
        for row in _ever(STALLS, shape, found, EVER_FAIL, three_errors):
            yield replace(row, case=name)
        for alpha in LEVELS:
            n, failed = blocks.block_test(rng, shape, run.streams, alpha)
            value, error = percent(np.isfinite(failed))
            yield Row(STALLS, name, "normal test of blocks, once", "FAIL, %", value, error, failed.size,
                      _units(shape), f"once, {n} blocks an arm", 0.5, alpha)  # fmt: skip
        run.progress(f"{STALLS}: {name}")


def _ever(section: str, shape: Latency, found: Found, measure: str, bar: Bar) -> Iterator[Row]:
    for (_, alpha), first in found.items():
        value, error = percent(np.isfinite(first))
        limit = None if bar is None else bar(alpha, first.size)
        yield Row(section, _name(shape), OURS, measure, value, error, first.size, _units(shape),
                  _horizon(shape), round(shape.share, 3), alpha, limit)  # fmt: skip


def _times(
    shape: Latency,
    name: str,
    found: Found,
    planned: dict[float, float],
    rng: np.random.Generator,
) -> Iterator[Row]:
    for (_, alpha), first in found.items():
        value, error = median(first * shape.requests, rng)
        yield Row(POWER, f"{name}, AR(1) {shape.phi:g}", OURS, MEDIAN, value, error, first.size,
                  f"treatment requests, judged as {_units(shape)}", _horizon(shape),
                  round(shape.share, 3), alpha, 2 * planned[alpha])  # fmt: skip


def _name(shape: Latency) -> str:
    return f"log-normal p95, AR(1) {shape.phi:g}"


def _units(shape: Latency) -> str:
    return f"worker blocks of {shape.requests}" if shape.blocks else "requests"


def _horizon(shape: Latency) -> str:
    return f"{shape.periods} looks, {shape.requests} requests a worker each"
