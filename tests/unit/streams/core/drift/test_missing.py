"""Rows without a feature, and what must hold for a while."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.streams.core.drift.missing import held_since_s, missing, wilson


@pytest.mark.parametrize(
    ("absent", "state"),
    [(0, "ok"), (10, "ok"), (11, "warning"), (50, "warning"), (51, "critical"), (1000, "critical")],
)
def test_thresholds_are_strict(absent: int, state: str) -> None:
    found = missing(1000, 1000 - absent)
    assert found.state == state
    assert found.low <= found.share <= found.high


def test_little_or_nothing_is_no_answer() -> None:
    assert missing(99, 0).state == "no_data"
    nothing = missing(0, 0)
    assert math.isnan(nothing.share)
    assert (nothing.low, nothing.high, nothing.state) == (0.0, 1.0, "no_data")
    assert wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="cannot carry"):
        missing(5, 6)


def test_wilson_known_answer() -> None:
    assert wilson(15, 50) == pytest.approx((0.19103, 0.43750), abs=1e-4)


LOOKS = st.lists(
    st.tuples(st.integers(0, 20).map(lambda at: at * 3600), st.sampled_from([0.1, 0.2, math.nan])),
    unique_by=lambda look: look[0],
)


@given(LOOKS, st.randoms())
def test_order_and_repeats_do_not_matter(looks: list[tuple[int, float]], dice: Random) -> None:
    mixed = [*looks, *looks]
    dice.shuffle(mixed)
    assert held_since_s(mixed, 0.15, 7200) == held_since_s(looks, 0.15, 7200)


def test_a_stretch_ends_below_the_limit_or_without_data() -> None:
    hour = 3600
    steady = [(at * hour, 0.2) for at in range(7)]
    assert held_since_s(steady, 0.15, hour) == (0, 6 * hour)
    assert held_since_s([*steady, (7 * hour, 0.15)], 0.15, hour) is None
    assert held_since_s([*steady, (9 * hour, 0.2)], 0.15, hour) == (9 * hour, 9 * hour)
    assert held_since_s([*steady, (7 * hour, math.nan)], 0.15, hour) == (0, 6 * hour)
    assert held_since_s([], 0.15, hour) is None
