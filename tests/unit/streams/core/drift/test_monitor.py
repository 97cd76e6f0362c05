"""Looking again and again: stated alarms, delays, restarts, repeats."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.streams.core.drift.alternatives import alternatives, log_ratios, smoothed
from penstock.streams.core.drift.discovery import e_bh
from penstock.streams.core.drift.monitor import Watch, WatchState, design_effect
from scipy.signal import lfilter
from scipy.stats import norm

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
LOOKS = 720  # hourly for 30 days
EVEN = np.full(10, 0.1)
EDGES = norm.ppf(np.linspace(0, 1, 11))


def watch(alarms: float = 0.01, effect: float = 1.0, ordered: bool = True) -> Watch:
    return Watch("m", 10, ordered, LOOKS, alarms, effect)


def run(item: Watch, reference: Ints, looks: Ints) -> WatchState:
    state = item.begin()
    for at, counts in enumerate(looks, 1):
        state = item.look(state, at * 3600, reference, counts)
    return state


def shifted(by: float) -> Floats:
    return np.diff(norm.cdf(EDGES - by))


@pytest.mark.parametrize("n", [30, 500, 20_000])
@pytest.mark.parametrize("ordered", [True, False])
def test_no_alternative_gains_under_the_reference(n: int, ordered: bool) -> None:
    reference = np.random.default_rng(n).multinomial(n, EVEN)
    ratios = log_ratios(reference, ordered)
    assert ratios.shape == (alternatives(10, ordered), 10)
    assert (np.exp(ratios) @ smoothed(reference) < 1).all()
    # nor under the truth, of which the reference is a sample
    assert (np.exp(ratios) @ EVEN < 1).all()


@pytest.mark.parametrize(("n", "per_look"), [(500, 200), (20_000, 20), (20_000, 2000)])
def test_false_alarms_are_no_more_than_stated(n: int, per_look: int) -> None:
    rng = np.random.default_rng(17)
    alarms = 0
    for _ in range(4):
        reference = rng.multinomial(n, EVEN)
        alarms += run(watch(1.0), reference, rng.multinomial(per_look, EVEN, LOOKS)).alarms
    assert alarms <= 4  # accepted: one per stream


def test_a_shift_by_a_fifth_is_found_within_hours() -> None:
    rng = np.random.default_rng(5)
    reference = rng.multinomial(20_000, EVEN)
    before = rng.multinomial(300, EVEN, 200)
    after = rng.multinomial(300, shifted(math.log(1.2) / 0.5), 4)
    assert run(watch(), reference, before).alarms == 0
    assert run(watch(), reference, np.concatenate([before, after])).alarms >= 1


@pytest.mark.parametrize("ordered", [True, False])
def test_rows_that_gather_in_one_bin_are_found(ordered: bool) -> None:
    reference = np.full(10, 2000)
    gathered = np.array([270, 270, 270, 270, 270, 870, 270, 270, 270, 270])
    state = watch(ordered=ordered).look(watch(ordered=ordered).begin(), 1, reference, gathered)
    assert state.alarm
    assert state.log_e is not None
    assert state.log_e >= math.log(1 / 0.01)
    assert set(state.log_r) == {0.0}


LISTS = st.lists(st.lists(st.integers(0, 60), min_size=10, max_size=10), max_size=12)


@given(LISTS, st.integers(0, 12))
@settings(max_examples=40, deadline=None)
def test_restart_and_repeats_change_nothing(rows: list[list[int]], cut: int) -> None:
    reference = np.full(10, 500)
    looks = np.array(rows, np.int64).reshape(-1, 10)
    once = run(watch(), reference, looks)
    state = watch().begin()
    for at, counts in enumerate(looks, 1):
        if at == cut:
            state = watch().begin(WatchState.from_json(state.to_json()))
        for again in (at, at, at - 1):
            state = watch().look(state, again * 3600, reference, counts)
    assert state.to_json() == once.to_json()


def test_no_values_are_no_look() -> None:
    nothing = np.zeros((5000, 10), np.int64)
    state = run(watch(1.0), np.full(10, 500), nothing)
    assert (state.looks, state.alarms, state.log_e) == (0, 0, None)
    assert state.end_s == 5000 * 3600


def test_a_watch_that_knows_no_design_effect_is_blind() -> None:
    item = watch(effect=math.inf)
    assert item.blind
    assert run(item, np.full(10, 500), np.full((5, 10), [900] + [0] * 9)).alarms == 0


def test_another_configuration_begins_anew() -> None:
    state = run(watch(), np.full(10, 500), np.full((3, 10), 20))
    other = Watch("m", 10, True, LOOKS, 0.02)
    assert other.begin(state).looks == 0
    with pytest.raises(ValueError, match="another monitor"):
        other.look(state, 10**9, np.full(10, 500), np.full(10, 20))


def test_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="positive"):
        watch(effect=0.5)
    for text in ("[]", '{"watch":"x"}', '{"log_r":[],"more":1}'):
        with pytest.raises(ValueError, match="state of a monitor"):
            WatchState.from_json(text)


def blocks(rng: np.random.Generator, count: int, size: int, phi: float) -> Ints:
    """Counts by bin of consecutive blocks of an AR(1) series."""
    noise = rng.standard_normal(count * size + 300) * math.sqrt(1 - phi * phi)
    values = lfilter([1], [1, -phi], noise)[300:].reshape(count, size)
    bins = np.searchsorted(EDGES[1:-1], values)
    return np.stack([np.bincount(row, minlength=10) for row in bins])


def test_design_effect_is_that_of_neighbours_that_are_alike() -> None:
    rng = np.random.default_rng(6)
    assert 1 <= design_effect(blocks(rng, 168, 500, 0.0), True) < 1.8
    assert 13 < design_effect(blocks(rng, 168, 500, 0.9), True) < 32  # theory: 19
    assert design_effect(np.full((1, 10), 50), True) == math.inf
    assert design_effect(np.zeros((5, 10), np.int64), True) == math.inf


@pytest.mark.slow
@pytest.mark.parametrize("phi", [0.0, 0.6, 0.9])
def test_false_alarms_of_clumped_values_are_no_more_than_stated(phi: float) -> None:
    rng = np.random.default_rng(23)
    alarms, streams = 0, 25
    for _ in range(streams):
        past = blocks(rng, 168, 200, phi)
        effect = design_effect(past, True)
        alarms += run(watch(1.0, effect), past.sum(axis=0), blocks(rng, LOOKS, 200, phi)).alarms
    assert alarms <= streams  # accepted: one per stream and 30 days


@pytest.mark.slow
def test_false_discoveries_over_many_monitors_are_no_more_than_stated() -> None:
    """Forty quiet series and ten that drift from the hundredth look on, e-BH at 10 % at every look."""
    rng = np.random.default_rng(29)
    series, drifting, from_look = 50, 10, 100
    reference = rng.multinomial(20_000, EVEN)
    items = [Watch(str(at), 10, True, LOOKS, 0.01) for at in range(series)]
    states = [item.begin() for item in items]
    believed = np.zeros(series, bool)
    for look in range(1, 301):
        for at, item in enumerate(items):
            changed = at < drifting and look > from_look
            counts = rng.multinomial(100, shifted(0.4) if changed else EVEN)
            states[at] = item.look(states[at], look, reference, counts)
        believed |= e_bh(np.exp([state.log_e or -math.inf for state in states]), 0.1)
        if look == from_look:
            assert not believed.any()
    assert believed[:drifting].all()
    assert believed[drifting:].sum() <= 1
