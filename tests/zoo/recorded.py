"""Recorded data that cases are made of (tests/data/zoo/README.md)."""

from __future__ import annotations

import csv
import gzip
import io
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

REPOSITORY = Path(__file__).parents[2]
DATA = REPOSITORY / "tests" / "data"
CONVERSATION = REPOSITORY / "producers" / "traces" / "azure_llm_2023_conv.csv.gz"


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests of a real service.

    Attributes:
        arrival_s: seconds since the first one, ascending, shape (N,).
        input_tokens, output_tokens: shape (N,).
    """

    arrival_s: FloatArray
    input_tokens: IntArray
    output_tokens: IntArray


@dataclass(frozen=True, slots=True)
class Answers:
    """Requests that a real provider answered, shape (N,) each."""

    ttft_ms: FloatArray
    latency_ms: FloatArray
    input_tokens: IntArray
    output_tokens: IntArray


@lru_cache
def trace(name: str) -> Trace:
    """A trace: azure_conv, azure_code or mooncake."""
    if name == "azure_conv":
        with gzip.open(CONVERSATION, "rt") as file:
            rows = list(csv.DictReader(file))[:4000]
        times = [datetime.fromisoformat(row["TIMESTAMP"][:26]).replace(tzinfo=UTC) for row in rows]
        arrival = np.array([time.timestamp() for time in times])
        tokens = [(int(row["ContextTokens"]), int(row["GeneratedTokens"])) for row in rows]
        return Trace(
            arrival - arrival[0], *(np.array(column) for column in zip(*tokens, strict=True))
        )
    files = {"azure_code": "azure_llm_2023_code.csv", "mooncake": "mooncake_conversation.csv"}
    rows = _rows(DATA / "zoo" / files[name])
    columns = (np.array([float(row[c]) for row in rows]) for c in rows[0])
    arrival, inputs, outputs = columns
    return Trace(arrival, inputs.astype(np.int64), outputs.astype(np.int64))


@lru_cache
def answers(provider: str) -> Answers:
    """The answers of a provider in llmperf.csv, without those that failed."""
    rows = [row for row in _rows(DATA / "zoo" / "llmperf.csv") if row["provider"] == provider]
    rows = [row for row in rows if row["failed"] == "0"]
    return Answers(
        np.array([float(row["ttft_ms"]) for row in rows]),
        np.array([float(row["latency_ms"]) for row in rows]),
        np.array([int(row["input_tokens"]) for row in rows]),
        np.array([int(row["output_tokens"]) for row in rows]),
    )


def failed(provider: str) -> int:
    """Requests of a provider in llmperf.csv that failed."""
    rows = _rows(DATA / "zoo" / "llmperf.csv")
    return sum(row["provider"] == provider and row["failed"] == "1" for row in rows)


@lru_cache
def training() -> dict[str, FloatArray]:
    """step, loss and grad_norm of a real training run, every tenth step."""
    rows = _rows(DATA / "zoo" / "nanogpt_llmc_main.csv")
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


@lru_cache
def nab(name: str) -> FloatArray:
    """Values of a series of tests/data/nab."""
    return np.array([float(row["value"]) for row in _rows(DATA / "nab" / f"{name}.csv")])


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))
