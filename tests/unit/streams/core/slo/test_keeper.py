"""SLOs on a stream: whatever order, however often, and over restarts."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.schemas.slo.objective import Composite, Objective
from penstock.streams.core import metrics as m
from penstock.streams.core.slices import Slice
from penstock.streams.core.slo.keeper import SloKeeper
from penstock.streams.core.slo.status import ObjectiveStatus
from penstock.streams.core.tiles import Span
from penstock.tests.unit.streams.core.slo.stored import START_S, Stored, objective

FLOW = {"kind": "throughput", "min_per_s": "0.1"}
FRESH = {"kind": "freshness", "max_age_s": 300}
SLOS: tuple[Objective | Composite, ...] = (
    objective(),
    objective(id="model", filter={"model": "m"}, target="0.99", window="7d"),
    objective(id="flow", sli=FLOW, target="0.9"),
    objective(id="fresh", sli=FRESH, target="0.9", window="28d"),
    objective(id="week", window="week", time_slice_target="0.9", target="0.95"),
    Composite(id="all", of=("a", "model")),
)
# Judging every minute takes long, so that only some examples do.
some_slos = st.sampled_from([SLOS[:2], SLOS[:2] + SLOS[4:], SLOS])
DAYS = 5

traffic = st.lists(
    st.tuples(
        st.integers(0, DAYS * 8640 - 1).map(lambda at: START_S + at * 10),
        st.integers(1, 40),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=30,
)


def statuses(keeper: SloKeeper, end_s: int) -> dict[str, dict[str, Any]]:
    return {name: status.to_dict() for name, status in keeper.evaluate(end_s).items()}


def counted(rows: list[tuple[int, int, int]]) -> Stored:
    stored = Stored()
    model = stored.registry.number(Slice("model", ("m",)))
    for at_s, requests, errors in rows:
        stored.count(at_s, requests, min(errors, requests))
        stored.count(at_s, requests, min(errors, requests), model)
    return stored


@pytest.mark.slow
@given(some_slos, traffic, st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_order_and_repetition_change_nothing(
    slos: tuple[Objective | Composite, ...], rows: list[tuple[int, int, int]], rng: random.Random
) -> None:
    end_s = START_S + DAYS * 86400
    stored = counted(rows)
    tiles = stored.until(end_s)
    plain, shuffled = (SloKeeper(slos, stored.registry) for _ in range(2))
    plain.feed(tiles)
    spans = [*tiles, *tiles]
    rng.shuffle(spans)
    for span in spans:
        shuffled.feed({span: tiles[span]})
    expected = statuses(plain, end_s)
    assert statuses(shuffled, end_s) == expected
    assert shuffled.to_json() == plain.to_json()
    assert statuses(shuffled, end_s) == expected  # asking again changes nothing
    bad = sum(min(errors, requests) for _, requests, errors in rows)
    total = sum(requests for _, requests, _ in rows)
    # both slices count the same rows; the fleet's was counted once
    assert (expected["a"]["bad"], expected["a"]["total"]) == (bad, total)
    assert expected["a"]["coverage"] == 1.0


@given(some_slos, traffic, st.integers(1, DAYS * 8640), st.integers(1, 3 * 8640))
@settings(max_examples=10, deadline=None)
def test_a_restart_goes_on_where_it_left_off(
    slos: tuple[Objective | Composite, ...], rows: list[tuple[int, int, int]], at: int, more: int
) -> None:
    """Two keepers tick alike; one is rebuilt between from its text and from stored tiles."""
    stored = counted(rows)
    middle_s, end_s = START_S + at * 10, START_S + (at + more) * 10
    whole = SloKeeper(slos, stored.registry)
    whole.feed(stored.until(middle_s))
    whole.evaluate(middle_s)
    again = SloKeeper(slos, stored.registry, whole.to_json())
    again.feed(stored.load(again.needs(middle_s)))
    assert statuses(again, middle_s) == statuses(whole, middle_s)
    assert again.to_json() == whole.to_json()
    later = {span: tile for span, tile in stored.until(end_s).items() if span.end_s > middle_s}
    for keeper in (whole, again):
        keeper.feed(later)
    assert statuses(again, end_s) == statuses(whole, end_s)


def ticks(keeper: SloKeeper, stored: Stored, low_s: int, high_s: int) -> dict[str, int]:
    """Close pane by pane, as the pipeline does; when each rule of `a` first fired."""
    fired: dict[str, int] = {}
    for end_s in range(low_s + 10, high_s + 1, 10):
        keeper.feed(stored.closed([Span(10, end_s - 10)], end_s))
        for burn in keeper.evaluate(end_s)["a"].burns:
            if burn.firing:
                fired.setdefault(burn.name, end_s)
    return fired


def test_an_outage_pages_and_one_failure_does_not() -> None:
    stored = Stored()
    hours = 2
    for minute in range(hours * 60):
        stored.count(START_S + minute * 60, 1, int(minute == 30))
    outage_s = START_S + hours * 3600
    for minute in range(15):
        stored.count(outage_s + minute * 60, 1, 1)
    keeper = SloKeeper(SLOS[:1], stored.registry)
    assert ticks(keeper, stored, START_S, outage_s) == {}
    fired = ticks(keeper, stored, outage_s, outage_s + 900)
    assert fired["1h"] == outage_s + 180  # the third failure in a row
    status = keeper.evaluate(outage_s + 900)["a"]
    assert status.state == "breached"
    assert status.alarm_s == outage_s + 900
    assert status.burn_1h == pytest.approx(15 / 60 / 0.001)


def test_late_rows_amend_budgets_not_alarms() -> None:
    stored = Stored()
    for minute in range(300):
        stored.count(START_S + minute * 60, 10)
    end_s = START_S + 5 * 3600
    keeper = SloKeeper(SLOS, stored.registry)
    keeper.feed(stored.until(end_s))
    before = keeper.evaluate(end_s)["a"]
    assert (before.state, before.consumed) == ("met", 0.0)
    pane = stored.count(START_S + 30 * 60, 5, 5)
    keeper.feed(stored.closed([pane], end_s))
    after = keeper.evaluate(end_s)["a"]
    assert (after.bad, after.total, after.state) == (5, 3005, "breached")
    assert after.alarm_s is None
    rebuilt = SloKeeper(SLOS, stored.registry)
    rebuilt.feed(stored.until(end_s))
    assert rebuilt.evaluate(end_s)["a"].alarm_s == START_S + 31 * 60


def test_a_changed_objective_starts_its_detector_anew() -> None:
    stored = Stored()
    for minute in range(10):
        stored.count(START_S + minute * 60, 1, 1)
    keeper = SloKeeper(SLOS, stored.registry)
    keeper.feed(stored.until(START_S + 600))
    keeper.evaluate(START_S + 600)
    saved = keeper.to_json()

    def resumed(changed: Objective) -> dict[str, Any]:
        again = SloKeeper([changed, objective(id="new")], stored.registry, saved)
        state: dict[str, Any] = json.loads(again.to_json())
        return state

    assert resumed(objective(min_coverage=0))["a"] == json.loads(saved)["a"]
    assert resumed(objective(target="0.99"))["a"]["alarm_s"] is None
    assert resumed(objective())["new"]["counted_to_s"] == 0


@pytest.mark.parametrize("saved", ["[]", '{"a": {}}', '{"a": 1}', "{"])
def test_other_texts_are_refused(saved: str) -> None:
    with pytest.raises(ValueError, match=r"not the state|Expecting"):
        SloKeeper(SLOS, Stored().registry, saved)


def test_memory_stays_bounded_over_weeks() -> None:
    stored = Stored()
    keeper = SloKeeper(SLOS[:1], stored.registry)
    for hour in range(0, 32 * 24, 4):
        pane = stored.count(START_S + hour * 3600, 3)
        keeper.feed(stored.closed([pane], START_S + (hour + 4) * 3600))
        keeper.evaluate(START_S + (hour + 4) * 3600)
        stored.panes.clear()
    ledger = keeper._ledgers[0]
    assert len(ledger._said[10]) == 0
    assert len(ledger._said[60]) <= 3 * 24 + 3
    assert len(ledger._said[3600]) <= 30 * 24 + 3
    assert keeper.evaluate(START_S + 32 * 86400)["a"].total == 30 * 6 * 3


def status(stored: Stored, end_s: int, vanished: bool = False, **fields: Any) -> ObjectiveStatus:
    keeper = SloKeeper([objective(**fields)], stored.registry)
    keeper.feed(stored.until(end_s))
    return keeper.evaluate(end_s, vanished)["a"]


def test_scores_are_bounded_values_to_the_detector() -> None:
    """A mean score far below the target alarms; one at the target does not."""
    for score, alarms in ((500_000, True), (900_000, False)):
        stored = Stored()
        for minute in range(120):
            stored.count(START_S + minute * 60, 1)
            pane = stored.panes[START_S + minute * 60]
            pane[0, m.key(m.QUALITY_COUNT)] = 4
            pane[0, m.key(m.QUALITY_MICRO)] = 4 * score
        found = status(stored, START_S + 7200, sli={"kind": "quality"}, target="0.9")
        assert (found.alarm_s is not None) == alarms
        assert found.attainment == pytest.approx(score / 1e6)


def test_without_objectives_there_is_nothing_to_say() -> None:
    stored = Stored()
    stored.count(START_S, 1)
    keeper = SloKeeper([], stored.registry)
    keeper.feed(stored.until(START_S + 60))
    assert keeper.evaluate(START_S + 60) == {}
    assert keeper.to_json() == "{}"
