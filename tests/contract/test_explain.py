"""Alerts explained from raw rows of a real store, in this process and behind HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from penstock.schemas.alerts import metrics
from penstock.schemas.alerts.metrics import METRICS
from penstock.schemas.alerts.rules import AlertRule
from penstock.schemas.config import Configuration
from penstock.streams.core.alerts.transition import Transition
from penstock.streams.core.explain.drifted import explain_drift
from penstock.streams.core.explain.explanation import Explanation, explain
from penstock.streams.core.explain.measures import measure_of
from penstock.streams.core.explain.question import question_of
from penstock.streams.core.explain.words import one_line
from penstock.streams.explain.drift import looks_at
from penstock.streams.explain.query import ask
from penstock.streams.storage.store import Store
from penstock.tests.support.rows import T0, at
from penstock.tests.support.store import insert

pytestmark = pytest.mark.slow

T0_S = int(T0.timestamp())
LATENCIES = [f"{name.removesuffix('_ms')}_us" for name in metrics.LATENCIES[1:]]
FLEET = [metric for metric in METRICS.values() if metric.per == "received"]
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
                "route": f"/{number % 3}", "tenant": f"t{number % 7}", "user_hash": f"u{number % 2}",
                "status": "error" if bad and number % 20 == 7 else "ok",
                "error_type": "oom" if bad and number % 20 == 7 else "",
                "latency_us": 2_500_000 if bad else 300_000 + number % 100,
                "input_tokens": 100 if number % 4 < 2 else 1000, "output_tokens": 50,
                "cost_nanousd": 3_000_000 if bad else 1_000_000,
                "cache_hit": number % 4 == 0, "quality": 0.5, "cached_tokens": 10,
                "safety_flags": ["pii"] if bad else [],
                **dict.fromkeys(LATENCIES, 1000),
                "decode_us": 2_300_000 if bad else 100_000,
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


def found(
    store: Store, condition: dict[str, Any], at_s: int = BEGAN + 120, **mine: str
) -> Explanation:
    """What is found of an alert of the model that fired then, a minute after its first breach."""
    fleet = METRICS.get(condition.get("metric", "")) in FLEET
    model = {} if fleet else {"model": "chat"}
    rule = AlertRule.model_validate({"id": "rule", "filter": model, "condition": condition})
    labels = {"alertname": "rule", "severity": "warning", "group": "g", **model, **mine}
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
        " error type oom explains 100 % of the change (0 % -> 5 %); release r2 canary 2 min before it began"
    )


def test_a_latency_has_the_evidence_of_the_engine(rows: Store) -> None:
    told = found(rows, threshold("latency_ms_p95", 1200))
    assert told.words == "share of latency_ms above 1,200 ms"
    assert told.value == pytest.approx(0.1)
    assert told.slices[0].slice["variant"] == "canary"
    queue = {item.name: item for item in told.engine}["queue_depth"]
    assert (queue.now, queue.before) == (40.0, 2.0)
    (decode,) = told.parts
    assert (told.parts_of, decode.name, decode.before) == ("phase", "decode_ms", 100.0)
    assert decode.now == pytest.approx(320.0)
    assert [item.name for item in told.requests] == ["input_tokens", "output_tokens"]
    assert one_line(told).endswith(
        "; phase decode explains 100 % of the change (100 ms -> 320 ms);"
        " release r2 canary 2 min before it began; queue 2 -> 40"
    )


def test_a_gauge_of_steps_has_the_others_as_evidence(rows: Store) -> None:
    told = found(rows, threshold("queue_depth_mean", 10))
    names = [item.name for item in told.engine]
    assert names == ["batch_fill", "kv_cache_usage", "preemptions", "step_ms"]


def test_violations_are_told_by_their_flag(rows: Store) -> None:
    told = found(rows, threshold("safety_rate", 0.01))
    (flag,) = told.parts
    assert (told.parts_of, flag.name, flag.before) == ("safety flag", "pii", 0.0)
    assert flag.now == pytest.approx(0.1)
    counted = found(rows, threshold("errors", 1))
    assert [(part.name, part.unit, part.now) for part in counted.parts] == [("oom", "count", 30.0)]


def test_a_worker_that_says_nothing_any_more_is_named(store: Store) -> None:
    day = 10 * 86_400  # other tests have frames of their own
    frames = [
        {
            "offset": 10 * second + worker, "kind": "control", "worker_id": f"w-{worker}",
            "boot_id": f"silent-{worker}", "clock_ts": at(day + second), "stored": 1,
            "late": 5 if worker == 1 and second > 900 else 0, "append_ts": at(day + second + 1),
        }
        for second in range(0, 1200, 10)
        for worker in range(5)
        if worker != 3 or second < 900
    ]  # fmt: skip
    insert(store, "frames_rows", frames)
    lost = {"kind": "change", "metric": "workers", "window": "1m", "op": "<", "value": 1}
    told = found(store, lost | {"baseline": "1m", "offset_s": 300}, day + 1080)
    assert (told.value, told.value_before) == (4.0, 5.0)
    assert one_line(told) == "worker=w-3 explains 100 % of the change (1 -> 0)"
    late = found(store, threshold("late", 1), day + 1080)
    assert late.slices[0].slice == {"worker_id": "w-1"}


def test_drift_is_told_by_its_series_and_categories(store: Store) -> None:
    def look(series: str, psi: float | None, bars: str, sure: bool, second: int) -> dict[str, Any]:
        return {
            "monitor": "explained", "series": series, "end": T0_S + second, "window_s": 600,
            "psi": psi, "confirmed": T0_S if sure else None, "bars": bars, "version": 1,
        }  # fmt: skip

    routes = (
        '[{"bin":0,"name":"/a","reference":800,"current":100},'
        '{"bin":1,"name":"/b","reference":100,"current":800},'
        '{"bin":2,"name":"/c","reference":100,"current":100}]'
    )
    lengths = (
        '[{"bin":0,"first":-1,"last":0,"low":null,"high":null,"reference":1,"current":1},'
        '{"bin":1,"first":1,"last":3,"low":1.0,"high":8.5,"reference":1,"current":1}]'
    )
    insert(
        store,
        "drift_scores_rows",
        [
            look("route", 2.9, routes, True, 600),
            look("route", 0.0, "[]", False, 660),  # after the alert
            look("input_tokens", 0.1, lengths, True, 600),
            look("language", None, "[]", False, 600),
        ],
    )
    seen = looks_at(store, "explained", ("route", "input_tokens", "language"), T0_S + 610)
    told = explain_drift(seen)
    assert (told.words, told.value) == ("PSI of route", 2.9)
    assert one_line(told).startswith(
        "route changed most, but also input_tokens; route /a explains 50 % of the change"
        " (80 % -> 10 %)"
    )
    assert [part.name for part in told.parts] == ["/a", "/b"]
    bars = {item.series: item.bars for item in seen}["input_tokens"]
    assert [bar.name for bar in bars] == ["no value", "1 to 8.5"]
    assert explain_drift(looks_at(store, "explained", (), T0_S)).value is None


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
    assert [item.name for item in told.requests] == ["input_tokens", "output_tokens"]
    # Half of the requests are of one user, all of the canary's among them.
    user = found(rows, threshold("cost_usd", 0.1), user_hash="u1")
    assert user.value == pytest.approx(0.3 + 0.6 * 0.2)
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
    other = {name for name, metric in METRICS.items() if metric.per == "feedback"}
    assert unexplained == other | {"expected", "received", "missing", "coverage"}
    measures = {name: measure_of(name) for name in METRICS}
    one_of_each = {item.name: name for name, item in measures.items() if item is not None}
    for metric in {*one_of_each.values(), *VALUES}:
        told = found(rows, threshold(metric))
        assert Explanation.from_json(told.to_json()) == told
        assert told.value is not None, metric
        if metric in VALUES:
            assert told.value == pytest.approx(VALUES[metric]), metric
