from __future__ import annotations

import doctest
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import penstock
import pytest
import yaml
from penstock.schemas.costs import section
from penstock.schemas.costs.budgets import Budget, SpendLimit
from penstock.schemas.costs.capacity import CapacityForecast
from penstock.schemas.costs.prices import TokenPrice, TrainingPrice
from penstock.schemas.costs.section import Costs
from penstock.schemas.costs.values import Scope, unix_us
from pydantic import ValidationError

YAML = """
prices:
  - {model: chat-8b, valid_from: 2026-01-01T00:00:00Z, input_usd: 0.15, cached_usd: 0.075, output_usd: 0.6}
  - {model: chat-8b, valid_from: 2026-03-01T02:00:00+02:00, per: 1k, input_usd: 1e-7, output_usd: "0.0005"}
  - {valid_from: 2026-01-01, input_usd: 1, output_usd: 4, reasoning_usd: 3}
training_prices:
  - {valid_from: 2026-01-01, usd_per_accelerator_hour: 2.5}
  - {model: chat-8b, valid_from: 2026-01-01, usd_per_1k_tokens: 0.0004}
budgets:
  - {id: fleet-week, usd: 5000}
  - {id: search-month, period: month, filter: {model: chat-8b, route: /search}, usd: 700.5}
spend_limits:
  - {id: user-day, by: user_hash, usd: 20}
forecasts:
  - {id: fleet}
"""


def price(**fields: Any) -> TokenPrice:
    given = {"valid_from": "2026-01-01", "input_usd": 1, "output_usd": 2}
    return TokenPrice.model_validate(given | fields)


def refused(kind: type[Any], fields: dict[str, Any], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        kind.model_validate(fields)


def test_the_example_of_the_section() -> None:
    assert doctest.testmod(section).failed == 0


def test_a_section_as_yaml_writes_it() -> None:
    costs = Costs.model_validate(yaml.safe_load(YAML))
    first, second, anything = costs.prices
    assert first.input_usd == Decimal("0.15")
    assert first.picousd_per_token == (150_000, 75_000, 600_000, 600_000)
    assert second.valid_from == datetime(2026, 3, 1, tzinfo=UTC)
    assert second.picousd_per_token == (100, 100, 500_000, 500_000)
    assert anything.model == "*"
    assert anything.picousd_per_token == (1_000_000, 1_000_000, 4_000_000, 3_000_000)
    hourly, by_token = costs.training_prices
    assert (hourly.is_hourly, hourly.nanousd) == (True, 2_500_000_000)
    assert (by_token.is_hourly, by_token.nanousd) == (False, 400_000)
    assert costs.budgets[0].nanousd == 5_000_000_000_000
    assert costs.budgets[1].filter.grouping == "model_route"
    assert costs.forecasts[0].limits.keys() == {"batch_fill", "kv_cache_usage", "gpu_utilization"}
    assert Costs() == Costs.model_validate({})


def test_the_example_of_the_documentation() -> None:
    text = (Path(penstock.__path__[0]) / "docs" / "costs.md").read_text(encoding="utf-8")
    costs = Costs.model_validate(yaml.safe_load(text.split("```")[1].removeprefix("yaml"))["costs"])
    assert [len(costs.prices), len(costs.budgets), len(costs.forecasts)] == [3, 2, 1]


def test_times_are_exact() -> None:
    assert unix_us(datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC)) == -1
    assert unix_us(price(valid_from="2026-01-01T00:00:00.000001Z").valid_from) == (
        1_767_225_600_000_001
    )


