"""For each rule of the catalogue that reads a signal: events, and the signal computed from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal

import numpy as np
from penstock.schemas.costs.budgets import Budget
from penstock.schemas.slo.objective import Objective
from penstock.streams.core.alerts.signals import SignalReading
from penstock.streams.core.costs.budget import budget_status
from penstock.streams.core.costs.series import SPEND, Series
from penstock.streams.core.drift.categorical import compare_categories
from penstock.streams.core.drift.continuous import compare
from penstock.streams.core.metrics import BIN_BITS, SKETCHES
from penstock.streams.core.signal_readings import of_budget, of_objective
from penstock.streams.core.slices import FLEET
from penstock.streams.core.slo.keeper import SloKeeper
from penstock.streams.core.tiles import SECOND_US, Tile
from penstock.tests.unit.streams.core.alerts.catalogue_world import (
    START_S,
    Signals,
    Traffic,
    World,
    rows,
    some,
)

HOUR_S = 3600
REFERENCE_S = 1200


def _ends(world: World, every_s: int) -> range:
    """When a signal is told: after the reference."""
    return range(START_S + REFERENCE_S + every_s, world.end_s + 1, every_s)


def _drifting(on: bool) -> Traffic:
    """Prompts of 100 to 199 tokens; then a share has 150 or more: PSI 0.22 or 0.19."""
    share = 0.45 if on else 0.42

    def tokens(number: int) -> int:
        # A low-discrepancy sequence: every stretch has its share of everything.
        place, drawn = number * 0.7548776662 % 1, number * 0.5698402910 % 1
        return 150 + int(50 * place) if drawn < share else 100 + int(100 * place)

    end_s = REFERENCE_S + HOUR_S + 600
    before = rows(0, REFERENCE_S, 1, input_tokens=lambda number: 100 + number % 100)
    after = rows(REFERENCE_S, end_s, 1, input_tokens=tokens)
    return Traffic(end_s, REFERENCE_S).send("request", [*before, *after])


def _sketch(world: World, start_s: int, end_s: int) -> Tile:
    """Input tokens of the fleet as one series of bins."""
    tile = world.pipeline.history.total(start_s, end_s).only(np.array([FLEET]))
    here = (tile.keys >> BIN_BITS) == SKETCHES["input_tokens"].number
    bins = tile.keys[here] & ((1 << BIN_BITS) - 1)
    return Tile(bins.astype(np.uint64), tile.counts[here])


def _inputs(world: World) -> Iterator[SignalReading]:
    assert world.closing.tiles
    reference = _sketch(world, START_S, START_S + REFERENCE_S)
    for at_s in _ends(world, 600):
        scores = compare(reference, _sketch(world, at_s - 600, at_s))
        yield SignalReading("drift", "inputs", at_s, value=float(scores.psi[0]), n=600)


def _turning(on: bool) -> Traffic:
    """Half of the predictions are yes; then 70 %, or 68 %: PSI 0.169 or 0.136."""
    yes = 35 if on else 34
    before = rows(0, REFERENCE_S, 6, output_class=some(1, 2, "yes", "no"))
    after = rows(REFERENCE_S, 7 * HOUR_S, 6, output_class=some(yes, 50, "yes", "no"))
    return Traffic(7 * HOUR_S, REFERENCE_S).send("request", [*before, *after])


def _predictions(world: World) -> Iterator[SignalReading]:
    table = world.tables["request"].select(["ts", "output_class"]).to_pylist()
    found = [(row["ts"] // SECOND_US, row["output_class"]) for row in table]
    reference = Counter(name for ts, name in found if ts < START_S + REFERENCE_S)
    for at_s in _ends(world, 1200):
        low_s = at_s - 1200
        scores = compare_categories(reference, Counter(c for ts, c in found if low_s <= ts < at_s))
        yield SignalReading("drift", "predictions", at_s, value=scores.psi, n=scores.n_current)


def _spending(on: bool) -> Traffic:
    """100 or 99 USD in half an hour, and nothing after it."""
    paid = rows(0, 1800, 18, cost_usd=1.0, input_tokens=1000)
    return Traffic(4200).send("request", paid[: 100 if on else 99])


def _weekly(world: World) -> Iterator[SignalReading]:
    spec, series = Budget(id="weekly", usd=Decimal(100)), Series(SPEND)
    for at_s in range(START_S + 600, world.end_s + 1, 600):
        for span, tile in world.closing.tiles.items():
            if span.end_s <= at_s:
                series.take(span, tile, np.array([FLEET]))
        yield of_budget(spec, budget_status(spec, series, at_s, 1.0), at_s)


def _burning(bad: int, less: int) -> Callable[[bool], Traffic]:
    """An hour in which so many of 10,000 requests fail, or fewer."""

    def made(on: bool) -> Traffic:
        failed = some(bad if on else less, 10_000, "internal", None)
        # Spread: 7919 is prime, so that every stretch has its share.
        spread = rows(0, HOUR_S, 0.36, error_type=lambda number: failed(number * 7919))
        return Traffic(HOUR_S + 60).send("request", spread)

    return made


def _availability(world: World) -> Iterator[SignalReading]:
    spec = {"id": "availability", "sli": {"kind": "availability"}, "target": "99.9 %"}
    objective = Objective.model_validate(spec)
    keeper = SloKeeper([objective], world.combos.registry)
    keeper.feed(world.closing.tiles)
    return of_objective(objective, keeper.evaluate(world.end_s)["availability"])


SIGNALS: dict[str, tuple[Callable[[bool], Traffic], Signals]] = {
    "data-drift": (_drifting, _inputs),
    "prediction-shift": (_turning, _predictions),
    "cost-budget-projected": (_spending, _weekly),
    "slo-burn-rate": (_burning(200, 9), _availability),
    "error-budget-low": (_burning(8, 7), _availability),
    "slo-breached": (_burning(11, 10), _availability),
}
