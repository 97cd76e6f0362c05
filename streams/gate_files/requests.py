"""Requests in a file as what an absolute gate counts: the same rules as ingestion's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...schemas.gates.absolute import AbsoluteGate, CostLimit, LatencyLimit, MetricLimit
from ..core.gates.units import CELL_US, CellCounts, IntArray, cap_nano
from .frames import is_frames, read_frames
from .reading import InvalidFile, Row, Rows, number, read_json, read_rows, suffix_of
from .serving import is_serving, serving_run
from .steps import unique

_FAILED = ("error", "timeout")


def read_requests(path: Path) -> Rows:
    """Request events of a JSONL, CSV, JSON, Parquet or frames file, or a serving benchmark's.

    Raises:
        InvalidFile: the file is none of these, or damaged.
    """
    if is_frames(path):
        return read_frames(path, "request")
    if suffix_of(path) == ".json":
        document = read_json(path)
        if isinstance(document, dict):
            return _of_benchmark(document, path)
    return read_rows(path)


def _of_benchmark(document: dict[str, Any], path: Path) -> Rows:
    if not is_serving(document):
        raise InvalidFile(
            f"{path}: an absolute gate reads requests, one row each, or a benchmark of them"
        )
    run = serving_run(document, path)
    names = list(run.series)
    rows: list[Row] = [
        {"status": "ok", **dict(zip(names, map(float, values), strict=True))}
        for values in zip(*run.series.values(), strict=True)
    ]
    rows += [{"status": "error"} for _ in range(run.missing)]
    return Rows(path, rows, list(range(1, len(rows) + 1)))


def cells_of(spec: AbsoluteGate, found: Rows) -> tuple[CellCounts, bool]:
    """The requests that a gate's filter selects, in cells of one second.

    A dimension of the filter that no row states is taken as met: the file is of that release. A
    limit on errors or safety has no units where no row tells whether there were any.

    Returns:
        The cells, and whether they are in event time. Rows without `ts` have no order, so all of
        them are one cell: in any other the order of the file would decide.

    Raises:
        InvalidFile: a field that is no number, or a cost without an order to bet in.
    """
    rows = _selected(spec, found)
    timed = all(isinstance(row.get("ts"), int | float) for _, row in rows)
    if timed:
        rows.sort(key=lambda item: float(item[1]["ts"]))
        seconds = [int(row["ts"]) // CELL_US for _, row in rows]
    else:
        if any(isinstance(limit, CostLimit) for limit in spec.metrics):
            raise InvalidFile(f"{found.path}: a limit on cost needs `ts` on every row")
        seconds = [0] * len(rows)
    ends, where = np.unique(np.array(seconds, np.int64), return_inverse=True)

    def counted(values: list[int]) -> IntArray:
        result = np.zeros(len(ends), np.int64)
        np.add.at(result, where, np.array(values, np.int64))
        return result

    told = {name for _, row in rows for name, value in row.items() if value is not None}
    bad: dict[str, IntArray] = {}
    units: dict[str, IntArray] = {}
    cost: dict[str, IntArray] = {}
    for limit in spec.metrics:
        counts = [_count(limit, row, told, found.where(at)) for at, row in rows]
        units[limit.name] = counted([unit for unit, _ in counts])
        target = cost if isinstance(limit, CostLimit) else bad
        target[limit.name] = counted([value for _, value in counts])
    requests = counted([int(not _announced(row)) for _, row in rows])
    return CellCounts((ends + 1) * CELL_US, requests, bad, units, cost), timed


def _selected(spec: AbsoluteGate, found: Rows) -> list[tuple[int, Row]]:
    rows = unique(
        [(at, row) for at, row in enumerate(found.rows) if row.get("event", "request") == "request"]
    )
    for name, value in spec.filter.given().items():
        if any(row.get(name) is not None for _, row in rows):
            rows = [(at, row) for at, row in rows if row.get(name) == value]
    return rows


def _announced(row: Row) -> bool:
    """Told while it was overdue, and not completed."""
    return bool(row.get("overdue")) and row.get("status") is None


def _count(limit: MetricLimit, row: Row, told: set[str], where: str) -> tuple[int, int]:
    """(units, bad units) of a request, or (units, nano-dollars above plan)."""
    if isinstance(limit, LatencyLimit):
        return _latency(limit, row, where)
    if _announced(row):
        return 0, 0
    if isinstance(limit, CostLimit):
        return _cost(limit, row, where)
    if limit.metric == "error_rate":
        failed = row.get("status") in _FAILED or (
            row.get("status") is None and row.get("error_type") is not None
        )
        return int(bool(told & {"status", "error_type"})), int(failed)
    return int("safety_flags" in told), int(bool(row.get("safety_flags")))


def _latency(limit: LatencyLimit, row: Row, where: str) -> tuple[int, int]:
    end_to_end = limit.field == "latency_ms"
    if end_to_end and row.get("overdue"):
        return (1, 1) if _announced(row) else (0, 0)
    value = number(row.get(limit.field), where, limit.field)
    return (0, 0) if np.isnan(value) else (1, int(value > limit.max_ms))


def _cost(limit: CostLimit, row: Row, where: str) -> tuple[int, int]:
    cost = number(row.get("cost_usd"), where, "cost_usd")
    if np.isnan(cost):
        return 0, 0
    tokens = sum(int(row.get(name) or 0) for name in ("input_tokens", "output_tokens"))
    plan = round(limit.max_usd * 1e9) * tokens // 1000
    above = round(min(cost, 1e9) * 1e9) - plan
    return 1, int(np.clip(above, -cap_nano(limit), cap_nano(limit)))
