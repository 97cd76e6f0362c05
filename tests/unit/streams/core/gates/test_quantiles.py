"""Two arms' quantiles: margins in whole bins, the adversarial cases, validity and power."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.schemas.gates import metrics
from penstock.schemas.gates.metrics import MIN_BINS, ratio_of, whole_bins
from penstock.streams.core import sketch
from penstock.streams.core.gates.interface import FINE_OFFSET, fine_bins_of, upper_edge_ms
from penstock.streams.core.gates.quantiles import (
    ALL,
    FINITE,
    NOTHING,
    Shares,
    control_edges,
    counts_below,
    edges_around,
    least_blocks,
    log_e_quantile,
    quantile_range,
)
from penstock.streams.core.gates.two_arm import Direction

DIRECTIONS: tuple[Direction, ...] = ("FAIL", "PASS")
Floats = np.ndarray[Any, np.dtype[np.float64]]


def shares(values: Floats, edges: Any) -> Shares:
    bins, counts = np.unique(fine_bins_of(np.asarray(values, float)), return_counts=True)
    below = counts_below(bins, counts, edges).astype(float)
    return Shares(np.array([float(len(values))]), below, below.copy())


def log_e(
    treatment: Floats, control: Floats, margin: float, direction: Direction, p: float = 0.95
) -> float:
    pooled = fine_bins_of(np.concatenate([treatment, control]).astype(float))
    edges = edges_around(int(np.quantile(pooled, p)))
    arms = shares(treatment, edges), shares(control, control_edges(edges, whole_bins(margin)))
    return float(log_e_quantile(*arms, p, direction, False))


def test_margin_is_rounded_down_to_whole_bins() -> None:
    assert whole_bins(1.05, share=1) == MIN_BINS
    assert f"{ratio_of(2, share=1):.3f}" == "1.041"
    assert whole_bins(1.05) == 9
    assert ratio_of(9) == pytest.approx(1.0460, abs=5e-5)
    assert whole_bins(ratio_of(7)) == 7
    assert pytest.approx(metrics._LOG_GAMMA, rel=1e-15) == sketch.LOG_GAMMA


def test_fine_bins_lie_within_the_bins_of_the_sketch() -> None:
    values = np.exp(np.random.default_rng(0).uniform(-8, 18, 5000))
    fine = fine_bins_of(values) - FINE_OFFSET
    assert (np.ceil(fine / 4) + sketch.OFFSET == sketch.bins_of(values)).mean() > 0.9995
    edges = np.array([upper_edge_ms(int(b)) for b in fine_bins_of(values)])
    assert bool(np.all((values <= edges * (1 + 1e-9)) & (values > edges * 0.9949)))
    assert upper_edge_ms(0) == 0.0


def test_edges_cover_everything_and_the_control_keeps_the_distance() -> None:
    for anchor in (1, 9000, 65000):
        edges = edges_around(anchor)
        assert edges[0] == NOTHING
        assert edges[-2:].tolist() == [FINITE, ALL]
        assert bool(np.all(np.diff(edges) > 0))
    edges = edges_around(9000)
    theirs = control_edges(edges, 9)
    inner = (edges > 9) & (edges < FINITE)
    assert set((edges - theirs)[inner]) == {9}
    assert theirs[:2].tolist() == [NOTHING, 0]
    assert theirs[-2:].tolist() == [FINITE, ALL]


@pytest.mark.parametrize("direction", ["FAIL", "PASS"])
def test_six_against_six_zeros_is_undecided(direction: Direction) -> None:
    treatment, control = np.array([0.0, 1, 2, 1, 0, 0]), np.zeros(6)
    assert log_e(treatment, control, 1.05, direction, 0.5) < math.log(20)


@pytest.mark.parametrize("direction", ["FAIL", "PASS"])
def test_two_against_two_separated_points_is_undecided(direction: Direction) -> None:
    assert log_e(np.array([10.0, 10]), np.array([1.0, 1]), 1.05, direction, 0.5) < math.log(20)


def test_scale_of_the_values_does_not_matter() -> None:
    """A 45 % slowdown near 1 ms and near 1e-5 ms: the same verdict, the same block."""
    rng = np.random.default_rng(4)
    control, treatment = rng.lognormal(0, 0.4, 3000), rng.lognormal(0, 0.4, 500) * 1.45
    near_one = log_e(treatment, control, 1.05, "FAIL")
    tiny = log_e(treatment * 1e-5, control * 1e-5, 1.05, "FAIL")
    assert near_one > math.log(100)
    assert tiny == pytest.approx(near_one, rel=0.1)


def test_a_better_treatment_never_fails_and_passes() -> None:
    rng = np.random.default_rng(5)
    control, treatment = rng.lognormal(5, 0.5, 9000), rng.lognormal(5, 0.5, 3000) * 0.8
    assert log_e(treatment, control, 1.1, "FAIL") < 0.0
    assert log_e(treatment, control, 1.1, "PASS") > math.log(20)


def test_a_hang_is_seen_though_it_never_completes() -> None:
    """6 % of requests are overdue: p95 of the treatment is beyond everything finite."""
    rng = np.random.default_rng(6)
    control = rng.lognormal(5, 0.5, 20000)
    treatment = np.where(rng.random(20000) < 0.06, np.inf, rng.lognormal(5, 0.5, 20000))
    assert log_e(treatment, control, 1.1, "FAIL") > math.log(100)
    both = np.where(rng.random(20000) < 0.06, np.inf, control)
    assert log_e(treatment, both, 1.1, "FAIL") < math.log(20)


def test_an_empty_arm_decides_nothing() -> None:
    some = np.random.default_rng(7).lognormal(5, 0.5, 5000)
    for direction in DIRECTIONS:
        assert log_e(some, np.array([]), 1.1, direction) <= 0.0
        assert log_e(np.array([]), some, 1.1, direction) <= 0.0


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), anchor=st.integers(8500, 9800))
def test_any_anchor_is_at_most_as_strong_as_every_edge(seed: int, anchor: int) -> None:
    """Brackets only lose power: a coarse axis never shows what the full one does not."""
    rng = np.random.default_rng(seed)
    control, treatment = rng.lognormal(5, 0.3, 400), rng.lognormal(5.3, 0.3, 200)
    every = np.concatenate([[NOTHING, 0], np.arange(8500, 10500), [FINITE, ALL]]).astype(np.int64)
    for direction in DIRECTIONS:
        found = [
            float(
                log_e_quantile(
                    shares(treatment, edges), shares(control, control_edges(edges, 9)),
                    0.9, direction, False,
                )
            )
            for edges in (edges_around(anchor), every)
        ]  # fmt: skip
        assert found[0] <= found[1] + 1e-9 or found[0] < 0.0


def test_range_of_a_quantile_holds_it() -> None:
    rng = np.random.default_rng(8)
    values = rng.lognormal(5, 0.5, 5000)
    truth = math.exp(5 + 1.6448536 * 0.5)
    edges = edges_around(int(fine_bins_of(np.array([truth]))[0]))
    low, high = quantile_range(shares(values, edges), edges, 0.95, False, math.log(200))
    assert upper_edge_ms(low) < truth <= upper_edge_ms(high)
    assert upper_edge_ms(high) / upper_edge_ms(low) < 1.25
    nothing = quantile_range(shares(np.array([]), edges), edges, 0.95, False, math.log(200))
    assert nothing == (NOTHING, ALL)


def block_shares(
    rng: np.random.Generator, edges: Any, blocks: int, size: int, factor: float = 1.0
) -> Shares:
    """Running sums over blocks of `size` log-normal requests."""
    values = np.sort(rng.lognormal(5, 0.5, (blocks, size)) * factor, axis=1)
    upper = np.array([upper_edge_ms(int(e)) if 0 < e < FINITE else np.inf for e in edges])
    upper[:2] = -1.0
    share = np.array([np.searchsorted(row, upper, side="right") for row in values]) / size
    n = np.arange(1.0, blocks + 1)[:, None]
    return Shares(n, share.cumsum(axis=0), (share * share).cumsum(axis=0))


@pytest.mark.slow
def test_blocks_of_equal_arms_do_not_fail_and_slow_ones_do() -> None:
    rng = np.random.default_rng(9)
    edges = edges_around(int(fine_bins_of(np.array([337.0]))[0]))
    theirs = control_edges(edges, whole_bins(1.05))
    failed = 0
    for _ in range(40):
        arms = block_shares(rng, edges, 80, 40), block_shares(rng, theirs, 80, 120)
        failed += bool((log_e_quantile(*arms, 0.95, "FAIL", True) >= math.log(100)).any())
    assert failed <= 2  # alpha is 1 %
    slow = block_shares(rng, edges, 400, 40, 1.45), block_shares(rng, theirs, 400, 120)
    assert float(log_e_quantile(*slow, 0.95, "FAIL", True)[-1]) > math.log(100)
    equal = (
        block_shares(rng, edges, 3000, 40),
        block_shares(rng, control_edges(edges, 37), 3000, 120),
    )
    assert float(log_e_quantile(*equal, 0.95, "PASS", True)[-1]) > math.log(20)


def test_a_control_without_slow_blocks_yet_proves_little() -> None:
    """One block in twenty is all slow, in both arms alike; control has not shown its first yet."""
    edges = edges_around(9300)
    size = len(edges)
    well, stalled = np.ones(size), np.where(edges >= FINITE, 1.0, 0.0)
    well[:2] = stalled[:2] = 0.0
    control = Shares(np.array([40.0]), well * 40, well * 40)
    treatment = Shares(np.array([40.0]), well * 37 + stalled * 3, well * 37 + stalled * 3)
    assert float(log_e_quantile(treatment, control, 0.95, "FAIL", True)) < math.log(100)


def test_no_test_of_blocks_is_faster_than_its_control_can_be() -> None:
    """1.45 times as slow at p95, margin 2 bins: what the least is, and that we are within twice of it."""
    edges, size = edges_around(9300), 100
    z = 1.6448536 + (math.log(1.45) - 2 * metrics._LOG_GAMMA / metrics.BIN_SHARE) / 0.5
    beyond = 0.5 * (1 + math.erf(z / math.sqrt(2)))
    least = least_blocks(0.95, beyond, 0.01, 0.5)
    assert least == pytest.approx(math.log(50) / -math.log(0.95 / beyond))
    n = math.ceil(2 * least)
    scale = (edges - 9300) * metrics._LOG_GAMMA / metrics.BIN_SHARE / 0.5 + 1.6448536
    cdf = np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in scale])
    slow = np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in scale - math.log(1.45) / 0.5])
    theirs = np.interp(scale - 2 * metrics._LOG_GAMMA / metrics.BIN_SHARE / 0.5, scale, cdf)

    def arm(share: Any) -> Shares:
        spread = share * (1 - share) / size
        least_share = np.maximum(share - 3 * np.sqrt(spread), 0)
        return Shares(np.array([float(n)]), n * share, n * (share**2 + spread), least_share)

    assert float(log_e_quantile(arm(slow), arm(theirs), 0.95, "FAIL", True)) > math.log(100)


def test_what_control_has_not_shown_may_not_be_used() -> None:
    """A smaller share seen once leaves less to bet on; never more."""
    rng, edges = np.random.default_rng(13), edges_around(9300)
    arms = block_shares(rng, edges, 200, 40, 1.45), block_shares(rng, edges, 200, 120)
    careful = log_e_quantile(*arms, 0.95, "FAIL", True)
    control = arms[1]
    seen = np.minimum.accumulate(np.diff(control.below, axis=0, prepend=0.0), axis=0)
    sharper = log_e_quantile(arms[0], replace(control, least=seen), 0.95, "FAIL", True)
    assert bool(np.all(sharper >= careful - 1e-12))
    assert float(sharper[-1]) > float(careful[-1]) + 0.5


@pytest.mark.slow
def test_error_rates_of_requests() -> None:
    """200 streams polled at 25 panes: equal arms at m = 1.02, and a true ratio at the margin."""
    rng = np.random.default_rng(10)
    failed = passed = 0
    at_margin = ratio_of(whole_bins(1.1))
    edges = edges_around(int(fine_bins_of(np.array([337.0]))[0]))
    for _ in range(200):
        control, treatment = rng.lognormal(5, 0.5, 25 * 180), rng.lognormal(5, 0.5, 25 * 20)
        cases = zip((1.02, 1.1), (1.0, at_margin), DIRECTIONS, strict=True)
        for margin, factor, direction in cases:
            theirs = control_edges(edges, whole_bins(margin))
            arms = running(treatment * factor, 20, edges), running(control, 180, theirs)
            told = log_e_quantile(*arms, 0.95, direction, False)
            if direction == "FAIL":
                failed += bool((told >= math.log(100)).any())
            else:
                passed += bool((told >= math.log(20)).any())
    assert failed / 200 <= 0.01 + 3 * math.sqrt(0.01 * 0.99 / 200)
    assert passed / 200 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)


def running(values: Floats, size: int, edges: Any) -> Shares:
    """Totals after each pane of `size` requests."""
    upper = np.array([upper_edge_ms(int(e)) if 0 < e < FINITE else np.inf for e in edges])
    upper[:2] = -1.0
    panes = np.sort(values.reshape(-1, size), axis=1)
    below = np.array([np.searchsorted(row, upper, side="right") for row in panes]).cumsum(axis=0)
    n = size * np.arange(1.0, len(panes) + 1)[:, None]
    return Shares(n, below.astype(float), below.astype(float))
