"""Counters that a new configuration asks for, counted into cells that are closed already.

Alerts and gates read cells. Without this, a new limit would be judged by what closed after the change
only, and a window of five minutes would fill up from nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..core import metrics as m
from ..core.configured import RECOUNT_S, Counter
from ..core.counting import counted
from ..core.shard import Shard
from ..core.tiles import CELL_S, EMPTY, Span, Tile, merge, tile_of
from .readback import cells_between, rows_between
from .store import Store

_STEP_S = 60  # rows of a minute are held in memory at a time


def recounted(store: Store, shard: Shard, added: Sequence[Counter]) -> list[tuple[Span, Tile]]:
    """The newest closed cells of a shard with counters that they lack; none where nothing is added.

    A row counts in the second that it is of, even where it came late and other counters have it in a
    later cell. Counting again changes nothing.

    Args:
        store: has the rows.
        shard: rebuilt; rows that its closed cells do not hold are left out.
        added: counters.

    Raises:
        StoreError: the store is away.
    """
    closed_s = shard.pipeline.closed_s
    if closed_s is None or not added:
        return []
    found: list[tuple[Span, Tile]] = []
    for start_s in range(closed_s - RECOUNT_S, closed_s, _STEP_S):
        found += _stretch(store, shard, added, start_s, min(start_s + _STEP_S, closed_s))
    return found


def _stretch(
    store: Store, shard: Shard, added: Sequence[Counter], start_s: int, end_s: int
) -> list[tuple[Span, Tile]]:
    combos, groupings = shard.pipeline.combos, shard.pipeline.cell_groupings
    rows = rows_between(store, "request", start_s, end_s, shard.complete)
    if not rows.num_rows:
        return []
    keys = np.array([m.key(one.number, at) for one in added for at in (0, 1)], np.uint64)
    known = dict(cells_between(store, combos.registry, start_s, end_s, shard.number))
    return [
        (
            span,
            _with(known.get(span, EMPTY), _only(combos.project(tile, groupings), keys), keys),
        )
        for span, tile in sorted(counted(combos, "request", rows, added).items())
        if span.length_s == CELL_S and start_s <= span.start_s < end_s
    ]


def _with(cell: Tile, counts: Tile, keys: npt.NDArray[np.uint64]) -> Tile:
    """A cell with other counts of some keys."""
    return merge([_only(cell, keys, False), counts])


def _only(tile: Tile, keys: npt.NDArray[np.uint64], wanted: bool = True) -> Tile:
    """The part of a tile that has some keys, or has not."""
    here = np.isin(tile.keys, keys) == wanted
    return tile_of(tile.codes[here], tile.counts[here])
