from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from penstock.streams.core import metrics as m
from penstock.streams.core.boots import ANONYMOUS, LedgerEntry, pane_of
from penstock.streams.core.fleet import Fleet
from penstock.streams.core.intervals import Intervals
from penstock.streams.core.tracker import KEYED_US, STRAGGLER_US, BootTracker

S = 1_000_000
DAY = 86_400 * S
spans = st.tuples(st.integers(0, 60), st.integers(1, 12), st.integers(0, 9)).map(
    lambda item: (item[0], item[0] + item[1], item[2])
)


@given(st.lists(spans, max_size=25))
def test_intervals_are_a_set_with_the_first_mark_of_each_member(
    added: list[tuple[int, int, int]],
) -> None:
    seen, plain = Intervals(), dict[int, int]()
    for low, high, mark in added:
        new = seen.add(low, high, mark)
        fresh = [n for n in range(low, high) if n not in plain]
        assert [n for a, b in new for n in range(a, b)] == fresh
        plain |= dict.fromkeys(fresh, mark)
        assert len(seen) == len(plain)
        assert seen.end == max(plain) + 1
    assert [n for low, high, _ in seen.ranges() for n in range(low, high)] == sorted(plain)
    for low, _, mark in seen.ranges():
        assert mark == plain[low]
        assert low - 1 not in plain
    holes = [n for low, high, _ in seen.holes() for n in range(low, high)]
    assert holes == [n for n in range(seen.end) if n not in plain]
    assert seen.missing(0, 80) == Intervals.missing(seen, 0, 80)
    assert seen.missing(5, 5) == []


def entry(**fields: object) -> LedgerEntry:
    base = LedgerEntry(
        incarnation=1, partition=0, offset=0, kind="request", worker_id="w", boot_id="b",
        ranges=[], gaps=[], next_seq=0, clock_us=0, closing=False, identified=True, stored=0,
        duplicate=0, rejected=0, late=0, append_us=0,
    )  # fmt: skip
    return replace(base, **fields)  # type: ignore[arg-type]


def tracker() -> BootTracker:
    return BootTracker(lateness_us=2 * S, timeout_us=30 * S)


def losses_of(boots: BootTracker) -> Counter[tuple[int, int]]:
    """What is missing of all boots, as evaluation is told."""
    total: Counter[tuple[int, int]] = Counter()
    for presence in boots.presences(boots.boots):
        total.update(presence.losses)
    return total


def told(boots: BootTracker) -> Fleet:
    fleet = Fleet()
    fleet.tell(boots.presences(boots.boots))
    return fleet


def test_a_hole_counts_in_the_pane_behind_it_until_it_is_filled() -> None:
    boots = tracker()
    boots.apply(entry(ranges=[(0, 5)], next_seq=5, clock_us=5 * S))
    boots.apply(entry(ranges=[(8, 10)], next_seq=10, clock_us=25 * S))
    fleet = told(boots)
    assert fleet.losses() == {"b": {(20, m.MISSING): 3}}
    filling = entry(ranges=[(5, 8)], next_seq=8, clock_us=15 * S)
    boots.apply(filling)
    change = fleet.tell(boots.presences([boot.boot_id for boot in boots.changed()]))
    assert change == {(20, m.MISSING): -3}
    assert fleet.losses() == {}
    assert filling.coverage()[10, m.RECEIVED] == 3
    assert boots.boots["b"].missing == 0
    assert boots.boots["b"].state == "ok"


def test_what_was_declared_as_dropped_is_a_gap_and_not_missing() -> None:
    boots = tracker()
    boots.apply(entry(ranges=[(0, 2)], gaps=[(2, 5)], next_seq=8, clock_us=5 * S))
    assert losses_of(boots) == {(0, m.GAP): 3, (0, m.MISSING): 3}
    boot = boots.boots["b"]
    assert (boot.gap, boot.missing, boot.state) == (3, 3, "partial")
    boots.apply(entry(ranges=[(2, 4)], next_seq=8, clock_us=6 * S))  # it arrived after all
    assert (boot.gap, boot.missing) == (1, 3)
    assert boots.unseen("b", 0, 10) == [(4, 10)]
    assert boots.unseen("x", 0, 10) == [(0, 10)]


def test_a_gap_beyond_the_highest_number_raises_it() -> None:
    boots = tracker()
    boots.apply(entry(ranges=[(0, 2)], gaps=[(2, 50)], next_seq=2, clock_us=5 * S))
    assert boots.boots["b"].missing == 0
    assert boots.boots["b"].next_seq == 50


def test_any_order_of_frames_ends_in_the_same_losses() -> None:
    entries = [
        entry(
            ranges=[(n * 3, n * 3 + 2)], next_seq=n * 3 + 2, clock_us=n * 7 * S, append_us=n * 7 * S
        )
        for n in range(6)
    ]
    totals = []
    for order in (entries, entries[::-1], entries[3:] + entries[:3]):
        boots = tracker()
        for item in order:
            boots.apply(item)
        totals.append(losses_of(boots))
    assert totals[0] == totals[1] == totals[2]


