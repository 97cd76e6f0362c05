"""Results of serving benchmarks: `vllm bench serve` and `sglang.bench_serving`, per request.

Both write one object with parallel arrays, in seconds: `ttfts`, `itls` (a list per request),
`input_lens`, `output_lens`, `errors`, and vLLM also `latencies` and `start_times`. They are saved
with `--save-detailed` (vLLM) and `--output-details` (SGLang); without, there is only one number per
metric for the whole run, which shows nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..core.gates.eprocess import FloatArray
from ..core.gates.offline.series import Run
from .reading import InvalidFile, number

_MARKS = ("ttfts", "request_throughput", "output_throughput")
_CONDITIONS = (
    "model_id",
    "num_prompts",
    "request_rate",
    "burstiness",
    "max_concurrency",
    "total_input_tokens",
    "dataset_name",
    "random_input_len",
    "random_output_len",
)


def is_serving(document: dict[str, Any]) -> bool:
    """Whether it is such a document."""
    return any(mark in document for mark in _MARKS)


def serving_run(document: dict[str, Any], path: Path) -> Run:
    """Requests that succeeded, in the order they completed if the file tells, else as they were sent.

    Series: ttft_ms, itl_ms (mean of a request), tpot_ms, latency_ms, input_tokens, output_tokens.

    Raises:
        InvalidFile: there is nothing per request, or arrays do not fit together.
    """
    summaries = {
        name: float(value)
        for name, value in document.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if not isinstance(document.get("ttfts"), list):
        raise InvalidFile(
            f"{path}: one number for a whole run shows nothing; save each request: "
            "`vllm bench serve --save-result --save-detailed`, sglang.bench_serving --output-details"
        )
    columns = _columns(document, path)
    size = len(columns["ttft_ms"])
    errors = document.get("errors") or [""] * size
    if not isinstance(errors, list) or len(errors) != size:
        raise InvalidFile(f"{path}: errors and ttfts differ in length")
    good = np.array([not error for error in errors], np.bool_)
    completed = document.get("completed")
    if isinstance(completed, int) and completed < int(good.sum()):
        # SGLang leaves the error of a failed request empty: it produced no token
        good &= columns["output_tokens"] > 0
    columns, took_ms = _ordered({name: values[good] for name, values in columns.items()})
    return Run(
        columns,
        took_ms,
        _expected(document, size),
        size - int(good.sum()),
        {name: str(document[name]) for name in _CONDITIONS if document.get(name) is not None},
        summaries,
    )


def _expected(document: dict[str, Any], size: int) -> int:
    prompts = document.get("num_prompts")
    return max(prompts, size) if isinstance(prompts, int) else size


def _columns(document: dict[str, Any], path: Path) -> dict[str, FloatArray]:
    ttfts = document["ttfts"]
    size = len(ttfts)

    def seconds(name: str) -> FloatArray | None:
        values = document.get(name)
        if values is None:
            return None
        if not isinstance(values, list) or len(values) != size:
            raise InvalidFile(f"{path}: {name} and ttfts differ in length")
        return np.array([number(v, f"{path}: {name}[{at}]", name) for at, v in enumerate(values)])

    first = seconds("ttfts")
    outputs, inputs, latencies = seconds("output_lens"), seconds("input_lens"), seconds("latencies")
    gaps = _gaps(document.get("itls"), size, path)
    if first is None or outputs is None:
        raise InvalidFile(f"{path}: output_lens are missing beside ttfts")
    found = {"ttft_ms": 1000.0 * first, "output_tokens": outputs}
    if inputs is not None:
        found["input_tokens"] = inputs
    if gaps is not None:
        count = np.array([len(one) for one in gaps], np.float64)
        total = np.array([sum(one) for one in gaps], np.float64)
        found["itl_ms"] = np.divide(
            1000.0 * total, count, out=np.full(size, np.nan), where=count > 0
        )
        latencies = first + total if latencies is None else latencies
    if latencies is not None:
        found["latency_ms"] = 1000.0 * latencies
        later = outputs - 1.0
        rest = 1000.0 * (latencies - first)
        found["tpot_ms"] = np.divide(rest, later, out=np.full(size, np.nan), where=later > 0)
    starts = seconds("start_times")
    if starts is not None and latencies is not None:
        found["end_ms"] = 1000.0 * (starts + latencies)
    return found


def _gaps(itls: Any, size: int, path: Path) -> list[list[float]] | None:
    if itls is None:
        return None
    if not isinstance(itls, list) or len(itls) != size:
        raise InvalidFile(f"{path}: itls and ttfts differ in length")
    return [[number(v, f"{path}: itls[{at}]", "itls") for v in one] for at, one in enumerate(itls)]


def _ordered(columns: dict[str, FloatArray]) -> tuple[dict[str, FloatArray], FloatArray | None]:
    """By completion, with the time between completions; as they are where that is not told."""
    ends = columns.pop("end_ms", None)
    if ends is None or not ends.size:
        return columns, None
    order = np.argsort(ends, kind="stable")
    begin = float((ends - columns["latency_ms"]).min())
    took_ms = np.diff(ends[order], prepend=begin)
    return {name: values[order] for name, values in columns.items()}, took_ms
