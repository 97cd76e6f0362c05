"""What the measures of explanations are in the store's columns."""

from __future__ import annotations

from collections.abc import Mapping

from ..core.explain.measures import Measure

_DONE = "status != ''"
_FAILED = "status IN ('error', 'timeout')"
_KNOWN_COST = "cost_nanousd IS NOT NULL AND (input_tokens IS NOT NULL OR output_tokens IS NOT NULL)"
_TOKENS = "ifNull(input_tokens, 0) + ifNull(output_tokens, 0)"
_QUEUE = "ifNull(queue_prefill, 0) + ifNull(queue_decode, 0)"
_QUEUED = "queue_prefill IS NOT NULL OR queue_decode IS NOT NULL"

# Measure -> what is summed above and below, of rows; of a sum, `below` counts its rows.
_REQUESTS: Mapping[str, tuple[str, str]] = {
    "error_rate": (_FAILED, _DONE),
    "availability": ("status IN ('error', 'timeout', 'rejected')", _DONE),
    "safety_rate": (f"notEmpty(safety_flags) AND {_DONE}", _DONE),
    "cache_hit_rate": ("cache_hit", "cache_hit IS NOT NULL"),
    "quality_mean": ("quality", "quality IS NOT NULL"),
    "cost_per_1k_tokens_usd": (
        f"if({_KNOWN_COST}, cost_nanousd / 1e6, 0)",
        f"if({_KNOWN_COST}, {_TOKENS}, 0)",
    ),
    "requests": (_DONE, _DONE),
    "ok": ("status = 'ok'", _DONE),
    "errors": (_FAILED, _DONE),
    "timeouts": ("status = 'timeout'", _DONE),
    "cancelled": ("status = 'cancelled'", _DONE),
    "rejected_requests": ("status = 'rejected'", _DONE),
    "overdue": ("status = ''", "1"),
    "input_tokens": ("input_tokens", _DONE),
    "output_tokens": ("output_tokens", _DONE),
    "cached_tokens": ("cached_tokens", _DONE),
    "cost_usd": ("cost_nanousd / 1e9", _DONE),
    "safety_violations": (f"notEmpty(safety_flags) AND {_DONE}", _DONE),
}
_STEPS: Mapping[str, tuple[str, str]] = {
    "steps": ("1", "1"),
    "preemptions": ("preemptions", "1"),
    "cache_evictions": ("cache_evictions", "1"),
    "batch_fill_mean": ("if(batch_capacity > 0, batch_size, 0)", "batch_capacity"),
    "queue_depth_mean": (_QUEUE, _QUEUED),
    "retry_rate_mean": ("retry_rate", "retry_rate IS NOT NULL"),
    "healthy_replicas": ("healthy_replicas", "healthy_replicas IS NOT NULL"),
    "healthy_replicas_ratio": (
        "if(expected_replicas IS NOT NULL, healthy_replicas, 0)",
        "if(healthy_replicas IS NOT NULL, expected_replicas, 0)",
    ),
    **{
        f"{name}_mean": (name, f"{name} IS NOT NULL")
        for name in (
            "kv_cache_usage",
            "gpu_utilization",
            "cpu_utilization",
            "batch_size",
            "running",
        )
    },
}
# Fields that have no column of their own.
_FIELDS = {
    "queue_depth": f"if({_QUEUED}, {_QUEUE}, NULL)",
    "gpu_memory_ratio": "gpu_memory_used_bytes / nullIf(gpu_memory_total_bytes, 0)",
    "host_memory_ratio": "host_memory_bytes / nullIf(host_memory_total_bytes, 0)",
}
# Of the ledger. A worker is there if it sent anything.
_FRAMES: Mapping[str, tuple[str, str]] = {
    "late": ("late", "stored"),
    "duplicate": ("duplicate", "stored"),
    "rejected": ("rejected", "stored"),
    "gap": ("arraySum(arrayMap(r -> r.2 - r.1, gaps))", "stored"),
    "workers": ("1", "1"),
}
Gauges = Mapping[str, tuple[str, str, str]]
"""Name -> unit, what is summed above, what is summed below."""

ENGINE: Gauges = {
    "queue_depth": ("number", _QUEUE, _QUEUED),
    "batch_fill": ("ratio", "if(batch_capacity > 0, batch_size, 0)", "ifNull(batch_capacity, 0)"),
    "kv_cache_usage": ("ratio", "kv_cache_usage", "kv_cache_usage IS NOT NULL"),
    "preemptions": ("number", "preemptions", "preemptions IS NOT NULL"),
    "step_ms": ("ms", "step_us / 1000", "step_us IS NOT NULL"),
}
REQUESTS: Gauges = {
    name: ("number", name, f"{name} IS NOT NULL") for name in ("input_tokens", "output_tokens")
}
_BEFORE_FIRST = ("queue_ms", "batch_wait_ms", "tokenize_ms", "transport_ms", "preprocess_ms", "prefill_ms")  # fmt: skip
_PHASES: Mapping[str, tuple[str, ...]] = {
    "ttft_ms": _BEFORE_FIRST,
    "latency_ms": (*_BEFORE_FIRST, "decode_ms", "postprocess_ms", "detokenize_ms"),
}
_KINDS = {
    "error type": "if(error_type = '', toString(status), toString(error_type))",
    "safety flag": "toString(arrayJoin(safety_flags))",
}


def phases(measure: Measure) -> Gauges:
    """A latency, and the phases that it consists of; empty where it is none that has some."""
    names = _PHASES.get(measure.name, ())
    return {
        name: ("ms", f"{name.removesuffix('_ms')}_us / 1000", f"{name.removesuffix('_ms')}_us IS NOT NULL")
        for name in ([measure.name, *names] if names else [])
    }  # fmt: skip


def kind_of(measure: Measure) -> str:
    """The kind of a row that is counted, as SQL; empty where rows have none."""
    return _KINDS.get(measure.kinds, "")


def sums(measure: Measure) -> tuple[str, str]:
    """What is summed above and below, as SQL over a row of its table; `bound` is the limit."""
    if measure.kind == "above":
        field = field_of(measure)
        known = f"{field} IS NOT NULL"
        if measure.name == "latency_ms":
            # What was announced overdue is longer than anything, once: not when it completes.
            announced, counts = "status = ''", "NOT ifNull(overdue, false)"
            known = f"({known} AND {counts} OR {announced})"
            return f"({announced} OR {counts} AND {field} > bound)", known
        return f"{field} > bound", known
    name, _, member = measure.name.partition(".")
    if member:
        types = "('other', '')" if member == "other" else f"('{member}')"
        return f"{_FAILED} AND error_type IN {types}", _DONE
    return {"requests": _REQUESTS, "steps": _STEPS, "frames": _FRAMES}[measure.source][name]


def field_of(measure: Measure) -> str:
    """The column of `above`, in the unit of its limit; NULL where it is not stated."""
    if measure.name in _FIELDS:
        return _FIELDS[measure.name]
    if measure.name.endswith("_ms"):
        return f"{measure.name.removesuffix('_ms')}_us / 1000"
    return measure.name
