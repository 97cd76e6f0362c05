from __future__ import annotations

from itertools import combinations
from typing import get_args

import pytest
from penstock.api.queries import Conditions, identifier, listed
from penstock.api.windows import (
    GroupingName,
    WindowName,
    WindowsAsk,
    columns_wanted,
    grouping_for,
    series_of,
    windows_sql,
)
from penstock.schemas.errors import InvalidQuery
from penstock.streams.core.slices import DIMENSIONS, GROUPINGS
from penstock.streams.core.windows import WINDOWS
from pydantic import ValidationError

EVIL = ["1; DROP TABLE x", "`", "ts`--", "(SELECT 1)", "", "requests_rows", "*"]


@pytest.mark.parametrize("name", EVIL)
def test_only_known_names_become_sql(name: str) -> None:
    with pytest.raises(InvalidQuery):
        identifier(name)
    with pytest.raises(InvalidQuery):
        listed(["ts", name])
    with pytest.raises(InvalidQuery):
        Conditions().equal(name, "x")


@pytest.mark.parametrize("name", EVIL)
def test_only_known_metrics_become_columns(name: str) -> None:
    with pytest.raises(InvalidQuery):
        columns_wanted([name])


def test_a_bare_latency_means_its_quantiles() -> None:
    assert columns_wanted(["ttft_ms", "requests, ttft_ms_p95", "requests"]) == [
        "ttft_ms_p50",
        "ttft_ms_p90",
        "ttft_ms_p95",
        "ttft_ms_p99",
        "requests",
    ]


def test_values_never_reach_the_statement() -> None:
    evil = "x' OR 1=1 --"
    ask = WindowsAsk(model=evil, start=0)
    sql, parameters = windows_sql(ask, "model", {"model": evil}, ["requests"])
    assert evil not in sql
    assert parameters["model"] == evil


def test_the_lists_here_are_those_of_the_streams() -> None:
    assert set(get_args(WindowName)) == set(WINDOWS)
    assert set(get_args(GroupingName)) == set(GROUPINGS)
    assert set(DIMENSIONS) <= set(WindowsAsk.model_fields)


@pytest.mark.parametrize(
    ("filters", "grouping"),
    [
        ({}, "fleet"),
        ({"model"}, "model"),
        ({"route"}, "route"),
        ({"model", "route"}, "model_route"),
        ({"variant"}, "release"),
        ({"model", "model_version"}, "model_version"),
        ({"adapter"}, "model_adapter"),
        ({"tenant"}, "tenant"),
    ],
)
def test_the_smallest_grouping_that_holds_the_filters(filters: set[str], grouping: str) -> None:
    assert grouping_for(None, dict.fromkeys(filters, "x")) == grouping


def test_every_pair_of_filters_has_a_grouping_or_an_error() -> None:
    for pair in combinations(DIMENSIONS, 2):
        filters = dict.fromkeys(pair, "x")
        if any(set(pair) <= set(held) for held in GROUPINGS.values()):
            assert set(pair) <= set(GROUPINGS[grouping_for(None, filters)])
        else:
            with pytest.raises(InvalidQuery, match="no grouping"):
                grouping_for(None, filters)


def test_a_grouping_that_lacks_a_filter_is_refused() -> None:
    with pytest.raises(InvalidQuery, match="does not keep variant"):
        grouping_for("model", {"model": "m", "variant": "canary"})


@pytest.mark.parametrize(
    "ask",
    [
        WindowsAsk(step=60),
        WindowsAsk(start=20, end=10),
        WindowsAsk(start=0, step=15),
        WindowsAsk(window="30m", start=0, step=10),
    ],
)
def test_ranges_and_steps_that_make_no_sense(ask: WindowsAsk) -> None:
    with pytest.raises(InvalidQuery):
        windows_sql(ask, "fleet", {}, ["requests"])


def test_unknown_parameters_are_refused_and_empty_ones_left_out() -> None:
    with pytest.raises(ValidationError):
        WindowsAsk.model_validate({"varient": "canary"})
    assert WindowsAsk.model_validate({"model": "", "metric": [""]}) == WindowsAsk()


def test_rows_become_series_of_slices() -> None:
    rows = [
        {"model": m, "end": end, "coverage": 1.0, "coverage_state": "ok", "requests": end}
        for m in ("b", "a")
        for end in (1, 2)
    ]
    series = series_of(rows, "model", ["requests"])
    assert [item["slice"] for item in series] == [{"model": "a"}, {"model": "b"}]
    assert [point["values"] for point in series[0]["points"]] == [{"requests": 1}, {"requests": 2}]
