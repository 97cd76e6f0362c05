"""What monitors choose to be compared with: stable days and periods, from what the store holds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from penstock.schemas.drift.monitors import DriftMonitor
from penstock.streams.core.drift.series_counts import SeriesCounts
from penstock.streams.core.drift.stored import counting_of, reference_rows
from penstock.streams.drift.counts import count_rows_table
from penstock.streams.drift.references import Chosen, ReferenceKeeper
from penstock.streams.storage.migrate import migrate
from penstock.streams.storage.store import Store
from penstock.tests.support.store import insert, unique

DAY_S = 86_400
TODAY_S = int(datetime.now(UTC).timestamp()) // DAY_S * DAY_S
STABLE = {"kind": "stable_days", "days": 2}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = Store(f"chdb://{tmp_path_factory.mktemp('drift') / 'db'}")
    try:
        migrate(opened)
        days = [
            {
                "window_s": DAY_S, "end": _at(TODAY_S - back * DAY_S), "grouping": "fleet",
                "coverage_state": "partial" if back == 2 else "ok", "version": 1,
            }
            for back in range(9)
        ]  # fmt: skip
        insert(opened, "windows_rows", days)
        yield opened
    finally:
        opened.close()


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def monitor(reference: dict[str, Any]) -> DriftMonitor:
    """One that shares its counts with no other test."""
    return DriftMonitor.model_validate(
        {
            "id": unique("m"),
            "filter": {"model": unique("model")},
            "features": ["tokens"],
            "categories": [],
            "reference": reference,
        }
    )


def count(store: Store, spec: DriftMonitor, back: int, hours: int = 24) -> None:
    """Counts of a day so many days ago, whose values tell which day it is."""
    start_s = TODAY_S - back * DAY_S
    pieces = {
        at: {"tokens": SeriesCounts(1, {str(back): 1})}
        for at in range(start_s, start_s + hours * 3600, 3600)
    }
    store.insert("drift_counts_rows", count_rows_table(counting_of(spec), pieces, 1), unique("t"))


def chosen_days(keeper: ReferenceKeeper, at_s: int) -> list[int]:
    """How many days ago the days of the reference were."""
    found, _ = keeper.at(at_s)
    assert found is not None
    return sorted({int(key) for key in found.series["tokens"].counts()})


def test_the_last_days_that_were_complete_and_quiet(store: Store) -> None:
    spec = monitor(STABLE)
    for back in (1, 2, 3, 4, 5):
        count(store, spec, back, hours=23 if back == 2 else 24)
    keeper = ReferenceKeeper(store, spec, counting_of(spec), None)
    found, is_new = keeper.at(TODAY_S + 3600)
    assert found is not None
    # Of day 2 an hour is lacking, of day 3 coverage.
    assert (chosen_days(keeper, TODAY_S + 3600), is_new, found.revision) == ([1, 4], True, 1)
    store.insert("drift_references_rows", reference_rows("monitor", spec.id, found, 1), unique("t"))
    # For the day it stays, whatever is known later, and over a restart.
    count(store, spec, 2)
    assert chosen_days(keeper, TODAY_S + 7200) == [1, 4]
    again = ReferenceKeeper(store, spec, counting_of(spec), keeper.chosen)
    assert (chosen_days(again, TODAY_S + 7200), again.at(TODAY_S + 7200)[1]) == ([1, 4], False)
    # A new day chooses anew; equal content would keep its revision.
    assert chosen_days(again, TODAY_S + DAY_S) == [1, 2]
    assert keeper.chosen is not None
    assert again.chosen == Chosen(keeper.chosen.source, TODAY_S + DAY_S, 2)


def test_days_with_alerts_or_drift_are_left_out(store: Store) -> None:
    spec = monitor(STABLE)
    for back in (1, 2, 4, 5):
        count(store, spec, back)
    labels = {"model": spec.filter.model or ""}
    fired: dict[str, Any] = {"alert_id": "a", "kind": "firing", "severity": "critical"}
    rows = [
        {"id": unique("i"), "at": _at(TODAY_S - DAY_S), "labels": labels},
        {"id": unique("i"), "at": _at(TODAY_S - 2 * DAY_S), "labels": {"model": "another"}},
        {"id": unique("i"), "at": _at(TODAY_S - 5 * DAY_S), "labels": labels, "severity": "info"},
    ]
    insert(store, "alert_transitions_rows", [fired | row for row in rows])
    confirmed = {"monitor": spec.id, "series": "tokens", "confirmed": _at(TODAY_S - 4 * DAY_S)}
    insert(store, "drift_scores_rows", [confirmed | {"end": _at(TODAY_S - 3 * DAY_S)}])
    keeper = ReferenceKeeper(store, spec, counting_of(spec), None)
    assert chosen_days(keeper, TODAY_S) == [2, 5]


def test_too_few_days_are_no_reference_and_change_none(store: Store) -> None:
    spec = monitor(STABLE)
    count(store, spec, 1)
    keeper = ReferenceKeeper(store, spec, counting_of(spec), None)
    assert keeper.at(TODAY_S) == (None, False)
    count(store, spec, 2)
    found, _ = keeper.at(TODAY_S)
    assert found is not None
    store.insert("drift_references_rows", reference_rows("monitor", spec.id, found, 1), unique("t"))
    later = ReferenceKeeper(store, spec, counting_of(spec), keeper.chosen)
    assert chosen_days(later, TODAY_S + 30 * DAY_S) == [1, 2]


def test_a_period_once_it_is_over(store: Store) -> None:
    start, end = (_at(TODAY_S - back * DAY_S).isoformat() for back in (5, 4))
    spec = monitor({"kind": "period", "start": start, "end": end})
    for back in (4, 5, 6):
        count(store, spec, back)
    keeper = ReferenceKeeper(store, spec, counting_of(spec), None)
    assert keeper.at(TODAY_S - 4 * DAY_S - 3600) == (None, False)
    assert chosen_days(keeper, TODAY_S - 4 * DAY_S) == [5]
    assert chosen_days(keeper, TODAY_S + 9 * DAY_S) == [5]


def test_an_upload_by_its_newest_version_or_one(store: Store) -> None:
    name = unique("training")
    source = {"kind": "uploaded", "name": name}
    spec = monitor(source)
    keeper = ReferenceKeeper(store, spec, counting_of(spec), None)
    assert keeper.at(TODAY_S) == (None, False)
    donor = monitor(STABLE)
    for back in (1, 2):
        count(store, donor, back)
    found, _ = ReferenceKeeper(store, donor, counting_of(donor), None).at(TODAY_S)
    assert found is not None
    for now_us in (1, 2):
        store.insert(
            "drift_references_rows", reference_rows("uploaded", name, found, now_us), unique("t")
        )
    kept, is_new = keeper.at(TODAY_S)
    assert (kept, is_new) == (found, False)
    fixed = monitor(source | {"version": 7})
    assert ReferenceKeeper(store, fixed, counting_of(fixed), None).at(TODAY_S) == (None, False)
