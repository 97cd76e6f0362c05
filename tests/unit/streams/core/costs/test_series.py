from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.streams.core import metrics as m
from penstock.streams.core.costs.periods import period_of
from penstock.streams.core.costs.series import HOUR_S, LOAD, MINUTE_S, SPEND, Series, measure
from penstock.streams.core.tiles import EMPTY, Span, Tile, tile_of

minutes = st.dictionaries(st.integers(0, 6 * 60 - 1), st.integers(1, 10**12), max_size=60)


def series(by_minute: dict[int, int], hours: tuple[int, ...] = ()) -> Series:
    built = Series(("cost_nanousd",))
    for minute, value in by_minute.items():
        built.put(Span(MINUTE_S, minute * MINUTE_S), (value,))
    for hour in hours:
        total = sum(value for minute, value in by_minute.items() if minute // 60 == hour)
        built.put(Span(HOUR_S, hour * HOUR_S), (total,))
    return built


def tile(items: dict[tuple[int, int, int], int]) -> Tile:
    codes = [number << 32 | m.key(metric, position) for number, metric, position in items]
    return tile_of(np.array(codes, np.uint64), np.array([*items.values()], np.int64))


def test_what_is_measured_of_a_tile() -> None:
    kv, queue = m.SKETCHES["kv_cache_usage"], m.SKETCHES["queue_depth"]
    built = tile({
        (3, m.REQUESTS, 0): 5, (3, m.INPUT_TOKENS, 0): 70, (3, m.OUTPUT_TOKENS, 0): 30,
        (3, m.COST_NANOUSD, 0): 2**60 + 1, (3, m.COSTED_TOKENS, 0): 90, (4, m.REQUESTS, 0): 1,
        (3, m.STEPS, 0): 4, (3, m.BATCH_SIZE, 0): 6, (3, m.BATCH_CAPACITY, 0): 8,
        (3, kv.number, 2000): 2, (3, kv.number, 2001): 2, (3, kv.number + m.SUM_OFFSET, 0): 1_800_000,
        (3, queue.number, 2048): 1, (3, queue.number + m.SUM_OFFSET, 0): 1, (9, m.REQUESTS, 0): 8,
    })  # fmt: skip
    assert measure(SPEND, built, np.array([3])) == (2**60 + 1, 90, 100)
    assert measure(LOAD, built, np.array([3, 4])) == (6, 100, 4, 6, 8, 1, 1, 1_800_000, 4, 0, 0)
    assert measure(SPEND, EMPTY, np.array([3])) == (0, 0, 0)
    assert measure(SPEND, built, np.empty(0, np.int64)) == (0, 0, 0)


def test_only_minutes_and_hours_are_taken() -> None:
    taken = Series(("requests",))
    built = tile({(1, m.REQUESTS, 0): 5})
    for length_s in (1, 10, 60, 3600, 86400):
        taken.take(Span(length_s, 0), built, np.array([1]))
    assert taken.to_json() == '{"fields":["requests"],"rows":[[60,0,5],[3600,0,5]]}'


@given(minutes, st.integers(0, 6 * 60), st.integers(0, 6 * 60), st.sets(st.integers(0, 5)))
def test_a_total_is_the_sum_of_its_minutes(
    by_minute: dict[int, int], one: int, other: int, closed: set[int]
) -> None:
    start, end = min(one, other), max(one, other)
    expected = sum(value for minute, value in by_minute.items() if start <= minute < end)
    built = series(by_minute, tuple(closed))
    assert built.total(start * 60, end * 60) == {"cost_nanousd": expected}


@given(minutes, st.randoms(use_true_random=False))
def test_order_repetition_and_restarts_do_not_matter(
    by_minute: dict[int, int], rng: object
) -> None:
    items = list(by_minute.items())
    rng.shuffle(items)  # type: ignore[attr-defined]  # hypothesis's Random
    text = series(by_minute, (0, 1)).to_json()
    shuffled = series(dict(items), (1, 0))
    for minute, value in items[:3]:
        shuffled.put(Span(MINUTE_S, minute * MINUTE_S), (value,))
    assert shuffled.to_json() == text
    assert Series.from_json(text).to_json() == text


def test_an_amended_tile_replaces_what_its_span_said() -> None:
    built = series({0: 5, 1: 7}, (0,))
    built.put(Span(MINUTE_S, 0), (6,))
    built.put(Span(HOUR_S, 0), (13,))
    assert built.total(0, 120)["cost_nanousd"] == 13
    assert built.total(0, HOUR_S)["cost_nanousd"] == 13
    built.put(Span(HOUR_S, 0), (0,))  # as if it had never been: minutes again
    built.put(Span(MINUTE_S, 0), (0,))
    assert built.total(0, HOUR_S)["cost_nanousd"] == 7


def test_bins_say_what_is_known() -> None:
    built = series({0: 1, 4: 2, 5: 4, 70: 8}, (0,))
    five = built.bins(0, 900, 300)
    assert five.columns["cost_nanousd"].tolist() == [3, 4, 0]
    assert five.known.tolist() == [True, True, False]
    hours = built.bins(0, 3 * HOUR_S, HOUR_S)
    assert hours.columns["cost_nanousd"].tolist() == [7, 8, 0]
    assert hours.starts_s.tolist() == [0, 3600, 7200]
    assert built.bins(HOUR_S, 3 * HOUR_S, 2 * HOUR_S).columns["cost_nanousd"].tolist() == [8]
    assert built.bins(HOUR_S, HOUR_S, HOUR_S).known.tolist() == []


@pytest.mark.parametrize("ends", [(60, 3600, 3600), (0, 90, 60), (0, 420, 420), (0, 30, 30)])
def test_crooked_bins_are_refused(ends: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="not aligned"):
        Series(("requests",)).bins(*ends)


def test_memory_is_bounded_by_forgetting() -> None:
    built = series({0: 1, 59: 2, 60: 4}, (0, 1))
    built.forget_before(HOUR_S, MINUTE_S)
    assert built.first_s == 0
    assert built.total(0, HOUR_S)["cost_nanousd"] == 3
    assert built.total(0, 60)["cost_nanousd"] == 0
    built.forget_before(HOUR_S, HOUR_S)
    assert built.first_s == HOUR_S
    assert Series(("requests",)).first_s is None


def test_what_does_not_fit_is_refused() -> None:
    built = Series(("requests",))
    with pytest.raises(ValueError, match="2 values"):
        built.put(Span(60, 0), (1, 2))
    with pytest.raises(ValueError, match="1 fields"):
        built.put(Span(10, 0), (1,))
    for text in ("[]", "{}", '{"fields":["a"],"rows":[[60,0,1,2]]}', '{"fields":["a"],"rows":[3]}'):
        with pytest.raises(ValueError, match=r"not a series|2 values"):
            Series.from_json(text)


def test_periods() -> None:
    def days(period: str, *moment: int) -> list[str]:
        at_s = int(datetime(*moment, tzinfo=UTC).timestamp())  # type: ignore[arg-type, misc]
        ends = period_of(period, at_s)  # type: ignore[arg-type]
        return [f"{datetime.fromtimestamp(end, UTC):%a %Y-%m-%d %H}" for end in ends]

    assert days("day", 2026, 2, 28, 23, 59) == ["Sat 2026-02-28 00", "Sun 2026-03-01 00"]
    assert days("week", 2026, 2, 28) == ["Mon 2026-02-23 00", "Mon 2026-03-02 00"]
    assert days("week", 2026, 3, 2) == ["Mon 2026-03-02 00", "Mon 2026-03-09 00"]
    assert days("month", 2024, 2, 29, 1) == ["Thu 2024-02-01 00", "Fri 2024-03-01 00"]
    assert days("month", 2025, 12, 31) == ["Mon 2025-12-01 00", "Thu 2026-01-01 00"]
