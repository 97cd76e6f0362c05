"""For each rule of the catalogue, events that fire it, and events just below its threshold."""

from __future__ import annotations

from collections.abc import Callable

from penstock.tests.unit.streams.core.alerts.catalogue_world import Traffic, Value, rows, some

Recipe = Callable[[int, bool], Traffic]
"""Of a length in seconds, and whether the rule is to fire."""

BEFORE_S = 2400  # of a change: the baseline, and all that lies between it and the change


def _requests(every_s: float = 0.5, **fields: Callable[[bool], Value]) -> Recipe:
    def made(length_s: int, on: bool) -> Traffic:
        values = {name: value(on) for name, value in fields.items()}
        return Traffic(length_s).send("request", rows(0, length_s, every_s, **values))

    return made


def _steps(every_s: float = 2, **fields: Callable[[bool], Value]) -> Recipe:
    def made(length_s: int, on: bool) -> Traffic:
        values = {name: value(on) for name, value in fields.items()}
        return Traffic(length_s).send("step", rows(0, length_s, every_s, **values))

    return made


def _level(on_value: Value, off_value: Value) -> Callable[[bool], Value]:
    return lambda on: on_value if on else off_value


def _slow(limit_ms: float, share: int, of: int) -> Recipe:
    """A share of the requests is slower than a limit; one more of them fires the rule."""
    return _requests(
        latency_ms=lambda on: some(share + on, of, limit_ms + 0.001, limit_ms),
        output_tokens=_level(9, 9),
    )


def _failing(share: int, of: int) -> Recipe:
    """A share of the requests fails; one more of them fires the rule."""
    return _requests(300 / 1000, error_type=lambda on: some(share + on, of, "internal", None))


def _errors(kind: str, allowed: int) -> Recipe:
    """So many errors of a kind in five minutes are allowed."""

    def made(length_s: int, on: bool) -> Traffic:
        count = allowed + on
        bad = rows(0, 60, 60 / max(count, 1), error_type=kind, adapter="a")[:count]
        return Traffic(360).send("request", bad).send("request", rows(0, 360, 1, adapter="a"))

    return made


def _turned(length_s: int, on: bool) -> Traffic:
    """Requests as ever, and then slower, shorter, dearer and failing more."""

    def errors(share: int) -> Value:
        kinds = ["internal"] * share + [None] * (50 - share) + ["validation"] * share
        return lambda number: (kinds + [None] * 50)[number % 100]

    first = rows(0, BEFORE_S, 1, latency_ms=100, error_type=errors(10), cost_usd=1.0,
                 input_tokens=900, output_tokens=100)  # fmt: skip
    then = rows(BEFORE_S, BEFORE_S + 660, 1, latency_ms=154 if on else 146,
                error_type=errors(40 if on else 39), cost_usd=1.21 if on else 1.2,
                input_tokens=951 if on else 950, output_tokens=49 if on else 50)  # fmt: skip
    return Traffic(BEFORE_S + 660, BEFORE_S).send("request", [*first, *then])


def _rarer(length_s: int, on: bool) -> Traffic:
    first = rows(0, BEFORE_S, 1, output_tokens=10)
    then = rows(BEFORE_S, BEFORE_S + length_s, 2.02 if on else 2.0, output_tokens=10)
    return Traffic(BEFORE_S + length_s, BEFORE_S).send("request", [*first, *then])


def _silence(kind: str, allowed_s: int) -> Recipe:
    """Rows of a kind until `allowed_s` before the end, or a pane longer."""

    def made(length_s: int, on: bool) -> Traffic:
        other = "step" if kind == "request" else "request"
        end_s = allowed_s + 60
        heard_s = 60 if on else 70
        traffic = Traffic(end_s).send(kind, rows(0, heard_s, 1))
        return traffic.send(other, rows(0, end_s, 1)) if kind == "step" else traffic

    return made


def _down(length_s: int, on: bool) -> Traffic:
    return Traffic(120).send("request", rows(0, 40 if on else 70, 1))


def _lost(length_s: int, on: bool) -> Traffic:
    """One of two workers falls silent two minutes before the end, or two panes later."""
    traffic = Traffic(900, 600)
    for worker, end_s in (("w-1", 900), ("w-2", 760 if on else 780)):
        for at_s in range(0, end_s, 20):  # a worker is known from its first frame on
            traffic.send("request", rows(at_s, at_s + 20, 1), worker)
    return traffic


def _overdue(length_s: int, on: bool) -> Traffic:
    hanging = rows(10, 60, 10 if on else 12.5, overdue=True)
    return Traffic(120).send("request", rows(0, 120, 1)).send("request", hanging)


def _labels(wrong_on: int, wrong_off: int) -> Recipe:
    """Of twenty answers one is wrong, later some more."""

    def made(length_s: int, on: bool) -> Traffic:
        changed_s, end_s = 5400, 7200
        name = lambda number: f"r-{number}"  # noqa: E731
        wrong = wrong_on if on else wrong_off
        asked = rows(0, end_s, 4, request_id=name)
        judged = rows(0, end_s, 4, request_id=name, label="a",
                      predicted=lambda n: "b" if n % 20 < (1 if n * 4 < changed_s else wrong) else "a")  # fmt: skip
        for row in judged:
            del row["model"]
        return Traffic(end_s, changed_s).send("request", asked).send("feedback", judged, "judge")

    return made


def _rejected(before: int, on_value: int, off_value: int) -> Recipe:
    """Rows with a negative latency: a few half an hour ago, others now."""

    def made(length_s: int, on: bool) -> Traffic:
        traffic = Traffic(2220, 2100).send("request", rows(0, 10, 1))
        for start_s, bad in ((300, before), (2100, on_value if on else off_value)):
            good = rows(start_s, start_s + 60, 1, latency_ms=5)
            traffic.send(
                "request", good + rows(start_s, start_s + 60, 60 / max(bad, 1), latency_ms=-5)[:bad]
            )
        return traffic

    return made


