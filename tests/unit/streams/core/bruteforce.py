"""Every window computed the slow way: plain Python over the events as they were sent.

Shares no code with streams/core. It knows the definitions only: which rows count where, bins of
DDSketch, rank floor(p * (n - 1)), and what the ledger says of boots.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from penstock.schemas.events import ERROR_TYPES

Row = dict[str, Any]
SliceKey = tuple[str, tuple[str, ...]]

SECOND = 1_000_000
GAMMA = (1 + 0.01) / (1 - 0.01)
WINDOW_LENGTHS = (60, 300, 1800, 3600, 7200, 21600, 86400, 259200, 604800, 2419200, 2592000)
SETS = {
    "fleet": (),
    "model": ("model",),
    "model_version": ("model", "model_version"),
    "release": ("model", "model_version", "release", "variant"),
    "model_route": ("model", "route"),
    "model_adapter": ("model", "adapter"),
    "route": ("route",),
    "tenant": ("tenant",),
}
ROUTED = {"model_route", "route", "tenant"}  # steps have none
LATENCIES = [
    "latency_ms",
    "queue_ms",
    "batch_wait_ms",
    "tokenize_ms",
    "transport_ms",
    "preprocess_ms",
    "prefill_ms",
    "ttft_ms",
    "tpot_ms",
    "decode_ms",
    "inference_ms",
    "postprocess_ms",
    "detokenize_ms",
]
NAN = math.nan
FLEET: SliceKey = ("fleet", ())


@dataclass
class Boot:
    """What one boot told: who delivered each sequence number first, and the latest of its claims."""

    worker_id: str
    identified: bool
    clock_of: dict[int, int] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    next_seq: int = 0
    first_clock: int = 2**62
    last_clock: int = 0
    last_append: int = 0
    closed: bool = False

    def absent(self) -> list[tuple[int, int]]:
        """(sequence number, clock at which its absence shows) of what has not arrived."""
        top = max(self.clock_of, default=-1) + 1
        found, clock = [], self.last_clock
        for seq in range(max(top, self.next_seq) - 1, -1, -1):
            if seq in self.clock_of:
                clock = self.clock_of[seq]
            else:
                found.append((seq, self.last_clock if seq >= top else clock))
        return found


@dataclass
class Truth:
    """Everything that was delivered, in the order of delivery."""

    boots: dict[str, Boot] = field(default_factory=dict)
    requests: list[Row] = field(default_factory=list)
    steps: list[Row] = field(default_factory=list)
    feedback: list[Row] = field(default_factory=list)
    facts: Counter[tuple[int, str]] = field(default_factory=Counter)  # (pane, name) -> n

    def deliver(
        self,
        kind: str,
        worker_id: str,
        boot_id: str,
        seq0: int,
        rows: Sequence[Row],
        *,
        append_us: int,
        clock_us: int,
        next_seq: int = 0,
        closing: bool = False,
        gaps: Iterable[tuple[int, int]] = (),
        identified: bool = True,
    ) -> tuple[int, int, int]:
        """One frame. A row with key `_bad` breaks a rule, one with `_late` came late.

        Returns:
            Rows stored, duplicate and rejected.
        """
        home = boot_id if identified else ""  # POSTs without identity are one boot together
        boot = self.boots.setdefault(home, Boot(worker_id, identified))
        clock = min(clock_us, append_us)
        pane = clock // SECOND // 10 * 10
        stored = duplicate = rejected = 0
        for seq, row in enumerate(rows, seq0):
            if identified and seq in boot.clock_of:
                duplicate += 1
                continue
            if identified:
                boot.clock_of[seq] = clock
            if row.get("_bad"):
                rejected += 1
                continue
            stored += 1
            row = row | {"ts": min(row["ts"], append_us), "boot_id": boot_id, "seq": seq}
            {"request": self.requests, "step": self.steps, "feedback": self.feedback}.get(
                kind, []
            ).append(row)
        new = stored + rejected
        self.facts[pane, "received"] += new
        self.facts[pane, "duplicate"] += duplicate
        self.facts[pane, "rejected"] += rejected
        self.facts[pane, "unidentified"] += 0 if identified else new
        for low, high in gaps:
            boot.dropped |= set(range(low, high))
            boot.next_seq = max(boot.next_seq, high)
        if identified:
            boot.next_seq = max(boot.next_seq, next_seq)
        boot.first_clock = min(boot.first_clock, clock)
        boot.last_clock = max(boot.last_clock, clock)
        boot.last_append = max(boot.last_append, append_us)
        boot.closed |= closing
        return stored, duplicate, rejected

    def late(self, clock_us: int, append_us: int, count: int) -> None:
        """How many rows of a frame the ledger calls late."""
        self.facts[min(clock_us, append_us) // SECOND // 10 * 10, "late"] += count

    def coverage(self, start_s: int, end_s: int) -> Counter[str]:
        """Coverage counters of the fleet over [start_s, end_s)."""
        total: Counter[str] = Counter()
        for (pane, name), count in self.facts.items():
            if start_s <= pane < end_s:
                total[name] += count
        for boot in self.boots.values():
            for seq, clock in boot.absent():
                if start_s <= clock // SECOND // 10 * 10 < end_s:
                    total["gap" if seq in boot.dropped else "missing"] += 1
        return total

    def windows(
        self, end_s: int, length_s: int, now_us: int, timeout_us: int
    ) -> dict[SliceKey, Row]:
        """The row of every slice in one window.

        Args:
            end_s: end of the window.
            length_s: its length.
            now_us: clock at which boots are judged silent.
            timeout_us: silence after which a boot has vanished.
        """
        start_s = end_s - length_s

        def within(rows: Iterable[Row]) -> list[Row]:
            return [row for row in rows if start_s <= row["ts"] // SECOND < end_s]

        requests, steps = within(self.requests), within(self.steps)
        judged = self._judged(requests)
        shared = self._shared(start_s, end_s, now_us, timeout_us)
        members: dict[SliceKey, tuple[list[Row], list[Row], list[Row]]] = {FLEET: ([], [], [])}
        for position, rows in enumerate((requests, steps, judged)):
            for row in rows:
                for key in slices_of(row, steps=position == 1):
                    members.setdefault(key, ([], [], []))[position].append(row)
        return {
            key: requests_row(mine, length_s) | feedback_row(mine, theirs) | steps_row(own) | shared
            for key, (mine, own, theirs) in members.items()
        }

    def _judged(self, requests: Sequence[Row]) -> list[Row]:
        """Feedback as it counts: with the time and dimensions of its request."""
        by_id: dict[str, list[Row]] = {}
        for row in requests:
            if row.get("status") is not None and row.get("request_id"):
                by_id.setdefault(row["request_id"], []).append(row)
        return [
            {name: request.get(name) for name in (*DIMENSIONS, "_overflow")} | {"_judgement": item}
            for item in self.feedback
            for request in by_id.get(item["request_id"], [])
        ]

    def _shared(self, start_s: int, end_s: int, now_us: int, timeout_us: int) -> Row:
        total = self.coverage(start_s, end_s)
        expected = total["received"] + total["missing"] + total["gap"]
        low, high = start_s * SECOND, end_s * SECOND
        vanished = any(
            boot.identified
            and not boot.closed
            and now_us - boot.last_append >= timeout_us
            and low <= boot.last_clock < high
            for boot in self.boots.values()
        )
        alive = {
            boot.worker_id
            for boot in self.boots.values()
            if boot.first_clock < high and boot.last_clock >= high - 10 * SECOND
        }
        state = "ok" if expected else "no_data"
        if vanished or total["unidentified"]:
            state = "unknown"
        if total["missing"] or total["gap"]:
            state = "partial"
        names = ("received", "missing", "late", "duplicate", "rejected", "gap")
        return {
            **{name: total[name] for name in names},
            "expected": expected,
            "workers": len(alive),
            "coverage": total["received"] / expected if expected else NAN,
            "coverage_state": state,
        }


DIMENSIONS = ("model", "model_version", "adapter", "route", "release", "variant", "tenant")


def slices_of(row: Row, steps: bool = False) -> list[SliceKey]:
    """The slices in which a row counts; `_overflow` names the sets in which it counts as other."""
    other = row.get("_overflow") or ()
    return [
        (
            name,
            tuple("(other)" if name in other else row.get(dim) or "" for dim in dims),
        )
        for name, dims in SETS.items()
        if not (steps and name in ROUTED)
    ]


def micros(value: float) -> int:
    """A float as millionths."""
    return math.floor(value * 1e6 + 0.5)


def stored_us(row: Row, name: str) -> int | None:
    """A latency as it is stored."""
    value = row.get(name)
    return None if value is None else math.floor(value * 1000 + 0.5)


def bin_of(value: float) -> int:
    """Bin number, -10**6 for zero."""
    if value <= 0:
        return -(10**6)
    return math.ceil(math.log(value) / math.log(GAMMA))


def estimate(number: int) -> float:
    """What stands for a bin. numpy's exp differs from math's in the last digit now and then."""
    if number == -(10**6):
        return 0.0
    if number == 10**6:
        return math.inf
    return float(2 * np.exp(np.float64(number * math.log(GAMMA))) / (GAMMA + 1))


def quantile(values: Iterable[float], probability: float) -> float:
    """The estimate at rank floor(p * (n - 1)); infinite values have a bin of their own."""
    bins = sorted(10**6 if value == math.inf else bin_of(value) for value in values)
    return estimate(bins[math.floor(probability * (len(bins) - 1))]) if bins else NAN


def ratio(above: float, below: float) -> float:
    """above / below, NaN over zero."""
    return above / below if below else NAN


def total(rows: Iterable[Mapping[str, Any]], name: str) -> int:
    """Sum of a column, missing as zero."""
    return sum(row.get(name) or 0 for row in rows)


def requests_row(rows: Sequence[Row], length_s: int) -> Row:
    """What is read off request events."""
    done = [row for row in rows if row.get("status") is not None]
    n = len(done)
    status = Counter(row["status"] for row in done)
    failed = [row for row in done if row["status"] in ("error", "timeout")]
    types = Counter(row.get("error_type") or "other" for row in failed)
    nano = [math.floor(row["cost_usd"] * 1e9 + 0.5) for row in rows if has(row, "cost_usd")]
    costed = [row for row in rows if has(row, "cost_usd")]
    known = [row for row in rows if has(row, "cache_hit")]
    unsafe = sum(1 for row in rows if row.get("safety_flags"))
    result: Row = {
        "requests": n,
        "request_rate": n / length_s,
        "ok": status["ok"],
        "errors": len(failed),
        "timeouts": status["timeout"],
        "cancelled": status["cancelled"],
        "rejected_requests": status["rejected"],
        "overdue": len(rows) - n,
        "error_rate": ratio(len(failed), n),
        "availability": ratio(n - len(failed) - status["rejected"], n),
        "errors_by_type": {name: types[name] for name in ERROR_TYPES if types[name]},
        "input_tokens": total(rows, "input_tokens"),
        "output_tokens": total(rows, "output_tokens"),
        "cached_tokens": total(rows, "cached_tokens"),
        "tokens_per_s": total(rows, "output_tokens") / length_s,
        "cost_usd": sum(nano) / 1e9,
        "cost_per_1k_tokens_usd": ratio(
            sum(nano) / 1e6, total(costed, "input_tokens") + total(costed, "output_tokens")
        ),
        "cache_hit_rate": ratio(sum(1 for row in known if row["cache_hit"]), len(known)),
        "safety_violations": unsafe,
        "safety_rate": ratio(unsafe, n),
    }
    for name in LATENCIES:
        values = [us / 1000 for row in rows if (us := _counted_us(row, name)) is not None]
        for percent in (50, 90, 95, 99):
            result[f"{name}_p{percent}"] = quantile(values, percent / 100)
    return result


def _counted_us(row: Row, name: str) -> float | None:
    """An overdue request counts once, when it is announced, as longer than anything."""
    if name == "latency_ms":
        if row.get("status") is None:
            return math.inf
        if row.get("overdue"):
            return None
    return stored_us(row, name)


def has(row: Row, name: str) -> bool:
    """Whether a row states a field."""
    return row.get(name) is not None


def feedback_row(rows: Sequence[Row], judged: Sequence[Row]) -> Row:
    """What is read off judgements, those stated on requests among them."""
    items = [row["_judgement"] for row in judged]
    scores = [micros(row["quality"]) for row in (*rows, *items) if has(row, "quality")]
    said = [item for item in items if has(item, "accepted")]
    labelled = [item for item in items if item.get("label") and item.get("predicted")]
    return {
        "quality_mean": ratio(sum(scores) / 1e6, len(scores)),
        "acceptance_rate": ratio(sum(1 for item in said if item["accepted"]), len(said)),
        "feedback": len(items),
        "accuracy": ratio(
            sum(1 for item in labelled if item["label"] == item["predicted"]), len(labelled)
        ),
    }


def steps_row(rows: Sequence[Row]) -> Row:
    """What is read off step events."""
    took = [us / 1000 for row in rows if (us := stored_us(row, "step_ms")) is not None]
    depth = [
        (row.get("queue_prefill") or 0) + (row.get("queue_decode") or 0)
        for row in rows
        if has(row, "queue_prefill") or has(row, "queue_decode")
    ]
    kv = [micros(row["kv_cache_usage"]) for row in rows if has(row, "kv_cache_usage")]
    gpu = [micros(row["gpu_utilization"]) for row in rows if has(row, "gpu_utilization")]
    memory = shares(rows, "gpu_memory_used_bytes", "gpu_memory_total_bytes")
    batched = [row for row in rows if has(row, "batch_size") and has(row, "batch_capacity")]
    return {
        "steps": len(rows),
        "step_ms_p50": quantile(took, 0.5),
        "step_ms_p99": quantile(took, 0.99),
        "queue_depth_mean": ratio(sum(depth), len(depth)),
        "queue_depth_p99": quantile(depth, 0.99),
        "batch_fill_mean": ratio(total(batched, "batch_size"), total(batched, "batch_capacity")),
        "kv_cache_usage_mean": ratio(sum(kv) / 1e6, len(kv)),
        "kv_cache_usage_p99": quantile([ppm / 1e6 for ppm in kv], 0.99),
        "gpu_utilization_mean": ratio(sum(gpu) / 1e6, len(gpu)),
        "gpu_memory_ratio_p99": quantile([ppm / 1e6 for ppm in memory], 0.99),
        "preemptions": total(rows, "preemptions"),
        "cache_evictions": total(rows, "cache_evictions"),
        **gauges_row(rows),
    }


def shares(rows: Sequence[Row], used: str, total: str) -> list[int]:
    """In millionths, of rows that state both."""
    return [
        row[used] * 1_000_000 // row[total] for row in rows if has(row, used) and row.get(total)
    ]


def gauges_row(rows: Sequence[Row]) -> Row:
    """What steps state now and then."""

    def stated(name: str) -> list[float]:
        return [row[name] for row in rows if has(row, name)]

    retries, cpu = (
        [micros(value) for value in stated(n)] for n in ("retry_rate", "cpu_utilization")
    )
    heat, load = (
        [micros(v) / 1e6 for v in stated(n)] for n in ("gpu_temperature_c", "model_load_s")
    )
    both = [row for row in rows if has(row, "healthy_replicas") and has(row, "expected_replicas")]
    return {
        "batch_size_mean": ratio(sum(stated("batch_size")), len(stated("batch_size"))),
        "running_mean": ratio(sum(stated("running")), len(stated("running"))),
        "retry_rate_mean": ratio(sum(retries) / 1e6, len(retries)),
        "cpu_utilization_mean": ratio(sum(cpu) / 1e6, len(cpu)),
        "gpu_temperature_c_max": quantile(heat, 1.0),
        "model_load_s_max": quantile(load, 1.0),
        "host_memory_ratio_p99": quantile(
            [ppm / 1e6 for ppm in shares(rows, "host_memory_bytes", "host_memory_total_bytes")],
            0.99,
        ),
        "healthy_replicas_min": quantile(stated("healthy_replicas"), 0.0),
        "healthy_replicas_ratio": ratio(
            total(both, "healthy_replicas"), total(both, "expected_replicas")
        ),
    }
