"""Metrics that are read off counters alone, so off 1 s cells: the definitions of `windows.rows_of`.

Only what a rule asks for is computed, because it is computed every second; a test holds every one
of them against `rows_of`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....schemas.events import ERROR_TYPES, STATUSES
from .. import metrics as m
from ..tiles import Tile
from ..windows import Floats, Ints, Reader

Counter = tuple[int, int]
"""Metric and bin."""


@dataclass(frozen=True, slots=True)
class Counted:
    """A sum of counters, less others, by scale; per another counter, or per second.

    Attributes:
        plus, minus: counters.
        scale: integers of the counters per unit.
        per: the counter that it is divided by, `s` for the window's seconds, None for a plain sum.
    """

    plus: tuple[Counter, ...]
    minus: tuple[Counter, ...] = ()
    scale: float = 1.0
    per: int | str | None = None


def _status(*names: str) -> tuple[Counter, ...]:
    return tuple((m.STATUS, STATUSES.index(name)) for name in names)


def _one(metric: int, scale: float = 1.0, per: int | str | None = None) -> Counted:
    return Counted(((metric, 0),), (), scale, per)


_FAILED = _status("error", "timeout")
_REQUESTS: tuple[Counter, ...] = ((m.REQUESTS, 0),)
COUNTED: dict[str, Counted] = {
    "requests": _one(m.REQUESTS),
    "request_rate": _one(m.REQUESTS, per="s"),
    "ok": Counted(_status("ok")),
    "errors": Counted(_FAILED),
    "timeouts": Counted(_status("timeout")),
    "cancelled": Counted(_status("cancelled")),
    "rejected_requests": Counted(_status("rejected")),
    "overdue": _one(m.OVERDUE),
    "error_rate": Counted(_FAILED, per=m.REQUESTS),
    "availability": Counted(_REQUESTS, (*_FAILED, *_status("rejected")), per=m.REQUESTS),
    **{
        f"errors_by_type.{name}": Counted(((m.ERROR_TYPE, at),))
        for at, name in enumerate(ERROR_TYPES)
    },
    "input_tokens": _one(m.INPUT_TOKENS),
    "output_tokens": _one(m.OUTPUT_TOKENS),
    "cached_tokens": _one(m.CACHED_TOKENS),
    "tokens_per_s": _one(m.OUTPUT_TOKENS, per="s"),
    "cost_usd": _one(m.COST_NANOUSD, 1e9),
    "cost_per_1k_tokens_usd": _one(m.COST_NANOUSD, 1e6, m.COSTED_TOKENS),
    "cache_hit_rate": _one(m.CACHE_HITS, per=m.CACHE_KNOWN),
    "safety_violations": _one(m.SAFETY_VIOLATIONS),
    "safety_rate": _one(m.SAFETY_VIOLATIONS, per=m.REQUESTS),
    "steps": _one(m.STEPS),
    "preemptions": _one(m.PREEMPTIONS),
    "batch_fill_mean": _one(m.BATCH_SIZE, per=m.BATCH_CAPACITY),
}


PRESENCE = ("requests", "overdue", "steps")
"""A slice is there while it has one of these."""


class CellWindow:
    """A window summed from cells; what was read once is remembered.

    Args:
        tile: the sum.
        length_s: length of the window.
    """

    def __init__(self, tile: Tile, length_s: int) -> None:
        slices = tile.slices
        self.slices: Ints = slices[np.flatnonzero(np.diff(slices, prepend=-1))]
        self._reader = Reader(tile, self.slices)
        self._length_s = length_s
        self._counters: dict[Counter, Ints] = {}
        self._columns: dict[str, Floats] = {}

    def counter(self, metric: int, position: int = 0) -> Ints:
        """A counter of each slice, shape (s,)."""
        found = self._counters.get((metric, position))
        if found is None:
            found = self._reader.counter(metric, position)
            self._counters[metric, position] = found
        return found

    def column(self, name: str) -> Floats:
        """A metric of each slice, shape (s,); NaN where there is nothing to divide by."""
        found = self._columns.get(name)
        if found is None:
            found = self._columns[name] = self._compute(COUNTED[name])
        return found

    def _compute(self, wanted: Counted) -> Floats:
        total = np.zeros(len(self.slices), np.int64)
        for metric, position in wanted.plus:
            total += self.counter(metric, position)
        for metric, position in wanted.minus:
            total -= self.counter(metric, position)
        value: Floats = total / wanted.scale
        if wanted.per is None:
            return value
        if isinstance(wanted.per, str):
            return value / self._length_s
        below = self.counter(wanted.per)
        result = np.full(len(value), np.nan)
        np.divide(value, below, out=result, where=below != 0)
        return result
