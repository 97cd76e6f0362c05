"""The metrics that rules may watch: columns of the table `windows`, their units and what they count.

Tests hold these names against streams/core: schemas import nothing of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..events import ERROR_TYPES

Unit = Literal["ratio", "ms", "s", "usd", "1/s", "tokens/s", "degC", "count", "number"]
Per = Literal["requests", "steps", "feedback", "received"]

# As in streams/core/slices.py and windows.py.
GROUPINGS: dict[str, tuple[str, ...]] = {
    "fleet": (),
    "model": ("model",),
    "model_version": ("model", "model_version"),
    "release": ("model", "model_version", "release", "variant"),
    "model_route": ("model", "route"),
    "model_adapter": ("model", "adapter"),
    "route": ("route",),
    "tenant": ("tenant",),
}
WINDOWS_S: dict[str, int] = {
    "1m": 60,
    "5m": 300,
    "30m": 1800,
    "1h": 3600,
    "2h": 7200,
    "6h": 21600,
    "1d": 86400,
    "3d": 3 * 86400,
    "7d": 7 * 86400,
    "28d": 28 * 86400,
    "30d": 30 * 86400,
}
LATENCIES = (
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
)
PERCENTS = (50, 90, 95, 99)


@dataclass(frozen=True, slots=True)
class Metric:
    """A column of `windows`.

    Attributes:
        unit: of its values.
        per: the column that says how many rows stand behind a value.
        counted: whether 1 s cells hold it; they have counters but no distributions.
    """

    unit: Unit
    per: Per = "requests"
    counted: bool = True


def _all(unit: Unit, per: Per, names: str, counted: bool = True) -> dict[str, Metric]:
    return {name: Metric(unit, per, counted) for name in names.split()}


METRICS: dict[str, Metric] = {
    **_all("count", "requests", "requests ok errors timeouts cancelled rejected_requests overdue"),
    **_all("count", "requests", "input_tokens output_tokens cached_tokens safety_violations"),
    **{f"errors_by_type.{name}": Metric("count") for name in ERROR_TYPES},
    **_all("1/s", "requests", "request_rate"),
    **_all("tokens/s", "requests", "tokens_per_s"),
    **_all("ratio", "requests", "error_rate availability cache_hit_rate safety_rate"),
    # Feedback joins panes only: it comes long after its request.
    **_all("number", "requests", "quality_mean", False),
    **_all("usd", "requests", "cost_usd cost_per_1k_tokens_usd"),
    **_all("count", "feedback", "feedback", False),
    **_all("ratio", "feedback", "acceptance_rate accuracy", False),
    **_all("count", "steps", "steps preemptions"),
    **_all("ratio", "steps", "batch_fill_mean"),
    **_all("ms", "steps", "step_ms_p50 step_ms_p99", False),
    **_all("number", "steps", "queue_depth_mean queue_depth_p99", False),
    **_all("ratio", "steps", "kv_cache_usage_mean kv_cache_usage_p99", False),
    **_all("ratio", "steps", "gpu_utilization_mean gpu_memory_ratio_p99", False),
    **_all("ratio", "steps", "host_memory_ratio_p99", False),
    **_all("ratio", "steps", "cpu_utilization_mean retry_rate_mean", False),
    **_all("ratio", "steps", "healthy_replicas_ratio", False),
    **_all("count", "steps", "cache_evictions", False),
    **_all("number", "steps", "batch_size_mean running_mean healthy_replicas_min", False),
    **_all("degC", "steps", "gpu_temperature_c_max", False),
    **_all("s", "steps", "model_load_s_max", False),
    **{f"{name}_p{p}": Metric("ms", counted=False) for name in LATENCIES for p in PERCENTS},
    **_all("count", "received", "workers expected received missing late duplicate", False),
    **_all("count", "received", "rejected gap", False),
    **_all("ratio", "received", "coverage", False),
}


def quantile_of(metric: str) -> tuple[str, int] | None:
    """The latency and the percentile of a latency quantile, None for any other metric.

    >>> quantile_of("ttft_ms_p95"), quantile_of("error_rate")
    (('ttft_ms', 95), None)
    """
    name, _, percent = metric.rpartition("_p")
    return (name, int(percent)) if name in LATENCIES else None
