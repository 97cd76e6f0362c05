"""Live cases through the pure core: what a server must also say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from penstock.schemas.gates.absolute import AbsoluteGate
from penstock.schemas.gates.canary import CanaryGate
from penstock.schemas.gates.files import GatesFile
from penstock.schemas.gates.rollback import RollbackGate
from penstock.streams.core.gates import absolute, live
from penstock.streams.core.gates.interface import Context
from penstock.streams.core.gates.verdict import Verdict
from penstock.streams.gate_files.reading import Rows
from penstock.streams.gate_files.requests import cells_of
from penstock.tests.zoo.case import Case
from penstock.tests.zoo.traffic import SECOND_US, START_US, Event, events, traffic_of
from penstock.tests.zoo.units import inputs_of


def specification(case: Case) -> object:
    """The gate of a case, as the configuration reads it."""
    text = GatesFile.model_validate({"gates": [case.specification()]})
    return text.gates[0]


def verdict_of(case: Case, found: Sequence[Event] | None = None) -> Verdict:
    """The verdict of a live case at its end.

    Args:
        case: of kind canary, rollback or absolute.
        found: its events, where they are at hand.
    """
    spec = specification(case)
    traffic = traffic_of(case.traffic, case.seed)
    rows = events(traffic, case.id) if found is None else found
    end_us = START_US + round(traffic.minutes * 60 + case.after_s) * SECOND_US
    if isinstance(spec, AbsoluteGate):
        return _absolute(spec, rows, end_us)
    assert isinstance(spec, CanaryGate | RollbackGate)
    wanted = live.inputs_wanted(spec)
    assert wanted is not None
    state = live.begin(spec, 0, START_US)
    inputs = inputs_of(wanted, rows, START_US, end_us)
    ahead_s = max(traffic.canary.clock_ahead_s, traffic.control.clock_ahead_s)
    context = Context(
        watermark_us=end_us,
        requests_per_s=len(rows) / (60 * traffic.minutes),
        clock_skew_s=ahead_s,
    )
    return live.advance(spec, state, inputs, context)[1]


def _absolute(spec: AbsoluteGate, rows: Sequence[Event], end_us: int) -> Verdict:
    requests = [dict(row) for row in rows if row["event"] == "request"]
    cells, _ = cells_of(spec, Rows(Path("events"), requests, list(range(len(requests)))))
    context = absolute.Context(watermark_us=end_us, requests_per_s=1.0)
    state = absolute.initial_state(spec, 0, START_US)
    return absolute.evaluate(spec, state, cells, context)[1]
