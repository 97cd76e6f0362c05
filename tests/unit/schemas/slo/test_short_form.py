"""The short form of SLOs and presets: what is accepted, what is refused, and how it says so."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
import yaml
from penstock.schemas.slo.base import GROUPING_SETS, SloFilter
from penstock.schemas.slo.burn import WORKBOOK, BurnRate, rule_of
from penstock.schemas.slo.objective import Composite, Objective
from penstock.schemas.slo.presets import PRESETS
from penstock.schemas.slo.section import SloSection, objectives_of
from penstock.streams.core.slices import GROUPINGS
from pydantic import TypeAdapter, ValidationError

SECTION: TypeAdapter[Any] = TypeAdapter(SloSection)


def section(text: str) -> tuple[Objective | Composite, ...]:
    return objectives_of(SECTION.validate_python(yaml.safe_load(text)))


def one(text: str) -> Objective:
    (found,) = section(f"[{text}]")
    assert isinstance(found, Objective)
    return found


def refused(text: str) -> str:
    with pytest.raises(ValidationError) as caught:
        section(f"[{text}]")
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in caught.value.errors())


def test_grouping_sets_are_those_of_the_core() -> None:
    assert GROUPING_SETS == GROUPINGS


@pytest.mark.parametrize("text", ["0.999", "99.9 %", "'0.999'", "99.90%"])
def test_targets_are_exact(text: str) -> None:
    objective = one(f"{{id: a, sli: {{kind: availability}}, target: {text}}}")
    assert objective.budget == Fraction(1, 1000)
    assert objective.declared == "availability >= 99.9 %"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("target: 0.9, sli: {kind: availability}, filter: {adapter: a}", "objective.filter: "),
        ("target: 0.9, sli: {kind: availability}, filter: {adapter: a}", "model + adapter"),
        ("target: 1, sli: {kind: availability}", "0.objective.target: Input should be less"),
        ("target: x%, sli: {kind: availability}", "is not a percentage"),
        ("sli: {kind: availability}", "target is missing"),
        ("target: 0.9, sli: {kind: uptime}", "0.objective.sli: "),
        ("target: 0.9, sli: {kind: error_rate, types: [oops]}", "no oops; there are oom"),
        ("target: 0.9, sli: {kind: safety, flag: oops}", "no oops; there are pii"),
        ("target: 0.9, sli: {kind: latency, field: status, max_ms: 5}", "no status; there are"),
        ("target: 0.9, sli: {kind: latency_quantile, quantile: 0.95, max_ms: 5}", "leave it out"),
        ("target: 0.9, sli: {kind: throughput, min_per_s: 5}, window: month", "at most 30 days"),
        (
            "target: 0.9, sli: {kind: throughput, min_per_s: 5}, time_slice_target: 0.5",
            "counts minutes already",
        ),
        ("target: 0.9, sli: {kind: availability}, windw: 7d", "windw: Extra inputs"),
        (
            "target: 0.9, sli: {kind: ratio, total: {counter: requests}}",
            "give either good or bad",
        ),
        (
            "target: 0.9, sli: {kind: ratio, total: {counter: requests}, bad: {counter: status}}",
            "status needs values, of ok, error",
        ),
        (
            "target: 0.9, sli: {kind: ratio, total: {counter: requests, values: [ok]},"
            " bad: {counter: overdue}}",
            "requests is not kept by value",
        ),
        (
            "target: 0.9, filter: {model: a}, sli: {kind: ratio, total: {counter: requests},"
            " good: {counter: requests, filter: {model: b, route: x}}}",
            "must share the model",
        ),
    ],
)
def test_mistakes_are_named(fields: str, message: str) -> None:
    assert message in refused(f"{{id: a, {fields}}}")


def test_sections_are_checked_as_a_whole() -> None:
    good = "{id: a, sli: {kind: acceptance}, target: 0.9}"
    assert "ids must be unique: a" in refused(f"{good}, {good}")
    assert "all: there is no objective b" in refused(f"{good}, {{id: all, of: [a, b]}}")
    assert "named twice" in refused(f"{good}, {{id: all, of: [a, a]}}")
    assert "has no errors; it has latency-p95" in refused(
        "{id: p, preset: agent, without: [errors]}"
    )
    everything = ", ".join(PRESETS["agent"])
    assert "every part" in refused(f"{{id: p, preset: agent, without: [{everything}]}}")
    assert "1.composite" in refused(f"{good}, {{id: all, of: [a], target: 0}}")
    models = SECTION.validate_python([Objective.model_validate(yaml.safe_load(good))])
    assert SECTION.validate_python(models) == models


@pytest.mark.parametrize(
    ("window", "factors"),
    [
        ("30d", ["14.4", "6", "3", "1"]),
        ("28d", ["13.44", "5.6", "2.8", "14/15"]),
        ("7d", ["3.36", "1.4", "0.7", "7/30"]),
        ("month", ["14.4", "6", "3", "1"]),
        ("quarter", ["43.2", "18", "9", "3"]),
    ],
)
def test_factors_follow_the_period(window: Any, factors: list[str]) -> None:
    rules = [rule_of(rate, window) for rate in WORKBOOK]
    assert [rule.factor for rule in rules] == [Fraction(factor) for factor in factors]
    assert [rule.long_s for rule in rules] == [3600, 6 * 3600, 86400, 3 * 86400]
    assert [rule.short_s for rule in rules] == [300, 1800, 7200, 6 * 3600]


def test_unreachable_rules_are_refused_or_left_out() -> None:
    shape = "{{id: a, sli: {{kind: availability}}, target: {}, {}}}"
    asked = "burn_rates: [{window: 1h, factor: 14.4}]"
    message = refused(shape.format("0.9", asked))
    assert "14.4 times a budget of 10 % is 144 %" in message
    assert "100 %" in refused(shape.format("0.9", "burn_rates: [{window: 1h, factor: 10}]"))
    fine = one(shape.format("0.9", "burn_rates: [{window: 5m, factor: 9.99, for_s: 60}]"))
    assert [(rule.short_s, rule.for_s) for rule in fine.rules] == [(60, 60)]
    assert fine.left_out == ()
    default = one(shape.format("0.9", "window: 30d"))
    assert [rule.name for rule in default.rules] == ["6h", "1d", "3d"]
    (reason,) = default.left_out
    assert "over 1h cannot be reached" in reason
    assert one(shape.format("0.9", "burn_rates: []")).rules == ()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"window": "1h"}, "either factor or budget"),
        ({"window": "1x", "factor": 1}, "no duration"),
        ({"window": "90s", "factor": 1}, "whole minutes"),
        ({"window": "4d", "factor": 1}, "from 1m to 3d"),
    ],
)
def test_burn_rates_are_checked(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        BurnRate.model_validate(fields)


def test_presets_hold_what_users_asked_for() -> None:
    found = section("[{id: chat, preset: interactive-llm, filter: {model: m}}]")
    *objectives, overall = found
    assert isinstance(overall, Composite)
    assert overall.id == "chat-overall"
    assert overall.of == tuple(item.id for item in objectives)
    said = [item.declared for item in objectives if isinstance(item, Objective)]
    assert said == [
        "p50 of latency_ms <= 400 ms",
        "p95 of latency_ms <= 1200 ms",
        "availability >= 99.9 %",
        "safety violations <= 0.1 %",
    ]
    assert {item.window for item in objectives if isinstance(item, Objective)} == {"7d"}
    agent = section("[{id: a, preset: agent, window: 30d, without: [latency-p99]}]")
    assert [item.declared for item in agent if isinstance(item, Objective)] == [
        "p95 of latency_ms <= 5000 ms",
        "errors <= 5 %",
    ]
    online = section("[{id: o, preset: online-model}]")
    assert [item.declared for item in online if isinstance(item, Objective)] == [
        "p95 of latency_ms <= 100 ms",
        "p99 of latency_ms <= 200 ms",
        "errors <= 0.1 %",
        "throughput >= 100 requests/s in 99 % of minutes",
    ]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("sli: {kind: latency, max_ms: 800}", "latency_ms <= 800 ms for 99.5 %"),
        ("sli: {kind: error_rate, types: [oom, oom, overload]}", "oom + overload <= 0.5 %"),
        ("sli: {kind: safety, flag: pii}", "pii <= 0.5 %"),
        (
            "sli: {kind: cost_per_1k_tokens_usd, max_usd: 0.01}",
            "1k tokens <= 0.01 USD in 99.5 % of minutes",
        ),
        ("sli: {kind: freshness}", "requests at most 60 s old in 99.5 % of minutes"),
        ("sli: {kind: quality, max_score: 5}", "quality >= 99.5 %"),
        (
            "sli: {kind: availability}, time_slice_target: 0.9",
            "availability >= 90 %, in 99.5 % of minutes",
        ),
    ],
)
def test_objectives_say_what_they_ask_for(fields: str, said: str) -> None:
    assert one(f"{{id: a, target: 0.995, {fields}}}").declared == said


def test_a_filter_knows_its_slice_and_group() -> None:
    found = SloFilter(route="/chat", model="m")
    assert (found.grouping, found.values) == ("model_route", ("m", "/chat"))
    assert found.group == ("model", "m")
    assert SloFilter().group == ()
    assert SloFilter(tenant="t").grouping == "tenant"
    assert Decimal(1) == Composite(id="a", of=("b",)).target
