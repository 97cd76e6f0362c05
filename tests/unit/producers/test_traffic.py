from __future__ import annotations

import numpy as np
import pytest
from penstock.producers.engine import NEVER_FAILS
from penstock.producers.traces import Trace, bundled_trace
from penstock.producers.traffic import (
    BASE_ERROR_RATIO,
    CACHE_HIT_RATIO,
    Describer,
    Price,
    Traffic,
    make_traffic,
)
from penstock.schemas.events import ERROR_TYPES, SAFETY_FLAGS, STATUSES, field_kinds


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    return make_traffic(bundled_trace(), seed=5)


def test_the_seed_decides_the_draws(traffic: Traffic) -> None:
    again, other = (make_traffic(bundled_trace(), seed) for seed in (5, 6))
    assert (again.digests == traffic.digests).all()
    assert (again.draws == traffic.draws).all()
    assert (other.digests != traffic.digests).any()


def test_shares_are_as_stated(traffic: Traffic) -> None:
    n = len(traffic.trace)
    for found, wanted in (
        (np.mean(traffic.failure < BASE_ERROR_RATIO), BASE_ERROR_RATIO),
        (np.mean(traffic.cached_tokens > 0), CACHE_HIT_RATIO),
    ):
        assert abs(found - wanted) < 4 * np.sqrt(wanted / n)
    assert (traffic.cached_tokens < traffic.trace.input_tokens).all()
    assert (traffic.fail_after <= traffic.trace.output_tokens).all()


def test_a_canary_gets_its_share_from_its_beginning_on(traffic: Traffic) -> None:
    from_us = 1_000_000_000
    mine = traffic.canary(from_us, 0.2)
    later = traffic.trace.arrival_us >= from_us
    assert not mine[~later].any()
    assert abs(mine[later].mean() - 0.2) < 0.02
    assert not traffic.canary(from_us, 0.0).any()


def test_an_arm_with_more_errors_fails_the_same_requests_and_more(traffic: Traffic) -> None:
    everything = np.arange(len(traffic.trace))
    base = traffic.work(everything, 0.005).fail_after != NEVER_FAILS
    worse = traffic.work(everything, 0.03).fail_after != NEVER_FAILS
    assert worse[base].all()
    assert 4 < worse.sum() / base.sum() < 9


def test_a_trace_that_knows_its_cache_hits_is_believed() -> None:
    one = np.array([0, 5])
    trace = Trace("t", one, one + 100, one + 1, np.array([0, 64]))
    assert make_traffic(trace, 1).cached_tokens.tolist() == [0, 64]


def test_price_counts_cached_tokens_once() -> None:
    price = Price(input_usd=1.0, cached_usd=0.5, output_usd=2.0)
    assert price.cost_usd(1000, 400, 10) == pytest.approx((600 + 200 + 20) / 1e6)


def test_described_requests_keep_to_the_catalogue(traffic: Traffic) -> None:
    kinds = field_kinds("request")
    describer = Describer(traffic, "abc", Price())
    engine = {"input_tokens": 100, "output_tokens": 10, "cached_tokens": 16}
    seen: dict[str, set[str]] = {"status": set(), "error_type": set(), "safety_flags": set()}
    ids = set()
    for index in range(4000):
        status = ("ok", "error")[index % 2]
        fields = describer.complete(index, engine | {"status": status})
        assert set(fields) <= set(kinds)
        ids |= {fields["request_id"], fields["trace_id"]}
        assert len(fields["trace_id"]) == 32
        assert len(fields["span_id"]) == 16
        for name, values in seen.items():
            found = fields.get(name, ())
            values |= {found} if isinstance(found, str) else set(found)
        assert (fields["status"] == "ok") == ("error_type" not in fields)
        assert fields["cost_usd"] > 0
    assert len(ids) == 8000
    assert seen["status"] == {"ok", "error", "timeout"}
    assert seen["status"] <= set(STATUSES)
    assert seen["error_type"] <= set(ERROR_TYPES)
    assert len(seen["error_type"]) >= 4
    assert seen["safety_flags"] <= set(SAFETY_FLAGS)


def test_rejected_requests_cost_nothing(traffic: Traffic) -> None:
    fields = {"input_tokens": 9, "output_tokens": 0, "status": "rejected", "error_type": "overload"}
    described = Describer(traffic, "abc", Price()).complete(0, dict(fields))
    assert described["cost_usd"] == 0
    assert described["http_status"] == 429


def test_some_users_say_something(traffic: Traffic) -> None:
    describer = Describer(traffic, "abc", Price())
    told = [said for index in range(5000) if (said := describer.feedback(index)) is not None]
    assert 150 < len(told) < 350
    assert 0.7 < np.mean([fields["accepted"] for _, fields in told]) < 0.97
    assert all(after_us >= 2_000_000 for after_us, _ in told)
