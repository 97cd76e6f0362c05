"""The ledger against plain sums, whatever order tiles come in."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.streams.core.slo.ledger import Ledger
from penstock.streams.core.slo.readings import MinuteRule
from penstock.streams.core.tiles import Span

HOURS = 4
Panes = dict[int, tuple[int, int]]

panes = st.dictionaries(
    st.integers(0, HOURS * 360 - 1).map(lambda at: at * 10),
    st.tuples(st.integers(0, 3), st.integers(1, 9)).map(lambda p: (min(p), p[1])),
    max_size=40,
)


def said(panes: Panes, end_s: int) -> list[tuple[Span, int, int]]:
    """What the tiles of every tier say."""
    spans = {Span(10, at).parent(length_s) for at in panes for length_s in (10, 60, 3600)}
    return [
        (span, *between(panes, span.start_s, span.end_s)) for span in spans if span.end_s <= end_s
    ]


def between(panes: Panes, low_s: int, high_s: int) -> tuple[int, int]:
    inside = [pair for at, pair in panes.items() if low_s <= at < high_s]
    return sum(left for left, _ in inside), sum(right for _, right in inside)


@given(panes, panes, st.integers(1, HOURS * 360), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_sums_are_of_what_was_said_last(
    first: Panes, amended: Panes, end: int, rng: random.Random
) -> None:
    end_s = end * 10
    ledger = Ledger()
    for version in (first, first | amended):
        items = said(version, end_s) * 2
        rng.shuffle(items)
        for span, left, right in items:
            ledger.put(span, left, right)
        minute_s = end_s // 60 * 60
        for start_s in (0, max(minute_s - 300, 0), max(minute_s - 7260, 0)):
            assert ledger.total(start_s, end_s) == between(version, start_s, end_s)
    ledger.settle(end_s // 60 * 60)
    ledger.trim(end_s // 3600 * 3600 - 3600, 0)
    assert ledger.total(0, end_s) == between(first | amended, 0, end_s)


@given(panes, panes, st.sampled_from([1, 2, 60]), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_minutes_are_judged_alike_however_they_came(
    first: Panes, amended: Panes, lookback: int, rng: random.Random
) -> None:
    end_s = HOURS * 3600
    rule = MinuteRule(a=-1, constant=2, every=True, minutes=lookback)  # fewer than two are bad
    ledger = Ledger(rule)
    for version in (first, first | amended):
        items = said(version, end_s)
        rng.shuffle(items)
        for span, left, right in items:
            ledger.put(span, left, right)
        since_s = min((at // 60 * 60 for at, pair in (first | version).items()), default=end_s)
        expected = [0, 0]
        for minute_s in range(since_s, end_s, 60):
            seen = between(version, minute_s - (lookback - 1) * 60, minute_s + 60)
            expected[0] += seen[0] < 2
            expected[1] += 1
        assert ledger.total(0, end_s) == tuple(expected)


def test_an_emptied_span_counts_nothing_and_differences_stay_within() -> None:
    ledger = Ledger()
    ledger.put(Span(60, 0), 1, 2)
    ledger.put(Span(60, 0), 0, 0)
    assert ledger.total(0, 60) == (0, 0)
    ledger.put(Span(60, 0), -3, 5)
    assert ledger.total(0, 60) == (0, 5)
    ledger.put(Span(60, 0), 9, 5)
    assert ledger.total(0, 60) == (5, 5)
    assert ledger.minutes_from(0, 119) == [(0, (5, 5))]
    assert Ledger().minutes_from(0, 600) == []


def test_many_windows_do_not_fill_the_memory() -> None:
    ledger = Ledger()
    ledger.put(Span(3600, 0), 1, 2)
    for hours in range(1, 40):
        assert ledger.total(0, hours * 3600) == (1, 2)


def test_unfinished_minutes_and_other_tiles_say_nothing_of_minutes() -> None:
    ledger = Ledger(MinuteRule(a=-1, constant=1, every=True))
    ledger.put(Span(3600, 0), 5, 0)
    ledger.put(Span(10, 60), 5, 0)
    assert ledger.total(0, 3600) == (0, 0)
    ledger.put(Span(60, 120), 5, 0)
    assert ledger.total(0, 250) == (1, 2)  # minutes 2 and 3
