from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from penstock.streams.core.alerts.ring import CellRing
from penstock.streams.core.slices import FLEET
from penstock.streams.core.tiles import EMPTY, merge
from penstock.tests.unit.streams.core.alerts.build import REQUESTS, cell, tile

SECONDS = st.dictionaries(st.integers(1, 700), st.integers(1, 9), max_size=40)
ENDS = st.lists(st.integers(0, 720), min_size=1, max_size=12)


@given(SECONDS, ENDS, st.sampled_from([1, 60, 300]))
def test_sums_are_those_of_the_cells_in_any_order(
    seconds: dict[int, int], ends: list[int], length_s: int
) -> None:
    cells = {end: cell(end, n) for end, n in seconds.items()}
    ring = CellRing()
    ring.put(cells.values())
    for end_s in ends:
        inside = [c for end, (_, c) in cells.items() if end_s - length_s < end <= end_s]
        assert ring.total(length_s, end_s) == merge(inside)


def test_a_closed_cell_stays_as_it_was() -> None:
    ring = CellRing()
    ring.put([cell(5, 1)])
    ring.put([cell(5, 9)])
    assert ring.total(1, 5) == cell(5, 1)[1]


def test_old_cells_are_let_go_of() -> None:
    ring = CellRing()
    ring.put([cell(end, 1) for end in range(1, 1001)])
    assert ring.total(300, 1000).counts.tolist() == [300]
    ring.trim(1000)
    assert ring.total(300, 1005).counts.tolist() == [295]
    assert ring.total(1, 400) == EMPTY


def test_only_what_is_asked_for_is_held() -> None:
    ring = CellRing({REQUESTS})
    ring.put([cell(5, 7, errors=2), cell(6, 1, errors=1)])
    assert ring.total(60, 6) == tile({FLEET: {REQUESTS: 8}})
    nothing = CellRing(())
    nothing.put([cell(5, 7)])
    assert nothing.total(60, 6) == EMPTY