@pytest.mark.parametrize(
    ("moment", "match"),
    [
        (datetime(2026, 1, 1), "a time without a zone; write 2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00", "without a zone"),
        ("soon", "not a time such as 2026-01-31T00:00:00Z: 'soon'"),
        ("T", "not a time"),
        (1_767_225_600, "not a time such as"),
    ],
)
def test_times_that_are_none(moment: object, match: str) -> None:
    refused(TokenPrice, {"valid_from": moment, "input_usd": 1, "output_usd": 1}, match)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"input_usd": "0.0000001"}, "finer than 1e-12 USD per token"),
        ({"input_usd": "100000.1"}, "above 0.1 USD per token"),
        ({"input_usd": 101, "per": "1k"}, "above 0.1 USD per token; see `per`"),
        ({"output_usd": -1}, "greater than or equal to 0"),
        ({"output_usd": "NaN"}, "finite"),
        ({"per": "1G"}, "'1k' or '1M'"),
        ({"model": ""}, "at least 1 character"),
        ({"colour": 1}, "not permitted"),
    ],
)
def test_prices_that_are_none(fields: dict[str, Any], match: str) -> None:
    refused(
        TokenPrice, {"valid_from": "2026-01-01", "input_usd": 1, "output_usd": 1} | fields, match
    )


def test_prices_that_overlap_or_are_out_of_order() -> None:
    def entry(day: str, model: str = "m") -> dict[str, Any]:
        return {"model": model, "valid_from": day, "input_usd": 1, "output_usd": 1}

    Costs.model_validate({"prices": [entry("2026-02-01"), entry("2026-01-01", "*")]})
    refused(
        Costs,
        {"prices": [entry("2026-02-01"), entry("2026-02-01T01:00:00+01:00")]},
        "prices of m overlap: both begin at 2026-02-01T00:00:00Z",
    )
    refused(
        Costs,
        {"prices": [entry("2026-02-01"), entry("2026-01-01")]},
        "prices of m are not in order: one begins at 2026-01-01T00:00:00Z, after one of 2026-02",
    )


@pytest.mark.parametrize("fields", [{}, {"usd_per_accelerator_hour": 1, "usd_per_1k_tokens": 1}])
def test_a_training_price_has_one_unit(fields: dict[str, Any]) -> None:
    refused(TrainingPrice, {"valid_from": "2026-01-01"} | fields, "give either")


def test_training_may_be_free_of_charge_but_not_finer_than_nano_dollars() -> None:
    free = TrainingPrice.model_validate({"valid_from": "2026-01-01", "usd_per_1k_tokens": 0})
    assert (free.is_hourly, free.nanousd) == (False, 0)
    fine = {"valid_from": "2026-01-01", "usd_per_1k_tokens": "1e-10"}
    refused(TrainingPrice, fine, "finer than 1/1000000000")


@pytest.mark.parametrize(
    ("given", "grouping"),
    [
        ({}, "fleet"),
        ({"model": "m"}, "model"),
        ({"model": "m", "model_version": "1"}, "model_version"),
        ({"route": "/a"}, "route"),
        ({"model": "m", "route": "/a"}, "model_route"),
        ({"tenant": "t"}, "tenant"),
    ],
)
def test_scopes_that_numbers_are_kept_by(given: dict[str, str], grouping: str) -> None:
    scope = Scope.model_validate(given)
    assert scope.grouping == grouping
    assert scope.given() == given


def test_scopes_that_nothing_is_kept_by() -> None:
    refused(Scope, {"tenant": "t", "route": "/a"}, "no numbers are kept by route and tenant")


def test_amounts_and_ids() -> None:
    refused(Budget, {"id": "b", "usd": 0}, "greater than 0")
    refused(Budget, {"id": "b", "usd": "1e-10"}, "finer than")
    refused(Budget, {"id": "b b", "usd": 1}, "pattern")
    refused(SpendLimit, {"id": "l", "usd": 1, "by": "user_hash", "window_s": 90}, "multiple of 60")
    twice = [{"id": "b", "usd": 1}, {"id": "b", "usd": 2}]
    refused(Costs, {"budgets": twice}, "ids must be unique: b")


def test_forecasts_need_a_limit_and_steps() -> None:
    none = dict.fromkeys(("max_batch_fill", "max_kv_cache_usage", "max_gpu_utilization"))
    refused(CapacityForecast, {"id": "f", **none}, "at least one of the limits")
    refused(CapacityForecast, {"id": "f", "filter": {"route": "/a"}}, "no route and no tenant")
