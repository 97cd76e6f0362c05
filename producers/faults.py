"""Faults for the demo: what goes wrong with a replayed service from a moment on.

Each is a change of the traffic, of the engines or of a worker, drawn from nothing: what happens
before it is the same as without it, event for event.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from .traffic import BASE_ERROR_RATIO, SAFETY_RATIO, Ints, Mask, Traffic

FaultName = Literal["slow", "errors", "safety", "cost", "drift", "outage", "silent-worker"]
FAULTS: tuple[FaultName, ...] = get_args(FaultName)

SLOWDOWN = 2.0
ERROR_RATIO = 0.15
UNSAFE_RATIO = 0.03
DEARER = 1.6
LONG_ROUTES = 0.8
BEGINS = 0.62
"""Where in the trace a fault begins: late enough for baselines, early enough to outlast rules."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, several things at once or nothing.

    Attributes:
        names: which faults.
        from_us: when they begin, microseconds after the start of the trace.
    """

    names: frozenset[FaultName]
    from_us: int

    @classmethod
    def of(cls, names: Iterable[FaultName], duration_us: int) -> Faults:
        """Faults of a trace of some length."""
        return cls(frozenset(names), int(duration_us * BEGINS))

    @property
    def slowdown(self) -> float:
        """Factor on the time of decoding from then on."""
        return SLOWDOWN if "slow" in self.names else 1.0

    @property
    def answers(self) -> bool:
        """Whether engines still take requests."""
        return "outage" not in self.names

    def silences(self, number: int) -> bool:
        """Whether worker `number` hangs: it answers nothing and says nothing, and its clock stops."""
        return "silent-worker" in self.names and number == 0

    def lost(self, served_by: Ints, arrival_us: Ints) -> Mask:
        """Requests that are answered by nobody, given who would serve each; shape (n,)."""
        silent = np.isin(served_by, [k for k in np.unique(served_by) if self.silences(int(k))])
        return (arrival_us >= self.from_us) & (silent | (not self.answers))

    def changed(self, traffic: Traffic) -> Traffic:
        """The traffic as it is with the faults."""
        later = traffic.trace.arrival_us >= self.from_us
        if "errors" in self.names:
            traffic = _failing(traffic, later)
        if "cost" in self.names:
            traffic = replace(traffic, cost_factor=np.where(later, DEARER, traffic.cost_factor))
        draws = traffic.draws.copy()
        if "safety" in self.names:
            draws[later, 2] *= SAFETY_RATIO / UNSAFE_RATIO
        if "drift" in self.names:
            draws[later, 1] = LONG_ROUTES + (1 - LONG_ROUTES) * draws[later, 1]
        return replace(traffic, draws=draws)


def _failing(traffic: Traffic, later: Mask) -> Traffic:
    """More requests fail, those of them that would not have failed anyway for one reason."""
    more = later & (traffic.failure >= BASE_ERROR_RATIO) & (traffic.failure < ERROR_RATIO)
    return replace(
        traffic,
        failure=np.where(more, 0.0, traffic.failure),
        error=np.where(more, 0, traffic.error),
    )
