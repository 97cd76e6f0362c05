"""Runs and tables for tests of gates on files: seeded, with a known truth."""

from __future__ import annotations

from typing import Any

import numpy as np
from penstock.streams.core.gates.eprocess import FloatArray
from penstock.streams.core.gates.offline.pairs import Table
from penstock.streams.core.gates.offline.series import Run


def times(seed: int, n: int = 400, factor: float = 1.0, spread: float = 0.1) -> FloatArray:
    """Step times around 30 ms, log-normal."""
    return 30.0 * factor * np.exp(np.random.default_rng(seed).normal(0.0, spread, n))


def bench(step_ms: FloatArray, **more: Any) -> Run:
    """A run of steps of 32 tokens."""
    return Run({"step_ms": step_ms, "tokens": np.full(len(step_ms), 32.0)}, step_ms, **more)


def training(seed: int = 0, n: int = 1000, noise: float = 0.05) -> dict[str, FloatArray]:
    """A run that learns: loss from 10 to about 2.3."""
    g = np.random.default_rng(seed)
    return {
        "loss": (8 * np.exp(-np.arange(n) / 300) + 2) * np.exp(g.normal(0, noise, n)),
        "grad_norm": np.exp(g.normal(0, 0.2, n)),
        "step_ms": 200 * np.exp(g.normal(0, 0.05, n)),
        "mfu": 0.4 * np.exp(g.normal(0, 0.02, n)),
    }


def table(**columns: Any) -> Table:
    """Rows numbered from 0."""
    lists = {name: [*map(_plain, values)] for name, values in columns.items()}
    size = len(next(iter(lists.values())))
    return Table([str(at) for at in range(size)], lists)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def scored(worse: int, better: int, both: int) -> tuple[Table, Table]:
    """(run, baseline) with that many discordant and concordant pairs."""
    new = [0] * worse + [1] * better + [1] * both
    old = [1] * worse + [0] * better + [1] * both
    return table(acc=new), table(acc=old)
