"""Counts of series: their algebra, and labels coded as counts."""

from hypothesis import given
from hypothesis import strategies as st
from penstock.streams.core.drift.labelled import Labelled
from penstock.streams.core.drift.series_counts import (
    NOTHING,
    SeriesCounts,
    counts_of_labels,
    labels_of_counts,
    total,
)

COUNTS = st.builds(
    SeriesCounts,
    st.integers(0, 100),
    st.dictionaries(st.integers(0, 9).map(str), st.integers(1, 50), max_size=5),
)
LABELS = st.lists(
    st.tuples(
        st.sampled_from(["cat", 'a "dog"', "ä,["]),
        st.sampled_from(["cat", "1"]),
        st.none() | st.floats(0, 1),
    ),
    max_size=20,
).map(Labelled.of)


@given(st.lists(COUNTS, max_size=6))
def test_any_order_and_grouping_gives_the_same_sum(parts: list[SeriesCounts]) -> None:
    added = NOTHING
    for part in parts:
        added = added + part
    assert total(reversed(parts)) == added
    assert added.present == sum(part.present for part in parts)
    assert total([]) == NOTHING


@given(LABELS, LABELS)
def test_labels_survive_being_coded_and_added(one: Labelled, two: Labelled) -> None:
    assert labels_of_counts(counts_of_labels(one)) == one
    both = labels_of_counts(counts_of_labels(one) + counts_of_labels(two))
    assert both == one + two
    assert counts_of_labels(one).rows == one.rows


def test_bins_are_numbers() -> None:
    assert SeriesCounts(4, {"12": 3}).bins == {12: 3}
