"""Objectives, budgets and alert rules of one shard on a running stream.

Alert rules are evaluated at every moment of theirs that closed, objectives and budgets at every full
minute; what these find is what rules about burn rates and budgets read. So event time alone says which
moments there are, not how often somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson

from ...schemas.alerts.rules import Signal
from ...schemas.costs.capacity import CapacityForecast
from .alerts.engine import AlertEngine
from .alerts.machine import RuleState
from .alerts.moment import Panes
from .alerts.signals import SignalReading
from .alerts.transition import Transition
from .costs.budget import BudgetStatus
from .costs.capacity import Saturation
from .costs.keeper import BudgetKeeper
from .costs.saturation import ForecastKeeper
from .pipeline import Closing, Pipeline, WindowRows
from .signal_readings import of_budget, of_forecast, of_objective
from .slices import SliceRegistry
from .slo.keeper import SloKeeper
from .slo.status import ObjectiveStatus
from .tiles import PANE_S, SECOND_US, Span, Tile
from .watched import Watched

MINUTE_S, HOUR_S = 60, 3600
MOST_S = 300  # event time that is evaluated at once; after a long silence the rest follows later
AMENDED_S = 3600  # for so long, late rows amend an alert that fired,
AMENDED = 100  # and no more than so many alerts
WINDOWS = 16  # remembered while rules ask for the same ones


@dataclass(slots=True)
class Found:
    """What one call found.

    Attributes:
        transitions: of alerts, by time and rule.
        objectives: the newest status of each, and those before it that brought another state.
        budgets, forecasts: the same, with the moment of each in seconds.
    """

    transitions: list[Transition] = field(default_factory=list)
    objectives: list[ObjectiveStatus] = field(default_factory=list)
    budgets: list[tuple[int, BudgetStatus]] = field(default_factory=list)
    forecasts: list[tuple[int, CapacityForecast, Saturation]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Saved:
    """What must be kept over a restart.

    Attributes:
        evaluated_s: everything up to it is evaluated.
        rules: states of alert rules by id.
        slos: of `SloKeeper`.
        fired: alerts that late rows may still amend, each with the id of its newest amendment.
    """

    evaluated_s: int
    rules: Mapping[str, RuleState] = field(default_factory=dict)
    slos: str | None = None
    fired: Sequence[tuple[Transition, str]] = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Saved:
        """The state of which `data` is the JSON, parsed.

        Raises:
            ValueError: it is something else.
        """
        try:
            rules = {
                name: RuleState.from_json(orjson.dumps(item).decode())
                for name, item in data["rules"].items()
            }
            fired = [(Transition(**item), str(note)) for item, note in data["fired"]]
            return cls(int(data["evaluated_s"]), rules, data["slos"], fired)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the state of signals: {error}") from error


class SignalKeeper:
    """The signals of one shard. Not for several threads at once.

    Args:
        watched: what is evaluated.
        registry: numbers the slices.
        start_s: where evaluation begins that has no state: the end of the last closed cell.
        saved: what `saved` gave before a restart; None to begin.
        cells_from: as `AlertEngine`.

    After a restart, give `catch_up` the stored tiles of `needs`, `catch_up_forecasts` those of
    `forecast_needs`, and the stored cells from `needs_cells_from_s` on.
    """

    def __init__(
        self,
        watched: Watched,
        registry: SliceRegistry,
        start_s: int,
        saved: Saved | None = None,
        cells_from: Mapping[str, int] | None = None,
    ) -> None:
        self._watched = watched
        self.evaluated_s = start_s if saved is None else saved.evaluated_s
        self._engine = AlertEngine(
            watched.rules,
            registry,
            watched.owns,
            self.evaluated_s,
            None if saved is None else saved.rules,
            cells_from,
        )
        self._slos = SloKeeper(watched.objectives, registry, None if saved is None else saved.slos)
        self._slos_json = self._slos.to_json()
        self._budgets = BudgetKeeper(watched.budgets, registry)
        self._forecasts = ForecastKeeper(watched.forecasts, registry)
        self._fired = {item.id: (item, note) for item, note in (saved.fired if saved else ())}
        self._states: dict[tuple[str, str], str] = {}
        self._asked = {
            (rule.condition.kind, rule.condition.id)
            for rule in watched.rules
            if isinstance(rule.condition, Signal)
        }

    @property
    def saved(self) -> Saved:
        """What must be kept over a restart."""
        return Saved(
            self.evaluated_s, self._engine.states, self._slos_json, [*self._fired.values()]
        )

    @property
    def needs_cells_from_s(self) -> int | None:
        """Start of the first stored cell that is needed; None where none is."""
        return self._engine.needs_from_s

    def needs(self, closed_s: int) -> list[tuple[int, int, int]]:
        """Which stored tiles are needed: length, first start and end of each stretch, in seconds."""
        found: list[tuple[int, int, int]] = []
        if self._watched.objectives:
            for length_s, start_s, _ in self._slos.needs(self.evaluated_s):
                if length_s != PANE_S:  # whole minutes are all that is evaluated
                    found.append((length_s, start_s, closed_s // length_s * length_s))
        if self._watched.budgets:
            found += self._budgets.needs(self.evaluated_s, closed_s)
        return found

    def forecast_needs(self, closed_s: int) -> tuple[tuple[int, int, int], ...]:
        """The same for forecasts, which read other parts of tiles."""
        if not self._watched.forecasts:
            return ()
        return self._forecasts.needs(self.evaluated_s, closed_s)

    def catch_up(self, tiles: Mapping[Span, Tile]) -> None:
        """Take in stored tiles, in as many pieces as it suits."""
        self._feed(tiles)

    def catch_up_forecasts(self, tiles: Mapping[Span, Tile]) -> None:
        """The same for forecasts."""
        self._forecasts.feed(tiles)

    def until(self, closed_s: int) -> int:
        """How far the next call evaluates, where everything up to `closed_s` is closed."""
        return min(closed_s, self.evaluated_s + MOST_S)

    def evaluate(
        self,
        closing: Closing,
        pipeline: Pipeline,
        cells: Iterable[tuple[Span, Tile]] = (),
        told: Iterable[SignalReading] = (),
    ) -> Found:
        """Evaluate what closed, up to `MOST_S` of it.

        Args:
            closing: what the last move of the watermark brought about.
            pipeline: it is as that left it.
            cells: stored ones, after a restart.
            told: signals that others computed, of (`evaluated_s`, `until`].
        """
        assert pipeline.closed_s is not None
        end_s = self.until(pipeline.closed_s)
        self._feed(closing.tiles)
        self._forecasts.feed(closing.tiles)
        found = Found()
        readings = [*self._minutes(end_s, pipeline, found), *told]
        panes = _panes(closing, pipeline)
        found.transitions += self._engine.close([*cells, *closing.cells], end_s, panes, readings)
        self._amend(closing, panes, end_s, found)
        self.evaluated_s = end_s
        return found

    def _feed(self, tiles: Mapping[Span, Tile]) -> None:
        whole = {span: tile for span, tile in tiles.items() if span.length_s in (MINUTE_S, HOUR_S)}
        if whole and self._watched.objectives:
            self._slos.feed(whole)
        if whole and self._watched.budgets:
            self._budgets.feed(whole)

    def _minutes(self, end_s: int, pipeline: Pipeline, found: Found) -> list[SignalReading]:
        """Evaluate objectives, budgets and forecasts at every full minute; what rules ask for of it."""
        watched = self._watched
        if not (watched.objectives or watched.budgets or watched.forecasts):
            return []
        first_s = self.evaluated_s // MINUTE_S * MINUTE_S + MINUTE_S
        last_s = end_s // MINUTE_S * MINUTE_S
        told: list[SignalReading] = []
        for at_s in range(first_s, last_s + 1, MINUTE_S):
            before_us = (at_s - MINUTE_S) * SECOND_US
            vanished = pipeline.stalled or pipeline.fleet.any_vanished(before_us, at_s * SECOND_US)
            statuses = self._slos.evaluate(at_s, vanished) if watched.objectives else {}
            for objective in watched.objectives:
                status = statuses[objective.id]
                told += of_objective(objective, status)
                if self._is_news("slo", status.id, status.state) or at_s == last_s:
                    found.objectives.append(status)
            spent = self._budgets.evaluate(at_s, vanished) if watched.budgets else {}
            for budget in watched.budgets:
                told.append(of_budget(budget, spent[budget.id], at_s))
                if self._is_news("cost", budget.id, spent[budget.id].state) or at_s == last_s:
                    found.budgets.append((at_s, spent[budget.id]))
            expected = self._forecasts.evaluate(at_s) if watched.forecasts else {}
            for spec in watched.forecasts:
                told.append(of_forecast(spec, expected[spec.id], at_s))
                if self._is_news("capacity", spec.id, expected[spec.id].state) or at_s == last_s:
                    found.forecasts.append((at_s, spec, expected[spec.id]))
        if first_s <= last_s:
            self._slos_json = self._slos.to_json()
        return [item for item in told if (item.kind, item.id) in self._asked]

    def _is_news(self, kind: str, name: str, state: str) -> bool:
        before = self._states.get((kind, name))
        self._states[kind, name] = state
        return before != state

    def _amend(self, closing: Closing, panes: Panes, end_s: int, found: Found) -> None:
        """Note what late rows changed in windows that alerts fired on."""
        if self._fired and closing.tiles:
            fired = [item for item, _ in self._fired.values()]
            for note in self._engine.amend(fired, closing.tiles, panes):
                of = next(item for item in fired if _is_of(note, item))
                if self._fired[of.id][1] != note.id:
                    self._fired[of.id] = of, note.id
                    found.transitions.append(note)
        for item in found.transitions:
            if item.kind == "firing" and not self._engine.watches[item.rule_id].uses_cells:
                self._fired[item.id] = item, ""
        kept = [
            (item, note) for item, note in self._fired.values() if item.at_s > end_s - AMENDED_S
        ]
        self._fired = {item.id: (item, note) for item, note in kept[-AMENDED:]}


def _is_of(note: Transition, fired: Transition) -> bool:
    return (note.alert_id, note.sequence) == (fired.alert_id, fired.sequence)


def _panes(closing: Closing, pipeline: Pipeline) -> Panes:
    """Windows by length and end: those that were just made, or made again."""
    made = {(rows.length_s, rows.end_s): rows for rows in closing.windows}

    @lru_cache(maxsize=WINDOWS)
    def window(length_s: int, end_s: int) -> WindowRows:
        return made.get((length_s, end_s)) or pipeline.window(length_s, end_s)

    return Panes(window, pipeline.history.oldest_s)
