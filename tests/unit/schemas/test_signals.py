from __future__ import annotations

import pytest
from penstock.schemas.config import Configuration, parse
from penstock.schemas.errors import InvalidConfiguration

SLO = "slos: [{id: up, filter: {model: m}, sli: {kind: availability}, target: 0.999}]\n"


def rule(kind: str, name: str) -> str:
    return f"    - {{id: mine, condition: {{kind: {kind}, id: {name}}}}}\n"


def refused(text: str) -> str:
    with pytest.raises(InvalidConfiguration) as caught:
        parse(text)
    return str(caught.value)


def test_without_sections_there_is_nothing_to_evaluate() -> None:
    empty = parse("{}")
    assert (empty.rules, empty.objectives, empty.has_signals) == ((), (), False)
    assert empty == Configuration()


def test_objectives_and_budgets_bring_rules_along() -> None:
    found = parse(SLO + "costs: {budgets: [{id: week, usd: 5}]}\n")
    brought = {rule.id: (rule.severity, rule.group) for rule in found.rules}
    assert brought == {
        "up.budget": ("warning", "slo"),
        "up.1h": ("critical", "slo"),
        "up.6h": ("critical", "slo"),
        "up.1d": ("warning", "slo"),
        "up.3d": ("warning", "slo"),
        "week.budget": ("warning", "cost"),
    }
    assert found.has_signals


@pytest.mark.parametrize(
    ("kind", "name", "left"),
    [
        ("burn_rate", "up", ["up.budget"]),
        ("burn_rate", "up.6h", ["up.budget", "up.1h", "up.1d", "up.3d"]),
        ("budget", "up", ["up.1h", "up.6h", "up.1d", "up.3d"]),
    ],
)
def test_a_rule_about_a_signal_takes_the_place_of_the_one_brought_along(
    kind: str, name: str, left: list[str]
) -> None:
    found = parse(SLO + "alerts:\n  rules:\n" + rule(kind, name))
    assert [item.id for item in found.rules] == ["mine", *left]


def test_a_rule_of_the_same_id_stays() -> None:
    own = "alerts: {rules: [{id: up.1h, condition: {kind: absence}}]}\n"
    found = parse(SLO + own)
    assert [item.id for item in found.rules].count("up.1h") == 1


def test_two_burn_rates_over_one_window_are_told_apart() -> None:
    rates = "{window: 1h, factor: 14}, {window: 1h, factor: 6, severity: warning}"
    found = parse(SLO.replace("0.999}]", f"0.999, burn_rates: [{rates}]}}]"))
    assert [item.id for item in found.rules] == ["up.budget", "up.1h", "up.1h-2"]


@pytest.mark.parametrize(
    "kind", ["burn_rate", "budget", "drift", "detector", "spend_limit", "capacity"]
)
def test_a_signal_that_is_not_there_is_refused_with_its_line(kind: str) -> None:
    text = SLO + "alerts:\n  rules:\n" + rule(kind, "down")
    said = refused(text)
    assert said.startswith("penstock.yaml:4: alerts.rules.0.condition: there is no")
    assert f"{kind} down" in said
    assert ("; there is up" in said) == (kind in ("burn_rate", "budget"))


def test_a_drift_monitor_may_be_named() -> None:
    drift = "drift: {monitors: [{id: inputs}]}\n"
    assert parse(drift + "alerts:\n  rules:\n" + rule("drift", "inputs")).rules


def test_names_that_mean_two_things_or_are_too_long_are_refused() -> None:
    assert "two signals are named budget up" in refused(
        SLO + "costs: {budgets: [{id: up, usd: 5}]}\n"
    )
    assert "longer than 57" in refused(SLO.replace("id: up", f"id: {'u' * 58}"))


def test_gates_are_told_apart_with_a_line() -> None:
    gate = "  - {id: g, metrics: [{metric: error_rate, max_ratio: 0.1}]}\n"
    assert (
        refused("gates:\n" + gate + gate)
        == "penstock.yaml:3: gates.1.id: gate ids must be unique: g"
    )


COSTS = """
costs:
  spend_limits: [{id: user, by: user_hash, usd: 1}]
  forecasts: [{id: fleet}]
"""


def test_spend_limits_and_forecasts_bring_rules_along() -> None:
    found = parse(COSTS)
    assert found.has_signals
    brought = {item.id: (item.severity, item.group) for item in found.rules}
    assert brought == {
        "user.spend-limit": ("warning", "cost"),
        "fleet.capacity": ("warning", "capacity"),
    }
    assert found.rules[0].annotations["summary"] == "{{ labels.user_hash }}: {{ value }}"
    own = rule("spend_limit", "user") + rule("capacity", "fleet").replace("mine", "ours")
    assert [item.id for item in parse(f"{COSTS}alerts:\n  rules:\n{own}").rules] == ["mine", "ours"]


@pytest.mark.parametrize(("part", "most"), [("user", 52), ("fleet", 55)])
def test_a_name_that_leaves_no_room_for_its_rule_is_refused(part: str, most: int) -> None:
    assert parse(COSTS.replace(f"id: {part}", f"id: {'n' * most}")).rules
    said = refused(COSTS.replace(f"id: {part}", f"id: {'n' * (most + 1)}"))
    assert f"is longer than {most} characters" in said


def test_a_spend_limit_over_more_than_is_kept_is_refused() -> None:
    month = COSTS.replace("usd: 1", "usd: 1, window_s: 2592000")
    assert parse(month).has_signals
    said = refused(month + "retention: {warm_days: 7}\n")
    assert "costs.spend_limits.0.window_s: longer than raw rows are kept" in said
