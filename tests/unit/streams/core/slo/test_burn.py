"""Burn rates at their boundaries, and the e-detector."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.schemas.slo.burn import WORKBOOK, rule_of
from penstock.streams.core.slo.burn import above, burn_rate, burn_statuses
from penstock.streams.core.slo.detector import ALPHA, LOG_C, STEPS, EDetector, alternatives_of
from penstock.streams.core.slo.ledger import Ledger
from penstock.streams.core.slo.period import period_at
from penstock.streams.core.tiles import Span

BUDGET = Fraction(1, 1000)
RULES = tuple(rule_of(rate, "30d") for rate in WORKBOOK)


@pytest.mark.parametrize("scale", [1, 3, 10**9])
def test_the_boundary_itself_does_not_fire(scale: int) -> None:
    assert not above((144 * scale, 10_000 * scale), Fraction("14.4"), BUDGET)
    assert above((144 * scale + 1, 10_000 * scale), Fraction("14.4"), BUDGET)
    assert not above((0, 0), Fraction(1), BUDGET)
    assert burn_rate((0, 0), BUDGET) is None


def steady(per_minute: int, bad_from_s: int, share: Fraction, end_s: int) -> Ledger:
    """Clean traffic, and a share of errors from some pane on."""
    ledger = Ledger()
    for length_s in (10, 60, 3600):
        for at in range(0, end_s - length_s + 1, length_s):
            faulty_s = min(max(at + length_s - bad_from_s, 0), length_s)
            total = per_minute * length_s // 60
            ledger.put(Span(length_s, at), int(share * per_minute * faulty_s / 60), total)
    return ledger


@pytest.mark.parametrize(
    ("name", "minutes"), [("1h", 5.76), ("6h", 14.4), ("1d", 28.8), ("3d", 28.8)]
)
def test_point_rules_take_the_time_that_is_known(name: str, minutes: float) -> None:
    """15 % errors after clean windows: the table of known answers, to the next pane and minute."""
    fault_s = 3 * 86400
    end_s = fault_s + 3600
    ledger = steady(6000, fault_s, Fraction(15, 100), end_s)
    fired = [
        at
        for at in range(fault_s + 10, end_s, 10)
        if {s.name: s for s in burn_statuses(RULES, ledger, BUDGET, at, None)}[name].above
    ]
    # The long window is up to a minute longer than its name, and it is looked at every 10 s.
    assert minutes * 60 < fired[0] - fault_s <= minutes * 60 + 20


def test_a_rule_fires_with_an_alarm_in_its_long_window_only() -> None:
    ledger = steady(600, 0, Fraction(1, 10), 8 * 3600)
    end_s = 8 * 3600

    def firing(alarm_s: int | None) -> list[str]:
        found = burn_statuses(RULES, ledger, BUDGET, end_s, alarm_s)
        assert [status.above for status in found] == [True] * 4
        assert found[0].long_rate == found[0].short_rate == 100.0
        return [status.name for status in found if status.firing]

    assert firing(None) == []
    assert firing(end_s) == ["1h", "6h", "1d", "3d"]
    assert firing(end_s - 3600) == ["6h", "1d", "3d"]
    assert firing(end_s - 6 * 3600) == ["1d", "3d"]


def test_alternatives_scale_with_the_odds() -> None:
    assert alternatives_of(0.001) == pytest.approx((0.006, 0.0144, 0.05, 0.2, 0.6), rel=1e-12)
    for budget in (1e-6, 0.01, 0.5, 0.99):
        assert all(budget < rate < 1 for rate in alternatives_of(budget))


def test_the_statistic_is_that_of_its_definition() -> None:
    """R <- (1 + R) LR in plain arithmetic, for each alternative, then the average."""
    rng = np.random.default_rng(5)
    detector = EDetector((BUDGET,))
    state = detector.initial(1)
    plain = [0.0] * 5
    for units in rng.integers(1, 20, 200).tolist():
        bad = int(rng.binomial(units, 0.001))
        for at, rate in enumerate(alternatives_of(0.001)):
            ratio = (rate / 0.001) ** bad * ((1 - rate) / 0.999) ** (units - bad)
            plain[at] = (1 + plain[at]) * ratio
        state, log_e, _ = detector.step(state, np.array([float(bad)]), np.array([float(units)]))
        assert float(np.exp(log_e[0])) == pytest.approx(np.mean(plain), rel=1e-9)


def test_alarms_start_anew_and_empty_steps_change_nothing() -> None:
    assert np.exp(LOG_C) == pytest.approx(STEPS / ALPHA)
    detector = EDetector((BUDGET, Fraction(1, 10)))
    state = detector.initial(2)
    alarmed = []
    for _ in range(4):
        state, _, alarm = detector.step(state, np.array([1.0, 0.0]), np.array([1.0, 0.0]))
        alarmed.append(alarm.tolist())
    assert alarmed == [[False, False], [False, False], [True, False], [False, False]]
    assert state[1].tolist() == [0.0] * 5


@given(
    st.fractions(Fraction(1, 10**6), Fraction(99, 100)),
    st.integers(1, 10**9),
    st.floats(0, 1),
)
def test_any_number_of_units_is_finite(budget: Fraction, units: int, share: float) -> None:
    detector = EDetector((budget,))
    state = detector.initial(1)
    for _ in range(3):
        n = np.array([float(units)])
        state, log_e, alarm = detector.step(state, n * share, n)
        assert np.isfinite(state).all()
        assert np.isfinite(log_e)
        assert share > float(budget) or not alarm[0] or units < 100


@pytest.mark.parametrize("budget", [0.001, 0.05, 0.5])
def test_a_score_of_mean_at_the_budget_is_no_evidence(budget: float) -> None:
    """The mean of LR is at most 1 for any bounded value of that mean, fractional ones too."""
    rates = np.array(alternatives_of(budget))
    for low, high in ((0.0, 1.0), (0.0, min(1.0, 2 * budget)), (budget / 2, min(1.0, 3 * budget))):
        weight = (budget - low) / (high - low)
        values = [
            (rates / budget) ** x * ((1 - rates) / (1 - budget)) ** (1 - x) for x in (low, high)
        ]
        assert ((1 - weight) * values[0] + weight * values[1] <= 1 + 1e-12).all()


@pytest.mark.parametrize(
    ("window", "at", "start", "days"),
    [
        ("week", "2026-01-05T00:00:10", "2026-01-05", 7),
        ("week", "2026-01-05T00:00:00", "2025-12-29", 7),
        ("month", "2024-02-29T12:00:00", "2024-02-01", 29),
        ("month", "2026-03-01T00:00:00", "2026-02-01", 28),
        ("quarter", "2026-12-31T23:59:50", "2026-10-01", 92),
        ("quarter", "2026-02-03T00:00:00", "2026-01-01", 90),
    ],
)
def test_calendar_periods(window: str, at: str, start: str, days: int) -> None:
    end_s = int(np.datetime64(at, "s").astype(np.int64))
    period = period_at(window, end_s)  # type: ignore[arg-type]  # parametrized over a Literal
    assert np.datetime64(period.start_s, "s") == np.datetime64(start)
    assert period.end_s - period.start_s == period.length_s == days * 86400
    assert not period.rolling


def test_rolling_periods_start_at_a_full_hour() -> None:
    period = period_at("30d", 100 * 86400 + 50)
    assert (period.start_s, period.end_s) == (70 * 86400, 100 * 86400 + 50)
    assert period.length_s == 30 * 86400
