from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.producers.engine import NEVER_FAILS, Engine, EngineConfig, EngineEvent, Work

QUIET = EngineConfig(noise=0.0)
FOREVER_US = 10**13


def make_work(rows: list[tuple[int, int, int, int, int]]) -> Work:
    """Rows of arrival_us, input, cached, output, fail_after."""
    columns = np.array(rows, np.int64).T
    return Work(*columns)


def load(n: int, per_s: float, seed: int = 1, fails: float = 0.0) -> Work:
    rng = np.random.default_rng(seed)
    prompts = rng.integers(1, 3000, n)
    outputs = rng.integers(1, 400, n)
    return Work(
        np.cumsum(rng.exponential(1e6 / per_s, n)).astype(np.int64),
        prompts,
        np.where(rng.random(n) < 0.2, prompts // 2, 0),
        outputs,
        np.where(rng.random(n) < fails, rng.integers(0, 50, n), NEVER_FAILS),
    )


def run(config: EngineConfig, work: Work, seed: int = 0) -> list[EngineEvent]:
    engine = Engine(config, work, seed)
    events = engine.advance(FOREVER_US)
    assert engine.finished
    return events


def requests(events: list[EngineEvent]) -> list[EngineEvent]:
    return [event for event in events if event.request is not None]


def steps(events: list[EngineEvent]) -> list[EngineEvent]:
    return [event for event in events if event.request is None]


def quantile(events: list[EngineEvent], name: str, q: float) -> float:
    values = [event.fields[name] for event in requests(events) if name in event.fields]
    return float(np.quantile(values, q))


def test_one_request_by_hand() -> None:
    # A prompt of 1,500 takes two steps of 1,024 and 476 tokens; the second gives the first token,
    # and two more steps with one sequence in decode, holding 1,501 and 1,502 tokens, the rest.
    events = run(QUIET, make_work([(5_000, 1500, 0, 3, NEVER_FAILS)]))
    assert [event.fields["prefill_tokens"] for event in steps(events)] == [1024, 476, 0, 0]
    assert [event.fields["decode_tokens"] for event in steps(events)] == [0, 1, 1, 1]
    prefill_us = int((26 + 66.56) * 1000) + int((26 + 30.94) * 1000)
    decode_us = int((26 + 0.08 + 0.1501) * 1000) + int((26 + 0.08 + 0.1502) * 1000)
    [answer] = requests(events)
    assert answer.ts_us == 5_000 + prefill_us + decode_us
    assert answer.fields["queue_ms"] == 0
    assert answer.fields["ttft_ms"] == answer.fields["prefill_ms"] == prefill_us / 1000
    assert answer.fields["tpot_ms"] == pytest.approx(decode_us / 2000)
    assert answer.fields["first_step"] == 1
    assert answer.fields["last_step"] == 4
    assert steps(events)[-1].fields["kv_cache_usage"] == 0


def test_every_request_is_answered_and_no_token_is_lost() -> None:
    work = load(400, per_s=1.2)
    events = run(EngineConfig(kv_tokens=12_000), work)
    assert sorted(event.request or 0 for event in requests(events)) == list(range(400))
    generated = sum(event.fields["decode_tokens"] for event in steps(events))
    assert generated == int(work.output_tokens.sum())
    assert generated == sum(event.fields["output_tokens"] for event in requests(events))
    computed = sum(event.fields["prefill_tokens"] for event in steps(events))
    preempted = sum(event.fields["preemptions"] for event in steps(events))
    needed = int((work.input_tokens - work.cached_tokens).sum())
    assert preempted > 0
    assert computed > needed, "preempted sequences compute their prompt again"
    calm = steps(run(replace(QUIET, kv_tokens=10**9), work))
    assert sum(event.fields["prefill_tokens"] for event in calm) == needed


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3_000_000),
            st.integers(1, 700),
            st.floats(0, 0.9),
            st.integers(1, 200),
            st.sampled_from([NEVER_FAILS, NEVER_FAILS, 0, 3]),
        ),
        min_size=1,
        max_size=40,
    ),
    st.integers(900, 4000),
    st.integers(1, 12),
)
def test_limits_hold_and_times_add_up(
    rows: list[tuple[int, int, float, int, int]], kv_tokens: int, batch: int
) -> None:
    config = EngineConfig(kv_tokens=kv_tokens, batch_capacity=batch, step_tokens=256)
    work = make_work(
        [(at, prompt, int(prompt * hit), out, fail) for at, prompt, hit, out, fail in sorted(rows)]
    )
    events = run(config, work)
    assert [event.ts_us for event in events] == sorted(event.ts_us for event in events)
    for event in steps(events):
        fields = event.fields
        assert 0 <= fields["kv_cache_usage"] <= 1
        assert 0 <= fields["gpu_utilization"] <= 1
        assert 0 < fields["batch_size"] <= batch
        assert fields["prefill_tokens"] + fields["decode_tokens"] <= 256 + batch
        assert fields["prefill_tokens"] + fields["decode_tokens"] > 0
    last = steps(events)[-1].fields
    assert last["kv_cache_usage"] == 0
    assert last["inflight_decode_tokens"] == 0
    for event in requests(events):
        fields = event.fields
        assert event.request is not None
        arrival_us = int(work.arrival_us[event.request])
        assert round(fields["latency_ms"] * 1000) == event.ts_us - arrival_us
        parts = fields["queue_ms"] + fields["prefill_ms"] + fields.get("decode_ms", 0.0)
        assert parts == pytest.approx(fields["latency_ms"], abs=1e-6)
        if "ttft_ms" in fields:
            ttft = fields["queue_ms"] + fields["prefill_ms"]
            assert fields["ttft_ms"] == pytest.approx(ttft, abs=1e-6)
            assert fields["inference_ms"] >= fields["prefill_ms"]


