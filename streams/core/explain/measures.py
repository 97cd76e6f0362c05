"""What a metric is made of, row by row: so that slices of any dimension can be compared.

Every metric that is explained is a sum, or a sum over another one. A quantile is neither, but "p95 above
T" is "more than 5 % are above T", and that share is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ....schemas.alerts.metrics import METRICS, quantile_of
from ....schemas.slo import sli as slis
from .ranking import Sample

Source = Literal["requests", "steps", "frames"]
Kind = Literal["sum", "ratio", "above", "present"]


@dataclass(frozen=True, slots=True)
class Measure:
    """A sum over rows, or a quotient of two.

    Attributes:
        name: of the metric; of `above`, the field whose rows above a limit are counted.
        source: rows that it is summed over; frames are those of the ledger.
        kind: `above` is the share of rows above a limit among those that state the field; `present` is
            how many have rows at all, whatever the length of the stretch.
        unit: of the quotient or sum.
        words: for people.
        percent: of `above` that stands for a quantile; None else.
    """

    name: str
    source: Source
    kind: Kind
    unit: str
    words: str
    percent: int | None = None

    @property
    def sample(self) -> Sample:
        """What chance can be told from change by: the rows that are counted, or all of them."""
        if self.kind == "present":
            return "none"
        counted = self.kind == "above" or self.unit == "count" or self.name in _COUNTED
        return "counted" if counted else "all"

    @property
    def kinds(self) -> str:
        """What the rows that count have kinds of; empty where they have none."""
        if self.name in _FAILURES:
            return "error type"
        return "safety flag" if self.name in _FLAGGED else ""


# Distributions of steps: the field, its percentile (100: the highest), what it is called.
_STEP_FIELDS = {
    "step_ms_p50": ("step_ms", 50),
    "step_ms_p99": ("step_ms", 99),
    "queue_depth_p99": ("queue_depth", 99),
    "kv_cache_usage_p99": ("kv_cache_usage", 99),
    "gpu_memory_ratio_p99": ("gpu_memory_ratio", 99),
    "host_memory_ratio_p99": ("host_memory_ratio", 99),
    "gpu_temperature_c_max": ("gpu_temperature_c", 100),
    "model_load_s_max": ("model_load_s", 100),
}
_WORDS = {
    "availability": "share that was not available",
    "cost_usd": "cost",
    "healthy_replicas": "healthy replicas as a worker sees them",
}
# Rates are sums over stretches of known length.
_SUMS = {"request_rate": "requests", "tokens_per_s": "output_tokens"}
# Of what the ledger says of frames. What is missing it does not: that is between two of them.
_FRAME_SUMS = frozenset({"late", "duplicate", "rejected", "gap"})
_STEP_RATIOS = frozenset(
    {
        "batch_fill_mean", "queue_depth_mean", "kv_cache_usage_mean", "gpu_utilization_mean",
        "cpu_utilization_mean", "retry_rate_mean", "healthy_replicas_ratio", "batch_size_mean",
        "running_mean",
    }
)  # fmt: skip
_FAILURES = frozenset({"error_rate", "availability", "errors"})
_FLAGGED = frozenset({"safety_rate", "safety_violations"})
_COUNTED = frozenset({"error_rate", "availability", "cache_hit_rate", "safety_rate"})
_REQUEST_RATIOS = frozenset(
    {
        "error_rate", "availability", "cache_hit_rate", "safety_rate", "quality_mean",
        "cost_per_1k_tokens_usd",
    }
)  # fmt: skip


def measure_of(metric: str) -> Measure | None:
    """What a metric of `windows` is made of; None where rows do not tell.

    >>> measure_of("ttft_ms_p95").name, measure_of("tokens_per_s").name, measure_of("coverage")
    ('ttft_ms', 'output_tokens', None)
    """
    quantile = quantile_of(metric)
    if quantile is not None:
        return _above(quantile[0], "requests", quantile[1])
    if metric in _STEP_FIELDS:
        return _above(_STEP_FIELDS[metric][0], "steps", _STEP_FIELDS[metric][1])
    if metric == "healthy_replicas_min":
        return Measure("healthy_replicas", "steps", "ratio", "number", _words("healthy_replicas"))
    if metric == "workers":
        return Measure(metric, "frames", "present", "count", "workers that say anything")
    if metric in _FRAME_SUMS:
        return Measure(metric, "frames", "sum", "count", f"{metric} events")
    known = METRICS.get(metric)
    if known is None or known.per not in ("requests", "steps"):
        return None
    source: Source = "requests" if known.per == "requests" else "steps"
    if metric in _REQUEST_RATIOS | _STEP_RATIOS:
        return Measure(metric, source, "ratio", known.unit, _words(metric))
    name = _SUMS.get(metric, metric)
    return Measure(name, source, "sum", METRICS[name].unit, _words(name))


def measure_of_sli(sli: slis.Sli) -> tuple[Measure | None, float | None]:
    """What is bad by an indicator, and the limit above which a row is; None where rows do not tell."""
    if isinstance(sli, slis.Latency | slis.LatencyQuantile):
        return _above(sli.field, "requests", None), float(sli.max_ms)
    metric = {
        "availability": "availability",
        "error_rate": "error_rate",
        "safety": "safety_rate",
        "quality": "quality_mean",
        "cost_per_1k_tokens_usd": "cost_per_1k_tokens_usd",
        "throughput": "requests",
    }.get(sli.kind)
    if isinstance(sli, slis.Freshness) and sli.of != "feedback":
        metric = sli.of
    return (None if metric is None else measure_of(metric)), None


def _above(field: str, source: Source, percent: int | None) -> Measure:
    return Measure(field, source, "above", "ratio", _words(field), percent)


def _words(name: str) -> str:
    name, _, member = name.partition(".")
    if member:
        return f"{member} errors"
    return _WORDS.get(name, name if name.endswith(("_ms", "_usd")) else name.replace("_", " "))
