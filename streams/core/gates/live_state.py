"""What a live gate remembers between two evaluations."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ....schemas.gates import LiveGate
from ....schemas.gates.canary import CanaryGate
from ....schemas.gates.rollback import RollbackGate
from .canonical import ENGINE, plain_json, spec_hash
from .cells import Workers
from .dependence import Series
from .interface import Context, GateInputs
from .mean_state import MeanState
from .packing import decoded, encoded
from .quantile_state import QuantileState
from .ratio_state import RatioState
from .reasons import Reason
from .trace import Peaks
from .watch_state import WatchState

TestState: TypeAlias = RatioState | QuantileState | MeanState | WatchState


@dataclass(frozen=True, slots=True)
class Health:
    """One limit on control itself: units, bad ones, and the highest log e-value so far."""

    n: int = 0
    bad: int = 0
    log_e: float = 0.0


@dataclass(frozen=True, slots=True)
class LiveState:
    """One epoch of a live gate.

    Attributes:
        epoch: a new release or a reset opens the next one.
        start_us: event time at which the epoch began.
        end_us: end of the last block counted; `start_us` before the first.
        spec_hash, engine: what the numbers were computed with.
        first_us: start of the first block with a unit of the treatment; None before it.
        workers: names of the groups of control and of treatment.
        assigned: configured share as text ("" where there is none) -> units of (treatment, control)
            assigned while it was in force.
        log_e_share: highest log e-value of the sample-ratio check.
        coverage: of the newest block; None where it is unknown.
        health: per limit on control.
        tests: per metric.
        broken: reason code once the comparison broke; nothing is decided after it.
        latched: the verdict that was reached first, as JSON holds it.
    """

    epoch: int
    start_us: int
    end_us: int
    spec_hash: str
    engine: str = ENGINE
    first_us: int | None = None
    workers: Workers = ((), ())
    assigned: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    log_e_share: float = 0.0
    coverage: float | None = None
    health: Mapping[str, Health] = field(default_factory=dict)
    tests: Mapping[str, TestState] = field(default_factory=dict)
    broken: Reason | None = None
    latched: dict[str, Any] | None = None

    @property
    def units(self) -> tuple[int, int]:
        """Units assigned to control and to treatment."""
        pairs = list(self.assigned.values())
        return sum(control for _, control in pairs), sum(treatment for treatment, _ in pairs)

    def to_json(self) -> str:
        """As JSON, in order: a decision that latched is told in the same words after a restart."""
        plain = dataclasses.replace(self, latched=None)
        return plain_json({"state": encoded(plain), "latched": self.latched})

    @classmethod
    def from_json(cls, text: str) -> LiveState:
        """The state that `to_json` wrote, exactly.

        Raises:
            ValueError: the text is not such a state.
        """
        try:
            saved = json.loads(text)
            state = decoded(saved["state"], _TYPES)
            latched = saved["latched"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the state of a gate: {error}") from error
        if not isinstance(state, cls):
            raise ValueError("not the state of a gate")
        return dataclasses.replace(state, latched=latched)


_TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        LiveState, Health, RatioState, QuantileState, MeanState, WatchState, Peaks, Series,
    )
}  # fmt: skip


def fresh_state(spec: LiveGate, epoch: int, start_us: int) -> LiveState:
    """The state before the first block.

    Args:
        spec: the gate.
        epoch: number of its life.
        start_us: event time from which the deadline runs, microseconds since 1970 UTC.
    """
    return LiveState(epoch, start_us, start_us, spec_hash(spec))


def state_of_epoch(spec: LiveGate, state: LiveState, context: Context, start_us: int) -> LiveState:
    """The state of the context's epoch: a fresh one from `start_us` where that is newer.

    Raises:
        ValueError: the context is of an older epoch.
    """
    if context.epoch < state.epoch:
        raise ValueError(f"epoch {context.epoch} is over: the state is of epoch {state.epoch}")
    if context.epoch == state.epoch:
        return state
    return fresh_state(spec, context.epoch, start_us)


def fault_of(
    spec: CanaryGate | RollbackGate, state: LiveState, inputs: GateInputs, context: Context
) -> Reason | None:
    """Why nothing may be counted, if so."""
    if state.spec_hash != spec_hash(spec):
        return "configuration_changed"
    if state.engine != ENGINE:
        return "engine_changed"
    closed_us = context.watermark_us - spec.mature_s * 1_000_000
    if len(inputs.end_us) and int(inputs.end_us[-1]) > closed_us:
        return "clock"
    return None