def _refused(length_s: int, on: bool) -> Traffic:
    bad = rows(10, 20, 10 / 11, latency_ms=-5)
    return Traffic(60).send("request", rows(0, 10, 1) + bad[: 11 if on else 10])


def _missing(length_s: int, on: bool) -> Traffic:
    """Of 200 events two may be missing, so that 99 % arrive; a third one may not."""
    lost = 3 if on else 2
    traffic = Traffic(180).send("request", rows(0, 10, 0.1))
    return traffic.send("request", rows(10, 20, 0.1)[: 100 - lost], skip=lost)


def _dropped(length_s: int, on: bool) -> Traffic:
    traffic = Traffic(60).send("request", rows(0, 10, 1))
    return traffic.send("request", rows(10, 20, 1), gap=1 if on else 0)


def _late(length_s: int, on: bool) -> Traffic:
    """Another worker speaks of what is a minute old."""
    late = 101 if on else 100
    traffic = Traffic(300).send("request", rows(0, 100, 1))
    traffic.send("request", rows(20, 30, 0.1)[:late] + rows(30, 31, 1)[: late - 100], "w-2", 101)
    return traffic.send("request", rows(101, 290, 1))


RECIPES: dict[str, Recipe] = {
    "llm-latency-p95-high": _slow(1200, 1, 20),
    "llm-latency-p50-high": _slow(400, 10, 20),
    "agent-latency-p95-slow": _slow(5000, 1, 20),
    "agent-latency-p95-very-slow": _slow(10_000, 1, 20),
    "online-latency-p99-high": _slow(100, 1, 100),
    "online-latency-p99-critical": _slow(200, 1, 100),
    "latency-degraded": _turned,
    "online-error-rate-high": _failing(1, 1000),
    "error-rate-high": _failing(1, 100),
    "error-rate-critical": _failing(1, 20),
    "error-rate-very-high": _failing(2, 20),
    "success-rate-low": _failing(1, 20),
    "success-rate-very-low": _failing(4, 20),
    "errors-spike": _turned,
    "errors-oom": _errors("oom", 0),
    "errors-tokenizer-mismatch": _errors("tokenizer_mismatch", 0),
    "errors-adapter-merge": _errors("adapter_merge", 0),
    "errors-api-timeout": _errors("api_timeout", 10),
    "errors-hot-shard": _errors("hot_shard", 10),
    "throughput-low": _rarer,
    "token-throughput-low": _turned,
    "online-throughput-low": lambda length_s, on: Traffic(length_s).send(
        "request", rows(0, length_s, 0.0101 if on else 0.01)
    ),
    "batch-wait-high": _requests(batch_wait_ms=_level(51, 49)),
    "batches-small": _steps(batch_size=_level(some(1, 100, 3, 4), 4)),
    "queue-depth-high": _steps(queue_prefill=_level(101, 100)),
    "queue-backup": _steps(queue_decode=_level(1001, 1000)),
    "kv-cache-high": _steps(kv_cache_usage=_level(0.901, 0.9)),
    "preemptions-high": _steps(30, preemptions=_level(some(1, 10, 2, 1), 1)),
    "model-load-slow": _steps(60, model_load_s=_level(61.5, 58.5)),
    "retries-high": _steps(retry_rate=_level(0.101, 0.1)),
    "cache-evictions-high": _steps(10, cache_evictions=_level(34, 33)),
    "gpu-memory-high": _steps(
        gpu_memory_used_bytes=_level(92, 88), gpu_memory_total_bytes=_level(100, 100)
    ),
    "gpu-memory-critical": _steps(
        gpu_memory_used_bytes=_level(97, 93), gpu_memory_total_bytes=_level(100, 100)
    ),
    "gpu-utilization-low": _steps(10, gpu_utilization=_level(0.299, 0.3)),
    "gpu-utilization-high": _steps(gpu_utilization=_level(0.951, 0.95)),
    "gpu-temperature-high": _steps(gpu_temperature_c=_level(some(1, 20, 87, 60), 83)),
    "host-cpu-high": _steps(cpu_utilization=_level(0.901, 0.9)),
    "host-memory-high": _steps(
        host_memory_bytes=_level(92, 88), host_memory_total_bytes=_level(100, 100)
    ),
    "no-healthy-replicas": _steps(10, healthy_replicas=_level(0, 1)),
    "replicas-degraded": _steps(10, healthy_replicas=_level(1, 2), expected_replicas=_level(2, 2)),
    "workers-stuck": _steps(10, running=_level(101, 100)),
    "requests-hanging": _overdue,
    "service-down": _down,
    "workers-lost": _lost,
    "deadman-requests": _silence("request", 300),
    "deadman-steps": _silence("step", 300),
    "deadman-model": _silence("request", 600),
    "accuracy-drop": _labels(3, 2),
    "accuracy-drop-severe": _labels(4, 3),
    "safety-violations": _requests(
        300 / 1000, safety_flags=lambda on: some(1 + on, 1000, ["pii"], [])
    ),
    "cache-hit-rate-low": _requests(cache_hit=lambda on: some(5 if on else 6, 20, True, False)),
    "cost-per-1k-tokens-jump": _turned,
    "coverage-low": _missing,
    "events-dropped": _dropped,
    "events-late": _late,
    "dead-letters": _refused,
    "parse-errors-spike": _rejected(2, 8, 7),
    "validation-errors-spike": _turned,
}
