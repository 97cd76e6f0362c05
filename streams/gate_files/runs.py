"""Files of benchmark and training runs, as series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..core.gates.offline.series import Run
from .frames import is_frames, read_frames
from .pytest_benchmark import is_pytest_benchmark, pytest_benchmark_run
from .reading import InvalidFile, number, read_json, read_rows, suffix_of
from .serving import is_serving, serving_run
from .steps import step_run

KNOWN = (
    "a run is read from a JSON object with `series` (docs/gates-in-ci.md), pytest-benchmark's "
    "--benchmark-json, the result of `vllm bench serve --save-result --save-detailed` or of "
    "sglang.bench_serving --output-details, or step events as .jsonl, .csv, .parquet or .frames"
)


def read_run(path: Path, kind: str | None = None) -> Run:
    """A run of any known format, told by its content.

    Args:
        path: of the file.
        kind: of step events that are wanted, where the file has several: engine, training, ...

    Raises:
        InvalidFile: the file is none of these, or damaged.
    """
    suffix = suffix_of(path)
    if is_frames(path):
        return step_run(read_frames(path, "step"), kind)
    if suffix == ".json":
        document = read_json(path)
        if isinstance(document, dict):
            return _of_document(document, path)
        return step_run(read_rows(path), kind)
    if suffix not in (".jsonl", ".ndjson", ".csv", ".parquet"):
        raise InvalidFile(f"{path}: {KNOWN}")
    rows = read_rows(path)
    if is_serving(rows.rows[0]):
        if len(rows.rows) > 1:
            raise InvalidFile(f"{path}: holds {len(rows.rows)} benchmarks; give one per file")
        return serving_run(rows.rows[0], path)
    return step_run(rows, kind)


def _of_document(document: dict[str, Any], path: Path) -> Run:
    if "series" in document:
        return _own(document, path)
    if is_pytest_benchmark(document):
        return pytest_benchmark_run(document, path)
    if is_serving(document):
        return serving_run(document, path)
    raise InvalidFile(f"{path}: {KNOWN}; this one has {', '.join(list(document)[:8]) or 'nothing'}")


def _own(document: dict[str, Any], path: Path) -> Run:
    """`{"series": {name: [numbers]}, "took_ms": [...], "expected": n, "failed": n, "conditions": {}}`."""
    series = document["series"]
    if not isinstance(series, dict) or not series:
        raise InvalidFile(f'{path}: series is an object of arrays, such as {{"step_ms": [31.2]}}')
    unknown = sorted(document.keys() - {"series", "took_ms", "expected", "failed", "conditions"})
    if unknown:
        raise InvalidFile(f"{path}: unknown fields {', '.join(unknown)}")
    arrays = {name: _array(values, path, name) for name, values in series.items()}
    if "took_ms" in document:
        arrays["took_ms"] = _array(document["took_ms"], path, "took_ms")
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InvalidFile(f"{path}: all series are of one length, null where not measured: {told}")
    took_ms = arrays.pop("took_ms", None)
    return Run(
        arrays,
        took_ms,
        _whole(document, "expected", path),
        _whole(document, "failed", path) or 0,
        {name: str(value) for name, value in (document.get("conditions") or {}).items()},
    )


def _array(values: Any, path: Path, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    if not isinstance(values, list):
        raise InvalidFile(f"{path}: series {name} is no array")
    return np.array(
        [number(value, f"{path}: {name}[{at}]", name) for at, value in enumerate(values)],
        np.float64,
    )


def _whole(document: dict[str, Any], name: str, path: Path) -> int | None:
    value = document.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidFile(f"{path}: {name} is a whole number, not {value!r}")
    return value
