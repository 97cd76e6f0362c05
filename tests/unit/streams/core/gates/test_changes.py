"""Changes in series of verdicts: known ones, and the same however the series is cut and repeated."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.streams.core.gates.changes import VerdictChange, changes_after

Row = dict[str, Any]


def row(us: int, verdict: str, epoch: int = 0, gate: str = "g", spec: str = "s") -> Row:
    return {"gate_id": gate, "epoch": epoch, "us": us, "verdict": verdict, "spec_hash": spec}


def test_a_life() -> None:
    rows = [
        row(1, "NO_DATA"), row(2, "UNDECIDED"), row(3, "UNDECIDED"), row(4, "INVALID"),
        row(5, "UNDECIDED"), row(6, "NO_DATA"), row(7, "PASS"), row(8, "PASS"),
        row(9, "PASS", epoch=1), row(10, "FAIL", epoch=1), row(11, "UNDECIDED", epoch=2),
    ]  # fmt: skip
    found = changes_after({}, rows)
    assert [(c.as_of_us, c.verdict, c.before, c.is_told) for c in found] == [
        (1, "NO_DATA", "", False),
        (2, "UNDECIDED", "NO_DATA", False),
        (4, "INVALID", "UNDECIDED", True),
        (5, "UNDECIDED", "INVALID", True),  # it does not stand any more
        (6, "NO_DATA", "UNDECIDED", False),
        (7, "PASS", "NO_DATA", True),
        (9, "PASS", "", True),  # of another release
        (10, "FAIL", "PASS", True),
        (11, "UNDECIDED", "", False),
    ]
    assert len({change.id for change in found}) == len(found)


def test_another_specification_is_told_of_anew() -> None:
    first, second = changes_after({}, [row(1, "PASS"), row(2, "PASS", spec="t")])
    assert (first.is_told, second.is_told, second.before) == (True, True, "")


def test_another_specification_may_follow_an_older_release() -> None:
    known = VerdictChange("g", 9, 10, "PASS", "s")
    moved = [row(9, "FAIL", epoch=4, spec="t"), row(11, "FAIL", epoch=4, spec="t")]
    (change,) = changes_after({"g": known}, moved)
    assert (change.epoch, change.as_of_us, change.before, change.is_told) == (4, 11, "", True)


@pytest.mark.parametrize("late", [row(5, "FAIL"), row(10, "FAIL"), row(99, "FAIL", epoch=0)])
def test_what_is_not_later_than_what_is_known_is_passed_over(late: Row) -> None:
    known = VerdictChange("g", 1, 10, "PASS", "s")
    assert changes_after({"g": known}, [late]) == []


verdicts = st.sampled_from(["PASS", "FAIL", "INVALID", "UNDECIDED", "NO_DATA"])
series = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.integers(0, 40), verdicts),
    unique_by=lambda item: item[:3],
    max_size=60,
).map(lambda items: [row(us, v, epoch, gate) for gate, epoch, us, v in sorted(items)])


@given(series, st.data())
def test_however_it_is_cut_and_read_again(rows: list[Row], data: st.DataObject) -> None:
    whole = changes_after({}, rows)
    found: list[VerdictChange] = []
    last: dict[str, VerdictChange] = {}
    for gate in "ab":
        mine = [one for one in rows if one["gate_id"] == gate]
        at = 0
        while at < len(mine):
            end = data.draw(st.integers(at + 1, len(mine)))
            again = data.draw(st.integers(0, at))  # a part of what was read is read again
            news = changes_after(last, mine[again:end])
            last |= {change.gate_id: change for change in news}
            found += news
            at = end
    assert found == whole


@given(series)
def test_without_repetitions_it_is_the_same(rows: list[Row]) -> None:
    """The store leaves out what equals the row before it."""
    kept = [
        one
        for at, one in enumerate(rows)
        if at == 0 or {**rows[at - 1], "us": 0} != {**one, "us": 0}
    ]
    assert changes_after({}, kept) == changes_after({}, rows)
