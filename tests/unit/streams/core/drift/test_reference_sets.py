"""References of a monitor: made together, versioned together."""

from __future__ import annotations

import pytest
from penstock.streams.core.drift.labelled import Labelled
from penstock.streams.core.drift.reference_sets import ReferenceSet, reference_set
from penstock.streams.core.drift.references import reference_from_json
from penstock.streams.core.drift.series_counts import LABELS, SeriesCounts, counts_of_labels

HOUR_S = 3600
FEATURES, CATEGORIES = ("tokens", "empty"), ("language",)
CORRECT = Labelled.of([("a", "a", 0.9)])


def pieces(extra: int = 0) -> dict[int, dict[str, SeriesCounts]]:
    """Two hours, the first in two stretches."""
    return {
        at: {
            "tokens": SeriesCounts(5, {"7": 3, "9": 1 + extra}),
            "language": SeriesCounts(5, {"en": 5}),
            "empty": SeriesCounts(5),
            LABELS: counts_of_labels(CORRECT),
        }
        for at in (0, 1800, HOUR_S)
    }


def made(extra: int = 0) -> ReferenceSet:
    return reference_set("m", {"kind": "period"}, pieces(extra), FEATURES, CATEGORIES)


def test_stretches_become_hours() -> None:
    found = made().of(FEATURES, CATEGORIES)
    tokens = found.features["tokens"]
    assert tokens.hours == {0: {7: 6, 9: 2}, HOUR_S: {7: 3, 9: 1}}
    assert (tokens.rows, tokens.total) == (15, 12)
    assert tokens.missing_share == pytest.approx(0.2)
    assert found.categories["language"].counts() == {"en": 15}
    assert "empty" not in found.features
    assert made().labels == CORRECT + CORRECT + CORRECT
    assert ReferenceSet().labels == Labelled()


def test_the_revision_grows_when_any_series_changes() -> None:
    first = made().revised(None)
    assert first.revision == 1
    assert {item.version for item in first.series.values()} == {1}
    assert made().revised(first).revision == 1
    second = made(1).revised(first)
    assert second.revision == 2
    assert {item.version for item in second.series.values()} == {2}


def test_stored_sets_come_back() -> None:
    first = made().revised(None)
    again = {name: reference_from_json(item.to_json()) for name, item in first.series.items()}
    assert ReferenceSet(again, 1) == first
    assert ReferenceSet(again, 1).digest == first.digest


def test_a_name_of_another_kind_is_not_compared() -> None:
    found = made().of(CATEGORIES, FEATURES)
    assert (found.features, found.categories) == ({}, {})
