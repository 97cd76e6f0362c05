"""Properties of the whole absolute gate: grouping, monotony, error rates, power."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from penstock.schemas.gates.absolute import AbsoluteGate
from penstock.streams.core.gates.absolute import (
    CellCounts,
    Context,
    GateState,
    evaluate,
    initial_state,
)

from .conftest import COST, ERRORS, LATENCY

OPEN = Context(3_600_000_000, requests_per_s=10.0)
STREAM = st.lists(
    st.tuples(st.integers(0, 60), st.floats(0, 1), st.floats(0, 0.05), st.floats(-1, 1)),
    min_size=1,
    max_size=40,
)


def stream(rows: list[tuple[int, float, float, float]]) -> CellCounts:
    n = np.array([row[0] for row in rows], np.int64)
    zipped = list(zip(n.tolist(), rows, strict=True))
    return CellCounts(
        end_us=np.arange(1, n.size + 1, dtype=np.int64) * 1_000_000,
        requests=n,
        bad={
            "ttft_ms_p95": np.array([int(k * row[1] * 0.2) for k, row in zipped], np.int64),
            "error_rate": np.array([round(k * row[2]) for k, row in zipped], np.int64),
        },
        units=dict.fromkeys(("ttft_ms_p95", "error_rate", "cost_per_1k_tokens_usd"), n),
        cost_sum_nano={
            "cost_per_1k_tokens_usd": np.array(
                [int(k * row[3] * 20_000_000) for k, row in zipped], np.int64
            )
        },
    )


@settings(max_examples=60, deadline=None)
@given(STREAM, st.data())
def test_any_grouping_gives_the_same_bits(
    rows: list[tuple[int, float, float, float]], data: st.DataObject
) -> None:
    spec = AbsoluteGate.model_validate(
        {"id": "g", "metrics": [LATENCY, ERRORS, COST], "min_bake_s": 5, "alpha_pass": 0.3}
    )
    counts = stream(rows)
    whole, verdict = evaluate(spec, initial_state(spec, 0, 0), counts, OPEN)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(rows)), max_size=len(rows))))
    state = initial_state(spec, 0, 0)
    for start, stop in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        saved = GateState.from_json(state.to_json())
        state, grouped = evaluate(spec, saved, counts.part(start, stop), OPEN)
    assert state == whole
    assert state.to_json() == whole.to_json()
    assert grouped == verdict
    again = GateState.from_json(state.to_json())  # what latched keeps the order of its words
    polls = [evaluate(spec, one, counts.part(0, 0), OPEN)[1].to_dict() for one in (whole, again)]
    assert json.dumps(polls[0]) == json.dumps(polls[1])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.data())
def test_more_bad_units_never_help(units: int, data: st.DataObject) -> None:
    spec = AbsoluteGate.model_validate({"id": "g", "metrics": [ERRORS], "min_bake_s": 0})
    bad = data.draw(st.integers(0, units - 1))
    order = {"PASS": 0, "NO_DATA": 1, "UNDECIDED": 1, "FAIL": 2}
    found = []
    for count in (bad, bad + 1):
        counts = CellCounts(
            np.array([1_000_000]),
            np.array([units]),
            {"error_rate": np.array([count])},
            {"error_rate": np.array([units])},
            {},
        )
        _, verdict = evaluate(spec, initial_state(spec, 0, 0), counts, OPEN)
        found.append((order[verdict.verdict], verdict.evidence[0]["log10_e_fail"]))
    assert found[0] <= found[1]


def first_verdicts(spec: AbsoluteGate, rate: float, streams: int, cells: int) -> list[str]:
    rng = np.random.default_rng(17)
    n = np.full(cells, 20, np.int64)
    end_us = np.arange(1, cells + 1, dtype=np.int64) * 1_000_000
    found: list[str] = []
    for _ in range(streams):
        bad = rng.binomial(20, rate, cells)
        counts = CellCounts(end_us, n, {"error_rate": bad}, {"error_rate": n}, {})
        found.append(evaluate(spec, initial_state(spec, 0, 0), counts, OPEN)[1].verdict)
    return found


@pytest.mark.slow
def test_error_rates_of_the_whole_gate_at_the_limit() -> None:
    """2,000 streams of 300 cells, each polled at every cell, with the rate exactly at the limit."""
    spec = AbsoluteGate.model_validate(
        {"id": "g", "metrics": [{"metric": "error_rate", "max_ratio": 0.05}], "min_bake_s": 0}
    )
    found = first_verdicts(spec, 0.05, 2000, 300)
    for name, alpha in (("FAIL", 0.01), ("PASS", 0.05)):
        assert found.count(name) / 2000 <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / 2000)


@pytest.mark.parametrize(("rate", "name"), [(0.1, "FAIL"), (0.025, "PASS")])
def test_power(rate: float, name: str) -> None:
    """Within 75 s of 20 requests each, twice or half the limit of 5 % is told in most runs."""
    spec = AbsoluteGate.model_validate(
        {"id": "g", "metrics": [{"metric": "error_rate", "max_ratio": 0.05}], "min_bake_s": 0}
    )
    assert first_verdicts(spec, rate, 200, 75).count(name) >= 180
