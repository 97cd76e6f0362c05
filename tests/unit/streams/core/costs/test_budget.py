from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.schemas.costs.budgets import Budget
from penstock.streams.core.costs.budget import BudgetStatus, budget_status
from penstock.streams.core.costs.projection import project
from penstock.streams.core.costs.series import DAY_S, HOUR_S, MINUTE_S, SPEND, WEEK_S, Series
from penstock.streams.core.tiles import Span

MONDAY_S = 1_767_571_200  # 5 January 2026
USD = 10**9
Floats = npt.NDArray[np.float64]


def hourly(usd: Floats | list[float], end_s: int) -> Series:
    """Hours that end at `end_s`, every token costed."""
    series = Series(SPEND)
    start_s = end_s - len(usd) * HOUR_S
    for at, value in enumerate(usd):
        cost = round(float(value) * USD)
        series.put(Span(HOUR_S, start_s + at * HOUR_S), (cost, 100, 100))
    return series


def budget(**fields: Any) -> Budget:
    return Budget.model_validate({"id": "b", "usd": 1000} | fields)


def status(series: Series, now_s: int, coverage: float | None = 1.0, **fields: Any) -> BudgetStatus:
    return budget_status(budget(**fields), series, now_s, coverage)


def test_a_steady_week_projects_to_its_rate() -> None:
    now_s = MONDAY_S + 2 * DAY_S
    found = status(hourly([5.0] * 48, now_s), now_s)
    assert (found.spent, found.projected) == (240 * USD, 840 * USD)
    assert (found.method, found.state) == ("linear", "ok")
    assert (found.start_s, found.end_s) == (MONDAY_S, MONDAY_S + WEEK_S)
    assert found.last_hour == 5 * USD
    assert found.budget_per_hour == 1000 * USD // 168
    assert found.low is None
    assert found.reasons == ("no_interval",)
    assert json.loads(json.dumps(found.to_dict()))["budget"] == 1000 * USD


def test_the_profile_of_the_week_before_is_followed() -> None:
    """Work days cost 10 an hour by day and nights and week-ends 1; this week twice as much."""
    hours = np.arange(2 * 168)
    work = (hours % 168 < 120) & (hours % 24 >= 8) & (hours % 24 < 18)
    usd = np.where(work, 10.0, 1.0) * np.where(hours < 168, 1, 2)
    now_s = MONDAY_S + 30 * HOUR_S  # Tuesday, 6:00
    found = status(hourly(usd[: 168 + 30], now_s), now_s, usd=2000)
    assert found.method == "previous_week"
    assert found.projected == round(usd[168:].sum() * USD)


def test_the_hour_that_runs_counts_in_part() -> None:
    now_s = MONDAY_S + DAY_S
    series = hourly([4.0] * 24, now_s)
    for minute in range(15):
        series.put(Span(MINUTE_S, now_s + minute * MINUTE_S), (USD // 15, 1, 1))
    found = status(series, now_s + 15 * MINUTE_S + 59, period="day")
    assert found.spent == USD // 15 * 15
    assert found.projected == found.spent + 95 * USD


def test_alerts_at_120_percent_projected_and_100_percent_spent() -> None:
    now_s = MONDAY_S + 4 * DAY_S
    series = hourly([5.0] * 96, now_s)  # 480 spent, 840 projected

    def state(usd: float, coverage: float | None = 1.0) -> str:
        return status(series, now_s, coverage, usd=usd).state

    assert state(700) == "ok"
    assert state(699.99) == "projected"
    assert state(480.01) == "projected"
    assert state(480) == "exceeded"
    assert state(699.99, None) == "projected"  # what is missing only adds
    assert state(480, 0.1) == "exceeded"


def test_all_is_not_well_without_knowing() -> None:
    now_s = MONDAY_S + DAY_S
    series = hourly([0.1] * 24, now_s)
    unknown = status(series, now_s, None)
    assert (unknown.state, unknown.measured_share) == ("unknown", None)
    assert "coverage_unknown" in unknown.reasons
    little = status(series, now_s, 0.9)
    assert (little.state, little.reasons[0]) == ("unknown", "too_little_measured")
    half = Series(SPEND)
    half.put(Span(HOUR_S, MONDAY_S), (USD, 50, 100))
    assert status(half, now_s).measured_share == 0.5
    nothing = status(Series(SPEND), now_s)
    assert (nothing.state, nothing.projected) == ("unknown", None)
    assert nothing.reasons == ("no_history", "no_interval")
    hidden = budget_status(budget(), series, now_s, 1.0, hidden=True)
    assert hidden.reasons[0] == "slice_in_other"


def test_less_than_a_day_is_enough_for_a_rate_and_not_for_an_interval() -> None:
    now_s = MONDAY_S + 6 * HOUR_S
    found = status(hourly([2.0] * 6, now_s), now_s)
    assert found.projected == 336 * USD
    assert found.low is None


def test_free_days_have_no_level() -> None:
    now_s = MONDAY_S + DAY_S
    usd = np.ones(14 * 24)
    usd[7 * 24 : 9 * 24] = 0
    usd[-24:] = 0
    found = status(hourly(usd, now_s), now_s)
    assert found.projected == 0
    assert found.low is None


@settings(max_examples=20)
@given(st.integers(1, 167), st.randoms(use_true_random=False))
def test_the_order_of_tiles_does_not_matter(hour: int, rng: Any) -> None:
    now_s = MONDAY_S + hour * HOUR_S
    usd = [float(1 + at % 7) for at in range(200)]
    spans = list(enumerate(usd))
    rng.shuffle(spans)
    series = Series(SPEND)
    for at, value in spans:
        series.put(Span(HOUR_S, now_s + (at - 200) * HOUR_S), (round(value * USD), 100, 100))
    again = Series.from_json(series.to_json())
    assert status(series, now_s) == status(again, now_s) == status(hourly(usd, now_s), now_s)


@pytest.mark.slow
@pytest.mark.parametrize(("weeks", "drift"), [(3, 0.0), (5, 0.0), (5, 0.05)])
def test_intervals_cover_what_is_spent(weeks: int, drift: float) -> None:
    """90 % intervals, asked at noon of Tuesday: work days, noise of days of 10 %, a random walk."""
    rng = np.random.default_rng(3)
    runs, hit = 400, 0
    hours = np.arange((weeks + 1) * 168)
    work = (hours % 168 < 120) & (hours % 24 >= 8) & (hours % 24 < 20)
    now = weeks * 168 + 36
    for _ in range(runs):
        daily = 0.1 * rng.normal(size=7 * (weeks + 1))
        walk = np.cumsum(drift * rng.normal(size=7 * (weeks + 1)))
        usd = np.where(work, 10.0, 2.0) * np.repeat(np.exp(daily + walk), 24)
        usd = usd * rng.gamma(20, 1 / 20, len(usd))
        now_s = MONDAY_S + 36 * HOUR_S
        found = project(hourly(usd[:now], now_s), MONDAY_S, now_s, MONDAY_S + WEEK_S, 0.9)
        assert found.low is not None
        assert found.high is not None
        hit += found.low <= usd[weeks * 168 :].sum() * USD <= found.high
    assert hit / runs >= 0.86
