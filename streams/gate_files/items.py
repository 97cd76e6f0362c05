"""Files of items as tables: evaluation results, and mirrored requests."""

from __future__ import annotations

from pathlib import Path

from ..core.gates.offline.pairs import Table
from .lm_eval import is_samples, lm_eval_paths, lm_eval_table
from .reading import InvalidFile, Rows, read_rows


def read_items(path: Path, key: str) -> Table:
    """A table of items: CSV, JSONL, JSON or Parquet, or lm-evaluation-harness output.

    Args:
        path: a file; of lm-evaluation-harness also the results file or the folder of a run.
        key: column that pairs rows. lm-evaluation-harness needs none: task and document do.

    Raises:
        InvalidFile: the file is none of these, or a row has no key.
    """
    samples = lm_eval_paths(path)
    if samples is not None:
        return lm_eval_table([read_rows(one) for one in samples])
    rows = read_rows(path)
    return lm_eval_table([rows]) if is_samples(rows.rows[0]) else _table(rows, key)


def _table(found: Rows, key: str) -> Table:
    rows = found.rows
    for at, row in enumerate(rows):
        if row.get(key) is None:
            names = ", ".join(list(row)[:8])
            raise InvalidFile(
                f"{found.where(at)}: no {key}, which pairs this row; it has {names}. "
                "Name the column in the gate's specification (item or pair)"
            )
    if all(isinstance(row.get("ts"), int | float) for row in rows):
        rows = sorted(rows, key=lambda row: float(row["ts"]))
    columns = dict.fromkeys(name for row in rows for name in row if name != key)
    values = {name: [row.get(name) for row in rows] for name in columns}
    return Table([_key(row[key]) for row in rows], values)


def _key(value: object) -> str:
    """7 and 7.0 are one key, whatever wrote them."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
