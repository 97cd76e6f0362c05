"""From an alert to what is asked about it."""

from __future__ import annotations

from typing import Any

import pytest
from penstock.schemas.alerts.rules import AlertRule
from penstock.schemas.config import parse
from penstock.streams.core.alerts.transition import Transition
from penstock.streams.core.explain.question import Question, Stretch, question_of

AT = 1_767_225_600
SETTINGS = parse("""
slos:
  - {id: up, filter: {model: chat}, sli: {kind: availability}, target: 0.999}
  - {id: fast, sli: {kind: latency_quantile, field: ttft_ms, max_ms: 800, quantile: 0.95}}
  - {id: fresh, sli: {kind: freshness, of: steps}, target: 0.99}
  - {id: liked, sli: {kind: acceptance}, target: 0.9}
  - {id: both, of: [up, fast]}
costs:
  budgets: [{id: fleet, usd: 100}]
  spend_limits: [{id: up, by: user_hash, usd: 1}]
""")


def asked(condition: dict[str, Any], lasted_s: int = 60, **labels: str) -> Question | None:
    rule = AlertRule.model_validate({"id": "r", "condition": condition})
    own = {"alertname": "r", "severity": "warning", "group": "g"} | labels
    fired = Transition("t", "a", 1, "firing", "condition", "r", "h", AT, AT - lasted_s, own)
    return question_of(fired, rule, SETTINGS)


def threshold(window: str = "1m", metric: str = "error_rate") -> dict[str, Any]:
    return {"kind": "threshold", "metric": metric, "window": window, "op": ">", "value": 0.05}


def test_the_baseline_ends_a_window_before_the_first_breach() -> None:
    found = asked(threshold(), model="chat", tenant="(other)", route="")
    assert found is not None
    assert found.now == Stretch(AT - 60, AT)
    assert found.before == Stretch(AT - 420, AT - 120)
    assert found.scale == 0.2
    assert found.filter == {"model": "chat"}
    assert (found.limit, found.measure.name) == (None, "error_rate")


def test_long_windows_are_cut_to_an_hour() -> None:
    found = asked(threshold("1d"))
    assert found is not None
    assert found.now == Stretch(AT - 3600, AT)
    assert found.before.end_s == AT - 60 - 86_400
    assert found.before.length_s == 3600


def test_a_quantile_is_a_share_above_its_limit() -> None:
    found = asked(threshold(metric="ttft_ms_p95") | {"value": 1200})
    assert found is not None
    assert (found.measure.kind, found.measure.name, found.limit) == ("above", "ttft_ms", 1200)


def test_a_change_has_its_own_baseline_and_the_limit_of_it() -> None:
    change = {"kind": "change", "metric": "ttft_ms_p95", "window": "5m", "op": ">", "value": 2}
    found = asked(change | {"baseline": "30m", "offset_s": 600})
    assert found is not None
    assert (found.limit, found.measure.percent) == (None, 95)
    assert found.before == Stretch(AT - 60 - 600 - 1800, AT - 60 - 600)


@pytest.mark.parametrize(
    ("of", "name"), [("any", "requests"), ("requests", "requests"), ("steps", "steps")]
)
def test_silence_is_a_sum_of_rows(of: str, name: str) -> None:
    found = asked({"kind": "absence", "of": of, "absent_s": 120})
    assert found is not None
    assert (found.measure.name, found.measure.kind, found.now.length_s) == (name, "sum", 120)


@pytest.mark.parametrize(
    ("kind", "signal", "name", "limit"),
    [
        ("burn_rate", "up", "availability", None),
        ("burn_rate", "up.6h", "availability", None),
        ("budget", "up", "availability", None),
        ("burn_rate", "fast.1h", "ttft_ms", 800),
        ("budget", "fresh", "steps", None),
        ("budget", "fleet", "cost_usd", None),
    ],
)
def test_signals_are_those_of_their_objective_or_budget(
    kind: str, signal: str, name: str, limit: float | None
) -> None:
    found = asked({"kind": kind, "id": signal})
    assert found is not None
    assert (found.measure.name, found.limit) == (name, limit)


def test_a_burn_rate_looks_at_its_short_window_and_before_its_long_one() -> None:
    found = asked({"kind": "burn_rate", "id": "up.1h"})
    assert found is not None
    assert found.now == Stretch(AT - 300, AT)
    assert found.before == Stretch(AT - 60 - 3600 - 1500, AT - 60 - 3600)


def test_all_burn_rates_as_one_look_at_the_shortest_window() -> None:
    one, every = (asked({"kind": "burn_rate", "id": name}) for name in ("up.1h", "up"))
    assert one is not None
    assert every is not None
    assert (every.now, every.before) == (one.now, one.before)


def test_a_spend_limit_is_about_what_its_user_spent() -> None:
    found = asked({"kind": "spend_limit", "id": "up"}, user_hash="u1", pod="p")
    assert found is not None
    assert (found.measure.name, found.filter) == ("cost_usd", {"user_hash": "u1"})


def test_workers_are_counted_and_not_summed() -> None:
    found = asked(threshold(metric="workers"))
    assert found is not None
    assert (found.measure.kind, found.scale) == ("present", 1.0)


@pytest.mark.parametrize(
    "condition",
    [
        {"kind": "drift", "id": "lengths"},
        {"kind": "detector", "id": "d"},
        {"kind": "burn_rate", "id": "fleet"},
        {"kind": "budget", "id": "liked"},
        {"kind": "absence", "of": "feedback", "absent_s": 60},
        threshold(metric="coverage"),
        threshold(metric="acceptance_rate"),
    ],
)
def test_what_rows_do_not_tell_is_not_asked(condition: dict[str, Any]) -> None:
    assert asked(condition) is None
