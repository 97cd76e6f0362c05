"""The default rule on numbers: the six cases, thresholds, too little data."""

import numpy as np
import numpy.typing as npt
import pytest
from penstock.schemas.drift.thresholds import Thresholds
from penstock.streams.core.drift.continuous import Scores, compare
from penstock.streams.core.drift.pairs import tile_of_sketches
from penstock.streams.core.sketch import bins_of
from penstock.streams.core.tiles import EMPTY, Tile

Floats = npt.NDArray[np.float64]
TEN_MINUTES_MS = 600_000.0


def tile(samples: list[Floats]) -> Tile:
    return tile_of_sketches(np.unique(bins_of(values), return_counts=True) for values in samples)


def six_cases(seed: int) -> Scores:
    """Same, +20 %, x2; the same three with one ten-minute request."""
    rng = np.random.default_rng(seed)
    before = [rng.lognormal(np.log(200), 0.5, 5000) for _ in range(6)]
    after = [rng.lognormal(np.log(200), 0.5, 5000) * factor for factor in (1, 1.2, 2) * 2]
    after[3:] = [np.append(values, TEN_MINUTES_MS) for values in after[3:]]
    return compare(tile(before), tile(after))


@pytest.mark.parametrize("seed", range(50))
def test_six_cases(seed: int) -> None:
    scores = six_cases(seed)
    states = [scores.state(at) for at in range(6)]
    assert states == ["ok", "drift", "drift", "ok", "drift", "drift"]


def test_what_the_rule_says_and_why() -> None:
    scores = six_cases(0)
    assert [scores.reasons(at) for at in (0, 1, 2)] == [(), ("ks",), ("psi", "ks")]
    assert [scores.severity(at) for at in (0, 1, 2)] == [None, "medium", "high"]
    assert len(scores) == 6


def test_moderate_lies_between() -> None:
    rng = np.random.default_rng(1)
    before, after = rng.lognormal(0, 1, 5000), rng.lognormal(0.36, 1, 5000)
    loose = Thresholds(ks_d=0.5)
    assert compare(tile([before]), tile([after]), loose).state(0) == "moderate"


def test_too_few_values_are_no_answer() -> None:
    rng = np.random.default_rng(2)
    before, after = rng.lognormal(0, 1, 5000), rng.lognormal(3, 1, 99)
    scores = compare(tile([before]), tile([after]))
    assert (scores.state(0), scores.reasons(0), scores.severity(0)) == ("no_data", (), None)
    assert compare(tile([before]), EMPTY).state(0) == "no_data"
    assert len(compare(EMPTY, EMPTY)) == 0


def test_a_constant_that_moves_is_drift() -> None:
    scores = compare(tile([np.full(1000, 5.0)]), tile([np.full(1000, 6.0)]))
    assert scores.state(0) == "drift"
    assert np.isnan(scores.wasserstein_iqr[0])
    assert compare(tile([np.full(1000, 5.0)]), tile([np.full(900, 5.0)])).state(0) == "ok"


def test_from_a_bin_of_psi_to_its_values() -> None:
    rng = np.random.default_rng(5)
    values = rng.lognormal(0, 1, 3000)
    bins = bins_of(values)
    scores = compare(tile([rng.lognormal(0, 1, 3000)]), tile([values]))
    for (first, last), count in zip(scores.ranges[0], scores.bins_current[0], strict=True):
        assert ((bins >= first) & (bins <= last)).sum() == count
    constant = compare(tile([np.full(200, 5.0)]), tile([np.full(200, 5.0)]))
    assert constant.ranges[0].max(axis=0).tolist() == [bins_of(np.array([5.0]))[0]] * 2
    assert constant.ranges[0].min() == -1


def test_series_are_named_as_in_the_tiles() -> None:
    here = tile_of_sketches([([1], [200]), ([1], [200])])
    there = tile_of_sketches([([], []), ([1], [300])])
    scores = compare(here, there)
    assert scores.series.tolist() == [0, 1]
    assert [scores.state(at) for at in (0, 1)] == ["no_data", "ok"]
