from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from penstock.streams.core.drift.columns import OTHER
from penstock.streams.core.drift.open_counts import MOST_CATEGORIES, MOST_MET, OpenCounts
from penstock.streams.core.drift.series_counts import LABELS, SeriesCounts
from penstock.streams.core.drift.stored import Counting, Piece

PIECE_S = 60
COUNTING = Counting({"model": "m"}, ("tokens",), ("route",), PIECE_S)
SOURCE = (1, 0)

Row = tuple[int, str, str]  # second, feature's bin, category; "" where there is none
rows = st.lists(
    st.tuples(
        st.integers(0, 299), st.sampled_from(["", "7", "9"]), st.sampled_from(["", "a", "b"])
    ),
    max_size=30,
)


def counted(some: list[Row], since_s: int) -> dict[int, Piece]:
    """What the store answers of some rows."""
    pieces: dict[int, Piece] = {}
    for at_s, *values in some:
        if at_s < since_s:
            continue
        piece = pieces.setdefault(at_s // PIECE_S * PIECE_S, {})
        for series, value in zip(("tokens", "route"), values, strict=True):
            one = SeriesCounts(1, {value: 1} if value else {})
            piece[series] = piece.get(series, SeriesCounts()) + one
    return pieces


def begun() -> OpenCounts:
    return OpenCounts(COUNTING, 0, {SOURCE: -1})


def restarted(counts: OpenCounts) -> OpenCounts:
    found = OpenCounts.from_dict(COUNTING, json.loads(json.dumps(counts.to_dict())))
    assert found is not None
    return found


@given(rows, st.lists(st.integers(0, 30), max_size=5), st.booleans())
def test_how_rows_are_spread_over_steps_and_restarts_changes_nothing(
    told: list[Row], steps: list[int], restarts: bool
) -> None:
    once = begun()
    once.add(counted(told, 0), {SOURCE: len(told) - 1})
    wanted = once.finish(299)

    counts = begun()
    bounds = [*sorted(min(step, len(told)) for step in steps), len(told)]
    for low, high in zip([0, *bounds], bounds, strict=False):
        counts.add(counted(told[low:high], counts.since_s), {SOURCE: high - 1})
        if restarts:
            counts = restarted(counts)
    assert counts.cuts == {SOURCE: len(told) - 1}
    assert counts.finish(299) == wanted
    for at, piece in wanted.items():
        mine = [row for row in told if at <= row[0] < at + PIECE_S]
        assert piece["tokens"].rows == piece["route"].rows == len(mine)
        assert piece["route"].counts == Counter(row[2] for row in mine if row[2])


def test_what_is_over_is_taken_out_once_and_empty_stretches_are_there() -> None:
    counts = begun()
    counts.add(counted([(61, "7", ""), (130, "9", "a")], 0), {SOURCE: 1})
    first = counts.finish(125)
    nothing = SeriesCounts()
    assert first == {
        0: {"tokens": nothing, "route": nothing, LABELS: nothing},
        60: {"tokens": SeriesCounts(1, {"7": 1}), "route": SeriesCounts(1), LABELS: nothing},
    }
    assert (counts.since_s, counts.finish(125), counts.finish(59)) == (120, {}, {})
    assert counts.finish(180)[120]["route"].counts == {"a": 1}


def test_cuts_that_fall_behind_after_a_restart_are_not_counted_again() -> None:
    counts = begun()
    counts.add({}, {SOURCE: 9})
    counts.add({}, {SOURCE: 4, (2, 0): 1})
    assert counts.cuts == {SOURCE: 9, (2, 0): 1}


def test_another_counting_is_not_gone_on_with() -> None:
    state = begun().to_dict()
    other = replace(COUNTING, features=("latency_ms",))
    assert OpenCounts.from_dict(other, state) is None
    assert OpenCounts.from_dict(COUNTING, state) == begun()


def test_the_most_frequent_categories_are_told_apart() -> None:
    names = {f"n{at:04}": 1 + (at % 2) for at in range(2 * MOST_CATEGORIES)} | {OTHER: 5}
    bins = {str(at): 1 for at in range(2 * MOST_MET)}
    counts = begun()
    piece = {"route": SeriesCounts(9999, names), "tokens": SeriesCounts(9999, bins)}
    counts.add({0: piece}, {SOURCE: 0})
    found = counts.finish(60)[0]
    assert found["tokens"].counts == bins
    assert found["route"].rows == 9999
    wanted = {name: 2 for name, n in names.items() if n == 2} | {OTHER: 5 + MOST_CATEGORIES}
    assert found["route"].counts == wanted


def test_while_it_lasts_ten_times_as_many_are_kept() -> None:
    counts = begun()
    for part in range(4):
        names = {f"n{part}-{at}": 1 for at in range(MOST_MET // 2)} | {"often": 1}
        counts.add({0: {"route": SeriesCounts(len(names), names)}}, {SOURCE: part})
    held = dict(counts.to_dict()["pieces"])[0]["route"][1]
    assert len(held) == MOST_MET + 1
    found = counts.finish(60)[0]["route"]
    assert found.counts["often"] == 4
    assert found.present == found.rows == 4 * (MOST_MET // 2 + 1)
