from __future__ import annotations

from typing import Any

import pytest
from penstock.schemas.alerts.metrics import GROUPINGS, LATENCIES, METRICS, PERCENTS, WINDOWS_S
from penstock.schemas.alerts.rules import STEP_GROUPINGS, AlertRule
from penstock.schemas.alerts.templates import check_template, render
from penstock.streams.core import metrics as m
from penstock.streams.core import slices, windows
from penstock.streams.core.tiles import EMPTY
from pydantic import ValidationError

P95 = {"kind": "threshold", "metric": "latency_ms_p95", "op": ">", "value": 1200}


def rule(**fields: Any) -> AlertRule:
    return AlertRule.model_validate({"id": "r", "condition": P95} | fields)


def test_names_are_those_of_the_core() -> None:
    assert GROUPINGS == slices.GROUPINGS
    assert STEP_GROUPINGS == slices.STEP_GROUPINGS
    assert WINDOWS_S == windows.WINDOWS
    assert LATENCIES == m.LATENCIES
    assert [p / 100 for p in PERCENTS] == windows.PROBABILITIES.tolist()


def test_every_number_of_a_window_can_be_watched() -> None:
    _, columns = windows.rows_of(EMPTY, 60, 0, False)
    numbers = {name for name, column in columns.items() if not isinstance(column, list)}
    watched = {name.partition(".")[0] for name in METRICS}
    assert watched == numbers | {"errors_by_type"}
    assert all(metric.per in numbers for metric in METRICS.values())


@pytest.mark.parametrize(
    ("fields", "grouping"),
    [
        ({}, "fleet"),
        ({"filter": {"model": "a"}}, "model"),
        ({"filter": {"model": "a", "route": "/x"}}, "model_route"),
        ({"filter": {"variant": "canary"}, "by": "release"}, "release"),
        ({"by": "tenant"}, "tenant"),
    ],
)
def test_a_filter_fits_one_grouping_set(fields: dict[str, Any], grouping: str) -> None:
    assert rule(**fields).grouping == grouping


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"filter": {"variant": "canary"}}, "without `by`"),
        ({"filter": {"tenant": "t"}, "by": "model"}, "has no tenant"),
        ({"labels": {"severity": "page"}}, "every alert has"),
        ({"labels": {"model": "x"}}, "every alert has"),
        ({"condition": P95 | {"metric": "nonsense"}}, "no number in the table"),
        ({"condition": P95 | {"resolve_above": 1300}}, "goes with"),
        ({"condition": P95 | {"resolve_below": 1300}}, "must not be above"),
        ({"condition": P95 | {"op": "<", "resolve_above": 1000}}, "must not be below"),
        ({"condition": P95 | {"op": "<", "resolve_below": 1000}}, "goes with"),
        ({"condition": P95 | {"metric": "missing"}, "by": "model"}, "fleet only"),
        ({"condition": P95 | {"metric": "steps"}, "by": "route"}, "steps have no route"),
        ({"condition": {"kind": "absence", "of": "steps"}, "by": "tenant"}, "steps have no"),
        ({"condition": {"kind": "drift", "id": "d"}, "by": "model"}, "leave `by` out"),
        ({"annotations": {"summary": "{{ secrets }}"}}, "unknown field"),
        ({"annotations": {"summary": "{{ value + 1 }}"}}, "only {{ name }}"),
        ({"annotations": {"summary": "{{ rule | number }}"}}, "is no number"),
        ({"id": "no blanks"}, "should match pattern"),
        ({"for": "5m"}, "Extra inputs"),
    ],
)
def test_mistakes_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        rule(**fields)


def test_what_is_allowed() -> None:
    assert rule(condition=P95 | {"resolve_below": 1000}).grouping == "fleet"
    assert rule(condition=P95 | {"op": "<", "resolve_above": 1300}).grouping == "fleet"
    budget = {"kind": "budget", "id": "b", "limit": {"op": ">=", "value": 0.75}}
    assert rule(condition=budget, filter={"tenant": "t", "model": "m"}).grouping == ""
    assert rule(condition={"kind": "absence"}, by="model").grouping == "model"


def test_templates_fill_names_and_evaluate_nothing() -> None:
    text = "{{ $labels.model }}: {{value}} > {{ limit | number }}{{ labels.absent }}"
    assert check_template(text) == text
    values = {"labels.model": "{{ value }}", "value": "8 %", "limit | number": "0.05"}
    assert render(text, values) == "{{ value }}: 8 % > 0.05"
