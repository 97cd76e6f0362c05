"""Counts that drift is computed from: raw rows are counted as they are applied, each once.

What was counted of a stretch of event time when the watermark passed it is stored for good, so that a
reference is what the looks saw. Rows that come later are in no count of drift.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ...schemas.ports import StoreReader
from ..core.delta import Cuts, Source
from ..core.drift.columns import (
    ABSENT,
    NOT_ASKED,
    OTHER,
    category_items,
    feature_items,
)
from ..core.drift.labelled import CALIBRATION_BINS, MICRO, Labelled
from ..core.drift.open_counts import MOST_MET
from ..core.drift.series_counts import LABELS as LABEL_SERIES
from ..core.drift.series_counts import SeriesCounts, counts_of_labels
from ..core.drift.stored import Counting, Piece, Span, counts_of_rows, counts_sql
from ..core.tiles import SECOND_US
from ..storage.publish import timestamps
from ..storage.readback import applied_sql, between_sql
from ..storage.store import Store

_TEXTS = pa.map_(pa.string(), pa.string())


def count_rows(
    store: Store, counting: Counting, since_s: int, after: Cuts, upto: Cuts
) -> dict[int, Piece]:
    """Counts of rows that were applied since the cuts before, by start of each stretch that has some.

    Args:
        store: has the rows.
        counting: what.
        since_s: start of a stretch; rows before it are left out.
        after, upto: cuts. Labels are pairs of feedback and request of which one came in between.

    Raises:
        StoreError: the store is away.
    """
    asked = _Asked(store, counting, since_s, after, upto)
    pieces: dict[int, Piece] = defaultdict(dict)
    for found in (asked.features(), asked.categories(), asked.labels()):
        for (at, series), counts in found.items():
            pieces[at][series] = counts
    return dict(pieces)


def first_cuts(store: StoreReader, since_s: int, upto: Cuts) -> dict[Source, int]:
    """Cuts that hold no row with event time from `since_s` on: it is at most the time of arrival.

    Raises:
        StoreError: the store is away.
    """
    rows = store.query(
        "SELECT incarnation, partition, min(offset) AS first FROM penstock.frames_rows"
        " WHERE append_ts >= fromUnixTimestamp64Micro({low:Int64}) GROUP BY incarnation, partition",
        {"low": since_s * SECOND_US},
    )
    firsts = {(int(row["incarnation"]), int(row["partition"])): int(row["first"]) for row in rows}
    return {source: min(firsts.get(source, cut + 1) - 1, cut) for source, cut in upto.items()}


def next_cuts(
    store: StoreReader, after: Cuts, upto: Cuts, most_rows: int
) -> tuple[dict[Source, int], int]:
    """Cuts between two others that hold about `most_rows` more than the first, at least a frame of each.

    Returns:
        The cuts, and how many rows more they hold, of all kinds.

    Raises:
        StoreError: the store is away.
    """
    news = [source for source, cut in upto.items() if cut > after.get(source, -1)]
    if not news:
        return dict(upto), 0
    rows = store.query(
        "SELECT incarnation, partition, max(offset) AS cut, toInt64(sum(stored)) AS rows FROM"
        " (SELECT incarnation, partition, offset, stored, sum(stored) OVER (PARTITION BY"
        " incarnation, partition ORDER BY offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
        f" AS before FROM penstock.frames_rows WHERE {between_sql(after, upto, '')})"
        " WHERE before < {most:UInt64} GROUP BY incarnation, partition",
        {"most": max(most_rows // len(news), 1)},
    )
    reached = {(int(row["incarnation"]), int(row["partition"])): int(row["cut"]) for row in rows}
    found = {source: reached.get(source, cut) for source, cut in upto.items()}
    return found, sum(row["rows"] for row in rows)


class _Asked:
    """The queries of one `count_rows`."""

    def __init__(
        self, store: Store, counting: Counting, since_s: int, after: Cuts, upto: Cuts
    ) -> None:
        self._store = store
        self._counting = counting
        self._after = after
        self._upto = upto
        self._since = {"low": since_s * SECOND_US}
        self._traffic = {f"of_{name}": value for name, value in counting.traffic.items()}
        self._matches = "".join(
            f" AND t.{name} = {{of_{name}:String}}" for name in counting.traffic
        )

    def _start(self, time: str) -> str:
        piece_s = self._counting.piece_s
        return f"intDiv(toUnixTimestamp({time}), {piece_s}) * {piece_s}"

    def _rows(self, items: str) -> tuple[str, dict[str, Any]]:
        """FROM and WHERE of ended requests joined with an array, and parameters."""
        return (
            f"FROM penstock.requests_rows AS t FINAL ARRAY JOIN {items} AS item"
            f" WHERE t.ts >= fromUnixTimestamp64Micro({{low:Int64}}) AND t.status != ''"
            f"{self._matches} AND {between_sql(self._after, self._upto)}"
        ), {**self._since, **self._traffic}

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
            f" LIMIT {MOST_MET} BY start, series, absent",
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
        applied, parameters = applied_sql(self._upto, "")
        recent = "ts >= fromUnixTimestamp64Micro({low:Int64}) AND label != ''"
        new = between_sql(self._after, self._upto, "")
        if not self._store.query(
            f"SELECT 1 FROM penstock.feedback_rows WHERE {recent} AND {applied} LIMIT 1",
            {**self._since, **parameters},
        ):
            return {}
        told = f"SELECT request_id FROM penstock.feedback_rows WHERE {recent} AND {new}"
        found: dict[int, Labelled] = defaultdict(Labelled)
        for feedback, requests in (
            (new, f"{applied} AND t.request_id IN ({told})"),
            (f"{applied} AND NOT {new}", new),
        ):
            rows = self._store.query(
                self._joined(f"{recent} AND {feedback}", requests),
                {**self._since, **self._traffic, **parameters},
            )
            for row in rows:
                found[int(row["start"])] += _labelled(row)
        return {(at, LABEL_SERIES): counts_of_labels(labels) for at, labels in found.items()}

    def _joined(self, feedback: str, requests: str) -> str:
        """SQL of labels of some feedback joined with some requests."""
        return (
            f"SELECT start, label, predicted, at, toInt64(count()) AS n, toInt64(sum(micro)) AS micro"
            f" FROM (SELECT {self._start('f.ts')} AS start, toString(f.label) AS label,"
            " toString(if(f.predicted != '', f.predicted, r.output_class)) AS predicted,"
            f" ifNull(least(toInt32(floor(r.output_score * {CALIBRATION_BINS})),"
            f" {CALIBRATION_BINS - 1}), -1) AS at,"
            f" ifNull(toInt64(round(r.output_score * {MICRO})), 0) AS micro"
            f" FROM (SELECT * FROM penstock.feedback_rows FINAL WHERE {feedback}) AS f"
            " INNER JOIN (SELECT * FROM penstock.requests_rows AS t FINAL WHERE"
            f" {requests} AND t.status != ''{self._matches}) AS r"
            " USING (request_id)) WHERE predicted != '' GROUP BY start, label, predicted, at"
        )


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
