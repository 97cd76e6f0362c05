"""The process's own counters and sketches, kept by the flusher for `Emitter.snapshot`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import SupportsFloat, TypedDict

import numpy as np

from ..schemas.events import EventName
from .rows import Row

RELATIVE_ACCURACY = 0.01
GAMMA = (1 + RELATIVE_ACCURACY) / (1 - RELATIVE_ACCURACY)
_LOG_GAMMA = math.log(GAMMA)
QUANTILES = (0.5, 0.9, 0.95, 0.99)

# What is sketched, by kind of event.
SKETCHED: dict[EventName, tuple[str, ...]] = {
    "step": (
        "step_ms",
        "queue_prefill",
        "queue_decode",
        "inflight_decode_tokens",
        "tokenize_ms",
        "detokenize_ms",
        "transport_ms",
    ),
    "request": ("latency_ms", "ttft_ms", "transport_ms"),
}
SUMMED = ("tokenize_items", "detokenize_items")


class SketchSummary(TypedDict):
    """One distribution: its count, sum, last value, quantiles (1 % relative) and raw bins.

    `bins` maps ceil(log(x) / log(gamma)) to a count, gamma = 1.01 / 0.99, the bins of the
    server's sketches; values of zero or below are counted in `zeros`.
    """

    count: int
    sum: float
    last: float
    p50: float
    p90: float
    p95: float
    p99: float
    zeros: int
    bins: dict[int, int]


class Delivery(TypedDict):
    """What became of events and frames since the boot began; not affected by `reset`."""

    delivered_events: int
    delivered_frames: int
    lost_events: int
    rejected_events: int
    refused_frames: int
    spooled_frames: int
    failed_deliveries: int
    pending: bool


class Snapshot(TypedDict):
    """What `Emitter.snapshot` returns.

    `sketches` is keyed by field name (`step_ms`, `queue_prefill`, `tokenize_ms`, ...); fields that
    were never emitted are absent. `lost_events` in `delivery` were declared to the server as gaps.
    """

    worker_id: str
    boot_id: str
    since_us: int
    until_us: int
    events: dict[str, int]
    requests: dict[str, int]
    errors: dict[str, int]
    overdue: int
    backends: dict[str, int]
    backend_fallbacks: dict[str, int]
    items: dict[str, int]
    sketches: dict[str, SketchSummary]
    delivery: Delivery


class Sketch:
    """A log-bin sketch (DDSketch, Masson et al., VLDB 2019) with 1 % relative accuracy.

    >>> sketch = Sketch()
    >>> sketch.add([1.0, 10.0, 100.0])
    >>> round(sketch.quantile(0.5))
    10
    """

    def __init__(self) -> None:
        self.count = 0
        self.zeros = 0
        self.sum = 0.0
        self.last = 0.0
        self.bins: Counter[int] = Counter()

    def add(self, values: Sequence[float]) -> None:
        """Add finite values."""
        array = np.asarray(values, np.float64)
        array = array[np.isfinite(array)]
        if not array.size:
            return
        positive = array[array > 0.0]
        bins = np.ceil(np.log(positive) / _LOG_GAMMA).astype(np.int64)
        found, counts = np.unique(bins, return_counts=True)
        self.bins.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
        self.count += array.size
        self.zeros += int(array.size - positive.size)
        self.sum += float(array.sum())
        self.last = float(array[-1])

    def quantile(self, q: float) -> float:
        """The value below which a share `q` lies, within 1 %; NaN when empty."""
        if not self.count:
            return math.nan
        rank = q * (self.count - 1)
        below = self.zeros
        if rank < below:
            return 0.0
        value = 0.0
        for index in sorted(self.bins):
            below += self.bins[index]
            value = 2.0 * GAMMA**index / (GAMMA + 1.0)
            if rank < below:
                break
        return value

    def summary(self) -> SketchSummary:
        """As plain data."""
        p50, p90, p95, p99 = (self.quantile(q) for q in QUANTILES)
        return SketchSummary(
            count=self.count,
            sum=self.sum,
            last=self.last,
            p50=p50,
            p90=p90,
            p95=p95,
            p99=p99,
            zeros=self.zeros,
            bins=dict(self.bins),
        )


class Counters:
    """Everything a snapshot counts; one thread at a time."""

    def __init__(self, since_us: int) -> None:
        self.clear(since_us)

    def clear(self, since_us: int) -> None:
        """Start again."""
        self.since_us = since_us
        self.events: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.backends: Counter[str] = Counter()
        self.fallbacks: Counter[str] = Counter()
        self.items: Counter[str] = Counter()
        self.overdue = 0
        self.sketches: dict[str, Sketch] = {}

    def observe(self, kind: EventName, rows: Sequence[Row]) -> None:
        """Count rows of one kind."""
        self.events[kind] += len(rows)
        if kind == "request":
            self._observe_requests(rows)
        elif kind == "step":
            self.backends.update(_texts(rows, "backend"))
            self.fallbacks.update(_texts(rows, "backend_fallback"))
            for name in SUMMED:
                total = sum(_numbers(rows, name))
                if total:
                    self.items[name] += int(total)
        for name in SKETCHED.get(kind, ()):
            values = _numbers(rows, name)
            if values:
                self.sketches.setdefault(name, Sketch()).add(values)

    def _observe_requests(self, rows: Sequence[Row]) -> None:
        self.requests.update(_texts(rows, "status"))
        self.errors.update(_texts(rows, "error_type"))
        # Announcements only: the final event of an overdue request has a status.
        self.overdue += sum(1 for row in rows if row.get("overdue") and not row.get("status"))


def _texts(rows: Sequence[Row], name: str) -> Iterable[str]:
    return [value for row in rows if isinstance(value := row.get(name), str)]


def _numbers(rows: Sequence[Row], name: str) -> list[float]:
    values = [value for row in rows if (value := row.get(name)) is not None]
    if set(map(type, values)) <= {float, int}:
        return values
    # numpy's scalars are numbers too; what is none goes to quarantine, not into a sketch.
    return [float(value) for value in values if isinstance(value, SupportsFloat)]
