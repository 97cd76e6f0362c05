"""Slices: which combinations of dimensions a metric is kept by.

A capped list of grouping sets, never a cross product. A slice beyond a grouping set's cap counts in
that set's `(other)` slice; the decision is made once, at ingestion, and stored on the row as a bit of
`overflow`, so that a replay of the row decides the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .tiles import KEY_MASK, SLICE_BITS, Tile, merge, tile_of

DIMENSIONS = ("model", "model_version", "adapter", "route", "release", "variant", "tenant")
OTHER = "(other)"

# Order is a contract: the position of a grouping set is its bit in `overflow`.
GROUPINGS: dict[str, tuple[str, ...]] = {
    "fleet": (),
    "model": ("model",),
    "model_version": ("model", "model_version"),
    "release": ("model", "model_version", "release", "variant"),
    "model_route": ("model", "route"),
    "model_adapter": ("model", "adapter"),
    "route": ("route",),
    "tenant": ("tenant",),
}
CELL_GROUPINGS = ("fleet", "model", "release")
# Steps have no route and no tenant.
STEP_GROUPINGS = ("fleet", "model", "model_version", "release", "model_adapter")
COVERAGE_GROUPING = "coverage"
FLEET = 0  # number of the fleet slice in every registry
# Number of the slice that holds what arrived and what is missing. What is missing has no dimensions,
# so every shard keeps the whole fleet's.
COVERAGE = 1


@dataclass(frozen=True, slots=True)
class Slice:
    """One combination: the grouping set and the value of each of its dimensions."""

    grouping: str
    values: tuple[str, ...]

    def dimensions(self) -> dict[str, str]:
        """Every dimension; empty where the grouping set does not name it."""
        named = dict(zip(GROUPINGS.get(self.grouping, ()), self.values, strict=True))
        return {name: named.get(name, "") for name in DIMENSIONS}

    def matches(self, wanted: Mapping[str, str]) -> bool:
        """Whether each wanted dimension has the wanted value."""
        dimensions = self.dimensions()
        return all(dimensions[name] == value for name, value in wanted.items())


def stored_slice(grouping: str, dimensions: Mapping[str, str]) -> Slice:
    """The slice of a stored row."""
    return Slice(grouping, tuple(dimensions[name] for name in GROUPINGS.get(grouping, ())))


class SliceRegistry:
    """Numbers slices in the order they are met. Numbers live in memory only; the store holds names.

    Args:
        max_slices: cap of each grouping set but tenant.
        max_tenants: cap of the tenant grouping set.
    """

    def __init__(self, max_slices: int, max_tenants: int) -> None:
        self._caps = {name: max_tenants if name == "tenant" else max_slices for name in GROUPINGS}
        self._numbers: dict[Slice, int] = {}
        self._sizes = dict.fromkeys((*GROUPINGS, COVERAGE_GROUPING), 0)
        self.slices: list[Slice] = []
        self.number(Slice("fleet", ()))
        self.number(Slice(COVERAGE_GROUPING, ()))

    def number(self, wanted: Slice) -> int:
        """Number of a slice; a new one where it was not met before, whatever the cap."""
        known = self._numbers.get(wanted)
        if known is None:
            known = self._numbers[wanted] = len(self.slices)
            self.slices.append(wanted)
            if OTHER not in wanted.values:
                self._sizes[wanted.grouping] += 1
        return known

    def admits(self, wanted: Slice) -> bool:
        """Whether the slice is known, or its grouping set has room for it."""
        return wanted in self._numbers or self._sizes[wanted.grouping] < self._caps[wanted.grouping]

    def matching(self, grouping: str, wanted: Mapping[str, str]) -> npt.NDArray[np.int64]:
        """Numbers of the slices of a grouping set that match."""
        return np.array(
            [n for n, s in enumerate(self.slices) if s.grouping == grouping and s.matches(wanted)],
            dtype=np.int64,
        )


Combo = tuple[Slice | None, ...]
"""The slices in which a row counts: one of each grouping set in the order of GROUPINGS, or None."""


@dataclass(frozen=True, slots=True)
class Combinations:
    """Distinct combinations of dimensions in a batch.

    Attributes:
        values: one mapping of dimension -> value for each combination.
        index: combination of each row, shape (n,), int64.
    """

    values: Sequence[Mapping[str, str]]
    index: npt.NDArray[np.int64]


def combinations(
    columns: Mapping[str, tuple[npt.NDArray[np.int64], Sequence[str]]], rows: int
) -> Combinations:
    """Distinct combinations of dictionary-coded columns.

    Args:
        columns: dimension -> (code of each row, shape (n,); value of each code).
        rows: n.
    """
    index = np.zeros(rows, np.int64)
    values: list[dict[str, str]] = [{}]
    for name, (codes, names) in columns.items():
        if len(names) == 1:
            values = [value | {name: names[0]} for value in values]
            continue
        present, index = _compact(index * len(names) + codes, len(values) * len(names))
        values = [values[code // len(names)] | {name: names[code % len(names)]} for code in present]
    return Combinations(values, index)


def _compact(codes: npt.NDArray[np.int64], limit: int) -> tuple[list[int], npt.NDArray[np.int64]]:
    """Distinct codes and the position of each row's code; a table where codes are few, else a sort."""
    if limit > 4 * len(codes) + 1024:
        present, index = np.unique(codes, return_inverse=True)
        return present.tolist(), index
    seen = np.bincount(codes, minlength=limit) > 0
    return np.flatnonzero(seen).tolist(), (np.cumsum(seen) - 1)[codes]


