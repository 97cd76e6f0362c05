from __future__ import annotations

import pytest
from penstock.schemas.config import Configuration, parse
from penstock.schemas.errors import InvalidConfiguration
from penstock.schemas.slo.notify import notified
from penstock.streams.core.alerts.routes import destinations

RECEIVERS = """
alerts:
  receivers:
    - {kind: webhook, name: all, url: "http://a"}
    - {kind: webhook, name: team, url: "http://b"}
  route:
    receivers: [all]
    group_by: [model]
    routes: [{matchers: [{label: severity, value: critical}], receivers: [all]}]
"""
SLOS = """
slos:
  - {id: up, sli: {kind: availability}, target: 0.9, notify: [team]}
  - {id: safe, sli: {kind: safety}, target: 0.9}
  - {id: both, of: [up, safe]}
"""


def told(configuration: Configuration, **labels: str) -> list[str]:
    route = notified(configuration.alerts, configuration.objectives).route
    return [name for one in destinations(route, labels) for name in one.receivers]


def test_alerts_of_an_objective_go_where_it_says() -> None:
    configuration = parse(RECEIVERS + SLOS)
    rules = {rule.id: rule for rule in configuration.rules}
    assert {rule.labels["slo"] for rule in rules.values()} == {"up", "safe"}
    for rule in rules.values():
        labels = {**rule.labels, "severity": rule.severity, "model": "m"}
        assert told(configuration, **labels) == (["team"] if labels["slo"] == "up" else ["all"])
    (destination,) = destinations(
        notified(configuration.alerts, configuration.objectives).route, {"slo": "up"}
    )
    assert destination.group_by == ("model",)  # the rest as everywhere


def test_nothing_changes_for_those_who_do_not_use_it() -> None:
    without = parse(RECEIVERS + SLOS.replace(", notify: [team]", ""))
    assert notified(without.alerts, without.objectives) is without.alerts
    nobody = parse(SLOS)  # nobody is told of anything, and OpenSLO documents may name targets
    assert notified(nobody.alerts, nobody.objectives) is nobody.alerts


def test_names_that_are_no_receivers() -> None:
    text = RECEIVERS + SLOS.replace("[team]", "[team, boss]")
    with pytest.raises(InvalidConfiguration, match=r"up: notify names boss, .* are all, team"):
        parse(text)
