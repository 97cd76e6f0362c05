"""Counts and references as the store keeps them: what is written comes back."""

from __future__ import annotations

from penstock.schemas.drift.monitors import DriftMonitor
from penstock.streams.core.drift.reference_sets import reference_set
from penstock.streams.core.drift.series_counts import LABELS, SeriesCounts
from penstock.streams.core.drift.stored import (
    counting_of,
    counts_of_rows,
    counts_sql,
    newest_sql,
    reference_rows,
    set_of_rows,
    set_sql,
)
from penstock.streams.drift.counts import count_rows_table

SPEC = DriftMonitor.model_validate(
    {
        "id": "m",
        "filter": {"model": "chat", "variant": "canary"},
        "features": ["input_tokens"],
        "categories": ["language"],
    }
)
HOUR_S = 3600


def test_monitors_that_count_alike_share_their_counts() -> None:
    counting = counting_of(SPEC)
    assert counting.series == ("input_tokens", "language", LABELS)
    twin = counting_of(SPEC.model_copy(update={"id": "n", "alarms_per_30d": 1.0}))
    assert [twin.key(name) for name in twin.series] == [counting.key(n) for n in counting.series]
    keys = {counting.key(name) for name in counting.series}
    control = counting_of(SPEC, "control")
    assert control.traffic == {"model": "chat", "variant": "control"}
    assert not keys & {control.key(name) for name in control.series}
    # A name is another series as a category.
    swapped = SPEC.model_copy(update={"features": ("language",), "categories": ("input_tokens",)})
    assert not keys - {counting.key(LABELS)} & {counting_of(swapped).key("input_tokens")}
    finer = counting_of(SPEC.model_copy(update={"every_s": 600}))
    assert not keys & {finer.key(name) for name in finer.series}


def test_counts_come_back() -> None:
    counting = counting_of(SPEC)
    pieces = {
        at * HOUR_S: {
            "input_tokens": SeriesCounts(9, {"7": 3, "12": at + 1}),
            "language": SeriesCounts(9),
            LABELS: SeriesCounts(1, {'["a","b"]': 1}),
        }
        for at in range(4)
    }
    rows = [
        row | {"at": int(row["start"].timestamp())}
        for row in count_rows_table(counting, pieces, 5).to_pylist()
    ]
    spans = [(0, HOUR_S), (2 * HOUR_S, 4 * HOUR_S)]
    sql, parameters = counts_sql(counting, spans, counting.series)
    assert "{countings:Array(String)}" in sql
    assert (parameters["low"], parameters["high"]) == (0, 4 * HOUR_S)
    found = counts_of_rows(rows, counting, spans, counting.series)
    assert found == {at: piece for at, piece in pieces.items() if at != HOUR_S}
    assert {row["version"] for row in rows} == {5}
    assert dict(rows[0]["filter"]) == {"model": "chat", "variant": "canary"}


def test_references_come_back() -> None:
    piece = {"input_tokens": SeriesCounts(9, {"7": 3}), "language": SeriesCounts(4, {"en": 4})}
    made = reference_set("t", {"kind": "uploaded"}, {0: piece}, ["input_tokens"], ["language"])
    kept = made.revised(None)
    rows = reference_rows("uploaded", "t", kept, 1_000_000).to_pylist()
    assert [(row["series"], row["values"], row["rows"]) for row in rows] == [
        ("input_tokens", 3, 9), ("language", 4, 4),
    ]  # fmt: skip
    assert set_of_rows(rows, 1) == kept
    assert set_of_rows([], 1) is None
    assert set_sql("uploaded", "t", 1)[1] == {"scope": "uploaded", "name": "t", "revision": 1}
    assert newest_sql("monitor", "m")[1] == {"scope": "monitor", "name": "m"}
