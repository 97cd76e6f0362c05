"""Step events as series: JSONL, CSV, Parquet, or frames as the emitter writes them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.gates.eprocess import FloatArray
from ..core.gates.offline.series import Run
from .reading import InvalidFile, Row, Rows, number

_LABELS = frozenset({"ts", "seq", "boot_id", "worker_id", "step", "event", "kind"})


def step_run(found: Rows, kind: str | None = None) -> Run:
    """Steps in the order of time.

    A row that was delivered twice (same boot_id and seq) counts once. `tokens` is the sum of
    prefill and decode tokens; members of `extra` are series of their own. Where steps carry
    numbers, numbers that are left out are steps that never came.

    Raises:
        InvalidFile: a field that is no number.
    """
    rows = _wanted(found, kind)
    names = list(dict.fromkeys(name for _, row in rows for name in row if name not in _LABELS))
    series = {}
    for name in names:
        values = [row.get(name) for _, row in rows]
        if any(isinstance(value, bool | int | float) for value in values):
            series[name] = _column(found, rows, name)
    if not series:
        raise InvalidFile(
            f"{found.path}: has no series of numbers; fields of steps are in docs/events.md"
        )
    tokens = [series[name] for name in ("prefill_tokens", "decode_tokens") if name in series]
    if tokens and "tokens" not in series:
        series["tokens"] = np.nansum(tokens, axis=0)
    return Run(series, series.get("step_ms"), _expected(rows))


def _wanted(found: Rows, kind: str | None) -> list[tuple[int, Row]]:
    """Rows of steps of one kind, each once, by time where all of them tell it."""
    rows = [(at, _flat(row)) for at, row in enumerate(found.rows)]
    rows = [(at, row) for at, row in rows if row.get("event", "step") == "step"]
    if kind is not None and any(row.get("kind") == kind for _, row in rows):
        rows = [(at, row) for at, row in rows if row.get("kind") == kind]
    once = unique(rows)
    if once and all(isinstance(row.get("ts"), int | float) for _, row in once):
        once.sort(key=lambda item: (item[1]["ts"], item[1].get("step") or 0))
    return once


def unique(rows: list[tuple[int, Row]]) -> list[tuple[int, Row]]:
    """Rows of events, each once: the same boot_id and seq is the same event."""
    seen: set[tuple[Any, Any]] = set()
    once = []
    for at, row in rows:
        identity = (row.get("boot_id"), row.get("seq"))
        if None in identity or identity not in seen:
            once.append((at, row))
        seen.add(identity)
    return once


def _flat(row: Row) -> Row:
    extra = row.get("extra")
    return (
        {**extra, **{k: v for k, v in row.items() if k != "extra"}}
        if isinstance(extra, dict)
        else row
    )


def _column(found: Rows, rows: list[tuple[int, Row]], name: str) -> FloatArray:
    return np.array([number(row.get(name), found.where(at), name) for at, row in rows], np.float64)


def _expected(rows: list[tuple[int, Row]]) -> int | None:
    """Steps that there should be, if every row has a number and they come in equal strides."""
    expected = 0
    numbers: dict[Any, list[int]] = {}
    for _, row in rows:
        step = row.get("step")
        if not isinstance(step, int | float) or not math.isfinite(step):
            return None
        numbers.setdefault((row.get("worker_id"), row.get("boot_id")), []).append(int(step))
    for told in numbers.values():
        ordered = sorted(set(told))
        strides = np.diff(ordered)
        stride = int(np.gcd.reduce(strides)) if strides.size else 1
        expected += (ordered[-1] - ordered[0]) // stride + 1
    return expected
