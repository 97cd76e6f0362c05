"""What the tiles of one selection say over time: a few integers per span, replaced when amended."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .. import metrics as m
from ..pipeline import matching
from ..tiles import Span, Tile
from ..windows import Ints, Reader

MINUTE_S, HOUR_S, DAY_S, WEEK_S = 60, 3600, 86400, 7 * 86400
Values = tuple[int, ...]

SPEND = ("cost_nanousd", "costed_tokens", "tokens")
"""What budgets are read off; tokens are input and output."""
LOAD = (
    "requests", "tokens", "steps", "batch_size", "batch_capacity",
    "queue_depth_sum", "queue_depth_count", "kv_cache_usage_sum", "kv_cache_usage_count",
    "gpu_utilization_sum", "gpu_utilization_count",
)  # fmt: skip
"""What forecasts of capacity are read off; shares are sums of millionths."""


def measure(fields: Sequence[str], tile: Tile, slices: Ints) -> tuple[int, ...]:
    """The named integers of a tile, summed over some slices; each name is of SPEND or LOAD."""
    reader = Reader(matching(tile, slices), np.zeros(1, np.int64))
    return tuple(_value(reader, name) for name in fields)


_COUNTERS: Mapping[str, tuple[int, ...]] = {
    "cost_nanousd": (m.COST_NANOUSD,),
    "costed_tokens": (m.COSTED_TOKENS,),
    "tokens": (m.INPUT_TOKENS, m.OUTPUT_TOKENS),
    "requests": (m.REQUESTS,),
    "steps": (m.STEPS,),
    "batch_size": (m.BATCH_SIZE,),
    "batch_capacity": (m.BATCH_CAPACITY,),
}


def metrics_of(name: str) -> tuple[int, ...]:
    """Metric numbers that a name of SPEND or LOAD is read off; of a sketch, with all its bins."""
    if name in _COUNTERS:
        return _COUNTERS[name]
    number = _sketch(name).number
    return (number if name.endswith("_count") else number + m.SUM_OFFSET,)


def _sketch(name: str) -> m.Sketch:
    return m.SKETCHES[name.removesuffix("_sum").removesuffix("_count")]


def _value(reader: Reader, name: str) -> int:
    if name in _COUNTERS:
        return sum(int(reader.counter(metric)[0]) for metric in _COUNTERS[name])
    sketch = _sketch(name)
    if name.endswith("_count"):
        return int(reader.count(sketch)[0])
    return int(reader.counter(sketch.number + m.SUM_OFFSET)[0])


@dataclass(frozen=True, slots=True)
class Bins:
    """A stretch of event time in equal steps.

    Attributes:
        starts_s: start of each step, shape (n,).
        columns: integers by field, shape (n,) each.
        known: whether anything was stored for the step, shape (n,).
    """

    starts_s: Ints
    columns: Mapping[str, Ints]
    known: npt.NDArray[np.bool_]


class Series:
    """Integers by span of 1 minute and 1 hour. Empty tiles are not stored, so no span is a zero.

    Steps of an hour are read off the tile of the hour, or off its minutes while there is none;
    shorter steps off minutes only. The state is a function of the newest tile of each span: the
    order in which they come does not matter.

    Args:
        fields: names of the integers, SPEND or LOAD.

    Example:
        >>> series = Series(("requests",))
        >>> for start_s, requests in ((0, 5), (60, 7), (0, 6)):
        ...     series.put(Span(60, start_s), (requests,))
        >>> series.total(0, 120)
        {'requests': 13}
    """

    def __init__(self, fields: Sequence[str]) -> None:
        self.fields = tuple(fields)
        self._held: dict[int, dict[int, Values]] = {MINUTE_S: {}, HOUR_S: {}}

    @property
    def first_s(self) -> int | None:
        """Start of the earliest span held."""
        return min((start for held in self._held.values() for start in held), default=None)

    @property
    def first_minute_s(self) -> int | None:
        """Start of the earliest minute held."""
        return min(self._held[MINUTE_S], default=None)

    def take(self, span: Span, tile: Tile, slices: Ints) -> None:
        """Put in what a tile says, in place of what its span said; other lengths are passed over."""
        if span.length_s in self._held:
            self.put(span, measure(self.fields, tile, slices))

    def put(self, span: Span, values: Sequence[int]) -> None:
        """Put values in place of what a span said; all zero is as if it had never been stored.

        Raises:
            ValueError: the span is neither a minute nor an hour, or has another number of values.
        """
        if span.length_s not in self._held or len(values) != len(self.fields):
            raise ValueError(f"{len(values)} values of {span} for {len(self.fields)} fields")
        if any(values):
            self._held[span.length_s][span.start_s] = tuple(values)
        else:
            self._held[span.length_s].pop(span.start_s, None)

    def forget_before(self, start_s: int, length_s: int) -> None:
        """Drop the spans of a length that begin before a time."""
        held = self._held[length_s]
        self._held[length_s] = {at: values for at, values in held.items() if at >= start_s}

    def bins(self, start_s: int, end_s: int, step_s: int) -> Bins:
        """Values of [start_s, end_s) in steps.

        Raises:
            ValueError: the step is neither whole hours nor whole minutes that divide an hour, or
                the ends are not aligned to it (for whole hours: to the hour).
        """
        by_hour = step_s % HOUR_S == 0
        grid_s = HOUR_S if by_hour else step_s
        if start_s % grid_s or end_s % grid_s or grid_s % MINUTE_S or HOUR_S % grid_s:
            raise ValueError(f"[{start_s}, {end_s}) is not aligned to steps of {step_s} s")
        n = max(end_s - start_s, 0) // step_s
        sums, known = np.zeros((n, len(self.fields)), np.int64), np.zeros(n, bool)
        for at_s, values in self._read(start_s, start_s + n * step_s, by_hour):
            at = (at_s - start_s) // step_s
            sums[at] += values
            known[at] = True
        columns = {name: sums[:, at] for at, name in enumerate(self.fields)}
        return Bins(start_s + step_s * np.arange(n), columns, known)

    def _read(self, start_s: int, end_s: int, by_hour: bool) -> Iterator[tuple[int, Values]]:
        hours = self._held[HOUR_S] if by_hour else {}
        for at_s, values in hours.items():
            if start_s <= at_s < end_s:
                yield at_s, values
        for at_s, values in self._held[MINUTE_S].items():
            if start_s <= at_s < end_s and at_s // HOUR_S * HOUR_S not in hours:
                yield at_s, values

    def total(self, start_s: int, end_s: int) -> dict[str, int]:
        """Sums over [start_s, end_s): whole hours, and minutes at either end.

        Raises:
            ValueError: an end is not a whole minute.
        """
        low_s = min(-(-start_s // HOUR_S) * HOUR_S, end_s)
        high_s = max(end_s // HOUR_S * HOUR_S, low_s)
        sums = dict.fromkeys(self.fields, 0)
        for part in (
            self.bins(start_s, low_s, MINUTE_S),
            self.bins(low_s, high_s, HOUR_S if high_s > low_s else MINUTE_S),
            self.bins(high_s, end_s, MINUTE_S),
        ):
            for name, column in part.columns.items():
                sums[name] += int(column.sum())
        return sums

    def to_json(self) -> str:
        """Canonical JSON; equal series give equal text."""
        rows = [
            [length_s, start_s, *held[start_s]]
            for length_s, held in self._held.items()
            for start_s in sorted(held)
        ]
        return json.dumps({"fields": self.fields, "rows": rows}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Series:
        """The series that `to_json` wrote, exactly.

        Raises:
            ValueError: the text is not such a series.
        """
        try:
            data = json.loads(text)
            series = cls(data["fields"])
            for length_s, start_s, *values in data["rows"]:
                series.put(Span(length_s, start_s), values)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a series: {error}") from error
        return series
