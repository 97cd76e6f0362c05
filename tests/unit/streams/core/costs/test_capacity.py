from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from penstock.schemas.costs.capacity import CapacityForecast
from penstock.streams.core.costs.capacity import Saturation, forecast, load_forecast
from penstock.streams.core.costs.history import TooLittle, history_of
from penstock.streams.core.costs.series import DAY_S, HOUR_S, LOAD, Series
from penstock.streams.core.tiles import Span
from penstock.tests.unit.streams.core.costs.fleet import START_S, Fleet

QUIET = Fleet(step_s=60, slope=0.1, noise=0.0, utilisation_noise=0.0, capacity=35.0)


def spec(**fields: Any) -> CapacityForecast:
    given = {
        "id": "f",
        "load": "requests_per_s",
        "max_batch_fill": None,
        "max_gpu_utilization": None,
    }
    return CapacityForecast.model_validate(given | fields)


def asked(fleet: Fleet, steps: int, seed: int = 0, **fields: Any) -> Saturation:
    series = fleet.series(np.random.default_rng(seed), steps)
    end_s = START_S + steps * fleet.step_s
    return forecast(spec(**fields), series, end_s, seed, resamples=100)


def replaced(series: Series, changes: dict[str, int], keep: slice = slice(None)) -> Series:
    """A series with other values in some fields, of some of its spans."""
    other = Series(LOAD)
    for length_s, start_s, *values in json.loads(series.to_json())["rows"][keep]:
        named = dict(zip(LOAD, values, strict=True)) | changes
        other.put(Span(length_s, start_s), [named[name] for name in LOAD])
    return other


def test_a_line_without_noise_saturates_when_it_does() -> None:
    found = asked(QUIET, 100)
    truth_s = int(QUIET.crossing(100, 100)) * 60
    assert found.state == "saturates"
    assert found.estimate_s == pytest.approx(truth_s, abs=60)
    assert found.low_s == pytest.approx(truth_s, abs=60)
    assert found.high_s == pytest.approx(truth_s, abs=60)
    assert (found.signal, found.daily, found.steps) == ("kv_cache_usage", False, 100)
    assert found.saturating_load == pytest.approx((35.0, 35.0, 35.0), rel=1e-3)
    assert found.load == pytest.approx(30.05, rel=1e-3)
    assert json.loads(json.dumps(found.to_dict()))["state"] == "saturates"


def test_a_daily_cycle_saturates_at_a_peak() -> None:
    fleet = Fleet(slope=0.05, swing=0.4, noise=0.02, capacity=45.0)
    found = asked(fleet, 7 * 24)
    truth_s = int(fleet.crossing(168, 336)) * HOUR_S
    assert (found.state, found.daily, found.horizon_s) == ("saturates", True, 14 * DAY_S)
    assert found.low_s is not None
    assert found.high_s is not None
    assert found.low_s <= truth_s <= found.high_s


def test_tokens_may_be_the_load() -> None:
    found = asked(QUIET, 100, load="tokens_per_s")
    assert found.saturating_load == pytest.approx((10_500.0,) * 3, rel=1e-3)


def test_a_flat_load_does_not_saturate_within_the_horizon() -> None:
    found = asked(Fleet(step_s=60, slope=0.0, noise=0.05), 120)
    assert (found.state, found.estimate_s, found.low_s) == ("not_within_horizon", None, None)
    assert found.horizon_s == 7200
    assert asked(Fleet(step_s=60, slope=0.0), 120, horizon_s=600).horizon_s == 600


def test_an_interval_may_end_beyond_the_horizon() -> None:
    found = asked(Fleet(step_s=60, slope=0.05, capacity=29.0, noise=0.15), 90, seed=1)
    assert found.state == "saturates"
    assert found.low_s is not None
    assert found.high_s is None


def test_the_same_arguments_give_the_same_answer_after_a_restart() -> None:
    fleet = Fleet(step_s=60, slope=0.1)
    series = fleet.series(np.random.default_rng(2), 90)
    end_s = START_S + 90 * 60
    found = forecast(spec(), series, end_s, 7)
    assert forecast(spec(), Series.from_json(series.to_json()), end_s, 7) == found
    assert forecast(spec(), series, end_s, 8) != found
    assert forecast(spec(), series, end_s + 59, 7) == found


@pytest.mark.parametrize("field", ["kv_cache_usage", "queue_depth"])
def test_a_fleet_that_is_full_says_so(field: str) -> None:
    series = QUIET.series(np.random.default_rng(0), 60)
    full = replaced(series, {f"{field}_sum": 95_000_000, f"{field}_count": 100})
    found = forecast(spec(max_queue_depth=100), full, START_S + 3600, 0)
    assert (found.state, found.reason) == ("saturated", field)


def test_the_signal_that_fills_first_decides() -> None:
    fleet = QUIET
    series = fleet.series(np.random.default_rng(0), 100)
    # a step batches what arrives in its minute: 64 * 100 places are filled by 106 a second
    narrow = replaced(series, {"batch_capacity": 2000})
    found = forecast(spec(max_batch_fill=0.95), narrow, START_S + 6000, 0)
    assert found.signal == "batch_fill"
    assert found.saturating_load is not None
    assert found.saturating_load[0] == pytest.approx(0.95 * 2000 / 60, rel=1e-3)


def reason(series: Series, end_s: int, since_s: int = 0, **fields: Any) -> str:
    found = forecast(spec(**fields), series, end_s, 0, since_s)
    assert found.state == "unknown"
    assert found.estimate_s is found.low_s is found.high_s is None
    return found.reason


