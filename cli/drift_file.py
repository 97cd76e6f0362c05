"""A training distribution from a file: columns counted as Penstock counts what arrives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..schemas.errors import InvalidConfiguration
from ..streams.core.drift.binning import binning_of
from ..streams.core.drift.columns import OTHER
from ..streams.core.drift.labelled import Labelled
from ..streams.core.drift.series_counts import LABELS, counts_of_labels

MOST_CATEGORIES = 10_000
Column = Any  # a chunked array of any type
NESTED = ("features", "categories")  # as events hold them
SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which columns.

    Attributes:
        features, categories: names; both empty take every column by its type.
        label, predicted, score: columns of labels; empty without.
    """

    features: Sequence[str] = ()
    categories: Sequence[str] = ()
    label: str = ""
    predicted: str = ""
    score: str = ""


def counted(path: Path, wanted: Wanted) -> dict[str, dict[str, Any]]:
    """The series of `POST /v1/drift/references`, from a file of rows.

    Numbers are features, texts and booleans categories; columns of the objects `features` and
    `categories` count by their own names. An empty cell is a row without a value.

    Args:
        path: .csv with a header, .jsonl or .parquet.
        wanted: which columns.

    Raises:
        InvalidConfiguration: the file cannot be read, or lacks a column.
    """
    columns = dict(_columns(_table(path)))
    missing = [
        name
        for name in (*wanted.features, *wanted.categories, *_labels(wanted))
        if name not in columns
    ]
    if missing:
        there = ", ".join(columns)
        raise InvalidConfiguration(f"{path} has no column {', '.join(missing)}; it has {there}")
    found: dict[str, dict[str, Any]] = {}
    for name, kind in _kinds(columns, wanted).items():
        rows, column = len(columns[name]), columns[name]
        counts = _bins(name, column) if kind == "feature" else _names(column)
        if counts:
            found[name] = {"kind": kind, "rows": rows, "counts": counts}
    if wanted.label:
        labels = counts_of_labels(_labelled(columns, wanted))
        if labels.counts:
            # Coded sums are no rows, so that their number says nothing.
            found[LABELS] = {"kind": "category", "rows": 0, "counts": dict(labels.counts)}
    if not found:
        raise InvalidConfiguration(f"{path} has no column that could be counted")
    return found


def _table(path: Path) -> pa.Table:
    from pyarrow import csv, json, parquet

    readers: dict[str, Callable[[Path], pa.Table]] = {
        ".csv": csv.read_csv,
        ".parquet": parquet.read_table,
    }
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InvalidConfiguration(f"{path}: a file is one of {', '.join(SUFFIXES)}")
    try:
        table = readers.get(suffix, json.read_json)(path)
    except (OSError, pa.ArrowException) as error:
        raise InvalidConfiguration(f"cannot read {path}: {error}") from error
    return table


def _columns(table: pa.Table) -> Iterator[tuple[str, Column]]:
    """Columns by name, those within `features` and `categories` by their own."""
    for name in table.column_names:
        column = table[name]
        if name in NESTED and pa.types.is_struct(column.type):
            for at in range(column.type.num_fields):
                yield column.type.field(at).name, pc.struct_field(column, [at])
        else:
            yield name, column


def _kinds(columns: Mapping[str, Column], wanted: Wanted) -> dict[str, str]:
    chosen = dict.fromkeys(wanted.features, "feature") | dict.fromkeys(
        wanted.categories, "category"
    )
    if chosen:
        return chosen
    kinds = {name: _kind(column.type) for name, column in columns.items()}
    return {name: kind for name, kind in kinds.items() if kind and name not in (wanted.label,)}


def _kind(of: pa.DataType) -> str | None:
    if pa.types.is_integer(of) or pa.types.is_floating(of) or pa.types.is_decimal(of):
        return "feature"
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_boolean)
    return "category" if any(fits(of) for fits in (*texts, pa.types.is_dictionary)) else None


def _bins(name: str, column: Column) -> dict[str, int]:
    try:
        values = column.drop_null().cast(pa.float64()).to_numpy()
    except pa.ArrowException as error:
        raise InvalidConfiguration(f"column {name} holds no numbers: {error}") from error
    bins, counts = np.unique(
        binning_of(name).bins_of(values[np.isfinite(values)]), return_counts=True
    )
    return dict(zip(map(str, bins.tolist()), counts.tolist(), strict=True))


def _names(column: Column) -> dict[str, int]:
    """Counts by text, the most frequent apart; what is empty counts as absent."""
    texts = column.cast(pa.string())
    told: Any = pc.value_counts(texts.drop_null())
    counts = {row["values"]: int(row["counts"]) for row in told.to_pylist() if row["values"]}
    largest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    found = dict(largest[:MOST_CATEGORIES])
    if rest := sum(count for _, count in largest[MOST_CATEGORIES:]):
        found[OTHER] = found.get(OTHER, 0) + rest
    return found


def _labels(wanted: Wanted) -> list[str]:
    return [name for name in (wanted.label, wanted.predicted, wanted.score) if name]


def _labelled(columns: Mapping[str, Column], wanted: Wanted) -> Labelled:
    texts = [columns[name].cast(pa.string()).to_pylist() for name in _labels(wanted)[:2]]
    scores: Sequence[Any] = [None] * len(texts[0])
    if wanted.score:
        scores = columns[wanted.score].cast(pa.float64()).to_pylist()
    rows = Counter(zip(*texts, scores, strict=True))
    return Labelled.of(
        row for row, times in rows.items() for _ in range(times) if row[0] and row[1]
    )
