from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from penstock.streams.core.history import History
from penstock.streams.core.tiles import EMPTY, PANE_S, Span, Tile, merge, tile_of


def tile(value: int, size: int = 1) -> Tile:
    return tile_of(np.arange(size, dtype=np.uint64), np.full(size, value))


class Loader:
    def __init__(self, stored: dict[Span, Tile]) -> None:
        self.stored = stored
        self.asked: list[Span] = []

    def __call__(self, spans: Sequence[Span]) -> Mapping[Span, Tile]:
        self.asked += spans
        return {span: self.stored[span] for span in spans if span in self.stored}


def test_what_memory_let_go_is_loaded_again() -> None:
    loader = Loader({})
    history = History(loader, capacity=100)
    for n in range(20):
        span = Span(60, n * 60)
        loader.stored[span] = tile(n + 1, 20)
        history.put(span, loader.stored[span])
    history.trim()
    total = history.total(0, 1200)
    assert total.counts.tolist() == [sum(range(1, 21))] * 20
    assert loader.asked  # longer tiles and older panes
    loader.asked.clear()
    assert history.total(0, 1200) == total
    assert not loader.asked  # now they are held, empty ones too


def test_the_least_recently_used_goes_first() -> None:
    history = History(Loader({}), capacity=60)
    for n in range(3):
        history.put(Span(PANE_S, n * 10), tile(1, 20))
    history.get([Span(PANE_S, 0)])
    history.trim()
    assert Span(PANE_S, 0) in history._held
    assert Span(PANE_S, 10) not in history._held
    history.put(Span(PANE_S, 0), tile(2, 5))
    assert history._size == sum(len(held) + 8 for held in history._held.values())


def test_before_the_first_tile_nothing_is_asked() -> None:
    loader = Loader({})
    history = History(loader)
    assert history.total(0, 100) == EMPTY
    history.put(Span(PANE_S, 50), tile(1))
    assert history.total(0, 50) == EMPTY
    assert not loader.asked


def test_a_longer_tile_is_the_sum_of_the_tier_below() -> None:
    history = History(Loader({}))
    panes = {Span(PANE_S, at): tile(at + 1) for at in (60, 80, 110)}
    for span, part in panes.items():
        history.put(span, part)
    assert history.rolled_up(Span(60, 60)) == merge(panes.values())
