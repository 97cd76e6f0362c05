"""Rolling windows: merges of closed tiles, and the numbers read off them.

A window [end - length, end) is the sum of the fewest tiles that fill it, so it is a pure function of
the tiles, the same after any order of arrival, duplication or restart.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ...schemas.events import ERROR_TYPES, STATUSES
from . import metrics as m
from .sketch import values_of
from .slices import COVERAGE, FLEET
from .tiles import SLICE_BITS, Tile

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MINUTE, HOUR, DAY = 60, 3600, 86400
# Length of each window and how often it is evaluated and stored, in seconds of event time.
WINDOWS: dict[str, int] = {
    "1m": MINUTE,
    "5m": 5 * MINUTE,
    "30m": 30 * MINUTE,
    "1h": HOUR,
    "2h": 2 * HOUR,
    "6h": 6 * HOUR,
    "1d": DAY,
    "3d": 3 * DAY,
    "7d": 7 * DAY,
    "28d": 28 * DAY,
    "30d": 30 * DAY,
}
PROBABILITIES = np.array([0.5, 0.9, 0.95, 0.99])

Segments = tuple[Ints, npt.NDArray[np.uint32], Ints, Ints]
"""Counts and keys of a sketch in slice order; per slice its total and the total before it."""


def tick_s(length_s: int) -> int:
    """Seconds of event time between two evaluations of a window."""
    if length_s <= 5 * MINUTE:
        return 10
    if length_s <= 30 * MINUTE:
        return 30
    return MINUTE if length_s <= HOUR else 5 * MINUTE


class Reader:
    """Reads counters and quantiles of many slices off one tile.

    Args:
        tile: merged.
        slices: the slices to read, ascending, shape (s,).
    """

    def __init__(self, tile: Tile, slices: Ints) -> None:
        self._tile = tile
        self._keys = tile.keys
        self._slices_of = tile.slices
        self._heads = slices.astype(np.uint64) << np.uint64(SLICE_BITS)
        self._found: dict[int, Segments] = {}
        self.slices = slices

    def counter(self, metric: int, position: int = 0) -> Ints:
        """A counter of each slice, shape (s,), 0 where it never counted."""
        if len(self._tile) == 0:
            return np.zeros(len(self.slices), np.int64)
        wanted = self._heads | np.uint64(m.key(metric, position))
        at = np.minimum(np.searchsorted(self._tile.codes, wanted), len(self._tile) - 1)
        return np.where(self._tile.codes[at] == wanted, self._tile.counts[at], 0)

    def count(self, sketch: m.Sketch) -> Ints:
        """Values in a sketch of each slice, shape (s,)."""
        return self._segments(sketch)[2]

    def quantiles(self, sketch: m.Sketch, probabilities: Floats) -> Floats:
        """Quantiles of each slice, shape (s, len(probabilities)); NaN where a sketch is empty."""
        counts, keys, totals, before = self._segments(sketch)
        result = np.full((len(self.slices), len(probabilities)), np.nan)
        some = np.flatnonzero(totals)
        if len(some) == 0:
            return result
        ranks = np.floor(probabilities[None, :] * (totals[some, None] - 1)).astype(np.int64)
        found = np.searchsorted(np.cumsum(counts), ranks + before[some, None], side="right")
        bins = keys[found.ravel()] & ((1 << m.BIN_BITS) - 1)
        result[some] = values_of(bins).reshape(found.shape)
        return result

    def _segments(self, sketch: m.Sketch) -> Segments:
        known = self._found.get(sketch.number)
        if known is None:
            known = self._found[sketch.number] = self._search(sketch)
        return known

    def _search(self, sketch: m.Sketch) -> Segments:
        here = (self._keys >> m.BIN_BITS) == sketch.number
        counts, keys, owners = self._tile.counts[here], self._keys[here], self._slices_of[here]
        running = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        before = running[np.searchsorted(owners, self.slices, side="left")]
        after = running[np.searchsorted(owners, self.slices, side="right")]
        return counts, keys, after - before, before


Column = Ints | Floats | list[dict[str, int]] | list[str]


def rows_of(
    tile: Tile, length_s: int, workers: int, vanished: bool
) -> tuple[Ints, dict[str, Column]]:
    """The row of every slice in a window.

    Args:
        tile: the window's tiles merged.
        length_s: length of the window.
        workers: workers alive at its end.
        vanished: whether a worker fell silent within it.

    Returns:
        Slice numbers, shape (s,), the fleet always among them and coverage never; and the columns of the table
        `windows`, each of shape (s,).
    """
    slices = np.setdiff1d(np.append(tile.slices, FLEET), COVERAGE)
    reader = Reader(tile, slices)
    columns: dict[str, Column] = {}
    columns |= _traffic(reader, length_s)
    columns |= _spend_and_quality(reader)
    for name in m.LATENCIES:
        columns |= _named(name, reader.quantiles(m.SKETCHES[name], PROBABILITIES))
    columns |= _engine(reader)
    columns |= _coverage(reader, workers, vanished)
    return slices, columns


def _traffic(reader: Reader, length_s: int) -> dict[str, Column]:
    requests = reader.counter(m.REQUESTS)
    status = {name: reader.counter(m.STATUS, at) for at, name in enumerate(STATUSES)}
    errors = status["error"] + status["timeout"]
    by_type = [reader.counter(m.ERROR_TYPE, at) for at in range(len(ERROR_TYPES))]
    output = reader.counter(m.OUTPUT_TOKENS)
    return {
        "requests": requests,
        "request_rate": requests / length_s,
        "ok": status["ok"],
        "errors": errors,
        "timeouts": status["timeout"],
        "cancelled": status["cancelled"],
        "rejected_requests": status["rejected"],
        "overdue": reader.counter(m.OVERDUE),
        "error_rate": _ratio(errors, requests),
        "availability": _ratio(requests - errors - status["rejected"], requests),
        "errors_by_type": [
            {
                name: int(counts[at])
                for name, counts in zip(ERROR_TYPES, by_type, strict=True)
                if counts[at]
            }
            for at in range(len(requests))
        ],
        "input_tokens": reader.counter(m.INPUT_TOKENS),
        "output_tokens": output,
        "cached_tokens": reader.counter(m.CACHED_TOKENS),
        "tokens_per_s": output / length_s,
    }


def _spend_and_quality(reader: Reader) -> dict[str, Column]:
    requests = reader.counter(m.REQUESTS)
    cost = reader.counter(m.COST_NANOUSD)
    violations = reader.counter(m.SAFETY_VIOLATIONS)
    quality = reader.counter(m.QUALITY_COUNT)
    return {
        "cost_usd": cost / 1e9,
        "cost_per_1k_tokens_usd": _ratio(cost / 1e6, reader.counter(m.COSTED_TOKENS)),
        "cache_hit_rate": _ratio(reader.counter(m.CACHE_HITS), reader.counter(m.CACHE_KNOWN)),
        "safety_violations": violations,
        "safety_rate": _ratio(violations, requests),
        "quality_mean": _ratio(reader.counter(m.QUALITY_MICRO) / 1e6, quality),
        "acceptance_rate": _ratio(reader.counter(m.ACCEPTED), reader.counter(m.ACCEPTED_KNOWN)),
        "feedback": reader.counter(m.FEEDBACK),
        "accuracy": _ratio(reader.counter(m.LABEL_CORRECT), reader.counter(m.LABELLED)),
    }


def _engine(reader: Reader) -> dict[str, Column]:
    def mean(name: str) -> Floats:
        sketch = m.SKETCHES[name]
        total = reader.counter(sketch.number + m.SUM_OFFSET) / sketch.scale
        return _ratio(total, reader.count(sketch))

    def quantile(name: str, probability: float) -> Floats:
        return reader.quantiles(m.SKETCHES[name], np.array([probability]))[:, 0]

    return {
        "steps": reader.counter(m.STEPS),
        "step_ms_p50": quantile("step_ms", 0.5),
        "step_ms_p99": quantile("step_ms", 0.99),
        "queue_depth_mean": mean("queue_depth"),
        "queue_depth_p99": quantile("queue_depth", 0.99),
        "batch_fill_mean": _ratio(reader.counter(m.BATCH_SIZE), reader.counter(m.BATCH_CAPACITY)),
        "kv_cache_usage_mean": mean("kv_cache_usage"),
        "kv_cache_usage_p99": quantile("kv_cache_usage", 0.99),
        "gpu_utilization_mean": mean("gpu_utilization"),
        "gpu_memory_ratio_p99": quantile("gpu_memory_ratio", 0.99),
        "preemptions": reader.counter(m.PREEMPTIONS),
        "batch_size_mean": _ratio(reader.counter(m.BATCHED_SIZE), reader.counter(m.BATCHED)),
        "running_mean": _ratio(reader.counter(m.RUNNING), reader.counter(m.RUNNING_COUNT)),
        "retry_rate_mean": _ratio(
            reader.counter(m.RETRY_MICRO) / 1e6, reader.counter(m.RETRY_COUNT)
        ),
        "cache_evictions": reader.counter(m.CACHE_EVICTIONS),
        "cpu_utilization_mean": mean("cpu_utilization"),
        "gpu_temperature_c_max": quantile("gpu_temperature_c", 1.0),
        "model_load_s_max": quantile("model_load_s", 1.0),
        "healthy_replicas_min": quantile("healthy_replicas", 0.0),
        "healthy_replicas_ratio": _ratio(
            reader.counter(m.HEALTHY_REPLICAS), reader.counter(m.EXPECTED_REPLICAS)
        ),
        "host_memory_ratio_p99": quantile("host_memory_ratio", 0.99),
    }


def _coverage(reader: Reader, workers: int, vanished: bool) -> dict[str, Column]:
    """Coverage of the whole fleet, the same for every slice: what is missing has no dimensions."""
    # Panes of the first version kept it in the slice of the fleet.
    fleet = Reader(reader._tile, np.array([FLEET, COVERAGE]))
    counters = {
        "received": m.RECEIVED,
        "missing": m.MISSING,
        "late": m.LATE,
        "duplicate": m.DUPLICATE,
        "rejected": m.REJECTED,
        "gap": m.GAP,
    }
    counted = {name: int(fleet.counter(metric).sum()) for name, metric in counters.items()}
    expected = counted["received"] + counted["missing"] + counted["gap"]
    anonymous = int(fleet.counter(m.UNIDENTIFIED).sum())
    state = coverage_state(expected, counted, vanished or anonymous > 0)
    size = len(reader.slices)
    everywhere: Mapping[str, int] = counted | {"expected": expected, "workers": workers}
    columns: dict[str, Column] = {
        name: np.full(size, value, np.int64) for name, value in everywhere.items()
    }
    share = counted["received"] / expected if expected else np.nan
    return columns | {"coverage": np.full(size, share), "coverage_state": [state] * size}


def coverage_state(expected: int, counted: Mapping[str, int], unknown: bool) -> str:
    """The worst that can be said: no_data, partial (a known loss), unknown (a silent worker), ok."""
    if counted["missing"] or counted["gap"]:
        return "partial"
    if unknown:
        return "unknown"
    return "ok" if expected else "no_data"


def _named(name: str, quantiles: Floats) -> dict[str, Column]:
    return {
        f"{name}_p{round(probability * 100)}": quantiles[:, at]
        for at, probability in enumerate(PROBABILITIES.tolist())
    }


def _ratio(above: Ints | Floats, below: Ints) -> Floats:
    """above / below, NaN where below is zero."""
    result = np.full(len(below), np.nan)
    np.divide(above, below, out=result, where=below != 0)
    return result
