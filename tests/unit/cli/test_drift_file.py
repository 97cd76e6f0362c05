"""Training distributions from files, counted as the store counts what arrives."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from penstock.cli import drift_file
from penstock.cli.drift_file import Wanted, counted
from penstock.schemas.errors import InvalidConfiguration
from penstock.streams.core.drift.binning import binning_of
from penstock.streams.core.drift.labelled import Labelled
from penstock.streams.core.drift.series_counts import LABELS, SeriesCounts, labels_of_counts

ROWS: list[dict[str, Any]] = [
    {"input_tokens": 100, "balance": -2.5, "language": "en", "fast": True},
    {"input_tokens": 200, "balance": None, "language": "de", "fast": False},
    {"input_tokens": None, "balance": 0.0, "language": "en", "fast": None},
    {"input_tokens": 200, "balance": math.inf, "language": None, "fast": True},
]


def bins(name: str, *values: float) -> dict[str, int]:
    found: dict[str, int] = {}
    for at in binning_of(name).bins_of(np.array(values)).tolist():
        found[str(at)] = found.get(str(at), 0) + 1
    return found


WANTED = {
    "input_tokens": {"kind": "feature", "rows": 4, "counts": bins("input_tokens", 100, 200, 200)},
    "balance": {"kind": "feature", "rows": 4, "counts": bins("balance", -2.5, 0)},
    "language": {"kind": "category", "rows": 4, "counts": {"en": 2, "de": 1}},
    "fast": {"kind": "category", "rows": 4, "counts": {"true": 2, "false": 1}},
}


def written(folder: Path, form: str) -> Path:
    path = folder / f"train.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif form == "jsonl":
        finite = [{k: v for k, v in row.items() if v != math.inf} for row in ROWS]
        path.write_text("\n".join(map(json.dumps, finite)))
    else:
        cells = [["" if v is None else str(v) for v in row.values()] for row in ROWS]
        path.write_text("\n".join(map(",".join, [[*ROWS[0]], *cells])) + "\n")
    return path


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_every_form_gives_the_same_counts(tmp_path: Path, form: str) -> None:
    assert counted(written(tmp_path, form), Wanted()) == WANTED


def test_columns_are_chosen(tmp_path: Path) -> None:
    path = written(tmp_path, "parquet")
    found = counted(path, Wanted(["balance"], ["input_tokens"]))
    assert found["balance"] == WANTED["balance"]
    assert found["input_tokens"]["counts"] == {"100": 1, "200": 2}
    assert len(found) == 2


def test_events_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    rows = [
        {"ts": 1, "features": {"balance": 3.5}, "categories": {"language": "en"}},
        {"ts": 2, "features": {}, "categories": {"language": "en"}},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    found = counted(path, Wanted(["balance"], ["language"]))
    assert found == {
        "balance": {"kind": "feature", "rows": 2, "counts": bins("balance", 3.5)},
        "language": {"kind": "category", "rows": 2, "counts": {"en": 2}},
    }


def test_labels_are_coded(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("truth,said,score\na,a,0.9\na,b,0.2\n,b,0.5\n")
    found = counted(path, Wanted(["score"], [], "truth", "said", "score"))
    coded = SeriesCounts(0, found[LABELS]["counts"])
    assert labels_of_counts(coded) == Labelled.of([("a", "a", 0.9), ("a", "b", 0.2)])


def test_rare_categories_count_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_file, "MOST_CATEGORIES", 2)
    path = tmp_path / "many.csv"
    path.write_text("name\n" + "\n".join("aaabbcd"))
    assert counted(path, Wanted())["name"]["counts"] == {"a": 3, "b": 2, "(other)": 2}


@pytest.mark.parametrize(
    ("name", "text", "wanted", "message"),
    [
        ("a.txt", "x", Wanted(), "a file is one of"),
        ("a.jsonl", "no json", Wanted(), "cannot read"),
        ("a.csv", "x\n1\n", Wanted(["y"]), "no column y; it has x"),
        ("a.csv", "x\na\n", Wanted(["x"]), "holds no numbers"),
        ("a.csv", "x\n\n", Wanted(), "no column that could be counted"),
    ],
)
def test_files_that_cannot_be_counted(
    tmp_path: Path, name: str, text: str, wanted: Wanted, message: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InvalidConfiguration, match=message):
        counted(path, wanted)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="cannot read"):
        counted(tmp_path / "absent.csv", Wanted())
