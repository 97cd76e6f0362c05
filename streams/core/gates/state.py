"""What an absolute gate remembers between two evaluations, and how cells advance it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from ....schemas.gates.absolute import AbsoluteGate, CostLimit, LatencyLimit, RateLimit
from .betting import BettingState, advance
from .canonical import ENGINE, plain_json, spec_hash
from .eprocess import BetaPrior, FloatArray, log_e_above, log_e_below
from .units import CELL_US, CellCounts, IntArray, allowed_rate, cap_nano, inconsistent


@dataclass(frozen=True, slots=True)
class MetricState:
    """One metric of one gate in one epoch.

    Attributes:
        units: units so far.
        bad: bad units so far; 0 for a cost.
        cost_nano: sum of the capped differences so far, in nano-dollars; 0 for a rate.
        log_fail, log_pass: running maximum of the natural log of the e-value that shows FAIL, PASS.
        within: whether the estimate is within its limit now.
        betting: wealth of the bets on a cost; None for a rate.
    """

    units: int = 0
    bad: int = 0
    cost_nano: int = 0
    log_fail: float = 0.0
    log_pass: float = 0.0
    within: bool = True
    betting: BettingState | None = None


@dataclass(frozen=True, slots=True)
class GateState:
    """Totals, running maxima and the latched verdict of one epoch of a gate.

    Attributes:
        epoch: a new release or a reset opens the next one.
        start_us: event time at which the epoch began.
        end_us: end of the last cell counted; `start_us` before the first.
        first_us: start of the first cell with a request, completed or overdue; None before it.
        requests: completed requests so far.
        metrics: state per metric name.
        broken: reason code once the counts contradicted themselves; nothing is counted after it.
        latched: the verdict that was reached first, as `Latched.to_dict` gives it.
        spec_hash, engine: what the numbers were computed with.
    """

    epoch: int
    start_us: int
    end_us: int
    spec_hash: str
    first_us: int | None = None
    requests: int = 0
    metrics: dict[str, MetricState] = field(default_factory=dict)
    broken: str | None = None
    latched: dict[str, Any] | None = None
    engine: str = ENGINE

    def to_json(self) -> str:
        """As JSON, in order: a decision that latched is told in the same words after a restart."""
        return plain_json(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> GateState:
        """The state that `to_json` wrote, exactly.

        Raises:
            ValueError: if the text is not such a state.
        """
        try:
            data = json.loads(text)
            data["metrics"] = {name: _metric(item) for name, item in data["metrics"].items()}
            return cls(**data)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the state of a gate: {error}") from error


def _metric(item: dict[str, Any]) -> MetricState:
    saved: dict[str, Any] | None = item["betting"]
    if saved is None:
        return MetricState(**item)
    fields: dict[str, Any] = {**saved, "up": tuple(saved["up"]), "down": tuple(saved["down"])}
    return MetricState(**{**item, "betting": BettingState(**fields)})


def initial_state(spec: AbsoluteGate, epoch: int, start_us: int) -> GateState:
    """The state before the first cell.

    Args:
        spec: the gate.
        epoch: number of the epoch.
        start_us: event time from which the deadline runs, microseconds since 1970 UTC.
    """
    metrics = {
        limit.name: MetricState(betting=BettingState() if isinstance(limit, CostLimit) else None)
        for limit in spec.metrics
    }
    return GateState(epoch, start_us, start_us, spec_hash(spec), metrics=metrics)


@dataclass(frozen=True, slots=True)
class MetricTrace:
    """A metric after every cell of a call: running maxima and whether its estimate is in limits."""

    log_fail: FloatArray
    log_pass: FloatArray
    units: IntArray
    within: np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class Trace:
    """The gate after every cell of a call, shape (T,) each."""

    end_us: IntArray
    requests: IntArray
    bake_us: IntArray
    metrics: dict[str, MetricTrace]


def count_cells(spec: AbsoluteGate, state: GateState, cells: CellCounts) -> tuple[GateState, Trace]:
    """Add checked cells that all end after `state.end_us`.

    Returns:
        The state after the last cell and what lay between; independent of how cells are grouped.
        Counting stops before a cell that contradicts itself, and the state says so.
    """
    broken = inconsistent(spec, cells)
    bad_at = int(np.argmax(broken)) if bool(broken.any()) else None
    if state.broken is not None:
        cells = cells.part(0, 0)
    elif bad_at is not None:
        cells = cells.part(0, bad_at)
    metrics: dict[str, MetricState] = {}
    traces: dict[str, MetricTrace] = {}
    for limit in spec.metrics:
        before = state.metrics[limit.name]
        if isinstance(limit, CostLimit):
            after, trace = _cost(limit, before, cells, spec.alpha_fail)
        else:
            after, trace = _rate(limit, before, cells)
        metrics[limit.name], traces[limit.name] = after, trace
    first_us = state.first_us
    if first_us is None:
        first_us = _first_traffic_us(spec, cells)
    return dataclasses.replace(
        state,
        end_us=int(cells.end_us[-1]) if len(cells) else state.end_us,
        first_us=first_us,
        requests=state.requests + int(cells.requests.sum()),
        metrics=metrics,
        broken=state.broken or ("inconsistent_counts" if bad_at is not None else None),
    ), Trace(
        cells.end_us,
        state.requests + np.cumsum(cells.requests),
        np.maximum(cells.end_us - first_us, 0) if first_us is not None else cells.end_us * 0,
        traces,
    )


def _first_traffic_us(spec: AbsoluteGate, cells: CellCounts) -> int | None:
    """Start of the first cell with a request, completed or overdue."""
    seen = cells.requests > 0
    for limit in spec.metrics:
        seen = seen | (cells.units[limit.name] > 0)
    return int(cells.end_us[int(np.argmax(seen))]) - CELL_US if bool(seen.any()) else None


@lru_cache(maxsize=256)
def prior_of(rate: float) -> BetaPrior:
    """The prior for an allowed rate."""
    return BetaPrior.around(rate)


def _rate(
    limit: LatencyLimit | RateLimit, before: MetricState, cells: CellCounts
) -> tuple[MetricState, MetricTrace]:
    rate = allowed_rate(limit)
    bad = before.bad + np.cumsum(cells.bad[limit.name])
    units = before.units + np.cumsum(cells.units[limit.name])
    log_fail = _running_max(before.log_fail, log_e_above(bad, units, rate, prior_of(rate)))
    log_pass = _running_max(before.log_pass, log_e_below(bad, units, rate, prior_of(rate)))
    trace = MetricTrace(log_fail, log_pass, units, bad <= rate * units)
    if not len(cells):
        return before, trace
    return dataclasses.replace(_last(before, trace), bad=int(bad[-1])), trace


def _cost(
    limit: CostLimit, before: MetricState, cells: CellCounts, alpha: float
) -> tuple[MetricState, MetricTrace]:
    counts = cells.units[limit.name]
    sums = cells.cost_sum_nano[limit.name]
    held = counts > 0
    means = sums[held] / (counts[held] * float(cap_nano(limit)))
    start = before.betting or BettingState()
    betting, up, down = advance(start, means, alpha)
    units = before.units + np.cumsum(counts)
    total = before.cost_nano + np.cumsum(sums)
    trace = MetricTrace(
        _running_max(before.log_fail, _carried(start.log_e_above(), up, held)),
        _running_max(before.log_pass, _carried(start.log_e_below(), down, held)),
        units,
        total <= 0,
    )
    if not len(cells):
        return before, trace
    after = dataclasses.replace(_last(before, trace), cost_nano=int(total[-1]), betting=betting)
    return after, trace


def _carried(
    start: float, values: FloatArray, held: np.ndarray[Any, np.dtype[np.bool_]]
) -> FloatArray:
    """One value per cell from one per block: a cell without requests keeps the last."""
    return np.concatenate(([start], values))[np.cumsum(held)]


def _running_max(start: float, values: FloatArray) -> FloatArray:
    return np.asarray(np.maximum.accumulate(np.maximum(values, start)), np.float64)


def _last(before: MetricState, trace: MetricTrace) -> MetricState:
    return dataclasses.replace(
        before,
        units=int(trace.units[-1]),
        log_fail=float(trace.log_fail[-1]),
        log_pass=float(trace.log_pass[-1]),
        within=bool(trace.within[-1]),
    )
