"""Categories against scipy, and the rule."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.schemas.drift.thresholds import Thresholds
from penstock.streams.core.drift.categorical import category_counts, compare_categories
from scipy import stats

COUNTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 2000), min_size=1)


@given(COUNTS, COUNTS)
@settings(max_examples=40, deadline=None)
def test_chi_square_is_that_of_scipy(before: dict[str, int], after: dict[str, int]) -> None:
    scores = compare_categories(before, after)
    names = sorted({*before, *after})
    table = np.array([[side.get(name, 0) for name in names] for side in (before, after)])
    raw = stats.chi2_contingency(table, correction=False)
    assert scores.chi_square == pytest.approx(raw.statistic, abs=1e-9)
    assert scores.p == pytest.approx(raw.pvalue, abs=1e-12)
    assert scores.cramers_v == pytest.approx(math.sqrt(raw.statistic / table.sum()), abs=1e-9)
    assert scores.v_low <= scores.cramers_v + 1e-9
    assert 0 <= scores.v_low <= scores.v_high <= 1


@given(COUNTS, COUNTS)
@settings(max_examples=40, deadline=None)
def test_order_of_names_does_not_matter(before: dict[str, int], after: dict[str, int]) -> None:
    turned = dict(reversed(after.items()))
    assert compare_categories(before, after) == compare_categories(before, turned)


@pytest.mark.parametrize(
    ("after", "state", "reasons"),
    [
        ({"en": 890, "de": 110}, "ok", ()),
        ({"en": 700, "de": 300}, "drift", ("psi", "chi_square")),
        ({"en": 8500, "de": 1500}, "ok", ()),
        ({"en": 850, "de": 90, "fr": 60}, "drift", ("psi", "chi_square", "new_category")),
        ({"en": 898, "de": 100, "fr": 2}, "ok", ()),
        ({"en": 50, "xx": 40}, "no_data", ()),
        ({}, "no_data", ()),
    ],
)
def test_rule(after: dict[str, int], state: str, reasons: tuple[str, ...]) -> None:
    scores = compare_categories({"en": 9000, "de": 1000}, after)
    assert (scores.state, scores.reasons) == (state, reasons)
    assert (scores.severity is not None) == (state == "drift")


def test_moderate() -> None:
    loose = Thresholds(cramers_v=0.5)
    scores = compare_categories({"a": 500, "b": 500}, {"a": 665, "b": 335}, loose)
    assert scores.psi == pytest.approx(0.113, abs=0.001)
    assert (scores.state, scores.reasons) == ("moderate", ())


def test_what_is_new_and_what_is_gone() -> None:
    scores = compare_categories({"a": 60, "b": 30, "c": 10, "z": 0}, {"a": 80, "d": 15, "e": 5})
    assert scores.new == (("d", 0.15), ("e", 0.05))
    assert scores.gone == (("b", 0.3), ("c", 0.1))
    assert scores.new_share == pytest.approx(0.2)


def test_nothing_at_all() -> None:
    scores = compare_categories({}, {})
    assert scores.state == "no_data"
    assert math.isnan(scores.p)
    one = compare_categories({"a": 500}, {"a": 300})
    assert (one.state, one.p, one.cramers_v, one.v_high) == ("ok", 1.0, 0.0, 0.0)


def test_positions_for_a_watch() -> None:
    assert category_counts(["a"], {}).tolist() == [0, 0]
