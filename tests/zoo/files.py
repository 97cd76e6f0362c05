"""Files of benchmark runs, training runs and evaluation results, from recipes and recorded data."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from penstock.tests.zoo import recorded
from penstock.tests.zoo.recorded import FloatArray

Recipe = Mapping[str, Any]


def write(recipe: Recipe, folder: Path, name: str, seed: int) -> Path:
    """Write one file and return where it is; a recipe names its maker and that maker's words.

    Raises:
        KeyError: no such maker.
    """
    (maker, words), *more = recipe.items()
    assert not more, "one maker per file"
    path: Path = MAKERS[maker](folder / name, np.random.default_rng(seed), **words)
    return path


def benchmark(
    path: Path,
    rng: np.random.Generator,
    provider: str,
    first: int = 0,
    last: int | None = None,
    slower: float = 1.0,
    stall_last: float = 1.0,
    shuffled: bool = False,
    metric: str = "latency_ms",
    conditions: Mapping[str, str] | None = None,
) -> Path:
    """Requests of a recorded provider run, in its order, as a benchmark's own JSON."""
    found = recorded.answers(provider)
    latency, ttft = found.latency_ms * slower, found.ttft_ms * slower
    order = rng.permutation(len(latency)) if shuffled else np.arange(len(latency))
    picked = order[first:last]
    latency, ttft = latency[picked].copy(), ttft[picked].copy()
    latency[-1] *= stall_last
    tokens = found.output_tokens[picked]
    document: dict[str, Any] = {
        "series": {
            metric: latency.tolist(),
            "ttft_ms": ttft.tolist(),
            "output_tokens": tokens.tolist(),
        },
        "took_ms": latency.tolist(),
        "failed": recorded.failed(provider),
        "conditions": dict(conditions or {}),
    }
    return _json(path, document)


def training(
    path: Path,
    rng: np.random.Generator,
    last: int | None = None,
    frozen: bool = False,
    diverges_at: int | None = None,
    climbs_at: int | None = None,
    slows_at: int | None = None,
    without: str | None = None,
) -> Path:
    """Steps of a recorded training run as step events; `frozen` shuffles its late loss: no trend."""
    series = {name: values[:last].copy() for name, values in recorded.training().items()}
    size = len(series["loss"])
    if frozen:
        tail = recorded.training()["loss"][-500:]
        series["loss"] = 8.0 + rng.permutation(np.resize(tail - tail.mean(), size))
    if climbs_at is not None:
        series["loss"][climbs_at:] *= 1.25
    step_ms = 170.0 * rng.lognormal(0.0, 0.02, size)
    if slows_at is not None:
        step_ms[slows_at:] *= 1.3
    series["step_ms"] = step_ms
    rows = [
        {"event": "step", "kind": "train", "ts": at * 1_000_000}
        | {name: float(values[at]) for name, values in series.items() if name != without}
        | {"step": int(series["step"][at])}
        for at in range(size)
    ]
    if diverges_at is not None:
        for row in rows[diverges_at:]:
            row["loss"] = float("nan")
    return _lines(path, rows)


def series(
    path: Path,
    rng: np.random.Generator,
    nab: str | None = None,
    first: int = 0,
    last: int | None = None,
    steady: int = 0,
    cv: float = 0.03,
    drift: float = 0.0,
    stall_last: float = 1.0,
) -> Path:
    """One series called step_ms: of tests/data/nab, or a steady one with a drift."""
    if nab is not None:
        values: FloatArray = recorded.nab(nab)[first:last].copy()
    else:
        values = 40.0 * (1 + cv * rng.standard_normal(steady))
        values *= 1 + drift * np.arange(steady) / steady
    values[-1] *= stall_last
    return _json(path, {"series": {"step_ms": values.tolist()}})


def items(
    path: Path,
    rng: np.random.Generator,
    size: int,
    correct: float = 0.8,
    worse: int = 0,
    better: int = 0,
    missing: int = 0,
    repeated: int = 0,
    metric: str = "correct",
    key: str = "item_id",
    slices: int = 1,
    worse_slice: int = 0,
    drop_from: int | None = None,
) -> Path:
    """Answers to a fixed question set: which are right is drawn once, and `worse` items then turn
    from right to wrong, `better` from wrong to right.
    """
    truth = np.random.default_rng(size).random(size) < correct
    mine = truth.copy()
    mine[rng.permutation(np.flatnonzero(truth))[:worse]] = False
    mine[rng.permutation(np.flatnonzero(~truth))[:better]] = True
    of = np.arange(size) % slices
    mine[rng.permutation(np.flatnonzero(truth & (of == slices - 1)))[:worse_slice]] = False
    if drop_from is not None:
        late = np.flatnonzero(truth & (np.arange(size) >= drop_from))
        mine[rng.permutation(late)[: len(late) // 2]] = False
    rows: list[dict[str, Any]] = [
        {key: f"q{at}", metric: int(mine[at]), "route": f"route-{of[at]}", "ts": at}
        for at in range(size - missing)
    ]
    for at in range(repeated):
        rows.append({**rows[at], metric: 1 - int(rows[at][metric])})
    return _lines(path, rows)


def nothing(path: Path, _: np.random.Generator, text: str | None = None) -> Path:
    """No file at all, or one with this text."""
    path = path.with_suffix(".jsonl")
    if text is not None:
        path.write_text(text)
    return path


def _json(path: Path, document: Mapping[str, Any]) -> Path:
    path = path.with_suffix(".json")
    path.write_text(json.dumps(document))
    return path


def _lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path = path.with_suffix(".jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


MAKERS: dict[str, Callable[..., Path]] = {
    "benchmark": benchmark,
    "training": training,
    "series": series,
    "items": items,
    "nothing": nothing,
}
