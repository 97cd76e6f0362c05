"""Scores of sketches against scipy and plain formulas on the raw values."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.streams.core.drift import divergences as d
from penstock.streams.core.drift.binning import LOG, SIGNED, Binning, binning_of
from penstock.streams.core.drift.pairs import Pairs, pair, quantile_bins, tile_of_sketches
from penstock.streams.core.tiles import EMPTY, Tile, merge
from scipy import stats
from scipy.spatial import distance

Floats = npt.NDArray[np.float64]

SAMPLES = st.tuples(
    st.integers(0, 2**32 - 1),
    st.integers(2, 800),
    st.integers(2, 800),
    st.floats(-1, 1),
    st.floats(0.05, 2),
    st.integers(0, 3),
)


def sketched(values: Floats, binning: Binning = LOG) -> Tile:
    return tile_of_sketches([np.unique(binning.bins_of(values), return_counts=True)])


def drawn(sample: tuple[int, int, int, float, float, int]) -> tuple[Floats, Floats]:
    seed, n, m, shift, sigma, digits = sample
    rng = np.random.default_rng(seed)
    one, two = rng.lognormal(5, sigma, n), rng.lognormal(5 + shift, sigma, m)
    return np.round(one, digits) + 0.5, np.round(two, digits) + 0.5


@given(SAMPLES)
@settings(max_examples=30, deadline=None)
def test_ks_holds_that_of_the_values(sample: tuple[int, int, int, float, float, int]) -> None:
    before, after = drawn(sample)
    pairs = pair(sketched(before), sketched(after))
    value, error = d.kolmogorov_smirnov(pairs)
    raw = stats.ks_2samp(before, after).statistic
    assert value[0] - 1e-12 <= raw <= value[0] + error[0] + 1e-12
    p = d.ks_p_value(value, pairs.n_reference, pairs.n_current)[0]
    at_raw = d.ks_p_value(np.array([raw]), pairs.n_reference, pairs.n_current)[0]
    assert p >= at_raw - 1e-12


@given(SAMPLES, st.sampled_from([LOG, SIGNED]))
@settings(max_examples=30, deadline=None)
def test_wasserstein_is_within_its_error(
    sample: tuple[int, int, int, float, float, int], binning: Binning
) -> None:
    before, after = drawn(sample)
    if binning is SIGNED:
        before, after = before - 150, after - 150
    pairs = pair(sketched(before, binning), sketched(after, binning))
    value, error = d.wasserstein(pairs, binning)
    raw = stats.wasserstein_distance(before, after)
    assert abs(value[0] - raw) <= error[0] + 1e-9
    assert error[0] <= 0.0103 * (np.abs(before).mean() + np.abs(after).mean()) + 1e-9


@given(SAMPLES)
@settings(max_examples=30, deadline=None)
def test_psi_and_js_are_those_of_the_values_in_the_same_bins(
    sample: tuple[int, int, int, float, float, int],
) -> None:
    before, after = drawn(sample)
    pairs = pair(sketched(before), sketched(after))
    counts = quantile_bins(pairs, 10)
    middle = 2 * pairs.running(pairs.reference) - pairs.reference
    group = np.minimum(middle * 10 // (2 * len(before)), 9)
    lookup = dict(zip(pairs.bins.tolist(), group.tolist(), strict=True))
    for side, values in zip(counts, (before, after), strict=True):
        raw = np.bincount([lookup[b] for b in LOG.bins_of(values).tolist()], minlength=10)
        assert raw.tolist() == side[0].tolist()
    js = d.jensen_shannon(*counts)[0]
    raw_js = distance.jensenshannon(counts[0][0], counts[1][0], base=2) ** 2
    assert js == pytest.approx(raw_js, abs=1e-9)
    p, q = (np.maximum(side[0] / side[0].sum(), 1e-4) for side in counts)
    value, bias = d.psi(*counts)
    assert value[0] == pytest.approx(max(float(((q - p) * np.log(q / p)).sum()) - bias[0], 0))


@given(SAMPLES, st.integers(2, 5))
@settings(max_examples=20, deadline=None)
def test_order_and_grouping_of_merges_do_not_matter(
    sample: tuple[int, int, int, float, float, int], parts: int
) -> None:
    before, after = drawn(sample)
    whole = pair(sketched(before), sketched(after))
    pieces = [sketched(piece) for piece in np.array_split(after, parts) if len(piece)]
    again = pair(sketched(before[::-1]), merge(pieces[::-1]))
    for name in ("bins", "reference", "current", "n_reference", "n_current"):
        assert getattr(whole, name).tolist() == getattr(again, name).tolist()


def test_many_series_at_once_are_as_each_alone() -> None:
    rng = np.random.default_rng(3)
    sides = [[rng.lognormal(5, 1, 50 + 10 * at) for at in range(20)] for _ in range(2)]
    tiles = [
        tile_of_sketches(np.unique(LOG.bins_of(values), return_counts=True) for values in side)
        for side in sides
    ]
    pairs = pair(*tiles)
    together = scores(pairs)
    for at, (before, after) in enumerate(zip(*sides, strict=True)):
        alone = scores(pair(sketched(before), sketched(after)))
        assert together[:, at].tolist() == pytest.approx(alone[:, 0].tolist(), rel=1e-12)


def scores(pairs: Pairs) -> Floats:
    ks, ks_error = d.kolmogorov_smirnov(pairs)
    psi, bias = d.psi(*quantile_bins(pairs, 10))
    return np.array(
        [ks, ks_error, psi, bias, *d.wasserstein(pairs, LOG), d.reference_iqr(pairs, LOG)]
    )


@pytest.mark.parametrize(("n", "m"), [(60, 80), (500, 500), (5000, 3000)])
def test_p_value_is_near_that_of_scipy(n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    before, after = rng.normal(0, 1, n), rng.normal(0.2, 1, m)
    exact = stats.ks_2samp(before, after, method="exact" if n * m < 10**5 else "asymp")
    mine = d.ks_p_value(np.array([exact.statistic]), np.array([n]), np.array([m]))[0]
    assert mine == pytest.approx(exact.pvalue, rel=0.12)


def test_interval_of_d_covers_at_least_as_often_as_it_says() -> None:
    rng = np.random.default_rng(8)
    truth = 2 * stats.norm.cdf(0.25) - 1  # a shift of half a standard deviation
    inside = 0
    for _ in range(200):
        before, after = rng.lognormal(0, 1, 300), rng.lognormal(0.5, 1, 400)
        pairs = pair(sketched(before), sketched(after))
        low, high = d.ks_interval(*d.kolmogorov_smirnov(pairs), pairs.n_reference, pairs.n_current)
        inside += bool(low[0] <= truth <= high[0])
    assert inside >= 190


def test_bias_of_psi_is_taken_off_small_samples() -> None:
    rng = np.random.default_rng(4)
    shares = np.full(10, 0.1)
    before, after = rng.multinomial(100, shares, 4000), rng.multinomial(100, shares, 4000)
    value, bias = d.psi(before, after)
    assert bias.max() == pytest.approx(9 * (1 / 100 + 1 / 100))
    assert (value + bias > 0.2).mean() > 0.3
    assert (value > 0.2).mean() < 0.06
    assert d.psi(before * 10, after * 10)[1].tolist() == [0.0] * 4000


def test_overdue_requests_count_as_the_largest() -> None:
    before = tile_of_sketches([([2300, 2310], [90, 10])])
    after = tile_of_sketches([([2300, 2310, 65535], [90, 5, 5])])
    pairs = pair(before, after)
    assert d.kolmogorov_smirnov(pairs)[0][0] == pytest.approx(0.05)
    assert d.wasserstein(pairs, LOG)[0][0] == pytest.approx(0.0)
    only = pair(tile_of_sketches([([65535], [5])]), tile_of_sketches([([65535], [5])]))
    assert d.wasserstein(only, LOG)[0].tolist() == [0.0]


def test_quartile_distance_of_the_reference() -> None:
    values = np.arange(1.0, 101.0)
    found = d.reference_iqr(pair(sketched(values), sketched(values)), LOG)
    assert found[0] == pytest.approx(50, rel=0.02)


def test_an_empty_side_has_no_distance() -> None:
    pairs = pair(tile_of_sketches([([5], [10])]), EMPTY)
    assert np.isnan(d.kolmogorov_smirnov(pairs)[0]).all()
    assert np.isnan(d.wasserstein(pairs, LOG)[0]).all()
    assert np.isnan(d.psi(*quantile_bins(pairs, 10))[0]).all()
    assert np.isnan(d.reference_iqr(pairs, LOG)).all()
    nothing = pair(EMPTY, tile_of_sketches([]))
    assert len(nothing) == 0
    assert scores(nothing).shape == (7, 0)


def test_signed_bins_keep_order_and_accuracy() -> None:
    values = np.array([-1e9, -250.0, -1e-3, 0.0, 1e-3, 7.0, 1e9])
    bins = SIGNED.bins_of(values)
    assert (binning_of("latency_ms"), binning_of("sentiment")) == (LOG, SIGNED)
    assert (np.diff(bins.astype(np.int64)) > 0).all()
    assert SIGNED.values_of(bins) == pytest.approx(values, rel=0.0101)
