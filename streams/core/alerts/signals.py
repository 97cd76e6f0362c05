"""From a window to what a rule reads in each slice of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from ....schemas.alerts.metrics import METRICS
from ....schemas.alerts.rules import Absence, Change, Limit, Op, Signal, Threshold
from ..pipeline import WindowRows
from ..windows import Floats, Ints
from .counted import PRESENCE, CellWindow
from .watch import Watch

Mask = npt.NDArray[np.bool_]

_PRESENCE = {
    "any": ("requests", "overdue", "steps", "feedback"),
    "requests": ("requests", "overdue"),
    "steps": ("steps",),
    "feedback": ("feedback",),
    "cell": PRESENCE,
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a rule reads in one slice at one moment.

    Attributes:
        value: the number compared; None where it cannot be told.
        limit: what it is compared with.
        n: rows behind it.
        breach: whether the condition holds; None where it cannot be told.
        clear: whether it is well again by the hysteresis; None as above.
        unit, note: of the value, for people: `ratio` and `of requests above 1200 ms`.
    """

    value: float | None
    limit: float
    n: int
    breach: bool | None
    clear: bool | None
    unit: str = "number"
    note: str = ""


@dataclass(frozen=True, slots=True)
class SignalReading:
    """What a signal computed elsewhere says of one slice at one moment.

    Attributes:
        kind, id: which signal.
        at_s: event time, seconds.
        labels: of its slice, no name among them that a rule gives.
        breach: its own judgement; None where it cannot tell.
        value, limit, n, unit, note: as in `Reading`.
    """

    kind: Literal["burn_rate", "drift", "budget", "detector", "spend_limit", "capacity"]
    id: str
    at_s: int
    labels: Mapping[str, str] = field(default_factory=dict)
    breach: bool | None = None
    value: float | None = None
    limit: float = math.nan
    n: int = 0
    unit: str = "number"
    note: str = ""


class PaneWindow:
    """A window read off the rows of the table `windows`."""

    def __init__(self, rows: WindowRows) -> None:
        self.slices = rows.slices
        self._columns = rows.columns

    def column(self, name: str) -> Floats:
        """A metric of each slice, shape (s,); NaN where it cannot be told."""
        name, _, member = name.partition(".")
        column = self._columns[name]
        if isinstance(column, list):
            return np.array(
                [float(item.get(member, 0)) for item in column if isinstance(item, dict)]
            )
        return column.astype(np.float64)