def test_events_do_not_depend_on_how_a_run_is_cut() -> None:
    work = load(120, per_s=2.0, fails=0.1)
    whole = run(EngineConfig(), work, seed=7)
    engine = Engine(EngineConfig(), work, 7)
    pieces: list[EngineEvent] = []
    until_us = 0
    while not engine.finished:
        until_us += 333_333
        piece = engine.advance(until_us)
        assert all(until_us - 333_333 < event.ts_us <= until_us for event in piece)
        pieces += piece
    assert pieces == whole


def test_the_seed_decides_everything() -> None:
    work = load(60, per_s=2.0)
    assert run(EngineConfig(), work, seed=3) == run(EngineConfig(), work, seed=3)
    assert run(EngineConfig(), work, seed=3) != run(EngineConfig(), work, seed=4)


def test_queueing_grows_with_load() -> None:
    delays = [
        quantile(run(EngineConfig(), load(600, per_s)), "queue_ms", 0.95) for per_s in (0.5, 1.5, 3)
    ]
    assert delays[0] < delays[1] < delays[2]
    assert delays[2] > 5 * delays[0]


def test_slow_decode_slows_tokens_by_as_much() -> None:
    work = load(600, per_s=0.8)
    control = run(EngineConfig(), work)
    slow = run(EngineConfig(slowdown=1.4), work)
    ratio = quantile(slow, "tpot_ms", 0.5) / quantile(control, "tpot_ms", 0.5)
    assert 1.38 < ratio < 1.6, "a little more than 1.4, for the batch grows too"
    # Without other sequences it is exactly that, up to the rounding to microseconds.
    alone = make_work([(0, 100, 0, 200, NEVER_FAILS)])
    tpots = [quantile(run(replace(QUIET, slowdown=s), alone), "tpot_ms", 0.5) for s in (1.0, 1.4)]
    assert tpots[1] / tpots[0] == pytest.approx(1.4, rel=1e-4)


def test_failures_end_a_request_early() -> None:
    events = run(
        QUIET,
        make_work([(0, 100, 0, 50, 0), (0, 100, 0, 50, 10), (0, 100, 0, 50, NEVER_FAILS)]),
    )
    answers = {event.request: event.fields for event in requests(events)}
    assert [answers[k]["status"] for k in range(3)] == ["error", "error", "ok"]
    assert [answers[k]["output_tokens"] for k in range(3)] == [0, 10, 50]
    assert "ttft_ms" not in answers[0]
    assert "tpot_ms" not in answers[0]


def test_what_can_never_fit_and_what_finds_the_queue_full_is_rejected() -> None:
    config = replace(QUIET, kv_tokens=1000, batch_capacity=1, queue_limit=2)
    rows = [(0, 990, 0, 11, NEVER_FAILS), *((1000 + k, 10, 0, 100, NEVER_FAILS) for k in range(5))]
    events = requests(run(config, make_work(rows)))
    fates = {event.request: event.fields.get("error_type", "") for event in events}
    assert fates == {0: "validation", 1: "", 2: "", 3: "", 4: "overload", 5: "overload"}
    assert {event.fields["status"] for event in events} == {"ok", "rejected"}


def test_prefix_cache_saves_prefill() -> None:
    [cold] = requests(run(QUIET, make_work([(0, 1000, 0, 1, NEVER_FAILS)])))
    [warm] = requests(run(QUIET, make_work([(0, 1000, 900, 1, NEVER_FAILS)])))
    assert cold.fields["cache_hit"] is False
    assert warm.fields["cache_hit"] is True
    assert warm.fields["cached_tokens"] == 900
    assert cold.fields["ttft_ms"] - warm.fields["ttft_ms"] == pytest.approx(58.5)
