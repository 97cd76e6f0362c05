"""What a plan says, against streams that are really judged."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from penstock.schemas.gates.canary import CanaryGate
from penstock.streams.core.gates.live import advance, begin
from penstock.streams.core.gates.plan import Plan, PlanLine, Traffic, plan
from penstock.streams.core.gates.two_arm import grid_of, log_e_ratio, log_likelihood_steps

from .blocks import inputs_of, rate_rows
from .test_canary import LATER, gate

BUSY = Traffic(requests_per_s=100.0, share=0.1, rates={"error_rate": 0.005})


def line(found: Plan, metric: str, verdict: str) -> PlanLine:
    return next(item for item in found.lines if (item.metric, item.verdict) == (metric, verdict))


def test_rates_take_at_most_what_was_planned() -> None:
    """The median of 60 streams of one worker lies between a half and all of the planned units."""
    spec = gate({"metric": "error_rate", "margin_ratio": 2.0})
    found = plan(spec, replace(BUSY, workers=(1, 1)))
    rng = np.random.default_rng(1)
    for verdict, ratio, alpha in (("PASS", 1.0, 0.05), ("FAIL", 4.0, 0.01)):
        grid = grid_of(2.0, "PASS" if verdict == "PASS" else "FAIL")
        taken = []
        for _ in range(60):
            n1, n0 = np.full(600, 100), np.full(600, 900)
            bad1, bad0 = rng.binomial(n1, 0.005 * ratio), rng.binomial(n0, 0.005)
            logs = np.cumsum(log_likelihood_steps(bad1, bad0, n1, n0, grid), axis=0)
            reached = log_e_ratio(logs, grid) >= math.log(1 / alpha)
            taken.append((int(np.argmax(reached)) + 1) * 1000 if reached.any() else 10**9)
        planned = line(found, "error_rate", verdict).units
        assert planned is not None
        assert 0.4 * planned <= np.median(taken) <= 1.1 * planned


def test_a_failure_must_survive_without_a_worker() -> None:
    """A plan knows that the gate leaves each worker out: fewer workers, longer; the rest as it was."""
    spec = gate(
        {"metric": "error_rate", "margin_ratio": 2.0},
        {"metric": "latency", "margin_ratio": 1.2, "unit": "request"},
    )
    one, two, eight, many = (
        plan(spec, Traffic(100.0, 0.1, rates={"error_rate": 0.005}, workers=(n, n)))
        for n in (1, 2, 8, 30)
    )
    for metric in ("error_rate", "latency_ms_p95"):
        fails = [line(found, metric, "FAIL").units or 0 for found in (one, eight, two, many)]
        assert fails == sorted(fails)
        assert fails[0] < fails[-2]
        assert line(one, metric, "PASS").units == line(two, metric, "PASS").units


@pytest.mark.slow
def test_rates_of_workers_take_about_what_was_planned() -> None:
    """The engine itself, which leaves out each of two workers: the median of 20 streams."""
    spec = gate({"metric": "error_rate", "margin_ratio": 2.0})
    traffic = Traffic(100.0, 0.1, rates={"error_rate": 0.005}, workers=(2, 2))
    planned = line(plan(spec, traffic), "error_rate", "FAIL").units or 0
    rng, taken = np.random.default_rng(4), []
    for _ in range(20):
        inputs = inputs_of(rate_rows(rng, 110, (900, 100), (0.005, 0.02), workers=2), 110)
        taken.append(advance(spec, begin(spec), inputs, LATER)[1])
    units = [told.n if told.verdict == "FAIL" else 10**9 for told in taken]
    assert 0.5 * planned <= float(np.median(units)) <= 1.2 * planned


def test_more_traffic_takes_less_time() -> None:
    metrics = [
        {"metric": "error_rate", "margin_ratio": 1.5},
        {"metric": "timeout_rate", "margin_absolute": 0.01},
        {"metric": "latency", "margin_ratio": 1.2},
        {"metric": "latency", "field": "ttft_ms", "margin_ratio": 1.2, "unit": "request"},
        {"metric": "cost_usd", "margin_ratio": 1.3, "cap": 0.1},
        {"metric": "quality", "margin_ratio": 1.2, "cap": 1, "unit": "request"},
        {
            "metric": "cost_per_1k_tokens_usd",
            "margin_ratio": 1.3,
            "cap": 0.1,
            "cap_tokens": 4000,
            "critical": False,
        },
    ]
    spec = gate(*metrics)
    slow, busy = (plan(spec, Traffic(rate, 0.1, mean={"quality": 0.7})) for rate in (50.0, 500.0))
    assert [item.metric for item in slow.lines][::2] == [
        "error_rate",
        "timeout_rate",
        "latency_ms_p95",
        "ttft_ms_p95",
        "cost_usd",
        "cost_usd_above_cap",
        "quality",
        "cost_per_1k_tokens_usd",
        "cost_per_1k_tokens_usd_above_cap",
    ]
    for one, other in zip(slow.lines, busy.lines, strict=True):
        assert one.seconds is not None
        assert other.seconds is not None
        assert other.seconds <= one.seconds
    assert slow.decidable  # there is no deadline


def test_a_gate_that_cannot_be_decided_is_refused() -> None:
    spec = gate({"metric": "error_rate", "margin_ratio": 1.2}, deadline_s=600)
    found = plan(spec, BUSY)
    assert not found.decidable
    assert "error_rate: PASS at 1 times control takes about" in found.problems[0]
    never = plan(gate({"metric": "error_rate", "margin_ratio": 1.0}, deadline_s=600), BUSY)
    assert "is out of reach" in never.problems[0]
    wide = gate({"metric": "error_rate", "margin_ratio": 3.0}, deadline_s=3600)
    assert plan(wide, BUSY).decidable


def test_advisory_metrics_are_planned_and_refuse_nothing() -> None:
    spec = gate(
        {"metric": "error_rate", "margin_ratio": 3.0},
        {"metric": "timeout_rate", "margin_ratio": 1.0, "critical": False},
        deadline_s=3600,
    )
    found = plan(spec, BUSY)
    assert line(found, "timeout_rate", "PASS").units is None
    assert found.decidable


def test_bake_and_minimum_units_are_part_of_it() -> None:
    metric = {"metric": "error_rate", "margin_ratio": 3.0, "floor_ratio": 0.05}
    soon = plan(gate(metric), BUSY)
    baked = plan(gate(metric, min_bake_s=5000), BUSY)
    assert line(baked, "error_rate", "PASS").seconds == 5060.0
    many = plan(gate(metric, min_units=10**6), BUSY)
    assert (line(many, "error_rate", "PASS").seconds or 0) > 10**5 - 1
    assert line(soon, "error_rate", "FAIL").seconds == line(baked, "error_rate", "FAIL").seconds


@pytest.mark.parametrize("traffic", [Traffic(0.0, 0.1), Traffic(9.0, 1.0)])
def test_no_plan_without_traffic(traffic: Traffic) -> None:
    spec: Any = gate()
    assert isinstance(spec, CanaryGate)
    with pytest.raises(ValueError, match="a plan needs"):
        plan(spec, traffic)