def test_too_little_to_tell() -> None:
    series = QUIET.series(np.random.default_rng(0), 60)
    end_s = START_S + 3600
    assert reason(Series(LOAD), end_s) == "no_history"
    assert reason(series, START_S) == "no_history"
    assert reason(series, START_S + 29 * 60) == "too_short"
    assert reason(series, end_s, since_s=end_s - 600) == "too_short"
    assert reason(series, end_s, since_s=end_s + 600) == "too_short"
    assert reason(replaced(series, {}, slice(0, None, 2)), end_s) == "gaps"
    assert reason(replaced(series, {"kv_cache_usage_count": 0}), end_s) == "no_utilisation"
    flat = replaced(series, {"kv_cache_usage_sum": 50_000_000})
    assert reason(flat, end_s) == "load_does_not_move_utilisation"


def test_a_law_is_not_stretched_beyond_twice_the_loads_seen() -> None:
    steep = Fleet(level=1.0, slope=1.0, noise=0.02, capacity=80.0)
    assert asked(steep, 48).state == "saturates"
    far = asked(dataclasses.replace(steep, capacity=110.0), 48)
    assert (far.state, far.reason) == ("unknown", "beyond_known_loads")
    assert far.estimate_s is far.low_s is far.high_s is None
    slow = dataclasses.replace(steep, level=30.0, slope=0.01, capacity=110.0)
    assert asked(slow, 48).state == "not_within_horizon"


def test_an_hour_that_is_never_known_is_a_gap_and_others_are_filled() -> None:
    fleet = Fleet(swing=0.3, noise=0.0, utilisation_noise=0.0, slope=0.0)
    series = fleet.series(np.random.default_rng(0), 96)
    end_s = START_S + 96 * HOUR_S
    one = Series(LOAD)
    never = Series(LOAD)
    for at, row in enumerate(json.loads(series.to_json())["rows"]):
        if at != 30:
            one.put(Span(HOUR_S, row[1]), row[2:])
        if at % 24 != 6:
            never.put(Span(HOUR_S, row[1]), row[2:])
    assert reason(never, end_s) == "gaps"
    assert forecast(spec(), one, end_s, 0).state == "not_within_horizon"
    ahead = load_forecast(spec(), one, end_s, 24, 0)
    assert ahead == pytest.approx(fleet.expected(np.arange(24)), rel=1e-3)


def test_no_load_at_all_moves_nothing() -> None:
    series = replaced(QUIET.series(np.random.default_rng(0), 60), {"requests": 0})
    assert reason(series, START_S + 3600) == "load_does_not_move_utilisation"


def test_which_history_is_looked_at() -> None:
    minutes = QUIET.series(np.random.default_rng(0), 300)
    found = history_of(spec(), minutes, START_S + 300 * 60, 0)
    assert (found.step_s, len(found.load), found.daily) == (120, 150, False)
    long = QUIET.series(np.random.default_rng(0), 500)
    assert len(history_of(spec(), long, START_S + 500 * 60, 0).load) == 180
    hours = Fleet().series(np.random.default_rng(0), 400)
    found = history_of(spec(), hours, START_S + 400 * HOUR_S + 1800, 0)
    assert (found.step_s, len(found.load), found.daily) == (HOUR_S, 336, True)
    with pytest.raises(TooLittle, match="too_short"):  # hours alone, and no whole two days of them
        history_of(spec(), hours, START_S + 40 * HOUR_S, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fleet", "steps"),
    [
        (Fleet(step_s=60, slope=0.12, capacity=30, autocorrelation=0.0), 60),
        (Fleet(step_s=60, slope=0.12, capacity=30, autocorrelation=0.5), 60),
        (Fleet(slope=0.15, swing=0.4, capacity=40, noise=0.05), 48),
        (Fleet(slope=0.05, swing=0.4, capacity=50), 168),
        (Fleet(slope=0.0, swing=0.4, capacity=50), 168),
    ],
)
def test_intervals_hold_the_time_of_saturation(fleet: Fleet, steps: int) -> None:
    """90 % intervals, 200 fleets each: measured 85 to 90 % (100 % where nothing saturates)."""
    rng = np.random.default_rng(7)
    runs, hit = 200, 0
    for seed in range(runs):
        series = fleet.series(rng, steps)
        found = forecast(spec(), series, START_S + steps * fleet.step_s, seed, resamples=200)
        truth_s = fleet.crossing(steps, found.horizon_s // fleet.step_s) * fleet.step_s
        if found.state == "saturates":
            assert found.low_s is not None
            high_s = np.inf if found.high_s is None else found.high_s
            hit += found.low_s <= truth_s <= high_s
        else:
            hit += found.state == "not_within_horizon" and np.isinf(truth_s)
    assert hit / runs >= 0.82


def test_a_fleet_that_began_within_an_hour_has_no_gap_before_it() -> None:
    series = QUIET.series(np.random.default_rng(0), 80)
    late = Series(LOAD)
    rows = json.loads(series.to_json())["rows"]
    for length_s, start_s, *values in rows[40:]:
        late.put(Span(length_s, start_s), values)
    late.put(Span(HOUR_S, START_S), rows[40][2:])  # the hour in whose middle it began
    found = history_of(spec(), late, START_S + 80 * 60, 0)
    assert (found.start_s, len(found.load)) == (START_S + 40 * 60, 40)
    assert found.known.all()
