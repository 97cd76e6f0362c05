"""References: hours of the week, versions, JSON, stable days."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.streams.core.drift.references import (
    Day,
    Reference,
    counts_of_tile,
    hour_of_week,
    reference_from_json,
    stable_days,
    tile_of_counts,
)
from penstock.streams.core.tiles import EMPTY

HOUR_S, DAY_S, WEEK_S = 3600, 86400, 7 * 86400
MONDAY_S = 4 * DAY_S  # 1970-01-05
SOURCE = {"kind": "stable_days", "days": 14}

HOURS = st.dictionaries(
    st.integers(0, 500).map(lambda hour: hour * HOUR_S),
    st.dictionaries(st.integers(0, 65535), st.integers(1, 10**6)),
    max_size=6,
)


def weekly(weeks: int) -> Reference[int]:
    """Bin = hour of the week, 1,000 values in each hour."""
    hours = range(MONDAY_S, MONDAY_S + weeks * WEEK_S, HOUR_S)
    return Reference("latency", SOURCE, {at: {hour_of_week(at): 1000} for at in hours})


def test_week_begins_on_monday() -> None:
    assert [hour_of_week(at) for at in (MONDAY_S, MONDAY_S + 26 * HOUR_S, MONDAY_S - 1)] == [
        0,
        26,
        167,
    ]


@given(HOURS)
@settings(max_examples=30, deadline=None)
def test_json_gives_the_same_reference(hours: dict[int, dict[int, int]]) -> None:
    reference = Reference("x", SOURCE, hours, 3)
    again = reference_from_json(reference.to_json())
    assert again.to_json() == reference.to_json()
    assert again.digest == reference.digest
    assert again.counts() == reference.counts()


def test_categories_too() -> None:
    reference = Reference("language", SOURCE, {0: {"en": 5, "de": 2}})
    assert reference_from_json(reference.to_json()) == reference
    assert reference.total == 7


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"kind":"bins","name":"x","source":{},"version":1,"hours":[[0,[["a",1]]]]}',
        '{"kind":"bins","name":"x","source":{},"version":1,"hours":[[0,[[1,-1]]]]}',
        '{"kind":"other","name":"x","source":{},"version":1,"hours":[]}',
    ],
)
def test_refuses_what_is_no_reference(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        reference_from_json(text)


def test_same_hours_where_the_reference_is_long_enough() -> None:
    start_s = MONDAY_S + 5 * WEEK_S + 30 * HOUR_S
    assert weekly(2).same_hours(start_s, start_s + HOUR_S, 100) == {30: 2000}
    assert weekly(2).same_hours(start_s + 1800, start_s + 5400, 100) == {30: 2000, 31: 2000}
    assert len(weekly(2).same_hours(start_s, start_s + HOUR_S, 2001)) == 168
    assert len(weekly(1).same_hours(start_s, start_s + HOUR_S, 100)) == 168


def test_version_grows_when_the_content_changes() -> None:
    first = weekly(1)
    same = weekly(1).after(first)
    longer = weekly(2).after(same)
    assert [first.version, same.version, longer.version] == [1, 1, 2]
    assert longer.after(None) is longer


def test_from_a_tile_and_back() -> None:
    counts = [{5: 2, 9: 1}, {}, {7: 4}]
    tile = tile_of_counts(counts)
    assert [counts_of_tile(tile, series) for series in range(3)] == counts
    assert counts_of_tile(EMPTY) == {}


def test_stable_days_are_the_last_complete_ones_without_alarm() -> None:
    days = [Day(at * DAY_S, complete=at != 9, alarmed=at == 6) for at in range(10)]
    expected = tuple(at * DAY_S for at in (1, 2, 3, 4, 5, 7, 8))
    assert stable_days(reversed([*days, days[3]])) == expected
    assert stable_days(days[:6]) is None
