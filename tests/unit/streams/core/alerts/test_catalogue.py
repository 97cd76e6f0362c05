"""Every rule of the catalogue fires on events, and is silent just below its threshold."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import pytest
from penstock.schemas.alerts.metrics import WINDOWS_S
from penstock.schemas.alerts.rules import AlertRule, Change, Signal, Threshold
from penstock.schemas.catalogue import catalogue_rules
from penstock.streams.core.alerts.transition import Transition
from penstock.streams.core.alerts.watch import counters_for_rules
from penstock.tests.unit.streams.core.alerts.catalogue_recipes import RECIPES, Recipe
from penstock.tests.unit.streams.core.alerts.catalogue_signals import SIGNALS
from penstock.tests.unit.streams.core.alerts.catalogue_world import World

RULES = {rule.id: rule for rule in catalogue_rules()}


def length_s(rule: AlertRule) -> int:
    """How long it takes: the window fills, then the condition holds for as long as it must."""
    condition = rule.condition
    window_s = WINDOWS_S[condition.window] if isinstance(condition, Threshold | Change) else 0
    return window_s + rule.for_s + 60


def fired(alerts: Iterable[Transition], name: str) -> set[str]:
    """Models, or the fleet, for which a rule fired."""
    mine = [item for item in alerts if item.rule_id == name and item.kind == "firing"]
    return {item.labels.get("model", "fleet") for item in mine}


@cache
def by_model(recipe: Recipe) -> list[Transition]:
    """What the rules of a recipe say of a model that is broken, beside one that is not quite."""
    rules = [RULES[name] for name, used in RECIPES.items() if used is recipe]
    seconds = max(length_s(rule) for rule in rules)
    return World(rules, recipe(seconds, True).beside(recipe(seconds, False))).alerts()


def tried(name: str) -> object:
    """Those that need a history take longer."""
    slow = isinstance(RULES[name].condition, Change)
    return pytest.param(name, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize("name", [tried(name) for name in RECIPES])
def test_a_rule_fires_and_is_silent_just_below(name: str) -> None:
    rule, recipe = RULES[name], RECIPES[name]
    if rule.by is not None:
        assert fired(by_model(recipe), name) == {"on chat"}
        return
    for on in (True, False):
        alerts = World([rule], recipe(length_s(rule), on)).alerts()
        assert fired(alerts, name) == ({"fleet"} if on else set())


@pytest.mark.slow
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("on", [True, False])
def test_a_rule_of_a_signal_fires_and_is_silent_just_below(name: str, on: bool) -> None:
    traffic, told = SIGNALS[name]
    alerts = World([RULES[name]], traffic(on)).alerts(told)
    assert fired(alerts, name) == ({"fleet"} if on else set())


def test_every_rule_is_tried() -> None:
    signals = {name for name, rule in RULES.items() if isinstance(rule.condition, Signal)}
    assert signals == SIGNALS.keys()
    assert RULES.keys() - signals == RECIPES.keys()


def test_their_counters_have_numbers_of_their_own() -> None:
    counters_for_rules(RULES.values())
