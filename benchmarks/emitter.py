"""What the emitter costs the thread that calls it. `python benchmarks/emitter.py [--quick]`.

Four questions, each with its limit and a rival or a baseline in the same run:
the cost of one call (p50, p99), what a loop of 1 kHz loses, what a disabled emitter costs, and how
fast the flusher is (which decides how much it can disturb).
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any

import numpy as np
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from penstock import Emitter, EmitterSettings
from prometheus_client import CollectorRegistry, Histogram

STEP: dict[str, Any] = {
    "step": 1,
    "step_ms": 12.5,
    "batch_size": 16,
    "batch_capacity": 32,
    "prefill_tokens": 512,
    "decode_tokens": 16,
    "queue_prefill": 3,
    "queue_decode": 1,
    "running": 16,
    "kv_cache_usage": 0.42,
}


class NowhereTransport:
    """Takes frames and forgets them: the network is not what is measured."""

    def send(self, frames: list[bytes]) -> None:
        pass

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        pass


class NowhereExporter(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def make_emitter(**more: Any) -> Emitter:
    settings = EmitterSettings(spool_dir=tempfile.mkdtemp(prefix="penstock-bench-"))
    return Emitter(
        worker_id="w", model="m", transport=NowhereTransport(), settings=settings, **more
    )


def call_costs_ns(function: Callable[[int], None], calls: int, pause_every: int = 50) -> Any:
    """Cost of each call in nanoseconds, timer included; pauses let background threads work."""
    costs = np.empty(calls, np.int64)
    for i in range(calls):
        begin = perf_counter_ns()
        function(i)
        costs[i] = perf_counter_ns() - begin
        if i % pause_every == 0:
            time.sleep(0.001)
    return costs


def line(name: str, figures: str, limit: str = "", ok: bool | None = None) -> None:
    verdict = "" if ok is None else ("ok" if ok else "OVER")
    print(f"{name:<62}{figures:<32}{limit:<26}{verdict}")


def bench_calls(calls: int) -> None:
    print("\nOne call on the caller's thread, ns (with the timer's own cost)")
    emitter = make_emitter()
    step = emitter.step
    registry = CollectorRegistry()
    histogram = Histogram("step_ms", "step", ["model"], registry=registry)
    child = histogram.labels("m")
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(NowhereExporter(), max_queue_size=1 << 20))
    tracer = provider.get_tracer("bench")

    def emit(i: int) -> None:
        step(
            step=i,
            step_ms=12.5,
            batch_size=16,
            batch_capacity=32,
            prefill_tokens=512,
            decode_tokens=16,
            queue_prefill=3,
            queue_decode=1,
            running=16,
            kv_cache_usage=0.42,
        )

    def observe(i: int) -> None:
        child.observe(12.5)

    def ten_observes(i: int) -> None:
        for _ in range(10):
            child.observe(12.5)

    def span(i: int) -> None:
        with tracer.start_as_current_span("step", attributes=STEP):
            pass

    rows: list[tuple[str, Callable[[int], None]]] = [
        ("timer alone", lambda i: None),
        ("emit.step, ten fields", emit),
        ("prometheus_client, one observe", observe),
        ("prometheus_client, ten observes", ten_observes),
        ("OpenTelemetry span, ten attributes", span),
    ]
    # Rounds take turns, so that the machine's other work hits all alike.
    found: dict[str, list[Any]] = {name: [] for name, _ in rows}
    for _ in range(5):
        for name, function in rows:
            found[name].append(call_costs_ns(function, calls))
    ours = 0.0
    for name, _ in rows:
        p50 = min(float(np.percentile(costs, 50)) for costs in found[name])
        p99 = min(float(np.percentile(costs, 99)) for costs in found[name])
        figures = f"p50 {p50:7.0f}   p99 {p99:7.0f}"
        if name.startswith("emit"):
            ours = p50
            line(name, figures, "p50 <= 1000, p99 <= 3000", p50 <= 1000 and p99 <= 3000)
        else:
            line(name, figures, f"{p50 / ours:.1f} times emit.step" if ours else "")
    emitter.close()
    provider.shutdown()


def one_turn(work: int) -> int:
    total = 0
    for i in range(work):
        total += i * i
    return total


def calibrate() -> int:
    """Iterations of `one_turn` that take 1 ms."""
    work = 1000
    while True:
        took = min(_took(work) for _ in range(20))
        if took > 800_000:
            return int(work * 1_000_000 / took)
        work *= 2


def _took(work: int) -> int:
    begin = perf_counter_ns()
    one_turn(work)
    return perf_counter_ns() - begin


def loop_with_step(turns: int, work: int, step: Callable[..., None], costs: Any) -> None:
    """Time of each turn of a loop that records one step event per turn, ns."""
    for i in range(turns):
        begin = perf_counter_ns()
        one_turn(work)
        step(
            step=i,
            step_ms=12.5,
            batch_size=16,
            batch_capacity=32,
            prefill_tokens=512,
            decode_tokens=16,
            queue_prefill=3,
            queue_decode=1,
            running=16,
            kv_cache_usage=0.42,
        )
        costs[i] = perf_counter_ns() - begin


def loop_without(turns: int, work: int, costs: Any) -> None:
    """The same loop without the event."""
    for i in range(turns):
        begin = perf_counter_ns()
        one_turn(work)
        costs[i] = perf_counter_ns() - begin


def call_in_loop(turns: int, work: int, step: Callable[..., None], costs: Any) -> None:
    """Time of the call alone, its code and data as cold as a turn's work leaves them."""
    for i in range(turns):
        one_turn(work)
        begin = perf_counter_ns()
        step(
            step=i,
            step_ms=12.5,
            batch_size=16,
            batch_capacity=32,
            prefill_tokens=512,
            decode_tokens=16,
            queue_prefill=3,
            queue_decode=1,
            running=16,
            kv_cache_usage=0.42,
        )
        costs[i] = perf_counter_ns() - begin


