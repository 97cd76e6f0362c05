"""SQL of traffic in buckets (its meaning: tests/contract/test_gate_backtest.py), and its answers as blocks."""

from __future__ import annotations

import math

import pytest
from penstock.streams.core.gates.interface import Wanted, WantedMetric
from penstock.streams.core.gates.pool import pool_of
from penstock.streams.core.gates.query import gathered, requests_sql, units_sql
from penstock.streams.core.gates.split import Change, Split

WANTED = Wanted(
    arms=({"variant": "stable"}, {"variant": "canary"}),
    unit="request",
    strata=(),
    block_s=10,
    mature_s=20,
    metrics=(
        WantedMetric("error_rate", "rate", "error", "unit"),
        WantedMetric("latency_ms_p95", "bins", "latency_ms", "request"),
        WantedMetric("cost_usd", "moments", "cost", "request", cap=1.0),
    ),
)


def test_without_a_split_both_arms_are_read_as_they_are() -> None:
    for sql in (units_sql(WANTED), requests_sql(WANTED)):
        assert "{control_variant:String}, 0" in sql
        assert "{treatment_variant:String}, 1" in sql
        assert "row_arm < 2" in sql
        assert "REPLACE" not in sql
        assert "cityHash64" not in sql


@pytest.mark.parametrize(("arm", "name"), [(0, "control"), (1, "treatment")])
def test_one_arm_is_read_in_buckets(arm: int, name: str) -> None:
    sql = units_sql(WANTED, Split(arm, 7, 20))
    assert (
        f"if(variant = {{{name}_variant:String}}, toUInt16(cityHash64(7, unit_key) % 20), 20)"
        in sql
    )
    assert "row_arm < 20" in sql
    assert "REPLACE" not in sql


def test_only_what_changes_is_replaced() -> None:
    def changed(change: Change) -> str:
        sql = requests_sql(WANTED, Split(0, 7, change=change))
        return sql[sql.index("REPLACE") : sql.index(") FROM (")] if "REPLACE" in sql else ""

    assert changed(Change()) == ""
    assert changed(Change(latency_times=1.1)) == "REPLACE (its_latency_us * 1.1 AS its_latency_us"
    assert changed(Change(cost_times=2)) == "REPLACE (its_cost_nanousd * 2.0 AS its_cost_nanousd"
    flipped = changed(Change(error_ratio=0.01, safety_ratio=0.5))
    assert "failed OR cityHash64('failed', 7, boot_id, seq) % 1000000 < 10000) AS failed" in flipped
    assert (
        "unsafe OR cityHash64('unsafe', 7, boot_id, seq) % 1000000 < 500000) AS unsafe" in flipped
    )
    assert "its_" not in flipped


def test_answers_become_blocks_with_buckets_as_arms() -> None:
    place = {"block": 10_000_000, "arm": 17, "stratum": "", "worker_id": "w"}
    units = [place | {"assigned": 3, "ahead_us": 5, "n0": 3, "bad0": 1}]
    moments = {"n1": 2, "a1": 5, "b1": 6, "aa1": 7, "ab1": 8, "bb1": 9, "top_a1": 4, "top_b1": 5}
    requests = [place | {"n0": 4, "bins0": ([9, 12], [1, 3])} | moments]
    assigned, sums, ahead_us = gathered(WANTED, units, requests)
    assert ahead_us == 5
    found = pool_of(WANTED, range(0, 30_000_000, 10_000_000), assigned, sums, [1.0, 0.5, None])
    assert found.end_us.tolist() == [10_000_000, 20_000_000, 30_000_000]
    assert (found.block.tolist(), found.arm.tolist(), found.assigned.tolist()) == ([1], [17], [3])
    assert found.coverage.tolist()[:2] == [1.0, 0.5]
    assert math.isnan(found.coverage[2])
    latency, cost = found.metrics["latency_ms_p95"], found.metrics["cost_usd"]
    assert latency.bins is not None
    assert latency.counts is not None
    assert (latency.bins[0].tolist(), latency.counts[0].tolist()) == ([9, 12], [1, 3])
    assert cost.aa is not None
    assert cost.aa.tolist() == [7]
