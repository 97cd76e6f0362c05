"""Counts and references as the store keeps them: what is asked for, and what the answer means.

SQL as text and rows as dictionaries, so that evaluation and the API read them alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from ....schemas.drift.monitors import DriftMonitor
from ..gates.canonical import canonical_json, sha256
from .reference_sets import AnyReference, ReferenceSet
from .references import reference_from_json
from .series_counts import LABELS, SeriesCounts

Piece = dict[str, SeriesCounts]
Span = tuple[int, int]
Scope = Literal["uploaded", "monitor"]
Asked = tuple[str, dict[str, Any]]
_MICROS = pa.timestamp("us", "UTC")


@dataclass(frozen=True, slots=True)
class Counting:
    """What is counted, in stretches of `piece_s`.

    Attributes:
        traffic: dimension -> value.
        features, categories: names.
    """

    traffic: Mapping[str, str]
    features: Sequence[str]
    categories: Sequence[str]
    piece_s: int

    @property
    def series(self) -> tuple[str, ...]:
        """Every series, that of labels last."""
        return (*self.features, *self.categories, LABELS)

    def key(self, series: str) -> str:
        """What stored counts of a series are found by."""
        kind = "feature" if series in self.features else "category"
        return sha256([dict(self.traffic), kind, series, self.piece_s])[:32]


def counting_of(spec: DriftMonitor, variant: str | None = None) -> Counting:
    """What a monitor counts, or of another arm."""
    traffic = spec.filter.given() | ({} if variant is None else {"variant": variant})
    return Counting(traffic, spec.features, spec.categories, spec.piece_s)


def counts_sql(counting: Counting, spans: Sequence[Span], series: Sequence[str]) -> Asked:
    """The query for counts of stretches that start within spans [start_s, end_s), none of them empty."""
    return (
        "SELECT counting, toUnixTimestamp(start) AS at, rows, keys, counts"
        " FROM penstock.drift_counts WHERE counting IN {countings:Array(String)}"
        " AND start >= toDateTime({low:UInt32}, 'UTC') AND start < toDateTime({high:UInt32}, 'UTC')"
    ), {
        "countings": [counting.key(name) for name in series],
        "low": max(min(low for low, _ in spans), 0),
        "high": max(high for _, high in spans),
    }


def counts_of_rows(
    rows: Iterable[Mapping[str, Any]],
    counting: Counting,
    spans: Sequence[Span],
    series: Sequence[str],
) -> dict[int, Piece]:
    """Counts by start of each stretch and by series, from the rows that `counts_sql` gives."""
    names = {counting.key(name): name for name in series}
    pieces: dict[int, Piece] = defaultdict(dict)
    for row in rows:
        at = int(row["at"])
        if any(low <= at < high for low, high in spans):
            counts = dict(zip(row["keys"], map(int, row["counts"]), strict=True))
            pieces[at][names[row["counting"]]] = SeriesCounts(int(row["rows"]), counts)
    return dict(pieces)


def newest_sql(scope: Scope, name: str) -> Asked:
    """The query for the `newest` revision of a set, 0 where there is none."""
    return (
        "SELECT max(revision) AS newest FROM penstock.drift_references_rows"
        " WHERE scope = {scope:String} AND name = {name:String}"
    ), {"scope": scope, "name": name}


def set_sql(scope: Scope, name: str, revision: int) -> Asked:
    """The query for one revision of a set."""
    return (
        "SELECT series, content FROM penstock.drift_references WHERE scope = {scope:String}"
        " AND name = {name:String} AND revision = {revision:UInt32}"
    ), {"scope": scope, "name": name, "revision": revision}


def set_of_rows(rows: Iterable[Mapping[str, Any]], revision: int) -> ReferenceSet | None:
    """The set from the rows that `set_sql` gives; None without any."""
    series: dict[str, AnyReference] = {
        row["series"]: reference_from_json(row["content"]) for row in rows
    }
    return ReferenceSet(series, revision) if series else None


def reference_rows(scope: Scope, name: str, found: ReferenceSet, now_us: int) -> pa.Table:
    """A set for `drift_references_rows`."""
    items = sorted(found.series.items())
    references = [item for _, item in items]
    return pa.table(
        {
            "scope": [scope] * len(items),
            "name": [name] * len(items),
            "series": [series for series, _ in items],
            "revision": pa.array([found.revision] * len(items), pa.uint32()),
            "source": [canonical_json(dict(item.source)) for item in references],
            "rows": pa.array([item.rows for item in references], pa.uint64()),
            "values": pa.array([item.total for item in references], pa.uint64()),
            "digest": [item.digest for item in references],
            "content": [item.to_json() for item in references],
            "created": pa.array([now_us] * len(items), pa.int64()).cast(_MICROS),
            "version": pa.array([now_us] * len(items), pa.uint64()),
        }
    )
