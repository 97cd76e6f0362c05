"""`alerts: catalogue:`: which rules are taken, how they are overridden, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from penstock.schemas.alerts.shipped import Catalogue, Override
from penstock.schemas.catalogue import catalogue_rules
from penstock.schemas.config import Configuration, parse
from penstock.schemas.errors import InvalidConfiguration
from penstock.streams.core.configured import configured_counters

RULES = {rule.id: rule for rule in catalogue_rules()}


def taken(**fields: Any) -> dict[str, Any]:
    return {rule.id: rule for rule in Catalogue.model_validate(fields).taken}


def configured(catalogue: Any, more: str = "") -> Configuration:
    import yaml

    return parse(more + yaml.safe_dump({"alerts": {"catalogue": catalogue}}))


def test_without_the_section_nothing_is_evaluated() -> None:
    configuration = parse("alerts: {}")
    assert configuration.rules == configuration.catalogue_rules == configuration.left_out == ()
    assert not configuration.has_signals


def test_all_of_it_but_rules_without_their_signal() -> None:
    configuration = configured("all")
    assert Catalogue.model_validate("all").taken == tuple(RULES.values())
    assert {rule.id for rule in configuration.left_out} == {
        "data-drift", "prediction-shift", "cost-budget-projected", "slo-burn-rate",
        "error-budget-low", "slo-breached",
    }  # fmt: skip
    assert len(configuration.rules) == len(RULES) - 6
    assert configuration.has_signals


def test_a_signal_of_the_file_brings_its_rules_and_not_twice() -> None:
    slo = "slos: [{id: availability, sli: {kind: availability}, target: 99 %, window: 30d}]\n"
    configuration = configured({"groups": ["cost"]}, slo)
    assert [rule.id for rule in configuration.rules] == [
        "cost-per-1k-tokens-jump", "slo-burn-rate", "error-budget-low", "slo-breached",
    ]  # fmt: skip


def test_groups_products_and_single_rules() -> None:
    assert [*taken(groups=["traffic"], products=["llm"])] == [
        "throughput-low",
        "token-throughput-low",
    ]
    assert [*taken(rules=["online-throughput-low"], products=["llm"])] == ["online-throughput-low"]
    llm = taken(products=["llm"])
    assert not [name for name in llm if name.startswith(("online-", "agent-"))]
    assert len(llm) == len(RULES) - 6


def test_numbers_are_overridden() -> None:
    rules = taken(
        groups=["latency", "errors", "availability", "quality"],
        overrides={
            "llm-latency-p95-high": {"value": 20_000},
            "error-rate-high": {"value": 0.02, "resolve_below": 0.01, "severity": "critical"},
            "errors-spike": {"min_baseline": 3, "for_s": 0, "min_requests": 7},
            "deadman-requests": {"absent_s": 60},
            "data-drift": {"value": 0.3},
            "errors-oom": {"disabled": True},
        },
    )
    p95 = rules["llm-latency-p95-high"].condition
    assert (p95.value, p95.resolve_below) == (20_000, None), "the old hysteresis is gone"
    errors = rules["error-rate-high"]
    assert (errors.condition.value, errors.condition.resolve_below) == (0.02, 0.01)
    assert errors.severity == "critical"
    assert errors.for_s == RULES["error-rate-high"].for_s
    spike = rules["errors-spike"]
    assert (spike.condition.min_baseline, spike.for_s, spike.min_requests) == (3, 0, 7)
    assert rules["deadman-requests"].condition.absent_s == 60
    assert rules["data-drift"].condition.limit.value == 0.3
    assert "errors-oom" not in rules
    assert rules["error-rate-critical"] == RULES["error-rate-critical"]
    assert Override().applied(RULES["errors-spike"]) == RULES["errors-spike"]


@pytest.mark.parametrize(
    ("catalogue", "said"),
    [
        ("some", "`all`, or groups, products, rules and overrides, not 'some'"),
        ({"groups": ["latence"]}, "no group latence: it has latency, errors"),
        ({"rules": ["nothing"]}, "has no nothing"),
        ({"overrides": {"nothing": {"value": 1}}}, "rules that are not taken: nothing"),
        ({"groups": ["cost"], "overrides": {"errors-oom": {}}}, "not taken: errors-oom"),
        ({"overrides": {"slo-burn-rate": {"value": 1}}}, "slo-burn-rate compares no value: value"),
        ({"overrides": {"deadman-steps": {"value": 1}}}, "deadman-steps compares no value"),
        ({"overrides": {"errors-oom": {"absent_s": 60}}}, "errors-oom is no dead-man switch"),
        ({"overrides": {"errors-oom": {"min_baseline": 1}}}, "errors-oom compares nothing with"),
        ({"overrides": {"errors-oom": {"resolve_below": 9}}}, "resolve_below must not be above"),
        ({"overrides": {"errors-oom": {"valeu": 9}}}, "Extra inputs are not permitted"),
        ({"rules": ["slo-breached"]}, "slo-breached needs a budget availability, which is not"),
    ],
)
def test_mistakes_are_told(catalogue: Any, said: str) -> None:
    with pytest.raises(InvalidConfiguration, match=r"alerts\.catalogue") as caught:
        configured(catalogue)
    assert said in str(caught.value)


def test_a_rule_of_ones_own_takes_the_place_of_its_namesake() -> None:
    configuration = parse(
        """
alerts:
  rules:
    - {id: errors-oom, by: model, condition: {kind: threshold, metric: errors_by_type.oom, op: ">", value: 7}}
  catalogue: {rules: [errors-oom, llm-latency-p95-high]}
"""
    )
    assert [rule.id for rule in configuration.rules] == ["errors-oom", "llm-latency-p95-high"]
    assert configuration.rules[0].severity == "warning"
    assert [counter.number for counter in configured_counters(configuration)], "cells count p95"
