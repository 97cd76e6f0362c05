"""Alerts explained from raw rows of a real store, in this process and behind HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from penstock.schemas.alerts import metrics
from penstock.schemas.alerts.metrics import METRICS
from penstock.schemas.alerts.rules import AlertRule
from penstock.schemas.config import Configuration
from penstock.streams.core.alerts.transition import Transition
from penstock.streams.core.explain.explanation import Explanation, explain
from penstock.streams.core.explain.measures import measure_of
from penstock.streams.core.explain.question import question_of
from penstock.streams.core.explain.words import one_line
from penstock.streams.explain.query import ask
from penstock.streams.storage.store import Store
from penstock.tests.support.rows import T0, at
from penstock.tests.support.store import insert

T0_S = int(T0.timestamp())
LATENCIES = [f"{name.removesuffix('_ms')}_us" for name in metrics.LATENCIES[1:]]
BEGAN = 1000  # the canary is bad from here on, seconds after T0


def requests() -> list[dict[str, Any]]:
    """Ten a second for 20 minutes; a tenth is the canary's, which fails and is slow from `BEGAN` on."""
    rows = []
    for number in range(12_000):
        second = number / 10
        canary, bad = number % 10 == 7, number % 10 == 7 and second >= BEGAN
        rows.append(
            {
                "ts": at(second), "append_ts": at(second + 1), "boot_id": f"b{canary}",
                "seq": number, "worker_id": "w-2" if canary else "w-1", "model": "chat",
                "variant": "canary" if canary else "control", "release": f"r{1 + canary}",
                "route": f"/{number % 3}", "tenant": f"t{number % 7}",
                "status": "error" if bad and number % 20 == 7 else "ok",
                "error_type": "oom" if bad and number % 20 == 7 else "",
                "latency_us": 2_500_000 if bad else 300_000 + number % 100,
                "input_tokens": 100 if number % 4 < 2 else 1000, "output_tokens": 50,
                "cost_nanousd": 3_000_000 if bad else 1_000_000,
                "cache_hit": number % 4 == 0, "quality": 0.5, "cached_tokens": 10,
                "safety_flags": ["pii"] if bad else [],
                **dict.fromkeys(LATENCIES, 1000),
            }
        )  # fmt: skip
    return rows


