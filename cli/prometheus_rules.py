"""Prometheus rules about Penstock itself: pure. Here those from /metrics of the API.

Names of recorded series are `level:metric:operations`, as Prometheus recommends
(https://prometheus.io/docs/practices/rules/).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["info", "warning", "critical"]


@dataclass(frozen=True, slots=True)
class Recording:
    """A series that Prometheus computes and keeps."""

    record: str
    expr: str

    def to_dict(self) -> dict[str, Any]:
        """As the rule file holds it."""
        return {"record": self.record, "expr": self.expr}


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert: `expr` has held for `held_for` (such as 5m). `todo` is the first thing to do."""

    name: str
    severity: Severity
    held_for: str
    expr: str
    summary: str
    todo: str

    def to_dict(self) -> dict[str, Any]:
        """As the rule file holds it."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.held_for,
            "labels": {"severity": self.severity, "service": "penstock"},
            "annotations": {"summary": self.summary, "description": self.todo},
        }


Rule = Recording | Alert


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """How Prometheus names what it scrapes, and the limit of the configuration.

    Attributes:
        api: `job_name` of `penstock up` or `penstock api`.
        worker: of `penstock worker`; there are none in the embedded form.
        max_pending_events: limits.max_pending_events of penstock.yaml.
    """

    api: str = "penstock-api"
    worker: str = "penstock-worker"
    max_pending_events: int = 500_000


def selector(job: str, **labels: str) -> str:
    """What a series must be labelled with; alternatives are separated by |.

    >>> selector("api", outcome="accepted|rejected")
    '{job="api",outcome=~"accepted|rejected"}'
    """
    pairs = {"job": job, **labels}.items()
    matchers = (f"{name}{'=~' if '|' in text else '='}{json.dumps(text)}" for name, text in pairs)
    return "{" + ",".join(matchers) + "}"


def recorded(jobs: Jobs) -> list[Rule]:
    """Series that alerts are made of, and that charts can show."""
    api = jobs.api
    rejected = (
        f"sum by (job) (rate(penstock_ingest_events_total{selector(api, outcome='rejected')}[5m]))"
    )
    late = f"sum by (job) (rate(penstock_ingest_events_total{selector(api, outcome='late')}[5m]))"
    taken = f"sum by (job) (rate(penstock_ingest_events_total{selector(api, outcome='accepted|rejected')}[5m]))"
    age = f"time() - penstock_watermark_timestamp_seconds{selector(api)}"
    # All API processes tell the same loss, that of the store: the largest, not the sum.
    lost = f"max by (job, known_by) (delta(penstock_lost_events{selector(api)}[15m]))"
    return [
        Recording("job:penstock_ingest_events:rate5m", taken),
        Recording("job:penstock_ingest_events_rejected:ratio_rate5m", f"{rejected} / {taken}"),
        Recording("job:penstock_ingest_events_late:ratio_rate5m", f"{late} / {taken}"),
        Recording("job:penstock_watermark_age_seconds:max", f"max by (job) ({age})"),
        Recording("job_known_by:penstock_lost_events:delta15m", lost),
    ]


def service(jobs: Jobs) -> list[Rule]:
    """Whether it is there, and how far it has come."""
    job, api = jobs.api, selector(jobs.api)
    pending = round(0.8 * jobs.max_pending_events)
    retries = f"penstock_pipeline_work_total{selector(job, kind='store_retries')}"
    return [
        Alert(
            "PenstockApiDown", "critical", "2m", f"up{api} == 0",
            "The API at {{ $labels.instance }} does not answer its scrapes",
            "Look at its process and log; penstock doctor --url says what it stands on.",
        ),
        Alert(
            "PenstockApiAbsent", "critical", "5m", f"absent(up{api})",
            f"Prometheus scrapes no target of the job {job}",
            "Nothing watches Penstock now: mend the scrape configuration or start the API.",
        ),
        Alert(
            "PenstockPipelineFailed", "critical", "1m", f"penstock_pipeline_up{api} == 0",
            "The pipeline of {{ $labels.instance }} has stopped",
            "GET /health/detailed says why; start the process again once that is mended.",
        ),
        Alert(
            "PenstockWatermarkOld", "warning", "5m", "job:penstock_watermark_age_seconds:max > 60",
            "Event time is complete only up to {{ $value | humanizeDuration }} ago",
            "Gates and alerts wait for it. Look for a worker with a wrong clock or a stalled partition.",
        ),
        Alert(
            "PenstockWatermarkStuck", "critical", "5m", "job:penstock_watermark_age_seconds:max > 600",
            "Event time is complete only up to {{ $value | humanizeDuration }} ago",
            "Verdicts and alerts have stopped: penstock doctor, then the log of the pipeline.",
        ),
        Alert(
            "PenstockIngestLag", "warning", "5m", f"penstock_ingest_lag_seconds{api} > 30",
            "The watermark is {{ $value | humanizeDuration }} behind the newest event",
            "The pipeline takes in less than comes: look at the load and at the store.",
        ),
        Alert(
            "PenstockIngestBacklog", "warning", "2m",
            f"penstock_ingest_pending_events{api} > {pending}",
            "{{ $value | humanize }} events wait to become durable",
            f"Above {jobs.max_pending_events} senders are told 429: look at the store.",
        ),
        Alert(
            "PenstockIngestSlow", "warning", "5m",
            f"penstock_ingest_durable_seconds{selector(job, quantile='0.99')} > 5",
            "1 % of POSTs take more than {{ $value | humanizeDuration }} to become durable",
            "Look at the store's inserts, and at the broker in the distributed form.",
        ),
        Alert(
            "PenstockStoreRetries", "warning", "5m",
            f"sum by (job) (increase({retries}[10m])) > 10",
            "{{ $value | humanize }} inserts were repeated within 10 minutes",
            "The store refuses or is slow: its log, its disk, penstock doctor --store.",
        ),
    ]  # fmt: skip


def events(jobs: Jobs) -> list[Rule]:
    """Whether all that was sent has arrived and was taken."""
    coverage = f"penstock_window_coverage_ratio{selector(jobs.api, window='5m')}"
    return [
        Alert(
            "PenstockEventsLost", "critical", "5m", "job_known_by:penstock_lost_events:delta15m > 0",
            "{{ $value | humanize }} events were lost within 15 minutes ({{ $labels.known_by }})",
            "GET /v1/coverage names the workers: missing on the way, or dropped from a full spool (gap).",
        ),
        Alert(
            "PenstockCoverageLow", "warning", "5m", f"min by (job) ({coverage}) < 0.99",
            "Only {{ $value | humanizePercentage }} of the events of the last 5 minutes have arrived",
            "SLOs turn unknown and gates NO_DATA: GET /v1/coverage names the workers.",
        ),
        Alert(
            "PenstockDeadLetters", "warning", "10m",
            "job:penstock_ingest_events_rejected:ratio_rate5m > 0.01",
            "{{ $value | humanizePercentage }} of the rows posted go to quarantine",
            "penstock dead-letters list --since 1h names reasons and workers; redrive once mended.",
        ),
        Alert(
            "PenstockDeadLettersMany", "critical", "10m",
            "job:penstock_ingest_events_rejected:ratio_rate5m > 0.1",
            "{{ $value | humanizePercentage }} of the rows posted go to quarantine",
            "A sender is broken: penstock dead-letters list --since 1h names reasons and workers.",
        ),
        Alert(
            "PenstockLateEvents", "info", "15m",
            "job:penstock_ingest_events_late:ratio_rate5m > 0.05",
            "{{ $value | humanizePercentage }} of the events come after their pane has closed",
            "They count, but amend windows: look for slow spools, or raise time.lateness_s.",
        ),
    ]  # fmt: skip