Window = CellWindow | PaneWindow


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings of the slices of a window that have data, shape (s,) each; iterate for the rest.

    Attributes:
        slices: numbers.
        values, n: as in `Reading`; NaN where it cannot be told.
        known, breach, clear: masks; the last two mean nothing where `known` is false.
    """

    slices: Ints
    values: Floats
    n: Ints
    known: Mask
    breach: Mask
    clear: Mask
    limit: float
    unit: str
    note: str

    def at(self, position: int) -> Reading:
        """The reading of one slice."""
        value = float(self.values[position])
        known = bool(self.known[position])
        return Reading(
            None if math.isnan(value) else value,
            self.limit,
            int(self.n[position]),
            bool(self.breach[position]) if known else None,
            bool(self.clear[position]) if known else None,
            self.unit,
            self.note,
        )

    def positions(self, also: Ints | None) -> Iterator[int]:
        """Slices in breach and those named, ascending; None names all."""
        if also is None:
            yield from range(len(self.slices))
            return
        chosen = self.known & self.breach
        if len(also):
            chosen |= _among(self.slices, np.sort(also))
        yield from np.flatnonzero(chosen).tolist()


def read(
    watch: Watch, window: Window, members: Ints, baseline: PaneWindow | None = None
) -> Readings:
    """Read a threshold, a change or the presence of rows.

    Args:
        watch: not of a signal.
        window: as the watch asks for.
        members: numbers of the slices that the rule watches, ascending.
        baseline: of a change; None where it is not known.
    """
    condition = watch.rule.condition
    here = _among(window.slices, members) & _present(watch, window)
    if isinstance(condition, Absence):
        zero = np.zeros(int(here.sum()))
        well = np.ones(len(zero), bool)
        return Readings(
            window.slices[here], zero, zero.astype(np.int64), well, ~well, well,
            float(condition.absent_s), "s", "without data",
        )  # fmt: skip
    assert isinstance(condition, Threshold | Change)
    if isinstance(condition, Change):
        return _change(watch, condition, window, here, baseline)
    if watch.quantile is not None and isinstance(window, CellWindow):
        return _share(watch, condition, window, here)
    values, unit = window.column(condition.metric)[here], METRICS[condition.metric].unit
    return _compared(watch, condition, window, here, values, unit, condition.metric)


def _among(slices: Ints, members: Ints) -> Mask:
    """Which slices are members; members ascending. Several times faster than `np.isin`."""
    if len(members) == 0:
        return np.zeros(len(slices), bool)
    at = np.minimum(np.searchsorted(members, slices), len(members) - 1)
    return np.asarray(members[at] == slices)


def _present(watch: Watch, window: Window) -> Mask:
    """Slices with data. Coverage is known where there is none: that is what it tells."""
    condition = watch.rule.condition
    if isinstance(condition, Threshold | Change) and METRICS[condition.metric].per == "received":
        return np.ones(len(window.slices), bool)
    of = condition.of if isinstance(condition, Absence) else "any"
    names = _PRESENCE["cell" if isinstance(window, CellWindow) else of]
    return np.asarray(sum(window.column(name) for name in names) > 0)


def _compared(
    watch: Watch,
    condition: Threshold | Change,
    window: Window,
    here: Mask,
    values: Floats,
    unit: str,
    note: str,
) -> Readings:
    n = window.column(METRICS[condition.metric].per)[here].astype(np.int64)
    known = (n >= watch.rule.min_requests) & ~np.isnan(values)
    breach = compare(condition.op, values, condition.value)
    return Readings(
        window.slices[here], values, n, known, breach,
        _cleared(condition, values, breach), condition.value, unit, note,
    )  # fmt: skip


def compare(op: Op, values: Floats, limit: float) -> Mask:
    """`values op limit`, shape (s,); false for NaN."""
    compared = {">": np.greater, ">=": np.greater_equal, "<": np.less, "<=": np.less_equal}
    return np.asarray(compared[op](values, limit))


def _cleared(limit: Limit, values: Floats, breach: Mask) -> Mask:
    if limit.resolve_below is not None:
        return compare("<", values, limit.resolve_below)
    if limit.resolve_above is not None:
        return compare(">", values, limit.resolve_above)
    return ~breach


def _change(
    watch: Watch, condition: Change, window: Window, here: Mask, baseline: PaneWindow | None
) -> Readings:
    before = np.full(len(window.slices), np.nan)
    if baseline is not None:
        _, at, there = np.intersect1d(window.slices, baseline.slices, return_indices=True)
        before[at] = baseline.column(condition.metric)[there]
    before = before[here]
    before[before < condition.min_baseline] = np.nan
    values = window.column(condition.metric)[here]
    if condition.compare == "difference":
        unit, note = METRICS[condition.metric].unit, f"more {condition.metric} than before"
        return _compared(watch, condition, window, here, values - before, unit, note)
    ratio = np.divide(values, before, out=np.full(len(values), np.nan), where=before != 0)
    note = f"of {condition.metric} before"
    return _compared(watch, condition, window, here, ratio, "ratio", note)


def _share(watch: Watch, condition: Threshold, window: CellWindow, here: Mask) -> Readings:
    """A quantile as the share of requests above the limit: counts only, so exact.

    "p95 > T" means that more than 5 % are above T, in whole numbers: 100 above > 5 n.
    """
    assert watch.quantile is not None
    allowed = 100 - watch.quantile[1]

    def holds(op: Op, limit_ms: float) -> tuple[Ints, Ints, Mask]:
        number = watch.counter(op, limit_ms).number
        n, above = window.counter(number)[here], window.counter(number, 1)[here]
        over = 100 * above > allowed * n
        return n, above, over if op in (">", ">=") else ~over

    n, above, breach = holds(condition.op, condition.value)
    clear = ~breach
    if condition.resolve_below is not None:
        clear = holds("<", condition.resolve_below)[2]
    if condition.resolve_above is not None:
        clear = holds(">", condition.resolve_above)[2]
    share = np.divide(above, n, out=np.full(len(n), np.nan), where=n != 0)
    known = (n > 0) & (n >= watch.rule.min_requests)
    note = f"of requests above {condition.value:g} ms"
    slices = window.slices[here]
    return Readings(slices, share, n, known, breach, clear, allowed / 100, "ratio", note)


def read_signal(watch: Watch, said: SignalReading) -> Reading:
    """Read a signal, by its own judgement or by the rule's limit."""
    condition = watch.rule.condition
    assert isinstance(condition, Signal)
    breach, limit = said.breach, said.limit
    clear = None if breach is None else not breach
    if condition.limit is not None:
        limit = condition.limit.value
        if said.value is None or math.isnan(said.value):
            breach = clear = None
        else:
            values = np.array([said.value])
            holds = compare(condition.limit.op, values, limit)
            breach, clear = bool(holds[0]), bool(_cleared(condition.limit, values, holds)[0])
    if said.n < watch.rule.min_requests:
        breach = clear = None
    return Reading(said.value, limit, said.n, breach, clear, said.unit, said.note)
