"""Tiles as an audit takes them apart: read, split into what rows tell and what gates asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..core import metrics as m
from ..core.boots import Losses
from ..core.slices import COVERAGE, Slice, SliceRegistry, stored_slice
from ..core.tiles import PANE_S, SLICE_BITS, Span, Tile, tile_of
from ..storage.publish import tiles_from

_SKETCHES = {sketch.number: sketch.name for sketch in m.SKETCHES.values()}
_NOT_COUNTERS = ("BIN_BITS", "SKETCH_BASE", "SUM_OFFSET", "CONFIGURED_BASE")
_COUNTERS = {
    value: name.lower()
    for name, value in vars(m).items()
    if name.isupper() and isinstance(value, int) and name not in _NOT_COUNTERS
}


def slice_name(wanted: Slice) -> str:
    """A slice in words, such as `model model=chat`."""
    given = ", ".join(f"{k}={v}" for k, v in wanted.dimensions().items() if v)
    return f"{wanted.grouping} {given}".strip()


def key_name(key: int) -> str:
    """A key in words, such as `latency_ms bin 812`."""
    metric, position = key >> m.BIN_BITS, key & (1 << m.BIN_BITS) - 1
    if metric in _SKETCHES:
        return f"{_SKETCHES[metric]} bin {position}"
    if metric - m.SUM_OFFSET in _SKETCHES:
        return f"sum of {_SKETCHES[metric - m.SUM_OFFSET]}"
    types = m.TYPED_COUNTERS.get(metric, ())
    if position < len(types):
        return f"{_COUNTERS[metric]} {types[position]}"
    name = _COUNTERS.get(metric, f"gate counter {metric}")
    return f"{name} {position}" if position else name


def stored_tiles(
    table: pa.Table, registry: SliceRegistry
) -> dict[int, dict[Span, tuple[Tile, int]]]:
    """Rows of `panes` as tiles: shard -> span -> the tile and its highest version."""

    def number(grouping: str, dimensions: Mapping[str, str]) -> int:
        return registry.number(stored_slice(grouping, dimensions))

    found: dict[int, dict[Span, tuple[Tile, int]]] = {}
    shards = table["partition"].to_numpy()
    for shard in np.unique(shards).tolist():
        rows = table.filter(pa.array(shards == shard))
        versions: dict[Span, int] = {}
        for length_s, start_s, version in zip(
            *(rows[name].to_pylist() for name in ("pane_s", "start_s", "version")), strict=True
        ):
            span = Span(length_s, start_s)
            versions[span] = max(versions.get(span, 0), version)
        tiles = tiles_from(rows.drop_columns(["partition", "version"]), number)
        found[shard] = {span: (tile, versions[span]) for span, tile in tiles.items()}
    return found


def covered(
    facts: Mapping[tuple[int, int], int], losses: Mapping[str, Losses], start_s: int, end_s: int
) -> dict[Span, Tile]:
    """Coverage of each pane of a stretch as a tile.

    Args:
        facts: (pane start in s, metric) -> what frames added.
        losses: of each boot, of all time.
        start_s: of the stretch.
        end_s: of the stretch.
    """
    total: Counter[tuple[int, int]] = Counter(facts)
    for of_boot in losses.values():
        total.update({key: n for key, n in of_boot.items() if start_s <= key[0] < end_s})
    panes: dict[int, list[tuple[int, int]]] = {}
    for (pane, metric), count in total.items():
        panes.setdefault(pane, []).append((metric, count))
    return {Span(PANE_S, pane): _coverage_tile(pairs) for pane, pairs in panes.items()}


def _coverage_tile(pairs: Iterable[tuple[int, int]]) -> Tile:
    known = [*pairs]
    codes = [COVERAGE << SLICE_BITS | m.key(metric) for metric, _ in known]
    return tile_of(np.array(codes, np.uint64), np.array([count for _, count in known], np.int64))


def metrics(tile: Tile) -> npt.NDArray[np.int64]:
    """Metric of each code, shape (n,)."""
    return (tile.keys >> m.BIN_BITS).astype(np.int64)


def where(tile: Tile, keep: npt.NDArray[np.bool_]) -> Tile:
    """The codes that a mask of shape (n,) keeps."""
    return Tile(tile.codes[keep], tile.counts[keep])


def plain(tile: Tile) -> Tile:
    """Without the counters of gates."""
    return where(tile, metrics(tile) < m.CONFIGURED_BASE)


def configured(tile: Tile) -> Tile:
    """The counters of gates alone."""
    return where(tile, metrics(tile) >= m.CONFIGURED_BASE)


def numbers(tile: Tile) -> npt.NDArray[np.int64]:
    """Number of the counter of each code of counters of gates, shape (n,)."""
    return tile.keys.astype(np.int64) & ~1


def value_at(tile: Tile, code: np.uint64) -> int:
    """The count of a code, 0 where it has none."""
    position = int(np.searchsorted(tile.codes, code))
    there = position < len(tile) and tile.codes[position] == code
    return int(tile.counts[position]) if there else 0
