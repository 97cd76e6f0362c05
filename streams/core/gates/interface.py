"""What live gates are asked with: the rows one query delivers, and what is known beside them.

Canary and rollback gates are four pure functions of `live.py` (absolute gates count cells, budget
gates ask for the status of an objective, `budget.budget_verdict`):

    wanted = inputs_wanted(spec)                    what the query must deliver
    state = begin(spec, epoch, start_us)            the state before the first block
    state, verdict = advance(spec, state, inputs, context)
    GateState.to_json() / from_json()               the state as text, exactly

`advance` may be called as often as one likes with whatever blocks have closed since, in any
grouping: what was counted before is skipped, and the same blocks give the same state and the same
digest. Without a state, a gate is rebuilt by giving all blocks of the epoch from `start_us` on. A state
is some 10 kB per rate and up to 130 kB per latency: store it with a decision and now and then, rather
than with every answer.

**The query.** One per gate and evaluation, over `penstock.requests` (and `penstock.feedback` for
acceptance and quality) at or below the cut, in two steps:

1. Requests become units. The key of a unit is `coalesce(trace_id, request_id, boot_id:seq)`,
   `session_id` or `user_hash` as `Wanted.unit` says. A unit belongs to the arm (a row must match
   every given dimension), stratum, worker and block of its *first* request of the epoch, at the time
   that request started: `ts - latency_ms`, and for an overdue announcement `ts - latency_ms` too. It
   is bad if any of its requests that started within `mature_s` of the first is bad. Latencies and
   values are read per request, of the same start time; a request that is announced as overdue counts
   once, in `INFINITE_BIN`, whatever it completes with later.
2. `GROUP BY block, arm, stratum, worker`, with the sums of `Rows` and, for latencies,
   `sumMap([bin], [1])`.

A block ends at a multiple of `block_s` and is closed once `end + mature_s <= watermark`: then every
unit in it has its outcome. The same rows below the same cut therefore always give the same blocks.
Late rows of a closed block amend the evidence on request; they are never given to `advance`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ....schemas.gates.metrics import BIN_SHARE
from ..sketch import INFINITE_BIN, LOG_GAMMA, OFFSET, ZERO_BIN

IntArray: TypeAlias = npt.NDArray[np.int64]
FloatArray: TypeAlias = npt.NDArray[np.float64]

CONTROL, TREATMENT = 0, 1
ARM_NAMES = ("control", "treatment")
FINE_OFFSET = OFFSET * BIN_SHARE
PPM = 1_000_000
"""Values are delivered as whole millionths of their cap, so that sums and squares are exact."""


@dataclass(frozen=True, slots=True)
class WantedMetric:
    """One metric of the query.

    Attributes:
        name: key of `GateInputs.metrics`.
        kind: `rate`, `bins` or `moments`.
        field: what is read: for a rate `error` (status error or timeout), `timeout`, `safety` (any
            flag), `unaccepted` (feedback that says accepted = false), `above:<field>` (more than
            `limit` of a `_ms` column, overdue ones included) or `above_cap`; for bins a `_ms`
            column; for moments `cost`, `cost_tokens` or `quality`.
        per: `unit` or `request`: what is counted.
        limit: of `above:<field>`, in milliseconds.
        cap, cap_tokens: of moments and `above_cap`.
    """

    name: str
    kind: Literal["rate", "bins", "moments"]
    field: str
    per: Literal["unit", "request"]
    limit: float | None = None
    cap: float | None = None
    cap_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the query of a gate must deliver.

    Attributes:
        arms: dimensions of control and of treatment; control is empty where there is none.
        unit: what a unit is.
        strata: `prompt_length` (floor(log2(input_tokens + 1)), as text), `tenant`, `route`, `region`,
            `hour` (of the day, UTC); joined by `|`, in this order, into one text.
        block_s, mature_s: see the module.
        metrics: what is summed.
    """

    arms: tuple[Mapping[str, str], Mapping[str, str]]
    unit: Literal["request", "session", "user"]
    strata: tuple[str, ...]
    block_s: int
    mature_s: int
    metrics: tuple[WantedMetric, ...]