def bench_loop(groups: int) -> None:
    print("\nA loop of 1 kHz (1 ms of work per turn, no rest), one step event per turn")
    work, turns = calibrate(), 10

    def empty(**fields: Any) -> None:
        pass

    emitter = make_emitter()
    with_, without, calls, empties, timer = (np.empty((groups, turns), np.int64) for _ in range(5))
    with emitter:
        step = emitter.step
        for group in range(groups):
            # Ten turns of each in changing order: the machine's drift hits all alike.
            for recording in (group % 2 == 0, group % 2 == 1):
                if recording:
                    loop_with_step(turns, work, step, with_[group])
                else:
                    loop_without(turns, work, without[group])
            call_in_loop(turns, work, step, calls[group])
            call_in_loop(turns, work, empty, empties[group])
        for i in range(timer.size):
            begin = perf_counter_ns()
            timer.flat[i] = perf_counter_ns() - begin
    base = float(np.median(without))
    change = 100.0 * (float(np.median(with_)) / base - 1.0)
    pairs = np.median(with_, axis=1) / np.median(without, axis=1) - 1.0
    error = 125.0 * float(np.std(pairs)) / groups**0.5
    figures = f"{change:+.3f} % (+- {error:.3f})"
    line("p50 of the turn, with against without", figures, "< 0.1 %", change < 0.1)
    read = float(np.median(timer))
    for name, costs in (("emit.step", calls), ("an empty function(**fields)", empties)):
        share = 100.0 * (float(np.median(costs)) - read) / base
        limited = costs is calls
        limit, ok = ("< 0.1 %", share < 0.1) if limited else ("", None)
        line(f"p50 of the call within the loop: {name}", f"{share:.3f} % of the turn", limit, ok)
    print(f"  turn without: {base / 1000:.1f} us; {groups} groups of {turns} turns each")


def bench_disabled(calls: int) -> None:
    print("\nPENSTOCK_DISABLED=1, ns per call above an empty function with the same arguments")
    os.environ["PENSTOCK_DISABLED"] = "1"
    emitter = make_emitter()
    del os.environ["PENSTOCK_DISABLED"]

    def empty(*args: Any, **fields: Any) -> None:
        pass

    def per_call(function: Callable[..., None]) -> float:
        begin = perf_counter_ns()
        for i in range(calls):
            function(
                step=i,
                step_ms=12.5,
                batch_size=16,
                batch_capacity=32,
                prefill_tokens=512,
                decode_tokens=16,
                queue_prefill=3,
                queue_decode=1,
                running=16,
                kv_cache_usage=0.42,
            )
        return (perf_counter_ns() - begin) / calls

    def guard() -> float:
        begin = perf_counter_ns()
        for _ in range(calls):
            with emitter.track_request(route="/chat"):
                pass
        return (perf_counter_ns() - begin) / calls

    def per_attribute_call() -> float:
        begin = perf_counter_ns()
        for i in range(calls):
            emitter.step(
                step=i,
                step_ms=12.5,
                batch_size=16,
                batch_capacity=32,
                prefill_tokens=512,
                decode_tokens=16,
                queue_prefill=3,
                queue_decode=1,
                running=16,
                kv_cache_usage=0.42,
            )
        return (perf_counter_ns() - begin) / calls

    rounds = [(per_call(empty), per_attribute_call(), guard()) for _ in range(15)]
    baseline, ours, guarded = (min(column) for column in zip(*rounds, strict=True))
    extra = ours - baseline
    line("empty function, ten keywords", f"{baseline:.0f}")
    line("emitter.step", f"{ours:.0f}  ({extra:+.0f})", "<= 60 above", extra <= 60)
    line("with emitter.track_request(route=...)", f"{guarded:.0f}")


def bench_flusher(events: int) -> None:
    print("\nThe flusher, us per event of its own thread")
    settings = EmitterSettings(
        flush_interval_s=3600, spool_dir=tempfile.mkdtemp(prefix="penstock-bench-")
    )
    emitter = Emitter(worker_id="w", model="m", transport=NowhereTransport(), settings=settings)
    request = {
        "request_id": "r",
        "trace_id": "t",
        "route": "/chat",
        "status": "ok",
        "input_tokens": 400,
        "output_tokens": 100,
        "latency_ms": 950.0,
        "ttft_ms": 120.0,
        "features": {"length": 400.0},
    }
    with emitter:
        for name, record, fields in (
            ("step, ten fields", emitter.step, STEP),
            ("request, nine fields and features", emitter.request, request),
        ):
            costs = []
            for _ in range(3):
                for _ in range(events):
                    record(**fields)
                gc.collect()
                begin = time.process_time()
                emitter.flush(60)
                costs.append((time.process_time() - begin) / events * 1e6)
            line(name, f"{min(costs):.2f}  ({1 / min(costs):.2f} M events/s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    quick = parser.parse_args().quick
    bench_calls(2_000 if quick else 20_000)
    bench_loop(50 if quick else 1000)
    bench_disabled(20_000 if quick else 200_000)
    bench_flusher(20_000 if quick else 100_000)


if __name__ == "__main__":
    main()
