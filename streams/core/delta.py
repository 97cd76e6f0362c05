"""What one processor adds to the windows: the message between ingestion and evaluation.

A delta says for each of its sources which offsets it covers, as (after, cut]. Evaluation adds it where
it continues what was applied, and reads the rows from the store where it does not, so that a delta may
be lost, repeated, or overlap another: what counts is what the store holds up to the cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .boots import Presence
from .shards import Takes
from .slices import Combo, Combos
from .tiles import KEY_MASK, SLICE_BITS, Span, Tile, merge, tile_of

Source = tuple[int, int]
"""(incarnation, partition)"""
Cuts = Mapping[Source, int]
"""Source -> highest offset applied, -1 for none."""


NOWHERE = -2  # continues nothing, so that the rows are read from the store


@dataclass(frozen=True, slots=True)
class Delta:
    """Rows of some offsets, counted.

    Attributes:
        ranges: source -> (after, cut): the offsets above `after`, up to `cut`, are in it.
        watermark_us: event time up to which the sources are taken as complete; 0 while nothing
            has ever come by them.
        combos: combinations of slices; what tiles are numbered by.
        tiles: what the rows add; the head of each code is a position in `combos`.
        coverage: (pane start in s, metric) -> what the frames add to the fleet's counters.
        presences: the boots that changed, as they are now.
        feedback: whether feedback came with it.
        releases: whether release markers came with it.
        life: of the sender's memory; empty where nobody counts.
        serial: counts the deltas of a life, so that one that was lost is missed.
        counting: `configured.counting_of` the configuration that the rows were counted by.
    """

    ranges: Mapping[Source, tuple[int, int]]
    watermark_us: int
    combos: Sequence[Combo] = ()
    tiles: Mapping[Span, Tile] = field(default_factory=dict)
    coverage: Mapping[tuple[int, int], int] = field(default_factory=dict)
    presences: Sequence[Presence] = ()
    feedback: bool = False
    releases: bool = False
    life: str = ""
    serial: int = 0
    counting: str = ""

    def emptied(self) -> Delta:
        """The same news without the counts: evaluation reads the rows from the store."""
        ranges = {source: (NOWHERE, cut) for source, (_, cut) in self.ranges.items()}
        return replace(self, ranges=ranges, combos=(), tiles={}, coverage={})

    def restricted(self, takes: Takes) -> Delta:
        """The part that concerns the slices that somebody takes."""
        numbers: dict[Combo, int] = {}
        none = (None,) * (len(self.combos[0]) if self.combos else 0)
        target = []
        for combo in self.combos:
            kept = tuple(None if part is None or not takes(part) else part for part in combo)
            target.append(-1 if kept == none else numbers.setdefault(kept, len(numbers)))
        tiles = {span: recoded(tile, target) for span, tile in self.tiles.items()}
        tiles = {span: tile for span, tile in tiles.items() if len(tile)}
        return replace(self, combos=list(numbers), tiles=tiles)


def recoded(tile: Tile, target: Sequence[int]) -> Tile:
    """A tile with the head h of each code replaced by target[h]; -1 drops it."""
    if len(tile) == 0:
        return tile
    heads = np.array(target, np.int64)[tile.slices]
    keep = heads >= 0
    codes = heads[keep].astype(np.uint64) << np.uint64(SLICE_BITS) | (tile.codes[keep] & KEY_MASK)
    return tile_of(codes, tile.counts[keep])


class Collector:
    """Adds up what becomes durable until it is told.

    Args:
        combos: numbers the combinations that tiles come by.
        life: of this memory.
        counting: `configured.counting_of` the configuration that rows are counted by.
    """

    def __init__(self, combos: Combos, life: str, counting: str = "") -> None:
        self._combos = combos
        self._life = life
        self._counting = counting
        self._serial = 0
        self._tiles: dict[Span, list[Tile]] = {}
        self._coverage: Counter[tuple[int, int]] = Counter()
        self._told: dict[Source, int] = {}
        self._spoiled = False
        self.feedback = False
        self.releases = False

    def begin(self, source: Source, cut: int) -> None:
        """A source that was taken over: what is up to its cut, others have told."""
        self._told[source] = cut

    def end(self, source: Source, cut: int) -> None:
        """A source that somebody else tells of from now on, applied up to a cut here."""
        # What was counted of it cannot be told from the rest.
        self._spoiled |= self._told.pop(source, cut) != cut

    def recount(self, counting: str) -> None:
        """Rows are counted by another configuration from now on."""
        # What was counted by the former one since it was last told is read from the store instead.
        self._spoiled = True
        self._counting = counting

    def count(self, placed: Mapping[Span, Tile]) -> None:
        """Take in what rows add, as `tally.place` gives it."""
        for span, tile in placed.items():
            parts = self._tiles.setdefault(span, [])
            parts.append(tile)
            if len(parts) >= 64:
                self._tiles[span] = [merge(parts)]

    def cover(self, change: Mapping[tuple[int, int], int]) -> None:
        """Take in what frames add to the fleet's counters."""
        self._coverage.update(change)

    def take(self, cuts: Cuts, watermark_us: int, presences: Sequence[Presence]) -> Delta:
        """Everything since the last call, up to the cuts."""
        if self._spoiled:
            self._tiles.clear()
            self._coverage.clear()
        merged = {span: merge(parts) for span, parts in self._tiles.items()}
        used = _heads(merged.values())
        target = np.full(used[-1] + 1 if used else 0, -1, np.int64)
        target[used] = np.arange(len(used))
        delta = Delta(
            ranges={
                source: (NOWHERE if self._spoiled else self._told[source], cut)
                for source, cut in cuts.items()
            },
            watermark_us=watermark_us,
            combos=[self._combos.combo(number) for number in used],
            tiles={span: recoded(tile, target.tolist()) for span, tile in merged.items()},
            coverage={key: count for key, count in self._coverage.items() if count},
            presences=presences,
            feedback=self.feedback,
            releases=self.releases,
            life=self._life,
            serial=self._serial,
            counting=self._counting,
        )
        self._serial += 1
        self._told.update(cuts)
        self._tiles.clear()
        self._coverage.clear()
        self.feedback = self.releases = self._spoiled = False
        return delta


def _heads(tiles: Iterable[Tile]) -> list[int]:
    found = [tile.slices for tile in tiles if len(tile)]
    return np.unique(np.concatenate(found)).tolist() if found else []
