"""Counts that drift is computed from: one query over raw rows per stretch of event time, kept for good.

What is counted once is stored and not counted again, so that a reference is what the looks saw. Rows
that come after their stretch was counted are in no count of drift; a stretch is counted when the
watermark has passed it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ...schemas.ports import StoreReader
from ..core.delta import Cuts
from ..core.drift.columns import (
    ABSENT,
    NOT_ASKED,
    OTHER,
    category_items,
    feature_items,
)
from ..core.drift.labelled import CALIBRATION_BINS, MICRO, Labelled
from ..core.drift.series_counts import LABELS as LABEL_SERIES
from ..core.drift.series_counts import SeriesCounts, counts_of_labels
from ..core.drift.stored import Counting, Piece, Span, counts_of_rows, counts_sql
from ..core.tiles import SECOND_US
from ..storage.publish import timestamps
from ..storage.readback import applied_sql
from ..storage.store import Store

MOST_CATEGORIES = 300  # of one category in one stretch, the most frequent; the rest counts as one
_TEXTS = pa.map_(pa.string(), pa.string())


def count_rows(
    store: Store, counting: Counting, start_s: int, end_s: int, upto: Cuts
) -> dict[int, Piece]:
    """Counts of applied rows by start of each stretch within [start_s, end_s), empty ones too.

    Args:
        store: has the rows.
        counting: what.
        start_s, end_s: whole stretches.
        upto: rows above these cuts are not there yet.

    Raises:
        StoreError: the store is away.
    """
    asked = _Asked(store, counting, start_s, end_s, upto)
    pieces: dict[int, Piece] = {
        at: dict.fromkeys(counting.series, SeriesCounts())
        for at in range(start_s, end_s, counting.piece_s)
    }
    for found in (asked.features(), asked.categories(), asked.labels()):
        for (at, series), counts in found.items():
            pieces[at][series] = counts
    return pieces


class _Asked:
    """The queries of one `count_rows`."""

    def __init__(
        self, store: Store, counting: Counting, start_s: int, end_s: int, upto: Cuts
    ) -> None:
        self._store = store
        self._counting = counting
        self._upto = upto
        self._times = {"low": start_s * SECOND_US, "high": end_s * SECOND_US}
        self._traffic = {f"of_{name}": value for name, value in counting.traffic.items()}
        self._matches = "".join(
            f" AND t.{name} = {{of_{name}:String}}" for name in counting.traffic
        )

    def _start(self, time: str) -> str:
        piece_s = self._counting.piece_s
        return f"intDiv(toUnixTimestamp({time}), {piece_s}) * {piece_s}"

    def _rows(self, items: str) -> tuple[str, dict[str, Any]]:
        """FROM and WHERE of ended requests joined with an array, and parameters."""
        applied, parameters = applied_sql(self._upto)
        return (
            f"FROM penstock.requests_rows AS t FINAL ARRAY JOIN {items} AS item"
            " WHERE t.ts >= fromUnixTimestamp64Micro({low:Int64})"
            " AND t.ts < fromUnixTimestamp64Micro({high:Int64})"
            f" AND t.status != ''{self._matches} AND {applied}"
        ), {**self._times, **self._traffic, **parameters}

    def features(self) -> dict[tuple[int, str], SeriesCounts]:
        names = self._counting.features
        if not names:
            return {}
        rows, parameters = self._rows(feature_items(names))
        table = self._store.query(
            f"SELECT {self._start('t.ts')} AS start, item.1 AS series, item.2 AS bin,"
            f" toInt64(count()) AS n {rows} AND item.2 != {NOT_ASKED} GROUP BY start, series, bin",
            parameters,
        )
        counted: dict[tuple[int, str], dict[str, int]] = defaultdict(dict)
        seen: dict[tuple[int, str], int] = defaultdict(int)
        for row in table:
            at = int(row["start"]), names[row["series"]]
            seen[at] += row["n"]
            if row["bin"] != ABSENT:
                counted[at][str(row["bin"])] = row["n"]
        return {at: SeriesCounts(n, counted[at]) for at, n in seen.items()}

    def categories(self) -> dict[tuple[int, str], SeriesCounts]:
        names = self._counting.categories
        if not names:
            return {}
        rows, parameters = self._rows(category_items(names))
        table = self._store.query(
            "SELECT *, sum(n) OVER (PARTITION BY start, series, absent) AS whole FROM ("
            f"SELECT {self._start('t.ts')} AS start, item.1 AS series, item.2 = {ABSENT} AS absent,"
            f" item.3 AS name, toInt64(count()) AS n {rows} AND item.2 != {NOT_ASKED}"
            " GROUP BY start, series, absent, name) ORDER BY start, series, absent, n DESC, name"
            f" LIMIT {MOST_CATEGORIES} BY start, series, absent",
            parameters,
        )
        counted: dict[tuple[int, str], dict[str, int]] = defaultdict(dict)
        absent: dict[tuple[int, str], int] = defaultdict(int)
        whole: dict[tuple[int, str], int] = defaultdict(int)
        for row in table:
            at = int(row["start"]), names[row["series"]]
            if row["absent"]:
                absent[at] = row["n"]
            else:
                counted[at][row["name"]] = row["n"]
                whole[at] = int(row["whole"])
        for at, n in whole.items():
            if rest := n - sum(counted[at].values()):
                counted[at][OTHER] = counted[at].get(OTHER, 0) + rest
        return {at: SeriesCounts(absent[at] + whole[at], counted[at]) for at in {*absent, *whole}}

    def labels(self) -> dict[tuple[int, str], SeriesCounts]:
        """Labels by the time at which they became known, so that none comes late."""
        of_feedback, parameters = applied_sql(self._upto, "")
        within = (
            "ts >= fromUnixTimestamp64Micro({low:Int64}) AND"
            f" ts < fromUnixTimestamp64Micro({{high:Int64}}) AND {of_feedback} AND label != ''"
        )
        table = self._store.query(
            f"SELECT start, label, predicted, at, toInt64(count()) AS n, toInt64(sum(micro)) AS micro"
            f" FROM (SELECT {self._start('f.ts')} AS start, toString(f.label) AS label,"
            " toString(if(f.predicted != '', f.predicted, r.output_class)) AS predicted,"
            f" ifNull(least(toInt32(floor(r.output_score * {CALIBRATION_BINS})),"
            f" {CALIBRATION_BINS - 1}), -1) AS at,"
            f" ifNull(toInt64(round(r.output_score * {MICRO})), 0) AS micro"
            f" FROM (SELECT * FROM penstock.feedback_rows FINAL WHERE {within}) AS f"
            " INNER JOIN (SELECT * FROM penstock.requests_rows AS t FINAL WHERE"
            f" {of_feedback} AND t.status != ''{self._matches} AND t.request_id IN"
            f" (SELECT request_id FROM penstock.feedback_rows WHERE {within})) AS r"
            " USING (request_id)) WHERE predicted != '' GROUP BY start, label, predicted, at",
            {**self._times, **self._traffic, **parameters},
        )
        found: dict[int, Labelled] = defaultdict(Labelled)
        for row in table:
            found[int(row["start"])] += _labelled(row)
        return {(at, LABEL_SERIES): counts_of_labels(labels) for at, labels in found.items()}


def _labelled(row: Mapping[str, Any]) -> Labelled:
    label, predicted, n = row["label"], row["predicted"], int(row["n"])
    confidence = {}
    if row["at"] >= 0:
        confidence = {int(row["at"]): (n, int(row["micro"]), n * (label == predicted))}
    return Labelled({(label, predicted): n}, confidence)


def count_rows_table(counting: Counting, pieces: Mapping[int, Piece], version: int) -> pa.Table:
    """Counts for `drift_counts_rows`."""
    rows = [
        (at, series, counts)
        for at, piece in sorted(pieces.items())
        for series, counts in piece.items()
    ]
    keys = [sorted(counts.counts) for _, _, counts in rows]
    return pa.table(
        {
            "counting": [counting.key(series) for _, series, _ in rows],
            "start": timestamps([at * SECOND_US for at, _, _ in rows]).cast(
                pa.timestamp("s", "UTC")
            ),
            "length_s": pa.array([counting.piece_s] * len(rows), pa.uint32()),
            "series": [series for _, series, _ in rows],
            "filter": pa.array([list(counting.traffic.items())] * len(rows), _TEXTS),
            "rows": pa.array([counts.rows for _, _, counts in rows], pa.uint64()),
            "keys": pa.array(keys, pa.list_(pa.string())),
            "counts": pa.array(
                [
                    [counts.counts[key] for key in names]
                    for names, (_, _, counts) in zip(keys, rows, strict=True)
                ],
                pa.list_(pa.uint64()),
            ),
            "version": pa.array([version] * len(rows), pa.uint64()),
        }
    )


def stored_counts(
    store: StoreReader, counting: Counting, spans: Sequence[Span], series: Sequence[str]
) -> dict[int, Piece]:
    """Stored counts by start of each stretch within some spans; absent where none is.

    Raises:
        StoreError: the store is away.
    """
    if not spans or not series:
        return {}
    sql, parameters = counts_sql(counting, spans, series)
    return counts_of_rows(store.query(sql, parameters), counting, spans, series)
