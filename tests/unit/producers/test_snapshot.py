from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock import Emitter, EmitterSettings
from penstock.producers.snapshot import Sketch
from penstock.tests.unit.producers.event_server import EventServer

POSITIVE = st.floats(1e-6, 1e9)


@given(st.lists(POSITIVE, min_size=1), st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_quantiles_are_within_one_percent(values: list[float], q: float) -> None:
    sketch = Sketch()
    sketch.add(values)
    exact = float(np.quantile(values, q, method="lower"))
    assert sketch.quantile(q) == pytest.approx(exact, rel=0.0101)


@given(st.lists(POSITIVE), st.lists(POSITIVE))
def test_adding_in_pieces_is_adding_at_once(one: list[float], two: list[float]) -> None:
    pieces, whole = Sketch(), Sketch()
    pieces.add(one)
    pieces.add(two)
    whole.add(one + two)
    assert pieces.bins == whole.bins
    assert pieces.count == whole.count


def test_bins_are_those_of_the_server() -> None:
    sketch = Sketch()
    sketch.add([12.5, 0.0, -1.0, math.inf, math.nan])
    assert dict(sketch.bins) == {math.ceil(math.log(12.5) / math.log(1.01 / 0.99)): 1}
    assert (sketch.zeros, sketch.count) == (2, 3)
    assert sketch.quantile(0.0) == 0.0
    assert math.isnan(Sketch().quantile(0.5))


def test_snapshot_counts_what_was_recorded(server: EventServer, settings: EmitterSettings) -> None:
    with Emitter(url=server.url, worker_id="w", settings=settings) as emit:
        for i in range(100):
            emit.step(
                step_ms=float(i + 1),
                queue_prefill=i,
                queue_decode=2,
                inflight_decode_tokens=500,
                tokenize_ms=0.5,
                tokenize_items=3,
                detokenize_ms=0.2,
                detokenize_items=4,
                transport_ms=0.1,
                backend="cuda",
                backend_fallback="make_input" if i % 10 == 0 else None,
            )
        emit.request(status="ok", latency_ms=5.0)
        emit.request(status="error", error_type="oom")
        emit.request(overdue=True)
        taken = emit.snapshot(reset=True)
        assert taken["events"] == {"step": 100, "request": 3}
        assert taken["requests"] == {"ok": 1, "error": 1}
        assert taken["errors"] == {"oom": 1}
        assert taken["overdue"] == 1
        assert taken["backends"] == {"cuda": 100}
        assert taken["backend_fallbacks"] == {"make_input": 10}
        assert taken["items"] == {"tokenize_items": 300, "detokenize_items": 400}
        assert taken["sketches"]["step_ms"]["p95"] == pytest.approx(95, rel=0.02)
        assert taken["sketches"]["queue_prefill"]["last"] == 99
        assert taken["sketches"]["inflight_decode_tokens"]["count"] == 100
        assert set(taken["sketches"]) >= {"tokenize_ms", "detokenize_ms", "transport_ms"}
        assert emit.flush()
        again = emit.snapshot()
        assert again["events"] == {}
        assert again["since_us"] == taken["until_us"]
        assert again["delivery"]["delivered_events"] == 103
        assert again["worker_id"] == "w"


def test_values_that_are_no_numbers_do_not_disturb(
    server: EventServer, settings: EmitterSettings
) -> None:
    with Emitter(url=server.url, settings=settings) as emit:
        emit.step(step_ms="fast")
        emit.step(step_ms=np.float32(2.0))
        emit.step(step_ms=None)
        assert emit.snapshot()["sketches"]["step_ms"]["count"] == 1
