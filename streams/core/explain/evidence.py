"""What stands beside the slices: what a value is made of, and gauges of requests and of the engine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .contribution import Sums, change
from .ranking import AT_MOST, ENOUGH_POWER, MIN_POWER

MOVED = 1.25  # a gauge that rose or fell by less did not move
# Nor did one that moved by less than this, however small it was before.
_FLOORS = {"queue_depth": 1.0, "batch_fill": 0.1, "kv_cache_usage": 0.1, "preemptions": 0.01}
_SLOWER = 1.1  # a mean that rose by less is not split into phases


@dataclass(frozen=True, slots=True)
class Gauge:
    """A mean per request or per step, now and before; None where none states it."""

    name: str
    unit: str
    now: float | None
    before: float | None


@dataclass(frozen=True, slots=True)
class Part:
    """Something that a value is made of: a phase of a latency, a type of error, a category.

    Attributes:
        name: of the phase, type or category.
        unit: of its values.
        power: share of the change that it explains; above 1 where others made up for some of it.
        now, before: its value; None where there was none.
    """

    name: str
    unit: str
    power: float
    now: float
    before: float | None


@dataclass(frozen=True, slots=True)
class Kind:
    """Rows of one kind among those that are summed: now, and before scaled to an equal time."""

    name: str
    n: float
    n0: float


def parts_of_kinds(kinds: Iterable[Kind], total: Sums, quotient: bool) -> list[Part]:
    """The kinds that explain the change of a total, the most telling first.

    Args:
        kinds: of the rows that count in N; those that were left out explain nothing.
        total: everything.
        quotient: whether N / D is explained, or N alone.

    >>> import numpy as np
    >>> total = Sums(*(np.array([value]) for value in (60.0, 1000.0, 10.0, 1000.0)))
    >>> [part] = parts_of_kinds([Kind("oom", 52, 2), Kind("timeout", 8, 8)], total, True)
    >>> part
    Part(name='oom', unit='ratio', power=1.0, now=0.052, before=0.002)
    """
    whole = change(total, quotient)
    if whole == 0:
        return []
    now, before = (float(total.d[0]), float(total.d0[0])) if quotient else (1.0, 1.0)
    unit = "ratio" if quotient else "count"
    found = []
    for kind in kinds:
        value = kind.n / now
        value_before = kind.n0 / before if before else 0.0
        power = (value - value_before) / whole
        found.append(Part(kind.name, unit, power, value, value_before if before else None))
    return told(found)


def parts_of_phases(whole: Gauge | None, phases: Sequence[Gauge]) -> list[Part]:
    """The phases that made a latency longer on average, the most telling first; none where it is not.

    Args:
        whole: the latency, mean per request.
        phases: what it consists of, the same.
    """
    if whole is None or whole.now is None or not whole.before:
        return []
    if whole.now < _SLOWER * whole.before:
        return []
    longer = whole.now - whole.before
    return told(
        Part(
            item.name, item.unit, (item.now - (item.before or 0.0)) / longer, item.now, item.before
        )
        for item in phases
        if item.now is not None
    )


def told(parts: Iterable[Part]) -> list[Part]:
    """Those with the most power until they explain two thirds; none where three do not."""
    chosen: list[Part] = []
    explained = 0.0
    for part in sorted(parts, key=lambda part: (-part.power, part.name)):
        if part.power < MIN_POWER or explained >= ENOUGH_POWER or len(chosen) == AT_MOST:
            break
        chosen.append(part)
        explained += part.power
    return chosen if explained >= ENOUGH_POWER else []


def moved(gauges: Iterable[Gauge]) -> list[Gauge]:
    """Those that rose or fell clearly, by the largest factor first.

    >>> [item.name for item in moved([Gauge("queue_depth", "number", 0.05, 0.007),
    ...                               Gauge("step_ms", "ms", 62.0, 31.0)])]
    ['step_ms']
    """
    return sorted(
        (item for item in gauges if _factor(item) > MOVED and _apart(item)),
        key=lambda item: (-_factor(item), item.name),
    )


def _factor(item: Gauge) -> float:
    if item.now is None or item.before is None:
        return 1.0
    low, high = sorted((abs(item.now), abs(item.before)))
    return high / low if low else (math.inf if high else 1.0)


def _apart(item: Gauge) -> bool:
    assert item.now is not None
    assert item.before is not None
    return abs(item.now - item.before) >= _FLOORS.get(item.name, 0.0)
