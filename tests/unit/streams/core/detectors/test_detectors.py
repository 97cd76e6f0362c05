"""What is particular to one detector: exact alarms, severities, false alarms, delays."""

from typing import Literal

import numpy as np
import pytest
from penstock.streams.core.detectors.adwin import Adwin
from penstock.streams.core.detectors.base import Detector
from penstock.streams.core.detectors.change_point import ChangePoint
from penstock.streams.core.detectors.page_hinkley import PageHinkley
from penstock.streams.core.detectors.performance import Performance
from penstock.streams.core.detectors.record import Record
from penstock.streams.core.detectors.robust import middle_and_spread
from penstock.streams.core.detectors.zscore import ZScore


def alarms(detector: Detector, values: list[float]) -> list[tuple[int, str]]:
    found = []
    for at, value in enumerate(values):
        detector.update(value)
        if detector.severity:
            found.append((at, str(detector.severity)))
    return found


def test_zscore_alarms_once_until_it_is_back() -> None:
    rng = np.random.default_rng(1)
    level = np.repeat([0, 0, 3, 0, 3], 100)
    found = alarms(ZScore(warm_up=100, window=10), (rng.normal(0, 1, 500) + level).tolist())
    assert [at // 100 for at, _ in found] == [2, 4]


def test_performance_tells_worse_from_much_worse() -> None:
    base = [1.0] * 50
    assert alarms(Performance(), [*base, *[1.15] * 9]) == [(54, "warning")]
    assert alarms(Performance(), [*base, *[1.15] * 6, *[1.3] * 6]) == [
        (54, "warning"),
        (60, "critical"),
    ]
    assert alarms(Performance(), [*base, *[1.3] * 4, 1.0, *[1.3] * 4]) == []
    assert alarms(Performance(), [*base, *[0.5] * 20]) == []
    assert alarms(Performance(lower_is_better=False), [*base, *[0.5] * 20]) == [(54, "critical")]


def test_performance_near_zero_has_an_absolute_band() -> None:
    base = [0.0] * 50
    assert alarms(Performance(), [*base, *[0.001] * 6])
    assert alarms(Performance(tolerance_abs=0.5), [*base, *[0.4] * 6]) == []
    assert alarms(Performance(tolerance_abs=0.5), [*base, *[0.9] * 6]) == [(54, "warning")]
    assert alarms(Performance(tolerance_abs=0.5), [*base, *[1.1] * 6]) == [(54, "critical")]


def test_adwin_follows_the_new_level() -> None:
    rng = np.random.default_rng(2)
    detector = Adwin()
    values = np.concatenate([rng.random(2000) * 0.4, 0.5 + rng.random(1000) * 0.4])
    found = alarms(detector, values.tolist())
    assert 2000 <= found[0][0] <= 2064
    assert detector.mean == pytest.approx(0.7, abs=0.02)
    assert 900 < detector.width <= 1100


def test_adwin_keeps_exact_sums_in_few_buckets() -> None:
    values = (np.arange(5000) * 7 % 11 / 11).tolist()
    detector = Adwin()
    assert alarms(detector, values) == []
    assert detector.width == 5000
    assert detector.mean == pytest.approx(np.mean(values), abs=1e-12)
    n, _, squares = detector._whole()
    assert squares / n == pytest.approx(np.var(values), rel=1e-12)
    assert sum(map(len, detector.rows)) <= 6 * len(detector.rows) < 80


@pytest.mark.parametrize("seed", range(3))
def test_adwin_on_shares_without_drift(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert alarms(Adwin(), (rng.random(10_000) < 0.2).astype(float).tolist()) == []


def test_page_hinkley_is_not_moved_by_single_outliers() -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(0, 1, 1000)
    values[300::100] = 1e9
    assert alarms(PageHinkley(), values.tolist()) == []
    found = alarms(PageHinkley(), (rng.normal(0, 1, 600) - (np.arange(600) >= 400)).tolist())
    assert 400 < found[0][0] < 450


def test_page_hinkley_alarms_rarely_without_drift() -> None:
    rng = np.random.default_rng(5)
    assert len(alarms(PageHinkley(), rng.standard_t(3, 50_000).tolist())) <= 5


@pytest.mark.parametrize("direction", ["both", "up", "down"])
def test_change_point_keeps_its_rate_whatever_the_distribution(
    direction: Literal["both", "up", "down"],
) -> None:
    """Accepted: 10 per 1,000 blocks, so 60 in these; Cauchy values have no mean."""
    rng = np.random.default_rng(6)
    detector = ChangePoint(block=3, alarms_per_1000_blocks=10, direction=direction)
    assert len(alarms(detector, rng.standard_cauchy(18_000).tolist())) <= 60


def test_change_point_knows_directions_and_places() -> None:
    rng = np.random.default_rng(7)
    falling = (rng.normal(0, 1, 2000) - 3.0 * (np.arange(2000) >= 1000)).tolist()
    down = ChangePoint(direction="down")
    found = alarms(down, falling)
    assert 1000 < found[0][0] < 1080
    up = ChangePoint(direction="up")
    assert alarms(up, falling) == []
    detector = ChangePoint()
    alarms(detector, falling[:1080])
    assert detector.changed_at is not None
    assert abs(detector.changed_at - 1000) <= 30


def test_change_point_forgets_the_older_half() -> None:
    detector = ChangePoint(block=1, memory=20)
    rng = np.random.default_rng(8)
    for value in rng.random(19).tolist():
        detector.update(value)
    assert (len(detector.medians), bool(detector.log_r)) == (19, True)
    detector.update(0.5)
    assert (len(detector.medians), detector.log_r) == (10, [])


def test_record_is_quiet_after_an_alarm() -> None:
    rng = np.random.default_rng(9)
    values = rng.normal(0, 1, 300)
    values[[200, 205, 230]] = [50, 5000, 500_000]
    found = alarms(Record(window=50, quiet=20, least=10.0), values.tolist())
    assert [at for at, _ in found] == [200, 230]


def test_record_on_independent_values_alarms_no_more_than_one_in_a_window() -> None:
    rng = np.random.default_rng(10)
    values = rng.standard_cauchy(30_000).tolist()
    detector = Record(window=100, margin=1.0, least=0.0, quiet=0)
    assert len(alarms(detector, values)) <= 1.15 * 30_000 / 101


def test_spread_of_values_that_are_mostly_equal() -> None:
    assert middle_and_spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx((3.0, 1.4826))
    assert middle_and_spread([2.0, 2.0, 2.0, 2.0, 7.0]) == pytest.approx((2.0, 1.2533))
    assert middle_and_spread([4.0, 4.0])[1] == pytest.approx(4e-6)
    assert middle_and_spread([0.0, 0.0])[1] > 0
