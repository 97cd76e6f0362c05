"""Prometheus rules about Penstock itself: those from /metrics of its processors."""

from __future__ import annotations

from .prometheus_rules import Alert, Jobs, Recording, Rule, selector


def recorded_of_workers(jobs: Jobs) -> list[Rule]:
    """Series that alerts are made of, and that charts can show."""
    worker = selector(jobs.worker)
    rejected = f"sum by (job) (rate(penstock_worker_rejected_total{worker}[5m]))"
    stored = f"sum by (job) (rate(penstock_worker_stored_total{worker}[5m]))"
    late = f"sum by (job) (rate(penstock_worker_late_total{worker}[5m]))"
    retries = f"sum by (job) (increase(penstock_worker_retries_total{worker}[10m]))"
    lag = f"sum by (job, topic) (penstock_worker_lag_messages{worker})"
    return [
        Recording("job:penstock_worker_stored:rate5m", stored),
        Recording(
            "job:penstock_worker_rejected:ratio_rate5m", f"{rejected} / ({rejected} + {stored})"
        ),
        Recording("job:penstock_worker_late:ratio_rate5m", f"{late} / {stored}"),
        Recording("job:penstock_worker_retries:increase10m", retries),
        Recording("job_topic:penstock_worker_lag_messages:sum", lag),
    ]


def workers(jobs: Jobs) -> list[Rule]:
    """Processors: whether they are there and work."""
    job, worker = jobs.worker, selector(jobs.worker)
    return [
        Alert(
            "PenstockWorkerDown", "critical", "2m", f"up{worker} == 0",
            "The processor at {{ $labels.instance }} does not answer its scrapes",
            "Look at its process and log; others take its partitions over meanwhile.",
        ),
        Alert(
            "PenstockWorkerAbsent", "critical", "5m", f"absent(up{worker})",
            f"Prometheus scrapes no target of the job {job}",
            "Mend the scrape configuration or start penstock worker.",
        ),
        Alert(
            "PenstockWorkerNotReady", "warning", "5m", f"penstock_worker_ready{worker} == 0",
            "The processor at {{ $labels.instance }} waits",
            "GET /readyz of it says for what.",
        ),
        Alert(
            "PenstockNoWorkerReady", "critical", "2m",
            f"sum by (job) (penstock_worker_ready{worker}) == 0",
            "No processor works",
            "Events wait in Kafka: GET /readyz of any processor says for what.",
        ),
        Alert(
            "PenstockWorkerCircuitOpen", "critical", "2m",
            f"penstock_worker_circuit_state{worker} == 2",
            "{{ $labels.instance }} makes no calls to {{ $labels.circuit }}",
            "It failed again and again: penstock doctor with --store and --kafka.",
        ),
        Alert(
            "PenstockWorkerRetries", "warning", "5m", "job:penstock_worker_retries:increase10m > 10",
            "{{ $value | humanize }} calls were repeated within 10 minutes",
            "Store or broker refuse or are slow: penstock doctor with --store and --kafka.",
        ),
        Alert(
            "PenstockWorkerDeadLetters", "warning", "10m",
            "job:penstock_worker_rejected:ratio_rate5m > 0.01",
            "{{ $value | humanizePercentage }} of the rows read from Kafka go to quarantine",
            "penstock dead-letters list --since 1h names reasons and workers; redrive once mended.",
        ),
        Alert(
            "PenstockWorkerLateEvents", "info", "15m", "job:penstock_worker_late:ratio_rate5m > 0.05",
            "{{ $value | humanizePercentage }} of the events come after their pane has closed",
            "They count, but amend windows: look for slow spools, or raise time.lateness_s.",
        ),
        Alert(
            "PenstockWorkerWatermarkOld", "warning", "5m",
            f"penstock_worker_watermark_age_seconds{worker} > 60",
            "The watermark of {{ $labels.instance }} is {{ $value | humanizeDuration }} behind",
            "Look at its lag, and for senders with a wrong clock.",
        ),
        Alert(
            "PenstockWorkerWatermarkStuck", "critical", "5m",
            f"penstock_worker_watermark_age_seconds{worker} > 600",
            "The watermark of {{ $labels.instance }} is {{ $value | humanizeDuration }} behind",
            "Windows, gates and alerts wait for it: its log, then penstock doctor.",
        ),
    ]  # fmt: skip


def kafka(jobs: Jobs) -> list[Rule]:
    """What waits in Kafka, and what was lost there."""
    worker = selector(jobs.worker)
    lag = "job_topic:penstock_worker_lag_messages:sum"
    moved = f"sum by (job) (rate(penstock_worker_messages_total{worker}[5m]))"
    return [
        Alert(
            "PenstockKafkaLagGrows", "warning", "15m", f"{lag} > 1000 and deriv({lag}[15m]) > 0",
            "{{ $value | humanize }} messages of {{ $labels.topic }} wait, and it grows",
            "Start more processors, as many as there are partitions at most.",
        ),
        Alert(
            "PenstockKafkaOldMessage", "critical", "5m",
            f"penstock_worker_oldest_message_age_seconds{worker} > 120",
            "{{ $labels.instance }} holds a message read {{ $value | humanizeDuration }} ago",
            "It cannot store it: its log, then penstock doctor --store.",
        ),
        Alert(
            "PenstockKafkaStalled", "critical", "5m",
            f'sum by (job) ({lag}{{topic="penstock.events"}}) > 0 and {moved} == 0',
            "{{ $value | humanize }} messages wait, and none is stored",
            "GET /readyz of the processors, then penstock doctor with --kafka and --store.",
        ),
        Alert(
            "PenstockKafkaHeartbeat", "warning", "1m",
            f"penstock_worker_heartbeat_age_seconds{worker} > 30",
            "The broker has not answered {{ $labels.instance }} for {{ $value | humanizeDuration }}",
            "penstock doctor --kafka; its partitions go to others when the session ends.",
        ),
        Alert(
            "PenstockKafkaOffsetsLost", "critical", "0m",
            f"increase(penstock_worker_offsets_lost_total{worker}[15m]) > 0",
            "Kafka deleted {{ $value | humanize }} messages before they were read",
            "They are gone: lengthen retention (penstock topics --retention-hours), shorten the lag.",
        ),
        Alert(
            "PenstockPanesDropped", "warning", "5m",
            f"increase(penstock_worker_outgoing_dropped_total{worker}[15m]) > 0",
            "{{ $value | humanize }} messages for the evaluators were dropped",
            "Evaluators refill from the store; look at the broker.",
        ),
        Alert(
            "PenstockRebalancing", "warning", "5m",
            f"increase(penstock_worker_rebalances_total{worker}[15m]) > 5",
            "{{ $labels.instance }} was given its partitions anew {{ $value | humanize }} times",
            "A processor comes and goes, or answers too slowly: look for restarts.",
        ),
        Alert(
            "PenstockPostsRefused", "critical", "2m",
            "sum by (job) (increase(penstock_pipeline_work_total"
            f"{selector(jobs.api, kind='refused_posts')}[5m])) > 0",
            "{{ $value | humanize }} POSTs were answered 503 within 5 minutes",
            "Kafka is away: penstock doctor --kafka. Emitters spool meanwhile.",
        ),
    ]  # fmt: skip
