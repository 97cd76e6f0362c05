from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.producers.sampling import Sampler, Sampling, head_position

FULL = {"features": {"a": 1.0}, "categories": {"b": "x"}, "payload": "p"}


def sampled(sampling: Sampling, **fields: Any) -> dict[str, Any]:
    row = {**FULL, **fields}
    Sampler(sampling).apply(row)
    return row


def trace_between(low: float, high: float) -> str:
    return next(t for t in (f"trace-{i}" for i in range(100_000)) if low <= head_position(t) < high)


@given(st.text())
def test_position_is_a_stable_hash_that_any_language_can_compute(key: str) -> None:
    position = head_position(key)
    assert 0.0 <= position < 1.0
    digest = sha256(key.encode("utf-8", "surrogatepass")).digest()
    assert position == pytest.approx(int.from_bytes(digest[:8], "big") / 2**64, abs=2**-52)


def test_rates_hold_over_many_traces() -> None:
    kept = sum(head_position(f"t{i}") < 0.05 for i in range(40_000))
    assert abs(kept / 40_000 - 0.05) < 0.005


@given(st.text(min_size=1), st.text(min_size=1), st.text(min_size=1))
def test_a_trace_is_kept_whole_whatever_its_requests(trace: str, one: str, two: str) -> None:
    rows = [sampled(Sampling(), trace_id=trace, request_id=r) for r in (one, two)]
    assert rows[0].keys() == rows[1].keys()


@given(st.text(min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_rate_keeps_what_a_lower_one_keeps(trace: str, a: float, b: float) -> None:
    low, high = sorted((a, b))
    fewer = sampled(Sampling(features_rate=low, payload_rate=low), trace_id=trace)
    more = sampled(Sampling(features_rate=high, payload_rate=high), trace_id=trace)
    assert fewer.keys() <= more.keys()


def test_what_is_not_sampled_is_stripped_and_not_marked() -> None:
    row = sampled(Sampling(), trace_id=trace_between(0.5, 1.0), latency_ms=3.0)
    assert row == {"trace_id": row["trace_id"], "latency_ms": 3.0}


def test_features_at_five_percent_and_payload_at_one() -> None:
    between = sampled(Sampling(), trace_id=trace_between(0.01, 0.05))
    assert between.keys() & FULL.keys() == {"features", "categories"}
    both = sampled(Sampling(), trace_id=trace_between(0.0, 0.01))
    assert both.keys() >= FULL.keys()
    for row in (between, both):
        assert (row["sample_reason"], row["sample_rate"]) == ("head", 0.05)


def test_payload_alone_is_marked_with_its_own_rate() -> None:
    row: dict[str, Any] = {"trace_id": trace_between(0.0, 0.01), "payload": "p"}
    Sampler(Sampling()).apply(row)
    assert (row["sample_reason"], row["sample_rate"]) == ("head", 0.01)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"status": "error"}, "error"),
        ({"status": "timeout"}, "timeout"),
        ({"safety_flags": {"pii"}}, "safety"),
        ({"output_score": 0.59}, "low_confidence"),
    ],
)
def test_what_matters_is_always_kept_with_its_reason(fields: dict[str, Any], reason: str) -> None:
    row = sampled(Sampling(), trace_id=trace_between(0.5, 1.0), **fields)
    assert row.keys() >= FULL.keys()
    assert (row["sample_reason"], row["sample_rate"]) == (reason, 1.0)


@pytest.mark.parametrize(
    "fields",
    [{"status": "ok"}, {"status": "cancelled"}, {"safety_flags": set()}, {"output_score": 0.6}],
)
def test_nothing_else_is_always_kept(fields: dict[str, Any]) -> None:
    row = sampled(Sampling(), trace_id=trace_between(0.5, 1.0), **fields)
    assert not row.keys() & FULL.keys()


def test_an_error_of_a_sampled_trace_is_a_head_row() -> None:
    """Otherwise the head rows would hold fewer errors than the traffic does."""
    row = sampled(Sampling(), trace_id=trace_between(0.01, 0.05), status="error")
    assert (row["sample_reason"], row["sample_rate"]) == ("head", 0.05)
    assert row["payload"] == "p"


def test_features_kept_for_an_error_are_never_head_rows() -> None:
    sampling = Sampling(features_rate=0.01, payload_rate=0.5)
    row = sampled(sampling, trace_id=trace_between(0.1, 0.5), status="error")
    assert (row["sample_reason"], row["sample_rate"]) == ("error", 1.0)


def test_rows_without_bulky_parts_are_untouched() -> None:
    row = {"status": "error", "trace_id": "t", "latency_ms": 1.0}
    Sampler(Sampling()).apply(row)
    assert row == {"status": "error", "trace_id": "t", "latency_ms": 1.0}


def test_include_lists() -> None:
    sampling = Sampling(
        features_rate=1.0,
        payload_rate=1.0,
        features=frozenset({"a"}),
        categories=frozenset(),
        payload=frozenset({"prompt"}),
    )
    row = {
        "trace_id": "t",
        "features": {"a": 1.0, "b": 2.0},
        "categories": {"c": "x"},
        "payload": {"prompt": "p", "response": "r"},
    }
    Sampler(sampling).apply(row)
    assert row["features"] == {"a": 1.0}
    assert row["categories"] == {}
    assert row["payload"] == {"prompt": "p"}


def test_request_id_decides_where_there_is_no_trace() -> None:
    request = trace_between(0.0, 0.01)
    assert "payload" in sampled(Sampling(), request_id=request)
    assert "payload" not in sampled(Sampling(), request_id=request, trace_id=trace_between(0.5, 1))


def test_rates_are_shares() -> None:
    with pytest.raises(ValueError, match="share"):
        Sampling(payload_rate=1.5)
