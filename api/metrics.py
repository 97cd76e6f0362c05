"""GET /metrics: the newest windows and Penstock's own state, for Prometheus and its kin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Response

from ..schemas.ports import IngestPort, PipelineStatus, StoreReader
from ..streams.core.slices import GROUPINGS
from ..streams.core.windows import WINDOWS
from .coverage import coverage_totals
from .openmetrics import CONTENT_TYPE, Metric, Sample, render
from .problems import described
from .queries import Conditions, micros_of
from .windows import newest_rows

# Slices shown, the busiest first: what bounds the number of series.
TOP_SLICES = 20
_WINDOWS = ("1m", "5m")
_GROUPING = "release"

# The closed list. Windows carry the labels window, grouping (fleet or release), model,
# model_version, release and variant; fleet rows leave the last four empty: never add the two up.
_GAUGES = {
    column: Metric(f"penstock_window_{name}", "gauge", unit, text)
    for column, name, unit, text in (
        ("request_rate", "requests_per_second", "", "Requests per second."),
        ("error_rate", "error_ratio", "ratio", "Errors and timeouts / requests."),
        ("availability", "availability_ratio", "ratio", "Requests served / requests."),
        ("tokens_per_s", "tokens_per_second", "", "Generated tokens per second."),
        ("cost_usd", "cost_usd", "usd", "Cost within the window."),
        ("cost_per_1k_tokens_usd", "cost_per_1k_tokens_usd", "usd", "Cost per 1,000 tokens."),
        ("safety_rate", "safety_ratio", "ratio", "Requests with a safety flag / requests."),
        ("quality_mean", "quality_mean", "", "Mean quality score."),
        ("acceptance_rate", "acceptance_ratio", "ratio", "Share accepted in feedback."),
        ("queue_depth_mean", "queue_depth_mean", "", "Mean requests waiting, over steps."),
        ("batch_fill_mean", "batch_fill_ratio", "ratio", "Batch size / capacity."),
        (
            "kv_cache_usage_mean",
            "kv_cache_usage_ratio",
            "ratio",
            "Mean share of the KV cache in use.",
        ),
        (
            "gpu_utilization_mean",
            "gpu_utilization_ratio",
            "ratio",
            "Mean share of time devices computed.",
        ),
    )
}
_LATENCIES = {
    column: Metric(name, "gauge", "seconds", text)
    for column, name, text in (
        ("latency_ms", "penstock_window_latency_seconds", "End-to-end latency, by quantile."),
        ("ttft_ms", "penstock_window_ttft_seconds", "Time to first token, by quantile."),
        ("tpot_ms", "penstock_window_tpot_seconds", "Time per output token, by quantile."),
    )
}
_QUANTILES = {"p50": "0.5", "p90": "0.9", "p95": "0.95", "p99": "0.99"}
_FLEET = {
    "workers": Metric("penstock_workers", "gauge", "", "Workers alive."),
    "coverage": Metric(
        "penstock_window_coverage_ratio", "gauge", "ratio", "Events received / sent in the window."
    ),
}
WINDOW_END = Metric(
    "penstock_window_end_timestamp_seconds", "gauge", "seconds", "End of the newest window."
)
UP = Metric("penstock_pipeline_up", "gauge", "", "1 while the pipeline runs, 0 once it failed.")
LAG = Metric(
    "penstock_ingest_lag_seconds", "gauge", "seconds", "Watermark behind the newest event."
)
WATERMARK = Metric(
    "penstock_watermark_timestamp_seconds",
    "gauge",
    "seconds",
    "Event time up to which all is complete.",
)
PENDING = Metric("penstock_ingest_pending_events", "gauge", "", "Events taken and not yet durable.")
BOOTS = Metric("penstock_active_boots", "gauge", "", "Boots that hold the watermark.")
INGEST_TIME = Metric(
    "penstock_ingest_durable_seconds",
    "gauge",
    "seconds",
    "Arrival of a POST to durable over the last minute, by quantile.",
)
EVENTS = Metric(
    "penstock_ingest_events",
    "counter",
    "",
    "Events by outcome since start: accepted, duplicate, rejected, late.",
)
WORK = Metric(
    "penstock_pipeline_work",
    "counter",
    "",
    "Work done since start, by kind: frames, flushes, store_retries, panes_published, ...",
)
LOST = Metric(
    "penstock_lost_events",
    "gauge",
    "",
    "Events that never arrived, by how it is known: missing, gap (declared by the worker).",
)
BUILD = Metric("penstock_build", "info", "", "Version that runs.")
METRICS: tuple[Metric, ...] = (
    *_GAUGES.values(),
    *_LATENCIES.values(),
    *_FLEET.values(),
    WINDOW_END, UP, LAG, WATERMARK, PENDING, BOOTS, INGEST_TIME, EVENTS, WORK, LOST, BUILD,
)  # fmt: skip
"""Every metric there is."""

_DESCRIBED: dict[str, Any] = {
    "description": "OpenMetrics 1.0 text.",
    "content": {CONTENT_TYPE: {"schema": {"type": "string"}}},
}
_OUTCOMES = ("accepted", "duplicate", "rejected", "late")
_COLUMNS = (
    "requests",
    *_GAUGES,
    *_FLEET,
    *(f"{name}_{quantile}" for name in _LATENCIES for quantile in _QUANTILES),
)


class Metrics:
    """Reads and renders the metrics."""

    def __init__(self, ingest: IngestPort, store: StoreReader, version: str) -> None:
        self._ingest = ingest
        self._store = store
        self._version = version

    def get(self) -> Response:
        """OpenMetrics text: the fleet and the 20 busiest releases of the newest 1m and 5m windows,
        and Penstock's own lag, loss, latency and totals."""
        samples = [Sample(BUILD, 1.0, {"version": self._version})]
        samples += of_status(self._ingest.status())
        totals = coverage_totals(self._store, Conditions())
        samples += [
            Sample(LOST, float(totals[kind]), {"known_by": kind}) for kind in ("missing", "gap")
        ]
        rows = [
            (window, grouping, row)
            for window in _WINDOWS
            for grouping, limit in (("fleet", 1), (_GROUPING, TOP_SLICES))
            for row in newest_rows(self._store, WINDOWS[window], grouping, _COLUMNS, limit)
        ]
        for window, grouping, row in rows:
            samples += of_window(window, grouping, row)
        return Response(render(samples), media_type=None, headers={"Content-Type": CONTENT_TYPE})


