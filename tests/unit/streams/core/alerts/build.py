"""Builds rules, cells and panes for the tests of alerts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from penstock.schemas.alerts.rules import AlertRule
from penstock.schemas.events import STATUSES
from penstock.streams.core import metrics as m
from penstock.streams.core.alerts.moment import Panes
from penstock.streams.core.alerts.transition import Transition
from penstock.streams.core.pipeline import WindowRows
from penstock.streams.core.slices import FLEET, Slice, SliceRegistry
from penstock.streams.core.tiles import CELL_S, Span, Tile, merge, tile_of
from penstock.streams.core.windows import rows_of

ERROR = m.key(m.STATUS, STATUSES.index("error"))
REQUESTS = m.key(m.REQUESTS)
STEPS = m.key(m.STEPS)
OVER_1200 = m.Threshold("latency_us", 1_200_000).number
OVER_1000 = m.Threshold("latency_us", 999_999).number  # ">= 1000 ms"

ERRORS = {"kind": "threshold", "metric": "error_rate", "op": ">", "value": 0.1, "window": "1m"}
P95 = {"kind": "threshold", "metric": "latency_ms_p95", "op": ">", "value": 1200, "window": "1m"}

Counts = Mapping[int, Mapping[int, int]]
"""Slice -> key -> count."""


def rule(**fields: Any) -> AlertRule:
    return AlertRule.model_validate({"id": "r", "condition": ERRORS} | fields)


def tile(counts: Counts) -> Tile:
    items = [(number << 32 | key, n) for number, keys in counts.items() for key, n in keys.items()]
    codes = np.array([code for code, _ in items], np.uint64)
    return tile_of(codes, np.array([n for _, n in items], np.int64))


def cell(end_s: int, requests: int, errors: int = 0, number: int = FLEET) -> tuple[Span, Tile]:
    return Span(CELL_S, end_s - 1), tile({number: {REQUESTS: requests, ERROR: errors}})


class PaneStore:
    """Panes as the pipeline has them, from the cells that make them up."""

    def __init__(self) -> None:
        self.tiles: dict[int, Tile] = {}
        self._windows: dict[tuple[int, int], WindowRows] = {}

    def put(self, start_s: int, counts: Counts) -> None:
        self._windows.clear()
        self.tiles[start_s] = merge([*self.get(start_s, start_s + 1), tile(counts)])

    def get(self, start_s: int, end_s: int) -> list[Tile]:
        return [item for at, item in self.tiles.items() if start_s <= at < end_s]

    def window(self, length_s: int, end_s: int) -> WindowRows:
        found = self._windows.get((length_s, end_s))
        if found is None:
            merged = merge(self.get(end_s - length_s, end_s))
            found = WindowRows(length_s, end_s, *rows_of(merged, length_s, 0, False))
            self._windows[length_s, end_s] = found
        return found

    def panes(self) -> Panes:
        return Panes(self.window, min(self.tiles, default=None))


def registry_of(*slices: Slice) -> SliceRegistry:
    registry = SliceRegistry(100, 100)
    for item in slices:
        registry.number(item)
    return registry


def kinds(transitions: list[Transition]) -> list[tuple[int, str]]:
    return [(item.at_s, item.kind) for item in transitions]