def test_the_watermark_is_the_slowest_active_boot_less_the_lateness() -> None:
    boots = tracker()
    boots.advance(100 * S)
    assert boots.watermark_us == 0  # nobody was ever here
    boots.apply(entry(boot_id="a", clock_us=50 * S, append_us=100 * S))
    boots.apply(entry(boot_id="b", clock_us=60 * S, append_us=100 * S))
    boots.advance(100 * S)
    assert boots.watermark_us == 48 * S
    boots.apply(entry(boot_id="a", clock_us=55 * S, append_us=100 * S, closing=True))
    boots.advance(101 * S)
    assert boots.watermark_us == 58 * S
    boots.advance(131 * S)  # b fell silent: follow the clock
    assert boots.watermark_us == 129 * S
    assert boots.boots["b"].vanished
    assert boots.boots["b"].state == "unknown"
    fleet = told(boots)
    assert fleet.any_vanished(60 * S, 61 * S)
    assert not fleet.any_vanished(61 * S, 99 * S)
    assert boots.boots["a"].state == "closed"


def test_a_straggler_does_not_hold_its_neighbours_back() -> None:
    boots = tracker()
    boots.apply(entry(boot_id="old", clock_us=10 * S, append_us=100 * S))
    boots.apply(entry(boot_id="new", clock_us=10 * S + STRAGGLER_US, append_us=100 * S))
    boots.advance(100 * S)
    assert boots.watermark_us == 8 * S + STRAGGLER_US


def test_a_clock_that_runs_ahead_counts_as_now() -> None:
    boots = tracker()
    boots.apply(entry(clock_us=500 * S, append_us=100 * S))
    assert boots.newest_us == 100 * S


def test_posts_without_identity_are_one_boot_that_never_holds_back() -> None:
    boots = tracker()
    for n in range(3):
        post = entry(
            boot_id=f"post-{n}", identified=False, ranges=[(0, 5)], next_seq=9, clock_us=n * S
        )
        boots.apply(post)
        assert post.coverage()[0, m.UNIDENTIFIED] == 5
    assert [*boots.boots] == [ANONYMOUS]
    assert boots.active(0) == []
    assert boots.boots[ANONYMOUS].state == "unknown"
    assert told(boots).workers(0, 10 * S) == 1
    boots.apply(entry(boot_id="post", partition=3, identified=False))
    assert [*boots.boots] == [ANONYMOUS, f"{ANONYMOUS} 3"]


def test_changed_boots_are_told_once() -> None:
    boots = tracker()
    boots.apply(entry(boot_id="a", append_us=S))
    boots.apply(entry(boot_id="b", append_us=S))
    assert [boot.boot_id for boot in boots.changed()] == ["a", "b"]
    assert boots.changed() == []
    boots.advance(40 * S)
    assert [boot.boot_id for boot in boots.changed()] == ["a", "b"]


def test_boots_are_forgotten_when_their_rows_would_be_too_late() -> None:
    boots = tracker()
    boots.apply(entry(boot_id="a", append_us=0))
    boots.apply(entry(boot_id="key", append_us=0, body_hash=7))
    boots.forget(KEYED_US + 1, 30 * DAY)
    assert [*boots.boots] == ["a"]
    boots.forget(30 * DAY, 30 * DAY)
    assert [*boots.boots] == ["a"]
    boots.forget(30 * DAY + 1, 30 * DAY)
    assert not boots.boots
    assert losses_of(boots) == {}


def test_a_partition_that_moves_takes_its_boots_along() -> None:
    boots = tracker()
    boots.apply(entry(boot_id="a", partition=1, clock_us=5 * S))
    boots.apply(entry(boot_id="b", partition=2, clock_us=5 * S))
    boots.drop(1)
    assert [*boots.boots] == ["b"]


def test_the_watermark_waits_for_what_is_not_read_yet() -> None:
    boots = tracker()
    boots.apply(entry(boot_id="a", partition=1, clock_us=50 * S, append_us=50 * S))
    boots.advance(500 * S, {1: 50 * S})  # a backlog: nobody is silent
    assert boots.watermark_us == 48 * S
    assert not boots.boots["a"].vanished
    boots.advance(500 * S, {2: 60 * S})  # another partition has one, and this one is silent
    assert boots.watermark_us == 58 * S
    assert boots.boots["a"].vanished


def test_a_fleet_forgets_boots_that_stopped_long_ago() -> None:
    boots = tracker()
    boots.apply(entry(boot_id="a", ranges=[(3, 5)], clock_us=5 * S, append_us=5 * S))
    fleet = told(boots)
    assert fleet.newest_us == 5 * S
    fleet.forget(5 * S)
    assert fleet.losses() == {"a": {(0, m.MISSING): 3}}
    fleet.forget(5 * S + 1)
    assert fleet.losses() == {}


def test_an_adopted_boot_goes_on() -> None:
    first = tracker()
    first.apply(entry(ranges=[(0, 2), (4, 6)], next_seq=6, clock_us=33 * S, append_us=40 * S))
    second = tracker()
    second.adopt(first.boots["b"])
    assert losses_of(second) == losses_of(first)
    assert second.newest_us == 33 * S
    assert pane_of(33 * S) == 30
