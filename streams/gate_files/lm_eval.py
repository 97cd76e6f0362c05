"""lm-evaluation-harness output: `samples_<task>_<date>.jsonl`, of `lm_eval --log_samples`.

One line per document and filter: `doc_id`, `doc_hash`, `filter`, `metrics` (names), and each metric
as a field of its own. A document is the same item in two runs if task, doc_id and doc_hash agree.
Columns are named as in the results file, `exact_match,strict-match`; where a task has one filter
only, also `exact_match`. `text` is the first response. A metric that is computed over a whole task
(its field is no number) has no value per item.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..core.gates.offline.pairs import Table
from .reading import InvalidFile, NoFile, Row, Rows, read_json, suffix_of

_SAMPLES = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d{2}-\d{2}T.+?)\.jsonl(\.gz)?$")
_RESULTS = re.compile(r"results_(?P<date>.+)\.json$")


def is_samples(row: Row) -> bool:
    """Whether a row is a line of such a file."""
    return "doc_id" in row and ("filtered_resps" in row or "doc_hash" in row)


def lm_eval_paths(path: Path) -> list[Path] | None:
    """The samples files that a folder or a results file stands for; None for any other file.

    Raises:
        NoFile: there are none.
        InvalidFile: a results file without samples beside it.
    """
    if path.is_dir():
        newest: dict[str, tuple[str, Path]] = {}
        for one in sorted(path.rglob("samples_*.jsonl*")):
            told = _SAMPLES.fullmatch(one.name)
            if told is not None:
                task, date = told["task"], told["date"]
                newest[task] = max(newest.get(task, ("", one)), (date, one))
        if not newest:
            raise NoFile(
                f"{path}: no samples_<task>_<date>.jsonl in it; run lm_eval with --log_samples"
            )
        return [one for _, one in newest.values()]
    told = _RESULTS.fullmatch(path.name)
    if suffix_of(path) != ".json" or not path.exists() or not _is_results(read_json(path)):
        return None
    date = "" if told is None else told["date"]
    beside = sorted(path.parent.glob(f"samples_*_{date}.jsonl")) if date else []
    if not beside:
        raise InvalidFile(
            f"{path}: is a summary, and two means cannot be compared item by item; "
            "run lm_eval with --log_samples and keep samples_*.jsonl beside it"
        )
    return beside


def _is_results(document: Any) -> bool:
    return isinstance(document, dict) and "results" in document and "configs" in document


def lm_eval_table(files: list[Rows]) -> Table:
    """One row per document.

    Raises:
        InvalidFile: a line that no lm_eval writes.
    """
    documents: dict[str, Row] = {}
    filters: dict[str, set[str]] = {}
    for found in files:
        told = _SAMPLES.fullmatch(found.path.name)
        task = "" if told is None else told["task"]
        for at, row in enumerate(found.rows):
            if not is_samples(row):
                raise InvalidFile(f"{found.where(at)}: no doc_id, as lines of lm_eval have")
            key = f"{task}/{row['doc_id']}/{str(row.get('doc_hash', ''))[:12]}"
            name = str(row.get("filter", "none"))
            filters.setdefault(task, set()).add(name)
            document = documents.setdefault(key, {"task": task, "text": _text(row)})
            _add(document, row, name, found.where(at))
    for document in documents.values():
        if len(filters[document["task"]]) == 1:
            only = next(iter(filters[document["task"]]))
            ending = f",{only}"
            document.update(
                {n.removesuffix(ending): v for n, v in document.items() if n.endswith(ending)}
            )
    names = dict.fromkeys(name for row in documents.values() for name in row)
    columns = {name: [row.get(name) for row in documents.values()] for name in names}
    return Table(list(documents), columns)


def _add(document: Row, row: Row, name: str, where: str) -> None:
    metrics = row.get("metrics")
    for metric in metrics if isinstance(metrics, list) else _numbers(row):
        value = row.get(metric)
        column = f"{metric},{name}"
        if column in document:
            raise InvalidFile(f"{where}: document {row['doc_id']} has {column} twice")
        document[column] = value if isinstance(value, bool | int | float) else None


def _numbers(row: Row) -> list[str]:
    """Older versions do not list the metrics: every other number is one."""
    return [n for n, v in row.items() if isinstance(v, bool | int | float) and n != "doc_id"]


def _text(row: Row) -> str | None:
    """The first response, if it is a text."""
    found: Any = row.get("resps")
    while isinstance(found, list) and found:
        found = found[0]
    return found if isinstance(found, str) else None
