"""pytest-benchmark's JSON (`--benchmark-json`, `--benchmark-save-data`): rounds as series.

Each benchmark is a series of its rounds, in milliseconds per iteration, named after the test with
`_ms`: `test_decode[8]_ms`. Where two tests have one name, their full names are used.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ..core.gates.eprocess import FloatArray
from ..core.gates.offline.series import Run
from .reading import InvalidFile, number


def is_pytest_benchmark(document: dict[str, Any]) -> bool:
    """Whether it is such a document."""
    return isinstance(document.get("benchmarks"), list) and "machine_info" in document


def pytest_benchmark_run(document: dict[str, Any], path: Path) -> Run:
    """The rounds of every benchmark.

    Raises:
        InvalidFile: a benchmark is not what pytest-benchmark writes.
    """
    found: dict[str, FloatArray] = {}
    summaries: dict[str, float] = {}
    entries = [_entry(item, path, at) for at, item in enumerate(document["benchmarks"])]
    names = Counter(name for name, _, _ in entries)
    for name, full, stats in entries:
        series = f"{name if names[name] == 1 else full}_ms"
        where = f"{path}: benchmark {name}"
        summaries[series] = 1000.0 * number(stats.get("mean"), where, "stats.mean")
        rounds = stats.get("data")
        if isinstance(rounds, list) and rounds:
            found[series] = 1000.0 * np.array([number(v, where, "stats.data") for v in rounds])
    if not found:
        raise InvalidFile(
            f"{path}: pytest-benchmark saved no rounds, and one mean shows nothing; "
            "run pytest with --benchmark-json, or with --benchmark-save-data"
        )
    longest = max(map(len, found.values()))
    padded = {name: _padded(values, longest) for name, values in found.items()}
    machine = document["machine_info"]
    conditions = {
        name: str(machine[name])
        for name in ("machine", "python_implementation", "python_version")
        if isinstance(machine, dict) and name in machine
    }
    return Run(padded, conditions=conditions, summaries=summaries)


def _entry(item: Any, path: Path, at: int) -> tuple[str, str, dict[str, Any]]:
    stats = item.get("stats") if isinstance(item, dict) else None
    if not isinstance(stats, dict) or "name" not in item:
        raise InvalidFile(f"{path}: benchmarks[{at}] has no name and stats")
    return str(item["name"]), str(item.get("fullname", item["name"])), stats


def _padded(values: FloatArray, length: int) -> FloatArray:
    """Tests differ in their numbers of rounds; what is not there is not measured."""
    return np.concatenate([values, np.full(length - len(values), np.nan)])
