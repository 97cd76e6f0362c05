"""Printed values of pairs and of the sample-ratio check, and what each test must do at its edges."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.streams.core.gates.bounded import (
    BETS,
    LARGE,
    Bets,
    log_e_mean_above,
    log_e_mean_below,
    log_e_positive,
)
from penstock.streams.core.gates.combine import contributions, thresholds
from penstock.streams.core.gates.paired import exact_p, log_e_mcnemar, log_e_within
from penstock.streams.core.gates.sample_ratio import log_e_share, log_e_shares


@pytest.mark.parametrize(
    ("worse", "better", "printed", "p"),
    [(9, 1, "18.51", "0.01074"), (12, 1, "89.94", "0.00171"), (6, 0, "18.14", "0.01562")],
)
def test_mcnemar(worse: int, better: int, printed: str, p: str) -> None:
    log_e = float(log_e_mcnemar(worse, better)[0])
    assert f"{math.exp(log_e):.2f}" == printed
    assert f"{exact_p(worse, better):.5f}" == p


def test_twelve_to_one_fails_at_5_percent_and_not_at_1() -> None:
    log_e = float(log_e_mcnemar(12, 1)[0])
    assert math.log(1 / 0.05) <= log_e < math.log(1 / 0.01)


def test_no_discordant_pair_says_nothing() -> None:
    assert float(log_e_mcnemar(0, 0)[0]) == pytest.approx(0.0, abs=1e-12)
    assert exact_p(0, 5) == 1.0


def test_within_a_margin_by_concordant_pairs_alone() -> None:
    few, many = log_e_within([0, 0], [0, 0], [50, 5000], 0.02)
    assert few < math.log(20) < many
    assert float(log_e_within(100, 0, 1000, 0.02)[0]) < 0.0


def test_within_mean_is_at_most_one_at_the_margin() -> None:
    """Summed over 12 pairs whose mean loss is exactly the margin, in every way it can be."""
    margin, total = 0.1, 0.0
    for worse in range(13):
        for better in range(13 - worse):
            same = 12 - worse - better
            ways = math.comb(12, worse) * math.comb(12 - worse, better)
            weight = 0.15**worse * 0.05**better * 0.8**same
            total += ways * weight * math.exp(log_e_within(worse, better, 12, margin)[0])
    assert total == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("counts", "k", "printed"),
    [
        ((5, 45), 100, "0.00534336"),
        ((5, 45), 10, "8.9e-07"),
        ((10, 0), 100, "0.66268"),
        ((10, 0), 10, "0.090123"),
    ],
)
def test_sample_ratio(counts: tuple[int, int], k: float, printed: str) -> None:
    p = math.exp(-log_e_share(*counts, 0.5, k))
    digits = len(printed.split("e")[0].replace(".", "").lstrip("0"))
    assert f"{p:.{digits}g}" == printed


def test_sample_ratio_over_a_ramp() -> None:
    """A configured ramp is no mismatch; one share for all of it would be."""
    ramp = {0.1: (100, 900), 0.5: (500, 500)}
    assert log_e_shares(ramp) < 0.0
    assert log_e_shares({}) == 0.0
    assert log_e_share(600, 1400, 0.1) > math.log(1000)
    assert log_e_shares({0.1: (200, 800), 0.5: (400, 600)}) > math.log(1000)


@given(
    z=st.lists(st.floats(-1.0, 50.0), min_size=1, max_size=20),
    bets=st.sampled_from([BETS, LARGE]),
    more=st.floats(0.0, 1.0),
)
def test_sums_never_promise_more_than_the_bets(z: list[float], bets: Bets, more: float) -> None:
    """Whatever was seen, and for any w from the smallest z on: never above the wealth of betting."""
    worst = max(-min(z), 0.0)
    worst += more * (1.0 - worst)
    told = log_e_positive(np.array(sum(z)), np.array(sum(v * v for v in z)), worst, bets)
    wealth = [sum(math.log1p(bet * v) for v in z) for bet in bets.stakes.tolist()]
    top = max(wealth)
    mean = sum(w * math.exp(v - top) for w, v in zip(bets.weights.tolist(), wealth, strict=True))
    assert float(told) <= top + math.log(mean) + 1e-6


def test_what_was_seen_is_worth_more_than_what_could_be() -> None:
    """Where no z is below 0, E is nearer to the wealth itself."""
    z = np.full(200, 0.05)
    seen = log_e_positive(z.sum(), (z * z).sum(), 0.0)
    feared = log_e_positive(z.sum(), (z * z).sum(), 1.0)
    assert float(seen) > float(feared) + 0.5


@pytest.mark.parametrize("bets", [BETS, LARGE])
def test_bounded_mean_of_no_observation_says_nothing(bets: Bets) -> None:
    nothing = log_e_positive(np.array(0.0), np.array(0.0), 1.0, bets)
    assert float(nothing) == pytest.approx(0.0, abs=1e-12)
    assert bets.weights.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("limit", [0.05, 0.5, 0.95])
def test_bounded_mean_is_valid_at_its_limit(limit: float) -> None:
    """Coins at the limit, all outcomes of 14: the mean e-value is at most 1 on both sides."""
    above = below = 0.0
    for good in range(15):
        weight = math.comb(14, good) * limit**good * (1 - limit) ** (14 - good)
        y = np.array(float(good))
        above += weight * math.exp(log_e_mean_above(np.array(14.0), y, y, np.array(limit)))
        below += weight * math.exp(log_e_mean_below(np.array(14.0), y, y, np.array(limit)))
    assert above <= 1.0
    assert below <= 1.0


class _Levels:
    alpha_fail, alpha_pass = 0.01, 0.05


class _Metric:
    def __init__(self, name: str, critical: bool) -> None:
        self.name, self.critical = name, critical


def test_fail_is_split_and_pass_is_not() -> None:
    metrics = [_Metric("a", True), _Metric("b", True), _Metric("c", False)]
    assert thresholds(_Levels, metrics, True) == (math.log(200), math.log(20))
    assert thresholds(_Levels, metrics, False) == (math.log(100), math.log(20))


def test_contributions_are_of_critical_metrics() -> None:
    metrics = [_Metric("a", True), _Metric("b", True), _Metric("c", False)]
    told = contributions({"a": 3.0, "b": 1.0, "c": 9.0}, metrics)
    assert told == {"a": 0.75, "b": 0.25, "c": 0.0}
    assert contributions({"a": -1.0, "b": 0.0, "c": 9.0}, metrics) == {"a": 0.0, "b": 0.0, "c": 0.0}
