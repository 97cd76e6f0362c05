"""The simulation of gates in its short form, and that it simulates what runs."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from penstock.benchmarks import _simulation_blocks as blocks
from penstock.benchmarks import _simulation_rollback as rollback
from penstock.benchmarks._simulation_counts import Run, at_the_margin
from penstock.benchmarks._simulation_plot import false_fails, times_to_fail
from penstock.benchmarks._simulation_rules import (
    FixedTest,
    RepeatedZ,
    Rule,
    TwoArm,
    first_crossings,
    fixed_sample,
    mann_whitney,
)
from penstock.benchmarks._simulation_streams import Shape, flat, panes, ramp
from penstock.benchmarks._simulation_table import (
    EVER_FAIL,
    MEDIAN,
    OURS,
    Row,
    bars,
    markdown,
    median,
    percent,
    three_errors,
)
from penstock.streams.core.gates.quantiles import log_e_quantile
from penstock.streams.core.gates.two_arm import (
    Direction,
    grid_of,
    log_e_ratio,
    log_likelihood_steps,
)
from penstock.streams.core.gates.watch_state import WatchState, alarmed, watched

STREAMS = 400
Z = "z-test, repeated"


def ever(shape: Shape, alpha: float = 0.05) -> dict[str, float]:
    """Ever FAIL with equal rates, in %, of ours and of the repeated z-test."""
    rules: list[Rule] = [
        TwoArm(STREAMS, (alpha,), 1.0, "FAIL"),
        RepeatedZ(STREAMS, (alpha,), 1.0, "FAIL"),
    ]
    found = first_crossings(panes(np.random.default_rng(5), shape, STREAMS), rules)
    return {rule: percent(np.isfinite(times))[0] for (rule, _), times in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape", [flat("flat", 0.01, 500, 0.1, 150), ramp(0.02, 500, 150)], ids=lambda s: s.name
)
def test_polling_does_not_change_our_error_rate(shape: Shape) -> None:
    found = ever(shape)
    assert found[OURS] <= three_errors(0.05, STREAMS)
    assert found[Z] > 20


@pytest.mark.slow
def test_bursts_are_one_unit() -> None:
    shape = replace(flat("bursts", 0.01, 1000, 0.1, 200), burst=2.0)
    assert ever(shape)[OURS] <= three_errors(0.05, STREAMS)
    assert ever(replace(shape, as_requests=True))[OURS] > 20


@pytest.mark.slow
def test_errors_are_found_in_time() -> None:
    shape = replace(flat("errors", 0.005, 50, 0.1, 400), ratio=4.0)
    rng = np.random.default_rng(6)
    planned = fixed_sample(0.005, 4.0, 0.1, 0.05)
    rules: list[Rule] = [TwoArm(STREAMS, (0.05,), 1.0, "FAIL"), FixedTest(STREAMS, 0.05, planned)]
    ours, once = first_crossings(panes(rng, shape, STREAMS), rules).values()
    value, error = median(ours, rng)
    assert value - 2 * error <= 370
    assert value <= planned
    assert np.isfinite(once).mean() > 0.8


@pytest.mark.slow
def test_no_pass_at_the_margin() -> None:
    rows = [row for row in at_the_margin(Run(7, 150, lambda _: None)) if row.rule == OURS]
    assert len(rows) == 16
    assert all(row.value <= three_errors(row.alpha or 0, 150) for row in rows)


@pytest.mark.slow
def test_dependent_latencies_need_blocks() -> None:
    shape = blocks.Latency(0.9, 200, 40)
    rng = np.random.default_rng(8)
    found = blocks.first_periods(rng, shape, STREAMS, {"FAIL": [0.05]})["FAIL", 0.05]
    assert percent(np.isfinite(found))[0] <= three_errors(0.05, STREAMS)
    alone = replace(shape, blocks=False)
    found = blocks.first_periods(rng, alone, STREAMS, {"FAIL": [0.05]})["FAIL", 0.05]
    assert percent(np.isfinite(found))[0] > 20


@pytest.mark.slow
def test_a_change_is_found_as_fast_after_a_good_time() -> None:
    rows = list(rollback.after(Run(9, 200, lambda _: None), 0, 1_000))
    found = {row.rule: row.value for row in rows}
    assert found[OURS] < found["cumulative e-value"] / 3


def test_counts_are_judged_as_the_engine_does() -> None:
    """What is skipped in the simulation changes no crossing."""
    shape = replace(flat("x", 0.01, 50, 0.2, 120), ratio=3.0)
    grid = grid_of(1.0, "FAIL")
    rule, total = TwoArm(20, (0.05,), 1.0, "FAIL"), np.zeros((20, 48))
    crossed = 0
    for pane in panes(np.random.default_rng(10), shape, 20):
        mine = rule.add(pane)
        total += log_likelihood_steps(pane.bad1, pane.bad0, pane.n1, pane.n0, grid)
        theirs = log_e_ratio(total, grid)
        some = (pane.bad1 + pane.bad0) > 0
        above = theirs >= math.log(20)
        assert (some & above == (mine >= math.log(20))).all()
        assert np.allclose(mine[some & above], theirs[some & above])
        crossed += int(above.sum())
    assert crossed > 50


@pytest.mark.parametrize("in_blocks", [False, True])
def test_latencies_are_judged_as_the_engine_does(in_blocks: bool) -> None:
    shape = blocks.Latency(0.0, 40, 60, slower=1.4, blocks=False)
    if in_blocks:
        shape = blocks.Latency(0.0, 200, 240, slower=2.0)
    tests: dict[Direction, list[float]] = {"FAIL": [0.05]}
    mine = blocks.first_periods(np.random.default_rng(11), shape, 10, tests)["FAIL", 0.05]
    rng = np.random.default_rng(11)
    treatment, control = blocks.arms_of(rng, shape, 10)
    first = np.full(10, np.inf)
    for period in range(1, shape.periods + 1):
        pair = treatment.next_period(), control.next_period()
        log_e = log_e_quantile(*pair, blocks.P95, "FAIL", in_blocks)
        first[(log_e >= math.log(20)) & np.isinf(first)] = period
    assert np.isfinite(first).all()
    assert (mine == first).all()


def test_minutes_are_watched_as_the_engine_does() -> None:
    rng = np.random.default_rng(12)
    watch = rollback.Watch(1)
    state = WatchState(limit=float(rollback.LIMIT))
    fails = 0
    for minute in range(1, 200):
        bad = int(rng.binomial(rollback.PER_MINUTE, 0.01 if minute < 100 else 0.04))
        end_us = minute * 60_000_000
        state = watched(state, bad, rollback.PER_MINUTE, end_us, 300, rollback.ALPHA)
        mine, held = watch.add(np.array([bad]))
        assert (bool(held[0]), bool(mine[0])) == (
            state.held,
            state.held and alarmed(state, end_us, 300),
        )
        fails += int(mine[0])
    assert fails > 10


def test_kayenta_decides_on_two_against_two() -> None:
    high, low = mann_whitney(np.array([[8.0, 9.0]]), np.array([[1.0, 2.0]]))
    assert (high.tolist(), low.tolist()) == ([True], [False])
    high, low = mann_whitney(np.array([[1.0, 3.0]]), np.array([[2.0, 4.0]]))
    assert (high.tolist(), low.tolist()) == ([False], [False])
    wrong = blocks.kayenta_on_points(np.random.default_rng(13), 0.0, 300)
    assert 0.15 < np.isfinite(wrong).mean() < 0.33


def test_a_bar_that_is_not_met_is_told() -> None:
    row = Row(
        "A/A: x", "errors", OURS, EVER_FAIL, 7.0, 0.3, 100, "requests", "10 panes", 0.1, 0.05, 6.5
    )
    never = replace(row, section="Errors: time to FAIL", measure=MEDIAN, value=math.inf,
                    error=math.inf, bar=None)  # fmt: skip
    text = markdown([row, never])
    assert "**not met**" in text
    assert "| never |" in text
    assert bars([row, never]).startswith("0 of 1 bars are met.\n- not met: A/A: x")
    assert json.loads(json.dumps(never.to_dict()))["value"] is None
    for svg in (false_fails([row, never]), times_to_fail([row, replace(never, value=300.0)])):
        assert svg.count("<circle") == 2
