"""The rules in Prometheus' own rule tester: each fault fires its alerts, and health fires none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from penstock.cli.prometheus_file import rule_file, rule_groups
from penstock.cli.prometheus_rules import Jobs
from penstock.tests.unit.cli.test_prometheus_rules import promtool

API, WORKER = 'job="penstock-api",instance="a"', 'job="penstock-worker",instance="w"'
LAG = f'penstock_worker_lag_messages{{{WORKER},topic="penstock.events",partition="0"}}'
# Series and its values, one a minute for two hours; promtool's clock starts at 0.
HEALTHY = {
    f"up{{{API}}}": "1x120",
    f"up{{{WORKER}}}": "1x120",
    f"penstock_pipeline_up{{{API}}}": "1x120",
    f"penstock_watermark_timestamp_seconds{{{API}}}": "0+60x120",
    f"penstock_ingest_lag_seconds{{{API}}}": "2x120",
    f"penstock_ingest_pending_events{{{API}}}": "10x120",
    f'penstock_ingest_durable_seconds{{{API},quantile="0.99"}}': "0.2x120",
    f'penstock_pipeline_work_total{{{API},kind="store_retries"}}': "0x120",
    f'penstock_pipeline_work_total{{{API},kind="refused_posts"}}': "0x120",
    f'penstock_lost_events{{{API},known_by="gap"}}': "5x120",
    f'penstock_window_coverage_ratio{{{API},window="5m"}}': "1x120",
    f'penstock_ingest_events_total{{{API},outcome="accepted"}}': "0+1000x120",
    f'penstock_ingest_events_total{{{API},outcome="rejected"}}': "0+1x120",
    f'penstock_ingest_events_total{{{API},outcome="late"}}': "0+1x120",
    f"penstock_worker_ready{{{WORKER}}}": "1x120",
    f'penstock_worker_circuit_state{{{WORKER},circuit="store"}}': "0x120",
    f"penstock_worker_retries_total{{{WORKER}}}": "0x120",
    f"penstock_worker_stored_total{{{WORKER}}}": "0+1000x120",
    f"penstock_worker_rejected_total{{{WORKER}}}": "0+1x120",
    f"penstock_worker_late_total{{{WORKER}}}": "0+1x120",
    f"penstock_worker_watermark_age_seconds{{{WORKER}}}": "3x120",
    f"penstock_worker_oldest_message_age_seconds{{{WORKER}}}": "1x120",
    f"penstock_worker_heartbeat_age_seconds{{{WORKER}}}": "1x120",
    f"penstock_worker_messages_total{{{WORKER}}}": "0+10x120",
    LAG: "5x120",
    f"penstock_worker_offsets_lost_total{{{WORKER}}}": "0x120",
    f"penstock_worker_outgoing_dropped_total{{{WORKER}}}": "0x120",
    f"penstock_worker_rebalances_total{{{WORKER}}}": "1x120",
}
# Values of series that begin so, in turn for each fault; None takes them away.
FAULTS: dict[str, tuple[dict[str, str | None], set[str]]] = {
    "health": ({}, set()),
    "targets away": (
        {f"up{{{API}": "0x120", f"up{{{WORKER}": "0x120"},
        {"PenstockApiDown", "PenstockWorkerDown"},
    ),
    "no targets": (
        {f"up{{{API}": None, f"up{{{WORKER}": None},
        {"PenstockApiAbsent", "PenstockWorkerAbsent"},
    ),
    "watermark": (
        {"penstock_watermark": "0x120", "penstock_worker_watermark": "0+60x120"},
        {"PenstockWatermarkOld", "PenstockWatermarkStuck",
         "PenstockWorkerWatermarkOld", "PenstockWorkerWatermarkStuck"},
    ),
    "ingest": (
        {"penstock_pipeline_up": "0x120", "penstock_ingest_lag": "31x120",
         "penstock_ingest_pending": "400001x120", "penstock_ingest_durable": "6x120"},
        {"PenstockPipelineFailed", "PenstockIngestLag", "PenstockIngestBacklog", "PenstockIngestSlow"},
    ),
    "loss": (
        {"penstock_lost_events": "0+1x120", "penstock_window_coverage": "0.98x120",
         "penstock_worker_offsets_lost": "0+1x120", "penstock_worker_outgoing_dropped": "0+1x120"},
        {"PenstockEventsLost", "PenstockCoverageLow", "PenstockKafkaOffsetsLost",
         "PenstockPanesDropped"},
    ),
    "dead letters and late events": (
        {f'penstock_ingest_events_total{{{API},outcome="rejected"': "0+200x120",
         f'penstock_ingest_events_total{{{API},outcome="late"': "0+100x120",
         "penstock_worker_rejected": "0+20x120", "penstock_worker_late": "0+60x120"},
        {"PenstockDeadLetters", "PenstockDeadLettersMany", "PenstockLateEvents",
         "PenstockWorkerDeadLetters", "PenstockWorkerLateEvents"},
    ),
    "retries": (
        {f'penstock_pipeline_work_total{{{API},kind="store': "0+2x120",
         f'penstock_pipeline_work_total{{{API},kind="refused': "0+1x120",
         "penstock_worker_retries": "0+2x120", "penstock_worker_circuit": "2x120"},
        {"PenstockStoreRetries", "PenstockPostsRefused", "PenstockWorkerRetries",
         "PenstockWorkerCircuitOpen"},
    ),
    "Kafka": (
        {"penstock_worker_lag": "0+100x120", "penstock_worker_messages": "7x120",
         "penstock_worker_oldest": "121x120", "penstock_worker_heartbeat": "31x120",
         "penstock_worker_rebalances": "0+1x120", "penstock_worker_ready": "0x120"},
        {"PenstockKafkaLagGrows", "PenstockKafkaStalled", "PenstockKafkaOldMessage",
         "PenstockKafkaHeartbeat", "PenstockRebalancing", "PenstockWorkerNotReady",
         "PenstockNoWorkerReady"},
    ),
}  # fmt: skip


def series_of(changes: dict[str, str | None]) -> list[dict[str, str]]:
    found: dict[str, str | None] = dict(HEALTHY)
    for start, values in changes.items():
        names = [name for name in HEALTHY if name.startswith(start)]
        assert names, start
        found |= dict.fromkeys(names, values)
    return [{"series": name, "values": text} for name, text in found.items() if text is not None]


def case(name: str) -> dict[str, Any]:
    changes, expected = FAULTS[name]
    samples = [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(expected)]
    firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
    return {
        "name": name,
        "interval": "1m",
        "input_series": series_of(changes),
        "promql_expr_test": [{"expr": firing, "eval_time": "60m", "exp_samples": samples}],
    }


def test_every_alert_has_a_fault_that_fires_it() -> None:
    groups = rule_groups("distributed", Jobs()).values()
    names = {name for group in groups for rule in group if (name := getattr(rule, "name", ""))}
    assert names == set().union(*(expected for _, expected in FAULTS.values()))


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_fires_exactly_its_alerts(name: str, tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(rule_file(rule_groups("distributed", Jobs())))
    tests = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [case(name)]}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests))
    promtool("test", "rules", str(tmp_path / "tests.yml"))
