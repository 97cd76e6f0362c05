"""Live gates from outside: the four functions of interface.py, for canary and rollback gates.

Absolute gates count cells (absolute.py), and budget gates ask the status of their objective
(`budget.budget_verdict`): neither needs a query of its own.
"""

from __future__ import annotations

from typing import TypeAlias

from ....schemas.gates import LiveGate
from ....schemas.gates.canary import CanaryGate
from ....schemas.gates.rollback import RollbackGate
from . import canary, rollback
from .interface import Context, GateInputs, Wanted
from .live_state import LiveState, fresh_state
from .verdict import Verdict

GateState: TypeAlias = LiveState
QueriedGate: TypeAlias = CanaryGate | RollbackGate


def inputs_wanted(spec: LiveGate) -> Wanted | None:
    """What the query of a gate must deliver; None for a gate that needs none."""
    if isinstance(spec, CanaryGate):
        return canary.wanted_by(spec)
    return rollback.wanted_by(spec) if isinstance(spec, RollbackGate) else None


def begin(spec: QueriedGate, epoch: int = 0, start_us: int = 0) -> GateState:
    """The state before the first block.

    Args:
        spec: the gate.
        epoch: number of its life.
        start_us: event time at which it began, from which the deadline runs and blocks are counted.
    """
    return fresh_state(spec, epoch, start_us)


def advance(
    spec: QueriedGate, state: GateState, inputs: GateInputs, context: Context
) -> tuple[GateState, Verdict]:
    """Count blocks that have closed since, and answer.

    Args:
        spec: the gate.
        state: what the last call returned, or `begin`.
        inputs: closed blocks; those that were counted before are skipped, so a call may be repeated.
        context: what is known beside them.

    Raises:
        ValueError: rows that no correct caller sends, or an epoch older than the state's.
    """
    if isinstance(spec, CanaryGate):
        return canary.advance_canary(spec, state, inputs, context)
    return rollback.advance_rollback(spec, state, inputs, context)
