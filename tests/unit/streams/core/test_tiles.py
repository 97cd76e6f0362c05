from __future__ import annotations

import doctest
import importlib
import pkgutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.streams import core
from penstock.streams.core.tiles import EMPTY, TIERS_S, Span, Tile, cover, merge, tile_of

pairs = st.lists(
    st.tuples(st.integers(0, 2**40), st.integers(-5, 5) | st.integers(2**53, 2**60)), max_size=30
)


def tile(items: list[tuple[int, int]]) -> Tile:
    return tile_of(
        np.array([code for code, _ in items], np.uint64),
        np.array([count for _, count in items], np.int64),
    )


def plain(items: list[tuple[int, int]]) -> dict[int, int]:
    sums: dict[int, int] = {}
    for code, count in items:
        sums[code] = sums.get(code, 0) + count
    return {code: count for code, count in sorted(sums.items()) if count}


@given(pairs)
def test_a_tile_is_the_sum_of_its_codes(items: list[tuple[int, int]]) -> None:
    built = tile(items)
    assert dict(zip(built.codes.tolist(), built.counts.tolist(), strict=True)) == plain(items)


@given(st.lists(pairs, max_size=6), st.randoms(use_true_random=False))
def test_merging_in_any_order_and_grouping_is_the_same(parts: list, rng: object) -> None:  # type: ignore[type-arg]
    tiles = [tile(part) for part in parts]
    whole = tile([item for part in parts for item in part])
    assert merge(tiles) == whole
    assert merge(reversed(tiles)) == whole
    assert merge([merge(tiles[:2]), merge(tiles[2:])]) == whole


def test_what_cancels_out_leaves_nothing() -> None:
    assert merge([tile([(7, 3)]), tile([(7, -3)])]) == EMPTY
    assert EMPTY != "tile"


def test_slices_and_keys_of_codes() -> None:
    built = tile([(1 << 32 | 5, 1), (1 << 32 | 6, 2), (3 << 32 | 5, 3)])
    parts = [(s, k.tolist(), c.tolist()) for s, k, c in built.by_slice()]
    assert parts == [(1, [5, 6], [1, 2]), (3, [5], [3])]
    assert built.only(np.array([3])).counts.tolist() == [3]


@given(st.integers(0, 400_000), st.integers(0, 300_000))
def test_a_cover_fills_exactly_with_aligned_tiles(start: int, size: int) -> None:
    start, end = start * 10, (start + size) * 10
    spans = cover(start, end)
    at = start
    for span in spans:
        assert span.start_s == at
        assert span.start_s % span.length_s == 0
        assert span.length_s in TIERS_S
        at = span.end_s
    assert at == end
    assert len(spans) <= 2 * (5 + 59 + 23) + size // 8640 + 1


def test_a_crooked_window_is_refused() -> None:
    with pytest.raises(ValueError, match="not aligned"):
        cover(5, 20)


def test_parents_hold_their_children() -> None:
    assert Span(10, 3590).parent(3600) == Span(3600, 0)
    assert Span(10, 3600).parent(60) == Span(60, 3600)


def test_examples_in_docstrings() -> None:
    names = [f"{core.__name__}.{item.name}" for item in pkgutil.iter_modules(core.__path__)]
    assert "penstock.streams.core.tiles" in names
    for name in names:
        assert doctest.testmod(importlib.import_module(name)).failed == 0, name
