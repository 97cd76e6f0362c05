"""What current traffic is compared with, as counts by the hour: versioned, and JSON when stored.

A reference holds one feature (counts by sketch bin) or one category (counts by name). Uploaded
distributions have no hours and are one piece. A control arm is not stored at all: its tile of the
same window is the reference.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np

from ..gates.canonical import canonical_json, sha256
from ..tiles import EMPTY, Tile
from .pairs import tile_of_sketches

HOUR_S = 3600
HOURS_OF_WEEK = 168
_MONDAY = 72  # 1970-01-01 was a Thursday
LONG_ENOUGH_WEEKS = 2

Key = TypeVar("Key", int, str)


def hour_of_week(start_s: int) -> int:
    """Hour of the week in UTC, 0 for Monday from midnight on.

    >>> hour_of_week(0)  # a Thursday
    72
    """
    return (start_s // HOUR_S + _MONDAY) % HOURS_OF_WEEK


@dataclass(frozen=True, slots=True)
class Reference(Generic[Key]):
    """Counts of one feature or category by hour.

    Attributes:
        name: of the uploaded distribution, or of the monitor and feature.
        source: the configured source, as JSON.
        hours: start of each hour in seconds (0 of an upload) -> counts by bin or by category.
        version: grows by one when anything else changes.
        rows: that carried a value or could have done; 0 where that is not known.
    """

    name: str
    source: Mapping[str, Any]
    hours: Mapping[int, Mapping[Key, int]]
    version: int = 1
    rows: int = 0
    _whole: Counter[Key] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_whole", _added(self.hours.values()))

    @property
    def digest(self) -> str:
        """SHA-256 of everything but the version."""
        return sha256([self.name, self.source, self.rows, self._rows()])

    @property
    def total(self) -> int:
        """Values in it."""
        return self._whole.total()

    @property
    def missing_share(self) -> float:
        """Share of its rows without a value; 0 where that is not known."""
        return max(0.0, 1 - self.total / self.rows) if self.rows else 0.0

    def counts(self) -> Mapping[Key, int]:
        """The sum of all hours."""
        return self._whole

    def same_hours(self, start_s: int, end_s: int, min_values: int) -> Mapping[Key, int]:
        """Counts of the hours of the week that [start_s, end_s) touches, of every week in it.

        Where one of these hours is there fewer than twice, or all together hold fewer than
        `min_values`, the reference is too short for that and the answer is the sum of all hours.
        """
        wanted = {hour_of_week(at) for at in range(start_s // HOUR_S * HOUR_S, end_s, HOUR_S)}
        pieces = [at for at in self.hours if hour_of_week(at) in wanted]
        weeks = Counter(hour_of_week(at) for at in pieces)
        summed = _added(self.hours[at] for at in pieces)
        long_enough = all(weeks[hour] >= LONG_ENOUGH_WEEKS for hour in wanted)
        return summed if long_enough and summed.total() >= min_values else self._whole

    def after(self, previous: Reference[Key] | None) -> Reference[Key]:
        """This reference with its version: that of an equal predecessor, or the next one."""
        if previous is None:
            return self
        same = previous.digest == self.digest
        return replace(self, version=previous.version + (0 if same else 1))

    def to_json(self) -> str:
        """Canonical JSON; equal references give equal text."""
        kind = "bins" if all(isinstance(key, int) for key in self._whole) else "categories"
        return canonical_json(
            {
                "kind": kind,
                "name": self.name,
                "source": self.source,
                "version": self.version,
                "rows": self.rows,
                "hours": self._rows(),
            }
        )

    def _rows(self) -> list[list[Any]]:
        return [
            [at, [[key, count] for key, count in sorted(self.hours[at].items()) if count]]
            for at in sorted(self.hours)
        ]


def reference_from_json(text: str) -> Reference[int] | Reference[str]:
    """The reference that `to_json` wrote.

    Raises:
        ValueError: if the text is not such a reference, or a count is negative or no integer.
    """
    try:
        data = json.loads(text)
        hours = {int(at): dict(rows) for at, rows in data["hours"]}
        wanted = {"bins": int, "categories": str}[data["kind"]]
        for counts in hours.values():
            for key, count in counts.items():
                if type(key) is not wanted or type(count) is not int or count < 0:
                    raise ValueError(f"not a count: {key!r}: {count!r}")
        return Reference(data["name"], data["source"], hours, data["version"], data.get("rows", 0))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a reference: {error}") from error


def tile_of_counts(series: Sequence[Mapping[int, int]]) -> Tile:
    """One tile of several features' counts by bin, series 0 the first."""
    return tile_of_sketches((list(counts), list(counts.values())) for counts in series)


def counts_of_tile(tile: Tile, series: int = 0) -> dict[int, int]:
    """Counts by bin of one series of a tile, to be kept in a reference."""
    mine = tile.codes >> np.uint64(16) == np.uint64(series)
    bins = (tile.codes[mine] & np.uint64(0xFFFF)).tolist()
    return dict(zip(bins, tile.counts[mine].tolist(), strict=True)) if tile is not EMPTY else {}


@dataclass(frozen=True, slots=True, order=True)
class Day:
    """A day of event time, and whether it can serve as a reference.

    Attributes:
        start_s: its first second.
        complete: it is closed and its coverage was ok.
        alarmed: a drift or other alert of this traffic fired in it.
    """

    start_s: int
    complete: bool
    alarmed: bool


def stable_days(days: Iterable[Day], wanted: int = 7) -> tuple[int, ...] | None:
    """Starts of the last days that are complete and without an alarm, ascending.

    None where there are fewer than `wanted`: a reference of two quiet days is no reference.
    """
    quiet = sorted({day.start_s for day in days if day.complete and not day.alarmed})
    return tuple(quiet[-wanted:]) if len(quiet) >= wanted else None


def _added(parts: Iterable[Mapping[Key, int]]) -> Counter[Key]:
    total: Counter[Key] = Counter()
    for part in parts:
        total.update(part)
    return total
