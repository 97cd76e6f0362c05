"""What every detector keeps to, on the same series for all."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.streams.core.detectors.base import Detector
from penstock.streams.core.detectors.catalogue import DETECTORS, create, restore

# Small baselines, so that short series reach every branch.
SMALL: dict[str, dict[str, Any]] = {
    "zscore": {"warm_up": 20, "window": 5},
    "performance": {"warm_up": 10, "consecutive": 3},
    "adwin": {"clock": 4, "least": 5, "span": 10.0},
    "page_hinkley": {"warm_up": 20},
    "change_point": {"block": 3, "memory": 40},
    "record": {"window": 50, "quiet": 5, "margin": 1.5},
}
WRONG: dict[str, dict[str, Any]] = {
    "zscore": {"threshold": 0},
    "performance": {"tolerance": -1},
    "adwin": {"delta": 2},
    "page_hinkley": {"clip": 100},
    "change_point": {"direction": "sideways"},
    "record": {"margin": 0.5},
}
every = pytest.mark.parametrize("name", DETECTORS)


def alarms(detector: Detector, values: list[float]) -> list[int]:
    found = []
    for at, value in enumerate(values):
        detector.update(value)
        assert detector.drift_detected == (detector.severity is not None)
        if detector.drift_detected:
            found.append(at)
    return found


def steps(seed: int, size: int = 300, step: float = 4.0) -> list[float]:
    """Normal values around 10, and around 10 + step from the middle on."""
    rng = np.random.default_rng(seed)
    level = 10 + step * (np.arange(size) >= size // 2)
    return [float(value) for value in level + rng.normal(0, 0.5, size)]


def test_the_suite_knows_every_detector() -> None:
    assert set(SMALL) == set(WRONG) == set(DETECTORS)


@every
def test_finds_a_step_and_nothing_before(name: str) -> None:
    for seed in range(5):
        found = alarms(create(name, **SMALL[name]), steps(seed))
        assert found
        assert 150 <= found[0] < 190


@every
def test_a_constant_is_no_drift(name: str) -> None:
    for value in (0.0, 5.0, -1e9):
        assert alarms(create(name, **SMALL[name]), [value] * 300) == []


@every
@given(
    values=st.lists(
        st.one_of(st.floats(-1e6, 1e6), st.sampled_from([1.0, 2.0, math.nan, math.inf])),
        max_size=120,
    ),
    cut=st.integers(0, 120),
)
@settings(max_examples=25, deadline=None)
def test_goes_on_from_json_as_if_it_had_never_stopped(
    name: str, values: list[float], cut: int
) -> None:
    whole, part = create(name, **SMALL[name]), create(name, **SMALL[name])
    expected = alarms(whole, values)
    found = alarms(part, values[:cut])
    part = restore(json.loads(json.dumps(part.to_state(), allow_nan=False)))
    found += [cut + at for at in alarms(part, values[cut:])]
    assert found == expected
    assert part.to_state() == whole.to_state()


@every
def test_goes_on_in_the_middle_of_a_long_series(name: str) -> None:
    values = steps(3, 600)
    whole, part = create(name, **SMALL[name]), create(name, **SMALL[name])
    for value in values:
        whole.update(value)
        part.update(value)
        part = restore(json.loads(json.dumps(part.to_state())))
        assert part == whole


@every
def test_values_that_are_not_finite_change_nothing(name: str) -> None:
    values = steps(1)
    clean, dirty = create(name, **SMALL[name]), create(name, **SMALL[name])
    for value in values:
        clean.update(value)
        dirty.update(value)
        assert dirty.drift_detected == clean.drift_detected
        for odd in (math.nan, math.inf, -math.inf):
            dirty.update(odd)
            assert not dirty.drift_detected
    assert (dirty.skipped, clean.skipped, dirty.seen) == (900, 0, clean.seen)


@every
def test_reconfigure_resets_and_says_so(name: str) -> None:
    detector = create(name, **SMALL[name])
    alarms(detector, steps(2))
    setting, value = next(iter(SMALL[name].items()))
    told = detector.reconfigure(**{setting: value + 3})
    assert told == f"{name}: {setting} {value} -> {value + 3}; baseline and history were reset"
    assert detector == create(name, **{**SMALL[name], setting: value + 3})
    assert "unchanged" in detector.reconfigure()


@every
def test_a_wrong_configuration_is_refused_and_changes_nothing(name: str) -> None:
    with pytest.raises(ValueError, match=r"must|direction"):
        create(name, **WRONG[name])
    detector = create(name, **SMALL[name])
    alarms(detector, steps(2))
    before = detector.to_state()
    for changes in (WRONG[name], {"no_such_setting": 1}, {"seen": 5}):
        with pytest.raises(ValueError, match=r"must|direction|has no"):
            detector.reconfigure(**changes)
    assert detector.to_state() == before


@every
def test_reset_is_a_new_start(name: str) -> None:
    detector = create(name, **SMALL[name])
    first = alarms(detector, steps(4))
    detector.reset()
    assert detector == create(name, **SMALL[name])
    assert alarms(detector, steps(4)) == first


@pytest.mark.parametrize("name", ["zscore", "page_hinkley", "change_point", "record"])
@pytest.mark.parametrize(("scale", "shift"), [(1e-5, 0.0), (1e5, 0.0), (1.0, 30.0)])
def test_the_unit_of_the_values_does_not_matter(name: str, scale: float, shift: float) -> None:
    values = steps(5)
    moved = [scale * value + shift for value in values]
    expected = alarms(create(name, **SMALL[name]), values)
    assert alarms(create(name, **SMALL[name]), moved) == expected


def test_what_is_no_detector_is_refused() -> None:
    with pytest.raises(ValueError, match="no detector"):
        create("oracle")
    with pytest.raises(ValueError, match="zscore"):
        create("zscore", nonsense=1)
    good = create("zscore").to_state()
    bad_states: list[dict[str, Any]] = [
        {},
        {**good, "state": {}},
        {**good, "state": None},
        {"detector": []},
    ]
    for bad in bad_states:
        with pytest.raises(ValueError, match=r"state|detector"):
            restore(bad)