class Combos:
    """Numbers combinations by the slices that they count in: what open tiles are kept by.

    A row counts in one slice of each grouping set. Keeping open tiles by the tuple of those slices,
    and projecting to slices when a tile closes, costs a sixth of keeping every slice per row.

    Args:
        registry: numbers the slices.
        takes: which slices are kept here; None for all. A shard takes its own.
    """

    def __init__(
        self, registry: SliceRegistry, takes: Callable[[Slice], bool] | None = None
    ) -> None:
        self.registry = registry
        self._takes = takes or (lambda _: True)
        self._numbers: dict[tuple[int, ...], int] = {}
        self._slices: list[tuple[int, ...]] = []
        # What was decided for dimensions once holds for good, so it is remembered.
        self._bits: dict[tuple[object, ...], int] = {}
        self._known: dict[tuple[object, ...], int] = {}

    def decide(self, found: Combinations, groupings: Sequence[str]) -> npt.NDArray[np.uint16]:
        """Overflow bits of each row, shape (n,): where grouping sets are full, count in `(other)`."""
        bits = [self._overflow(values, groupings) for values in found.values]
        return np.asarray(np.array(bits, np.uint16)[found.index])

    def _overflow(self, values: Mapping[str, str], groupings: Sequence[str]) -> int:
        memo = (len(groupings), *values.values())
        known = self._bits.get(memo)
        if known is not None:
            return known
        bits = 0
        for position, grouping in enumerate(GROUPINGS):
            if grouping in groupings:
                wanted = slice_of(grouping, values)
                if self.registry.admits(wanted):
                    self.registry.number(wanted)
                else:
                    bits |= 1 << position
        return _remember(self._bits, memo, bits)

    def number(
        self, found: Combinations, groupings: Sequence[str], overflow: npt.NDArray[np.uint16]
    ) -> npt.NDArray[np.int64]:
        """Number of each row's combination, shape (n,)."""
        pairs, index = _compact(
            found.index * (1 << len(GROUPINGS)) + overflow,
            len(found.values) << len(GROUPINGS),
        )
        numbers = [
            self._number(found.values[pair >> len(GROUPINGS)], groupings, pair & 0xFF)
            for pair in pairs
        ]
        return np.asarray(np.array(numbers, np.int64)[index])

    def _number(self, values: Mapping[str, str], groupings: Sequence[str], overflow: int) -> int:
        memo = (len(groupings), overflow, *values.values())
        remembered = self._known.get(memo)
        if remembered is not None:
            return remembered
        combo = tuple(
            slice_of(grouping, values, bool(overflow >> position & 1))
            if grouping in groupings
            else None
            for position, grouping in enumerate(GROUPINGS)
        )
        return _remember(self._known, memo, self.number_of(combo))

    def number_of(self, combo: Combo) -> int:
        """Number of one combination, given by the slices that it counts in."""
        wanted = tuple(
            -1 if part is None or not self._takes(part) else self.registry.number(part)
            for part in combo
        )
        known = self._numbers.get(wanted)
        if known is None:
            known = self._numbers[wanted] = len(self._slices)
            self._slices.append(wanted)
        return known

    def combo(self, number: int) -> Combo:
        """The slices of a combination, in the order of GROUPINGS."""
        slices = self.registry.slices
        return tuple(None if part < 0 else slices[part] for part in self._slices[number])

    def project(self, tile: Tile, groupings: Iterable[str] = GROUPINGS) -> Tile:
        """A tile kept by combination, as a tile of slices."""
        if len(tile) == 0:
            return tile
        table = np.array(self._slices, np.int64)
        combos, keys = tile.slices, tile.codes & KEY_MASK
        parts = []
        for position, grouping in enumerate(GROUPINGS):
            if grouping in groupings:
                slices = table[combos, position]
                keep = slices >= 0
                codes = (slices[keep].astype(np.uint64) << np.uint64(SLICE_BITS)) | keys[keep]
                parts.append(tile_of(codes, tile.counts[keep]))
        return merge(parts)


def _remember(memory: dict[tuple[object, ...], int], memo: tuple[object, ...], value: int) -> int:
    if len(memory) >= 100_000:  # senders of ever new names must not fill the memory
        memory.clear()
    memory[memo] = value
    return value


def slice_of(grouping: str, values: Mapping[str, str], overflow: bool = False) -> Slice:
    """The slice of a grouping set in which a row with these dimensions counts."""
    names = GROUPINGS[grouping]
    if overflow:
        return Slice(grouping, (OTHER,) * len(names))
    return Slice(grouping, tuple(values.get(name, "") for name in names))
