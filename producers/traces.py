"""Traces of real traffic: when each request arrived, and how many tokens went in and out."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from ..schemas.errors import InvalidConfiguration

TraceFormat = Literal["azure", "mooncake"]
Ints = npt.NDArray[np.int64]

BUNDLED = Path(__file__).parent / "traces" / "azure_llm_2023_conv.csv.gz"
MOONCAKE_BLOCK_TOKENS = 512
_AZURE_COLUMNS = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]


@dataclass(frozen=True, slots=True)
class Trace:
    """Arrivals in time order; every array has shape (n,).

    Attributes:
        name: where it came from.
        arrival_us: microseconds since the first arrival.
        input_tokens: prompt tokens, at least 1.
        output_tokens: generated tokens, at least 1.
        cached_tokens: prompt tokens that an earlier prompt of the trace began with too, so that an
            unlimited prefix cache would hold them; None where the trace does not tell.
    """

    name: str
    arrival_us: Ints
    input_tokens: Ints
    output_tokens: Ints
    cached_tokens: Ints | None = None

    def __len__(self) -> int:
        return len(self.arrival_us)

    @property
    def arrival_s(self) -> npt.NDArray[np.float64]:
        """Seconds since the first arrival."""
        return self.arrival_us / 1e6

    @property
    def duration_us(self) -> int:
        """Time from the first to the last arrival."""
        return int(self.arrival_us[-1])

    def head(self, seconds: float) -> Trace:
        """The requests that arrived within the first `seconds`."""
        n = max(1, int(np.searchsorted(self.arrival_us, seconds * 1e6, side="right")))
        cached = None if self.cached_tokens is None else self.cached_tokens[:n]
        arrays = (self.arrival_us[:n], self.input_tokens[:n], self.output_tokens[:n], cached)
        return Trace(self.name, *arrays)


def bundled_trace() -> Trace:
    """The hour of traffic that comes with the package (Azure, CC-BY-4.0)."""
    return read_azure(BUNDLED)


def read_trace(path: Path, form: TraceFormat) -> Trace:
    """Read a trace file, plain or gzip.

    Raises:
        InvalidConfiguration: the file cannot be read, or a line of it is not of the format; the
            text names both.
    """
    return read_azure(path) if form == "azure" else read_mooncake(path)


def read_azure(path: Path) -> Trace:
    """Read a trace of the Azure Public Dataset: TIMESTAMP, ContextTokens, GeneratedTokens.

    Raises:
        InvalidConfiguration: as `read_trace`.
    """
    times: list[np.datetime64] = []
    inputs: list[int] = []
    outputs: list[int] = []
    with _open(path) as file:
        rows = csv.reader(file)
        if next(rows, None) != _AZURE_COLUMNS:
            raise InvalidConfiguration(f"{path}:1: expected {','.join(_AZURE_COLUMNS)}")
        for line, row in enumerate(rows, 2):
            try:
                stamp, tokens_in, tokens_out = row
                times.append(np.datetime64(stamp, "ns"))
                inputs.append(int(tokens_in))
                outputs.append(int(tokens_out))
            except ValueError as error:
                raise InvalidConfiguration(f"{path}:{line}: {error}") from error
    arrival_us = np.array(times, "datetime64[ns]").astype(np.int64) // 1000
    return _trace(path, arrival_us, inputs, outputs)


def read_mooncake(path: Path) -> Trace:
    """Read a trace of Mooncake: JSON lines of timestamp (ms), input_length, output_length, hash_ids.

    `hash_ids` name the blocks of 512 tokens that a prompt begins with; blocks seen before are
    `cached_tokens`.

    Raises:
        InvalidConfiguration: as `read_trace`.
    """
    times: list[int] = []
    inputs: list[int] = []
    outputs: list[int] = []
    cached: list[int] = []
    seen: set[int] = set()
    with _open(path) as file:
        for line, text in enumerate(file, 1):
            try:
                row: dict[str, Any] = json.loads(text)
                times.append(int(row["timestamp"]) * 1000)
                inputs.append(int(row["input_length"]))
                outputs.append(int(row["output_length"]))
                cached.append(_cached(row.get("hash_ids", ()), seen) * MOONCAKE_BLOCK_TOKENS)
            except (ValueError, KeyError, TypeError) as error:
                raise InvalidConfiguration(f"{path}:{line}: {error!r}") from error
    return _trace(path, np.array(times, np.int64), inputs, outputs, cached)


def _cached(blocks: Iterable[int], seen: set[int]) -> int:
    """Leading blocks that were seen before; then all of them have been."""
    hits = 0
    leading = True
    for block in blocks:
        leading = leading and block in seen
        hits += leading
        seen.add(block)
    return hits


def _trace(
    path: Path,
    arrival_us: Ints,
    inputs: list[int],
    outputs: list[int],
    cached: list[int] | None = None,
) -> Trace:
    if not len(arrival_us):
        raise InvalidConfiguration(f"{path}: no requests in it")
    order = np.argsort(arrival_us, kind="stable")
    input_tokens = np.maximum(np.array(inputs, np.int64), 1)[order]
    output_tokens = np.maximum(np.array(outputs, np.int64), 1)[order]
    arrival_us = arrival_us[order]
    hits = None
    if cached is not None:  # at least one prompt token is always computed
        hits = np.minimum(np.array(cached, np.int64)[order], input_tokens - 1)
    return Trace(path.name, arrival_us - arrival_us[0], input_tokens, output_tokens, hits)


@contextmanager
def _open(path: Path) -> Iterator[IO[str]]:
    """A text file, gunzipped where its name says so; its faults become ours."""
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8", newline="")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8", newline="")
        ) as file:
            yield file
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InvalidConfiguration(f"cannot read {path}: {error}") from error