@dataclass(frozen=True, slots=True)
class MetricRows:
    """Sums of one metric, one entry per row of `GateInputs`, int64, shape (N,).

    Attributes:
        n: units or requests that carry the metric.
        bad: of a rate, the bad ones.
        bins, counts: of bins, arrays of the row's ascending bins and their counts. A bin is
            `fine_bins_of(ms)`; SQL: `ceil(4 * log(ms) / LOG_GAMMA) + 8192`, 0 for ms <= 0.
        a, b: of moments, sums over requests of the value and of its weight, in millionths of their
            caps, each clipped to 0..PPM and rounded half up; the weight is the tokens (input and
            output) of a cost per token, and PPM for every request otherwise.
        aa, ab, bb: sums of their products.
        top_a, top_b: largest value and weight of a request, in millionths; None where unknown.
    """

    n: IntArray
    bad: IntArray | None = None
    bins: Sequence[IntArray] | None = None
    counts: Sequence[IntArray] | None = None
    a: IntArray | None = None
    b: IntArray | None = None
    aa: IntArray | None = None
    ab: IntArray | None = None
    bb: IntArray | None = None
    top_a: IntArray | None = None
    top_b: IntArray | None = None


SUMS = ("n", "bad", "a", "b", "aa", "ab", "bb", "top_a", "top_b")
"""Columns of `MetricRows` with one number per row."""


@dataclass(frozen=True, slots=True)
class GateInputs:
    """Closed blocks in event-time order, and their rows.

    Attributes:
        end_us: end of every closed block, those without rows too: int64 microseconds since 1970
            UTC, strictly increasing multiples of block_s, shape (B,).
        coverage: share of the expected events that was received in the minute that the block ends;
            NaN where it is unknown, shape (B,).
        share: configured share of the treatment in each block, NaN where it is not stated (then that
            of the specification holds), shape (B,).
        block: position in `end_us` of each row, shape (N,), any order.
        arm: CONTROL or TREATMENT, shape (N,).
        stratum, worker: of each row, length N.
        assigned: units whose first request is of the row, shape (N,).
        metrics: sums per metric name.
    """

    end_us: IntArray
    coverage: FloatArray
    share: FloatArray
    block: IntArray
    arm: IntArray
    stratum: Sequence[str]
    worker: Sequence[str]
    assigned: IntArray
    metrics: Mapping[str, MetricRows] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Context:
    """What the caller knows beside the rows.

    Attributes:
        watermark_us: event time up to which everything is taken as complete.
        epoch: number of the gate's life; a new release or a reset counts it up.
        requests_per_s: recent traffic of both arms, for the outlook.
        clock_skew_s: largest difference between the clocks of the workers of both arms.
    """

    watermark_us: int
    epoch: int = 0
    requests_per_s: float = 0.0
    clock_skew_s: float = 0.0


def no_inputs() -> GateInputs:
    """Nothing closed: a poll."""
    ints, floats = np.empty(0, np.int64), np.empty(0)
    return GateInputs(ints, floats, floats, ints, ints, (), (), ints)


def fine_bins_of(values_ms: FloatArray) -> IntArray:
    """Bins of latencies as gates read them, a quarter of a sketch bin wide, shape (n,).

    >>> fine_bins_of(np.array([0.0, 1.0, 250.0, np.inf])).tolist()
    [0, 8192, 9297, 65535]
    """
    finite = (values_ms > 0) & np.isfinite(values_ms)
    logs = np.log(values_ms, out=np.zeros(len(values_ms)), where=finite)
    bins = np.clip(np.ceil(logs * BIN_SHARE / LOG_GAMMA) + FINE_OFFSET, 1, INFINITE_BIN - 1)
    bins = np.where(values_ms > 0, bins, ZERO_BIN)
    return np.where(np.isposinf(values_ms), INFINITE_BIN, bins).astype(np.int64)


def upper_edge_ms(fine_bin: int) -> float:
    """Largest latency of a bin: every count up to it is exact."""
    if fine_bin <= ZERO_BIN:
        return 0.0
    return float(np.exp((fine_bin - FINE_OFFSET) * LOG_GAMMA / BIN_SHARE))