def of_status(status: PipelineStatus) -> Iterator[Sample]:
    """Samples of Penstock's own state."""
    yield Sample(UP, float(not status.failure), {})
    yield Sample(LAG, status.lag_s, {})
    yield Sample(PENDING, float(status.pending_events), {})
    yield Sample(BOOTS, float(status.active_boots), {})
    if status.watermark_us:
        yield Sample(WATERMARK, status.watermark_us / 1e6, {})
    for quantile, seconds in sorted(status.ingest_s.items()):
        yield Sample(INGEST_TIME, seconds, {"quantile": f"{quantile:g}"})
    for name, count in status.totals.items():
        if name in _OUTCOMES:
            yield Sample(EVENTS, float(count), {"outcome": name})
        else:
            yield Sample(WORK, float(count), {"kind": name})


def of_window(window: str, grouping: str, row: dict[str, Any]) -> Iterator[Sample]:
    """Samples of one row of `windows`."""
    dimensions = {name: row.get(name, "") for name in GROUPINGS[_GROUPING]}
    labels = {"window": window, "grouping": grouping} | dimensions
    for column, metric in _GAUGES.items():
        yield Sample(metric, row[column], labels)
    for column, metric in _LATENCIES.items():
        for quantile, text in _QUANTILES.items():
            value = row[f"{column}_{quantile}"]
            seconds = None if value is None else value / 1000
            yield Sample(metric, seconds, labels | {"quantile": text})
    if grouping == "fleet":
        yield Sample(WINDOW_END, micros_of(row["end"]) / 1e6, {"window": window})
        for column, metric in _FLEET.items():
            yield Sample(metric, row[column], {"window": window})


def routes(ingest: IngestPort, store: StoreReader, version: str) -> APIRouter:
    """The routes of this module."""
    router = APIRouter(tags=["metrics"])
    router.add_api_route(
        "/metrics",
        Metrics(ingest, store, version).get,
        methods=["GET"],
        response_class=Response,
        responses=described(401, 403, 429, 503) | {200: _DESCRIBED},
        summary="Metrics for Prometheus",
    )
    return router
