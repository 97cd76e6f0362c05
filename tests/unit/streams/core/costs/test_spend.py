from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from penstock.schemas.costs.prices import TokenPrice
from penstock.schemas.costs.values import Scope
from penstock.streams.core import metrics as m
from penstock.streams.core.costs.prices import Prices, with_costs
from penstock.streams.core.costs.spend import slices_of, spend_report
from penstock.streams.core.counting import counted
from penstock.streams.core.slices import FLEET, OTHER, Combos, Slice, SliceRegistry
from penstock.streams.core.tiles import EMPTY, PANE_S, Tile, merge, tile_of


def tile(items: dict[tuple[int, int], int]) -> Tile:
    codes = [number << 32 | m.key(metric) for number, metric in items]
    return tile_of(np.array(codes, np.uint64), np.array([*items.values()], np.int64))


@pytest.fixture
def registry() -> SliceRegistry:
    registry = SliceRegistry(10, 1)
    for tenant in ("a", "b", "c"):
        registry.number(Slice("tenant", (tenant,)))
    return registry


def use(slice_: int, requests: int, tokens: int, cost: int) -> Tile:
    return tile({
        (slice_, m.REQUESTS): requests, (slice_, m.INPUT_TOKENS): tokens,
        (slice_, m.CACHED_TOKENS): tokens // 2, (slice_, m.OUTPUT_TOKENS): tokens,
        (slice_, m.COSTED_TOKENS): tokens, (slice_, m.COST_NANOUSD): cost,
    })  # fmt: skip


def test_a_report_by_tenant(registry: SliceRegistry) -> None:
    merged = merge(
        [use(FLEET, 9, 9, 9), use(2, 3, 1000, 10**9), use(2, 1, 0, 0), use(4, 5, 500, 3 * 10**9)]
    )
    rows = spend_report(merged, registry, "tenant")
    assert [row.dimensions for row in rows] == [{"tenant": "c"}, {"tenant": "a"}]
    first, second = rows
    assert (first.requests, first.input_tokens, first.cached_tokens) == (5, 500, 250)
    assert (first.output_tokens, first.reasoning_tokens, first.cost_usd) == (500, 0, 3.0)
    assert (first.usd_per_1k_tokens, first.share, first.costed_share) == (6.0, 0.75, 0.5)
    assert second.requests == 4
    assert json.loads(json.dumps(second.to_dict()))["cost_usd"] == 1.0


def test_a_report_of_what_cost_nothing(registry: SliceRegistry) -> None:
    (row,) = spend_report(tile({(3, m.REQUESTS): 2}), registry, "tenant")
    assert (row.usd_per_1k_tokens, row.share, row.costed_share) == (None, None, None)
    assert spend_report(tile({(3, m.STEPS): 2}), registry, "tenant") == []
    assert spend_report(EMPTY, registry, "route") == []


def test_from_priced_events_to_a_report() -> None:
    """Rows in two batches, priced, counted into tiles, merged: the same as the sum of the rows."""
    entry = {"valid_from": "2026-01-01", "input_usd": "0.15", "output_usd": "0.6"}
    prices = Prices([TokenPrice.model_validate(entry)])
    registry = SliceRegistry(10, 10)
    combos = Combos(registry)
    tiles = []
    for batch in range(2):
        n = 50
        numbers = np.arange(n) + batch * n
        table = pa.table({
            "ts": pa.array(1_767_225_600_000_000 + numbers * 1_000_000, pa.int64()),
            "status": pa.array(["ok"] * n).dictionary_encode(),
            "route": pa.array([f"/{at % 2}" for at in numbers.tolist()]).dictionary_encode(),
            "input_tokens": pa.array(numbers * 7, pa.int64()),
            "output_tokens": pa.array(numbers * 3, pa.int64()),
            "overflow": pa.array([0] * n, pa.int64()),
        })  # fmt: skip
        placed = counted(combos, "request", with_costs(table, prices)[0], ())
        tiles += [combos.project(part) for span, part in placed.items() if span.length_s == PANE_S]
    rows = spend_report(merge(tiles), registry, "route")
    every = np.arange(100)
    for row in rows:
        mine = every[every % 2 == int(row.dimensions["route"][1:])]
        assert row.cost_nanousd == int((mine * 7 * 150 + mine * 3 * 600).sum())
        assert row.costed_tokens == int((mine * 10).sum())
        assert row.costed_share == 1.0
    assert sum(row.share or 0 for row in rows) == pytest.approx(1.0)


def test_slices_of_a_scope(registry: SliceRegistry) -> None:
    def found(**given: str) -> tuple[list[int], bool]:
        numbers, hidden = slices_of(registry, Scope.model_validate(given))
        return numbers.tolist(), hidden

    assert found() == ([FLEET], False)
    assert found(tenant="b") == ([3], False)
    assert found(tenant="z") == ([], False)
    registry.number(Slice("tenant", (OTHER,)))
    assert found(tenant="b") == ([3], False)
    assert found(tenant="z") == ([], True)
    assert found(route="/a") == ([], False)
