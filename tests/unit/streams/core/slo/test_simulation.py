"""Burn-rate alerts over thousands of service lives: the short form of the benchmark."""

from __future__ import annotations

import numpy as np
import pytest
from penstock.benchmarks.burn_rate_simulation import (
    BUDGET,
    DAY,
    PAGES,
    RULES,
    alarms,
    fires,
    first,
    standard_error,
    traffic,
)
from penstock.streams.core.slices import FLEET, SliceRegistry
from penstock.streams.core.slo.keeper import SloKeeper
from penstock.streams.core.tiles import Span
from penstock.tests.unit.streams.core.slo.stored import ERROR, REQUESTS, START_S, objective, tile


@pytest.mark.slow
@pytest.mark.parametrize("per_h", [10, 60])
def test_a_healthy_service_is_not_paged(per_h: int) -> None:
    runs = 400
    rng = np.random.default_rng(per_h)
    bad, total = traffic(rng, per_h, np.full(30 * DAY, float(BUDGET)), runs)
    alarm = alarms(bad, total)
    paged = [
        seen.any() and fires(RULES, x, n, seen).any()
        for x, n, seen in zip(bad, total, alarm, strict=True)
    ]
    assert np.mean(paged) <= 0.01 + 3 * standard_error(0.01, runs)
    # the same lives under the point rules alone
    alone = [fires(PAGES, x, n, None).any() for x, n in zip(bad[:50], total[:50], strict=True)]
    assert np.mean(alone) > 0.9


def minutes_to_page(per_h: int, rate: float, runs: int, minutes: int) -> list[float]:
    rates = np.concatenate([np.full(DAY, float(BUDGET) / 10), np.full(minutes, rate)])
    bad, total = traffic(np.random.default_rng(per_h), per_h, rates, runs)
    alarm = alarms(bad, total)
    alarm[:, :DAY] = False
    return [
        first(fires(PAGES, x, n, seen)[DAY:]) for x, n, seen in zip(bad, total, alarm, strict=True)
    ]


@pytest.mark.slow
def test_faults_page_in_time() -> None:
    outage = minutes_to_page(60, 1.0, 1000, 60)
    assert np.mean(np.array(outage) <= 15) >= 0.99
    busy = minutes_to_page(6000, 0.15, 500, 30)
    assert np.median(busy) <= 8


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_simulation_is_of_what_runs(seed: int) -> None:
    """A keeper that is fed the same day fires in the same minutes."""
    rates = np.concatenate([np.full(240, 0.001), np.full(30, 0.3), np.full(90, 0.001)])
    bad, total = traffic(np.random.default_rng(seed), 120, rates, 1)
    fired = fires(RULES, bad[0], total[0], alarms(bad, total)[0])
    keeper = SloKeeper([objective()], SliceRegistry(10, 10))
    told = []
    for minute in range(len(rates)):
        closed = {60: minute} if minute % 60 < 59 else {60: minute, 3600: minute - 59}
        for length_s, low in closed.items():
            counts = {
                (FLEET, REQUESTS): int(total[0, low : minute + 1].sum()),
                (FLEET, ERROR): int(bad[0, low : minute + 1].sum()),
            }
            keeper.feed({Span(length_s, START_S + low * 60): tile(counts)})
        status = keeper.evaluate(START_S + minute * 60 + 60)["a"]
        told.append(any(burn.firing for burn in status.burns))
    assert told == fired.tolist()
    assert fired[240:270].any()
    assert not fired[:240].any()
