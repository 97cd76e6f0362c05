"""What one shard evaluates of the configuration, and what it reads of the tiles for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...schemas.alerts.rules import AlertRule
from ...schemas.config import Configuration
from ...schemas.costs.budgets import Budget, SpendLimit
from ...schemas.costs.capacity import CapacityForecast
from ...schemas.drift.detectors import SeriesDetector
from ...schemas.drift.monitors import DriftMonitor
from ...schemas.slo.objective import Objective
from .costs.keeper import COVERED, SPENT, group_of_budget, slice_of_budget
from .costs.saturation import group_of_forecast
from .shards import owner, shard_of
from .slices import Slice
from .slo.readings import (
    coverage_reading,
    group_of_objective,
    reading_of,
    slice_of_objective,
)


@dataclass(frozen=True, slots=True)
class Watched:
    """What one shard evaluates.

    Attributes:
        rules, detectors: all; each watches the slices that are owned here.
        owns: which slices are.
        objectives, budgets, monitors, limits, forecasts: those whose group is here.
    """

    rules: tuple[AlertRule, ...]
    owns: Callable[[Slice], bool]
    objectives: tuple[Objective, ...]
    budgets: tuple[Budget, ...]
    monitors: tuple[DriftMonitor, ...] = ()
    detectors: tuple[SeriesDetector, ...] = ()
    limits: tuple[SpendLimit, ...] = ()
    forecasts: tuple[CapacityForecast, ...] = ()

    @property
    def anything(self) -> bool:
        """Whether there is anything."""
        here = (self.objectives, self.budgets, self.monitors, self.limits, self.forecasts)
        return any((self.rules, self.detectors, *here))


def watched_by(configuration: Configuration, shard: int, shards: int) -> Watched:
    """The part of the configuration that a shard evaluates."""

    def here(group: str) -> bool:
        return shard_of(group, shards) == shard

    costs = configuration.costs
    objectives = (item for item in configuration.objectives if isinstance(item, Objective))
    return Watched(
        configuration.rules,
        owner(shard, shards) if shards > 1 else lambda _: True,
        tuple(item for item in objectives if here(group_of_objective(item))),
        tuple(item for item in costs.budgets if here(group_of_budget(item))),
        tuple(item for item in configuration.drift.monitors if here(group_of_monitor(item))),
        configuration.drift.detectors,
        tuple(item for item in costs.spend_limits if here(f"spend_limit:{item.id}")),
        tuple(item for item in costs.forecasts if here(group_of_forecast(item))),
    )


def group_of_monitor(monitor: DriftMonitor) -> str:
    """The group that a monitor is evaluated with; it reads raw rows, so any would do."""
    model = monitor.filter.model
    return f"drift:{monitor.id}" if model is None else f"model:{model}"


def read_by(watched: Watched) -> tuple[list[Slice], list[int]]:
    """Slices and keys of the tiles that objectives and budgets are read off."""
    read = [(slice_of_objective(item), reading_of(item)) for item in watched.objectives]
    read += [(slice_of_budget(item), reading) for item in watched.budgets for reading in SPENT]
    read.append((COVERED, coverage_reading()))
    terms = [(home, term) for home, reading in read for term in (*reading.left, *reading.right)]
    slices = {term.slice or home: None for home, term in terms}
    return list(slices), sorted({term.key for _, term in terms})
