"""What a plan of an absolute gate says, against streams that are really judged."""

from __future__ import annotations

import numpy as np
import pytest
from penstock.schemas.gates.absolute import AbsoluteGate
from penstock.streams.core.gates.plan_limits import plan_limits
from penstock.streams.core.gates.state import count_cells, initial_state

from .conftest import COST, ERRORS, LATENCY, Cells, Gate

RATES = {"error_rate": 0.004}


def only_errors(**more: object) -> AbsoluteGate:
    return AbsoluteGate.model_validate(
        {"id": "g", "metrics": [ERRORS], "min_units": 1, "min_bake_s": 0} | more
    )


@pytest.mark.parametrize(("verdict", "rate"), [("PASS", 0.004), ("FAIL", 0.02)])
def test_half_of_the_streams_need_no_more_than_planned(
    verdict: str, rate: float, cells: Cells
) -> None:
    spec = only_errors()
    planned = {line.verdict: line for line in plan_limits(spec, 100.0, RATES).lines}
    units = planned[verdict].units  # type: ignore[index]  # a text that is one of the two
    assert units is not None
    rng = np.random.default_rng(5)
    taken = []
    for _ in range(60):
        errors = rng.binomial(100, rate, size=400)
        counts = cells([100] * 400, errors=errors.tolist())
        _, trace = count_cells(spec, initial_state(spec, 0, 0), counts)
        metric = trace.metrics["error_rate"]
        found = metric.log_pass if verdict == "PASS" else metric.log_fail
        threshold = np.log(1 / (spec.alpha_pass if verdict == "PASS" else spec.alpha_fail))
        reached = found >= threshold
        taken.append((int(np.argmax(reached)) + 1) * 100 if reached.any() else 10**9)
    assert 0.3 * units <= np.median(taken) <= 1.2 * units + 100


def test_lines_of_rates_and_latencies_and_none_of_costs(gate: Gate) -> None:
    found = plan_limits(gate(), 50.0, {})
    assert [(line.metric, line.verdict) for line in found.lines] == [
        ("ttft_ms_p95", "PASS"), ("ttft_ms_p95", "FAIL"),
        ("error_rate", "PASS"), ("error_rate", "FAIL"),
    ]  # fmt: skip
    assert [line.ratio for line in found.lines] == [0.5, 2.0, 0.5, 2.0]
    assert found.decidable
    assert plan_limits(gate(metrics=[COST]), 50.0, {}).lines == ()


def test_a_gate_that_cannot_be_decided_is_refused(gate: Gate) -> None:
    late = plan_limits(only_errors(deadline_s=60), 10.0, RATES)
    assert not late.decidable
    assert "error_rate: PASS at 0.4 times its limit takes about" in late.problems[0]
    above = plan_limits(only_errors(deadline_s=10**6), 10.0, {"error_rate": 0.011})
    assert above.lines[0].units is None
    assert "is out of reach" in above.problems[0]
    advisory = [ERRORS, LATENCY | {"critical": False}]
    spec = gate(metrics=advisory, deadline_s=10**6)
    assert plan_limits(spec, 10.0, RATES | {"ttft_ms_p95": 0.9}).decidable


def test_bake_and_minimum_units_are_part_of_a_pass() -> None:
    slow = plan_limits(only_errors(min_bake_s=10**5), 100.0, RATES)
    assert slow.lines[0].seconds == 10**5
    many = plan_limits(only_errors(min_units=10**7), 100.0, RATES)
    assert many.lines[0].seconds == 10**5
    assert (many.lines[1].seconds or 0) < 10**3


@pytest.mark.parametrize(("rps", "worse"), [(0.0, 2.0), (1.0, 1.0)])
def test_no_plan_without_traffic_or_anything_worse(rps: float, worse: float) -> None:
    with pytest.raises(ValueError, match="a plan needs"):
        plan_limits(only_errors(), rps, {}, worse)
