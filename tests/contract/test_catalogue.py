"""Every rule of the catalogue by events over HTTP into one running server: fires, and not just below."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from penstock.tests.contract import catalogue_feed as feed
from penstock.tests.contract.deployments import embedded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

Fired = dict[str, list[tuple[int, dict[str, str]]]]
"""By rule: event time in seconds and labels of each alert that fired."""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, list[feed.Phase], Fired]]:
    """When it began, the phases of the fleet, and what fired."""
    start_s = feed.begin_s()
    phases = list(feed.phases(start_s + feed.ALL_MODELS_S))
    with embedded(tmp_path_factory.mktemp("catalogue"), feed.CONFIG) as running:
        for body in feed.by_model(start_s):
            feed.post(running, body, wait=False)
        for phase in phases:
            first, *rest = phase.bodies
            feed.post(running, first, wait=bool(rest))  # what comes then is to be late
            for body in rest:
                feed.post(running, body, wait=False)
        _await_evaluated(running, phases[-1].end_s)
        found: Fired = {}
        for rule in feed.RULES:
            answer = running.get("/v1/alerts", state="all", rule=rule, limit=1000).json()
            found[rule] = [
                (int(datetime.fromisoformat(one["fired"]).timestamp()), one["labels"])
                for one in answer["alerts"]
                if one["fired"] is not None
            ]
        yield start_s, phases, found


def _await_evaluated(running: Any, end_s: int) -> None:
    deadline = time.monotonic() + 300
    while True:
        as_of = running.get("/v1/slos").json()["as_of"]
        if as_of is not None and datetime.fromisoformat(as_of).timestamp() >= end_s // 60 * 60:
            return
        assert time.monotonic() < deadline, as_of
        time.sleep(0.5)


@pytest.mark.parametrize("rule", feed.BY_MODEL)
def test_a_rule_by_model(rule: str, told: tuple[int, list[feed.Phase], Fired]) -> None:
    start_s, _, fired = told
    until_s = start_s + feed.ends_s(rule)
    models = {labels["model"] for at_s, labels in fired[rule] if at_s <= until_s}
    assert feed.model_of(rule, True) in models
    assert feed.model_of(rule, False) not in models


@pytest.mark.parametrize("rule", feed.OF_FLEET)
def test_a_rule_of_the_fleet(rule: str, told: tuple[int, list[feed.Phase], Fired]) -> None:
    times = [at_s for at_s, _ in told[2][rule]]
    for phase in told[1]:
        if phase.rule == rule:
            within = [at_s for at_s in times if phase.start_s < at_s <= phase.end_s]
            assert bool(within) == phase.fires


@pytest.mark.parametrize(
    ("rule", "from_s", "until_s"),
    [
        ("error-budget-low", 3700, 3800),
        ("slo-breached", 4300, 4400),
        ("slo-burn-rate", 4300, 4400),
        ("cost-budget-projected", 3660 + 1800, 3660 + 1900),
    ],
)
def test_a_rule_of_a_signal(
    rule: str, from_s: int, until_s: int, told: tuple[int, list[feed.Phase], Fired]
) -> None:
    first_s = min(at_s for at_s, _ in told[2][rule]) - told[0]
    assert from_s < first_s <= until_s


def test_every_rule_is_tried_but_those_of_drift() -> None:
    tried = {*feed.BY_MODEL, *feed.OF_FLEET, *feed.signals_of_catalogue()}
    assert feed.RULES.keys() - tried == {"data-drift", "prediction-shift"}
