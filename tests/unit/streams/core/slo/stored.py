"""A stand-in for the pipeline: counts by pane, and the tiles of every tier that follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from penstock.schemas.slo.objective import Objective
from penstock.streams.core import metrics as m
from penstock.streams.core.slices import COVERAGE, FLEET, SliceRegistry
from penstock.streams.core.tiles import SLICE_BITS, TIERS_S, Span, Tile, tile_of

ERROR = m.key(m.STATUS, 1)
REQUESTS = m.key(m.REQUESTS)
START_S = 1_767_225_600  # 2026-01-01 00:00 UTC


def objective(**fields: object) -> Objective:
    """Availability of the fleet at 99.9 %; keywords replace its fields."""
    given = {"id": "a", "sli": {"kind": "availability"}, "target": "0.999", **fields}
    return Objective.model_validate(given)


def tile(counts: Mapping[tuple[int, int], int]) -> Tile:
    """A tile of (slice, key) -> count."""
    codes = np.array([number << SLICE_BITS | key for number, key in counts], np.uint64)
    return tile_of(codes, np.array([*counts.values()], np.int64))


@dataclass
class Stored:
    """Panes, and what is rolled up from them."""

    registry: SliceRegistry = field(default_factory=lambda: SliceRegistry(100, 100))
    panes: dict[int, Counter[tuple[int, int]]] = field(default_factory=dict)

    def count(self, at_s: int, requests: int, errors: int = 0, number: int = FLEET) -> Span:
        """Count requests at a time, received in full; the pane that they are in."""
        pane = self.panes.setdefault(at_s // 10 * 10, Counter())
        pane[number, REQUESTS] += requests
        pane[number, ERROR] += errors
        pane[COVERAGE, m.key(m.RECEIVED)] += requests
        return Span(10, at_s // 10 * 10)

    def lose(self, at_s: int, rows: int) -> None:
        """Say that rows are missing."""
        pane = self.panes.setdefault(at_s // 10 * 10, Counter())
        pane[COVERAGE, m.key(m.MISSING)] += rows

    def tile(self, span: Span) -> Tile:
        """The tile of a span."""
        total: Counter[tuple[int, int]] = Counter()
        starts = range(span.start_s, span.end_s, 10)
        for start_s in starts if len(starts) < len(self.panes) else sorted(self.panes):
            if span.start_s <= start_s < span.end_s:
                total.update(self.panes.get(start_s, {}))
        return tile({place: n for place, n in total.items() if n})

    def closed(self, panes: Iterable[Span], end_s: int) -> dict[Span, Tile]:
        """`Closing.tiles` for panes that closed or were amended, up to `end_s`."""
        spans = {pane.parent(length_s) for pane in panes for length_s in TIERS_S}
        return {span: self.tile(span) for span in spans if span.end_s <= end_s}

    def until(self, end_s: int) -> dict[Span, Tile]:
        """Every closed tile."""
        return self.closed([Span(10, at) for at in self.panes], end_s)

    def load(self, needs: Iterable[tuple[int, int, int]]) -> dict[Span, Tile]:
        """Stored tiles of stretches, as a restart asks for them."""
        spans = {
            Span(10, at).parent(length_s)
            for length_s, low_s, high_s in needs
            for at in self.panes
            if low_s <= at // length_s * length_s < high_s
        }
        return {span: self.tile(span) for span in spans}
