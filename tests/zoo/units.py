"""From events to what a live gate counts, written out row by row as interface.py states it.

It shares no code with the query of the running system, so that the two can be compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from penstock.streams.core.gates.interface import (
    PPM,
    GateInputs,
    MetricRows,
    Wanted,
    WantedMetric,
    fine_bins_of,
)
from penstock.tests.zoo.traffic import SECOND_US, Event

Key = tuple[int, int, str, str]


@dataclass(frozen=True)
class _Unit:
    """What a unit is, by its first request."""

    block: int
    arm: int
    stratum: str
    worker: str
    start_us: int

    @property
    def key(self) -> Key:
        return (self.block, self.arm, self.stratum, self.worker)


def inputs_of(
    wanted: Wanted, events: Sequence[Event], start_us: int, watermark_us: int
) -> GateInputs:
    """The closed blocks of an epoch.

    Args:
        wanted: what the gate asks for.
        events: requests and feedback, in any order.
        start_us: begin of the epoch.
        watermark_us: event time up to which everything is there.
    """
    block_us = wanted.block_s * SECOND_US
    last = (watermark_us - wanted.mature_s * SECOND_US) // block_us
    first = start_us // block_us + 1
    ends = np.arange(first, last + 1, dtype=np.int64) * block_us
    requests = sorted((e for e in events if e["event"] == "request"), key=_started)
    feedback = {e["request_id"]: e for e in events if e["event"] == "feedback"}
    units, found = _units(wanted, requests, feedback, start_us)
    table = _Table(wanted, int(first))
    for unit in units.values():
        table.assigned[unit.key] += 1
    for metric in wanted.metrics:
        if metric.kind == "rate" and metric.per == "unit":
            for key, unit in units.items():
                if metric.name in found[key]:
                    table.rate(metric.name, unit.key, found[key][metric.name])
        else:
            for event in requests:
                place = _place(wanted, event, start_us)
                if place is not None:
                    table.request(metric, place.key, event, feedback)
    return table.inputs(ends)


def _started(event: Event) -> int:
    return int(event["ts"]) - round(float(event.get("latency_ms", 0.0)) * 1000)


def _place(wanted: Wanted, event: Event, start_us: int) -> _Unit | None:
    """The block, arm, stratum and worker of a request; None where it belongs to no arm."""
    at = _started(event)
    for arm, dimensions in enumerate(wanted.arms):
        if dimensions and at >= start_us and all(event.get(k) == v for k, v in dimensions.items()):
            block = at // (wanted.block_s * SECOND_US) + 1
            return _Unit(block, arm, _stratum(wanted, event), event["worker_id"], at)
    return None


def _stratum(wanted: Wanted, event: Event) -> str:
    found = {"prompt_length": str(int(np.log2(event.get("input_tokens", 0) + 1)))}
    return "|".join(found.get(name, str(event.get(name, ""))) for name in wanted.strata)


def _units(
    wanted: Wanted, requests: Iterable[Event], feedback: Mapping[str, Event], start_us: int
) -> tuple[dict[str, _Unit], dict[str, dict[str, bool]]]:
    """Units, and for each the metrics that it carries: whether any of its requests is bad."""
    units: dict[str, _Unit] = {}
    found: dict[str, dict[str, bool]] = defaultdict(dict)
    for event in requests:
        place = _place(wanted, event, start_us)
        if place is None:
            continue
        key = _unit_key(wanted, event)
        unit = units.setdefault(key, place)
        if place.start_us - unit.start_us > wanted.mature_s * SECOND_US:
            continue
        for metric in wanted.metrics:
            told = feedback.get(event["request_id"]) if metric.field == "unaccepted" else event
            if told is not None:
                bad = _is_bad(metric.field, told)
                found[key][metric.name] = found[key].get(metric.name, False) or bad
    return units, found


def _unit_key(wanted: Wanted, event: Event) -> str:
    names = {
        "request": ("trace_id", "request_id"),
        "session": ("session_id",),
        "user": ("user_hash",),
    }
    return next(str(event[name]) for name in names[wanted.unit] if event.get(name))


def _is_bad(field: str, event: Event) -> bool:
    status = event.get("status")
    if field == "error":
        return status in ("error", "timeout")
    if field == "timeout":
        return status == "timeout"
    if field == "unaccepted":
        return event["accepted"] is False
    return field == "safety" and bool(event.get("safety_flags"))


class _Table:
    """Sums by block, arm, stratum and worker."""

    def __init__(self, wanted: Wanted, first: int) -> None:
        self._wanted, self._first = wanted, first
        self.assigned: dict[Key, int] = defaultdict(int)
        self._rates: dict[str, dict[Key, list[int]]] = defaultdict(
            lambda: defaultdict(lambda: [0, 0])
        )
        self._values: dict[str, dict[Key, list[tuple[int, int]]]] = defaultdict(
            lambda: defaultdict(list)
        )
        self._latencies: dict[str, dict[Key, list[float]]] = defaultdict(lambda: defaultdict(list))

    def rate(self, name: str, key: Key, bad: bool) -> None:
        """One unit of a rate."""
        counts = self._rates[name][key]
        counts[0] += 1
        counts[1] += bad

    def request(
        self, metric: WantedMetric, key: Key, event: Event, feedback: Mapping[str, Event]
    ) -> None:
        """One request of a metric, where it carries it."""
        field = metric.field
        if metric.kind == "bins":
            if event.get("overdue"):
                self._latencies[metric.name][key].append(np.inf)
            elif field in event:
                self._latencies[metric.name][key].append(event[field])
        elif metric.kind == "moments":
            pair = _moment(metric, event)
            if pair is not None:
                self._values[metric.name][key].append(pair)
        elif field == "unaccepted":
            told = feedback.get(event["request_id"])
            if told is not None:
                self.rate(metric.name, key, _is_bad(field, told))
        elif field == "above_cap":
            if "cost_usd" in event and metric.cap is not None:
                tokens = event["input_tokens"] + event["output_tokens"]
                over = metric.cap_tokens is not None and tokens > metric.cap_tokens
                self.rate(metric.name, key, event["cost_usd"] > metric.cap or over)
        elif field.startswith("above:") and metric.limit is not None:
            if event.get("overdue"):
                self.rate(metric.name, key, True)
            elif field[6:] in event:
                self.rate(metric.name, key, event[field[6:]] > metric.limit)
        else:
            self.rate(metric.name, key, _is_bad(field, event))

    def inputs(self, ends: np.ndarray[Any, np.dtype[np.int64]]) -> GateInputs:
        """Rows of the blocks that have closed."""
        touched = {*self.assigned}
        for sums in (self._rates, self._values, self._latencies):
            for by_key in sums.values():
                touched |= by_key.keys()
        keys = sorted(key for key in touched if self._first <= key[0] < self._first + len(ends))
        return GateInputs(
            end_us=ends,
            coverage=np.ones(len(ends)),
            share=np.full(len(ends), np.nan),
            block=_ints(key[0] - self._first for key in keys),
            arm=_ints(key[1] for key in keys),
            stratum=[key[2] for key in keys],
            worker=[key[3] for key in keys],
            assigned=_ints(self.assigned.get(key, 0) for key in keys),
            metrics={metric.name: self._rows(metric, keys) for metric in self._wanted.metrics},
        )

    def _rows(self, metric: WantedMetric, keys: Sequence[Key]) -> MetricRows:
        if metric.kind == "rate":
            counts = [self._rates[metric.name].get(key, [0, 0]) for key in keys]
            return MetricRows(_ints(n for n, _ in counts), bad=_ints(bad for _, bad in counts))
        if metric.kind == "bins":
            values = [np.array(self._latencies[metric.name].get(key, [])) for key in keys]
            found = [np.unique(fine_bins_of(row), return_counts=True) for row in values]
            return MetricRows(
                _ints(len(row) for row in values),
                bins=[bins for bins, _ in found],
                counts=[counts.astype(np.int64) for _, counts in found],
            )
        pairs = [self._values[metric.name].get(key, []) for key in keys]
        powers = {"a": (1, 0), "b": (0, 1), "aa": (2, 0), "ab": (1, 1), "bb": (0, 2)}
        sums = {
            name: _ints(sum(a**i * b**j for a, b in row) for row in pairs)
            for name, (i, j) in powers.items()
        }
        n = _ints(len(row) for row in pairs)
        tops = [_ints(max((pair[at] for pair in row), default=0) for row in pairs) for at in (0, 1)]
        return MetricRows(
            n, a=sums["a"], b=sums["b"], aa=sums["aa"], ab=sums["ab"], bb=sums["bb"],
            top_a=tops[0], top_b=tops[1],
        )  # fmt: skip


def _moment(metric: WantedMetric, event: Event) -> tuple[int, int] | None:
    """Value and weight in millionths of their caps."""
    value = event.get("quality" if metric.field == "quality" else "cost_usd")
    if value is None or metric.cap is None:
        return None
    weight = PPM
    if metric.cap_tokens is not None:
        weight = _millionths((event["input_tokens"] + event["output_tokens"]) / metric.cap_tokens)
    return _millionths(value / metric.cap), weight


def _millionths(value: float) -> int:
    return int(np.floor(np.clip(value * PPM, 0, PPM) + 0.5))


def _ints(values: Iterable[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(list(values), np.int64)
