"""SQL of the API. Values are always parameters; identifiers come from the catalogues below only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..schemas.errors import InvalidQuery
from ..schemas.events import EventName, fields_of
from ..streams.core.metrics import LATENCIES
from ..streams.core.slices import DIMENSIONS

QUANTILES = ("p50", "p90", "p95", "p99")
# No question may occupy the store for ever; beyond this it answers 503.
BOUNDED = "SETTINGS max_execution_time = 30"
# Ids are found by bloom filters. Exact mode would read on wherever a newer version of a row might
# hide; the copies of a raw row are all alike, so there is none (5 times faster at 3 M rows).
BY_ID = f"{BOUNDED}, use_skip_indexes_if_final_exact_mode = 0"

# Columns of `windows` that can be asked for, beside the quantiles of each latency.
# tests/contract/test_api.py holds them against the table.
_COUNTS = (
    "requests", "ok", "errors", "timeouts", "cancelled", "rejected_requests", "overdue",
    "input_tokens", "output_tokens", "cached_tokens", "safety_violations", "feedback", "steps",
    "preemptions", "cache_evictions", "expected", "received", "missing", "late", "duplicate", "rejected", "gap",
    "workers",
)  # fmt: skip
_RATIOS = (
    "request_rate", "error_rate", "availability", "tokens_per_s", "cost_usd",
    "cost_per_1k_tokens_usd", "cache_hit_rate", "safety_rate", "quality_mean", "acceptance_rate",
    "accuracy", "step_ms_p50", "step_ms_p99", "queue_depth_mean", "queue_depth_p99",
    "batch_fill_mean", "kv_cache_usage_mean", "kv_cache_usage_p99", "gpu_utilization_mean",
    "gpu_memory_ratio_p99", "batch_size_mean", "running_mean", "retry_rate_mean",
    "cpu_utilization_mean", "gpu_temperature_c_max", "model_load_s_max", "healthy_replicas_min",
    "healthy_replicas_ratio", "host_memory_ratio_p99", "coverage",
)  # fmt: skip
WINDOW_METRICS = frozenset(
    (
        *_COUNTS,
        *_RATIOS,
        "errors_by_type",
        *(f"{name}_{quantile}" for name in LATENCIES for quantile in QUANTILES),
    )
)
DEFAULT_METRICS = (
    "requests", "request_rate", "error_rate", "tokens_per_s",
    "ttft_ms_p50", "ttft_ms_p95", "ttft_ms_p99",
    "latency_ms_p50", "latency_ms_p95", "latency_ms_p99",
    "cost_usd", "cost_per_1k_tokens_usd",
)  # fmt: skip

# Beside its fields, what ingestion says of a row that a reader can use.
_ARRIVAL = ("append_ts", "clock_ahead_us", "late")
# Large, sampled, and not what a list is read for: in the detail only.
HEAVY = frozenset({"payload", "features", "categories"})
STEP_DETAIL = (
    "ts", "worker_id", "boot_id", "seq", "kind", "step", "step_ms", "batch_size",
    "batch_capacity", "prefill_tokens", "decode_tokens", "queue_prefill", "queue_decode",
    "running", "inflight_decode_tokens", "kv_cache_usage", "preemptions", "tokenize_ms",
    "detokenize_ms", "transport_ms", "backend", "backend_fallback", "gpu_id", "gpu_utilization",
)  # fmt: skip
COVERAGE_COLUMNS = (
    "worker_id", "boot_id", "first_ts", "last_ts", "last_append_ts", "next_seq", "expected",
    "received", "stored", "missing", "gap", "duplicate", "rejected", "late", "state", "closed",
    "identified",
)  # fmt: skip
QUARANTINE_COLUMNS = (
    "append_ts", "incarnation", "partition", "offset", "row_index", "kind", "worker_id",
    "boot_id", "seq", "reason", "detail", "source", "topic", "sealed", "preview",
)  # fmt: skip


def event_columns(event: EventName) -> tuple[str, ...]:
    """Columns of an event's view that the API shows, identity first."""
    return (*(spec.name for spec in fields_of(event)), *_ARRIVAL)


def text_columns(event: EventName) -> frozenset[str]:
    """Columns in which the store keeps a missing value as an empty string."""
    return frozenset(s.name for s in fields_of(event) if s.doc.kind in ("label", "text"))


REQUEST_COLUMNS = event_columns("request")
REQUEST_LIST_COLUMNS = tuple(name for name in REQUEST_COLUMNS if name not in HEAVY)
REQUEST_FILTERS = (
    "model", "model_version", "adapter", "route", "release", "variant", "tenant", "status",
    "error_type", "worker_id", "trace_id", "session_id",
)  # fmt: skip
_IDENTIFIERS = (
    WINDOW_METRICS
    | frozenset(DIMENSIONS)
    | frozenset(COVERAGE_COLUMNS)
    | frozenset(QUARANTINE_COLUMNS)
    | frozenset(STEP_DETAIL)
    | frozenset(REQUEST_COLUMNS)
    | frozenset(name for kind in ("feedback", "release", "span") for name in event_columns(kind))
    | {"window_s", "end", "grouping", "coverage_state"}
)


def identifier(name: str) -> str:
    """A column name, quoted.

    Raises:
        InvalidQuery: it is in no catalogue.
    """
    if name not in _IDENTIFIERS:
        raise InvalidQuery(f"there is no column {name!r}")
    return f"`{name}`"


def listed(names: Sequence[str]) -> str:
    """Column names for SELECT, ORDER BY and the like."""
    return ", ".join(map(identifier, names))


@dataclass(slots=True)
class Conditions:
    """The WHERE of a query, grown condition by condition, and its parameters.

    >>> where = Conditions()
    >>> where.equal("model", "chat")
    >>> where.text, where.parameters
    ('WHERE `model` = {model:String}', {'model': 'chat'})
    """

    parameters: dict[str, Any] = field(default_factory=dict)
    _parts: list[str] = field(default_factory=list)

    def equal(self, column: str, value: str | None) -> None:
        """`column = value`, unless there is no value."""
        if value is not None:
            self.add(f"{identifier(column)} = {{{column}:String}}", **{column: value})

    def since(self, column: str, time_us: int | None) -> None:
        """`column >= time`, unless there is no time."""
        if time_us is not None:
            self.add(f"{identifier(column)} >= {micros('since')}", since=time_us)

    def before(self, column: str, time_us: int | None) -> None:
        """`column < time`, unless there is no time."""
        if time_us is not None:
            self.add(f"{identifier(column)} < {micros('before')}", before=time_us)

    def add(self, sql: str, **parameters: Any) -> None:
        """A condition in SQL with `{name:Type}` placeholders."""
        self._parts.append(sql)
        self.parameters.update(parameters)

    @property
    def text(self) -> str:
        """`WHERE ...`, or nothing."""
        return f"WHERE {' AND '.join(self._parts)}" if self._parts else ""


def micros(parameter: str) -> str:
    """A DateTime64(6) of a parameter in microseconds."""
    return f"fromUnixTimestamp64Micro({{{parameter}:Int64}}, 'UTC')"


def micros_of(time: datetime) -> int:
    """Integer microseconds since 1970 of a time as the store gives it: UTC without a zone."""
    delta = time.replace(tzinfo=None) - datetime(1970, 1, 1)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def without_empty(row: Mapping[str, Any], texts: frozenset[str]) -> dict[str, Any]:
    """A row in which a missing text is null again."""
    return {name: None if value == "" and name in texts else value for name, value in row.items()}