def steps() -> list[dict[str, Any]]:
    return [
        {
            "ts": at(second), "append_ts": at(second + 1), "boot_id": "s", "seq": second,
            "worker_id": "w-2", "model": "chat", "kind": "engine", "step_us": 30_000,
            "batch_size": 8, "batch_capacity": 32, "queue_prefill": 40 if second >= BEGAN else 2,
            "queue_decode": 0, "kv_cache_usage": 0.5, "preemptions": 1, "running": 8,
            "gpu_utilization": 0.5, "cpu_utilization": 0.5, "retry_rate": 0.1,
            "gpu_memory_used_bytes": 8, "gpu_memory_total_bytes": 10, "gpu_temperature_c": 60,
            "host_memory_bytes": 8, "host_memory_total_bytes": 10,
            "model_load_s": 3, "expected_replicas": 2, "healthy_replicas": 1,
        }
        for second in range(1200)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def rows(store: Store) -> Store:
    """The rows above, some of them twice, and markers."""
    found = requests()
    insert(store, "requests_rows", found)
    insert(store, "requests_rows", found[:500])
    insert(store, "steps_rows", steps())
    marker = {"model": "chat", "release": "r2", "variant": "canary", "stage": "canary"}
    insert(
        store,
        "releases_rows",
        [
            marker | {"ts": at(BEGAN - 60), "append_ts": at(BEGAN), "boot_id": "r", "seq": 0},
            {"ts": at(10), "append_ts": at(10), "boot_id": "r", "seq": 1, "release": "old"},
            marker | {"ts": at(10), "append_ts": at(10), "model": "other", "seq": 2},
        ],
    )
    return store


def found(store: Store, condition: dict[str, Any], at_s: int = BEGAN + 120) -> Explanation:
    """What is found of an alert of the model that fired then, a minute after its first breach."""
    rule = AlertRule.model_validate(
        {"id": "rule", "filter": {"model": "chat"}, "condition": condition}
    )
    labels = {"alertname": "rule", "severity": "warning", "group": "g", "model": "chat"}
    fired = Transition(
        "t", "a", 1, "firing", "condition", "rule", "h", T0_S + at_s, T0_S + at_s - 60, labels
    )
    question = question_of(fired, rule, Configuration())
    assert question is not None
    return explain(question, ask(store, question))


def threshold(metric: str, value: float = 0.0, **more: Any) -> dict[str, Any]:
    return {"kind": "threshold", "metric": metric, "window": "1m", "op": ">", "value": value} | more


def test_errors_are_the_canarys_and_its_marker_is_near(rows: Store) -> None:
    told = found(rows, threshold("error_rate", 0.01))
    assert (told.value, told.value_before, told.note) == (0.05, 0.0, "")
    first = told.slices[0]
    assert first.slice == {"variant": "canary", "release": "r2", "worker_id": "w-2"}
    assert first.power == pytest.approx(1.0)
    assert (first.now, first.before) == (0.5, 0.0)
    assert first.traffic == pytest.approx(0.1)
    assert [(item.release, item.after_s) for item in told.releases] == [("r2", 120), ("old", 1050)]
    assert told.engine == ()
    assert one_line(told) == (
        "variant=canary, release=r2, worker=w-2 explains 100 % of the change (0 % -> 50 %);"
        " release r2 canary 2 min before it began"
    )


def test_a_latency_has_the_evidence_of_the_engine(rows: Store) -> None:
    told = found(rows, threshold("latency_ms_p95", 1200))
    assert told.words == "share of latency_ms above 1,200 ms"
    assert told.value == pytest.approx(0.1)
    assert told.slices[0].slice["variant"] == "canary"
    queue = {item.name: item for item in told.engine}["queue_depth"]
    assert (queue.now, queue.before) == (40.0, 2.0)
    assert one_line(told).endswith("; queue 2 -> 40")


def test_a_quantile_against_its_past_takes_its_limit_from_there(rows: Store) -> None:
    change = {"kind": "change", "metric": "latency_ms_p99", "window": "1m", "op": ">", "value": 2}
    told = found(rows, change | {"baseline": "5m", "offset_s": 300})
    assert told.words == "share of latency_ms above 300.1 ms"
    assert told.slices[0].slice["variant"] == "canary"


def test_costs_are_sums_scaled_to_the_same_time(rows: Store) -> None:
    told = found(rows, threshold("cost_usd", 0.1))
    assert told.value == pytest.approx(0.6 * 1.2)
    assert told.value_before == pytest.approx(0.6)
    assert told.slices[0].slice["variant"] == "canary"
    per_token = found(rows, threshold("cost_per_1k_tokens_usd", 0.0001))
    assert per_token.slices[0].slice["variant"] == "canary"
    assert per_token.value == pytest.approx(0.72 / (600 * 0.6))


def test_silence_is_of_all_alike(rows: Store) -> None:
    told = found(rows, {"kind": "absence", "of": "requests", "absent_s": 60}, 1320)
    assert (told.value, told.value_before) == (0.0, 600.0)
    assert (told.slices, told.note) == ((), "nothing is left of it, in any slice")


def test_without_rows_before_what_is_bad_is_compared_with_the_traffic(rows: Store) -> None:
    told = found(rows, threshold("error_rate", 0.01, window="1h"))
    assert told.note == "there are no rows before to compare with"
    assert told.slices[0].slice["variant"] == "canary"
    nothing = found(rows, threshold("error_rate"), 100_000)
    assert (nothing.value, nothing.slices) == (None, ())


# Of the minute before the alert fired; 60 requests of 600 are bad, half of them fail.
VALUES = {
    "requests": 600, "request_rate": 600, "ok": 570, "errors": 30, "errors_by_type.oom": 30,
    "errors_by_type.other": 0, "error_rate": 0.05, "availability": 0.05, "cost_usd": 0.72,
    "cached_tokens": 6000, "tokens_per_s": 30_000, "cache_hit_rate": 0.25, "safety_rate": 0.1,
    "safety_violations": 60, "quality_mean": 0.5, "overdue": 0, "ttft_ms_p95": 1.0, "steps": 60,
    "preemptions": 60, "batch_fill_mean": 0.25, "batch_size_mean": 8, "running_mean": 8,
    "queue_depth_mean": 40, "kv_cache_usage_mean": 0.5, "retry_rate_mean": 0.1,
    "healthy_replicas_ratio": 0.5, "gpu_memory_ratio_p99": 1.0, "step_ms_p99": 1.0,
    "cache_evictions": 0,
}  # fmt: skip


def test_every_metric_is_summed_or_said_to_be_unexplained(rows: Store) -> None:
    unexplained = {name for name in METRICS if measure_of(name) is None}
    other = {name for name, metric in METRICS.items() if metric.per in ("feedback", "received")}
    assert unexplained == other | {"healthy_replicas_min"}
    measures = {name: measure_of(name) for name in METRICS}
    one_of_each = {item.name: name for name, item in measures.items() if item is not None}
    for metric in {*one_of_each.values(), *VALUES}:
        told = found(rows, threshold(metric))
        assert Explanation.from_json(told.to_json()) == told
        assert told.value is not None, metric
        if metric in VALUES:
            assert told.value == pytest.approx(VALUES[metric]), metric
