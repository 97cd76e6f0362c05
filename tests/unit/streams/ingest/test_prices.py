"""Prices at ingestion: decided once, by event time, and the same in rows and windows."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from penstock.schemas.config import Configuration, parse
from penstock.tests.unit.streams.core.memory import MemoryStore
from penstock.tests.unit.streams.core.world import SECOND, Sent, World

START_US = 1_772_323_190 * SECOND  # ten seconds before March 2026
PRICED = parse("""
costs:
  prices:
    - {model: chat, valid_from: 2026-01-01, input_usd: 1, output_usd: 2}
    - {model: chat, valid_from: 2026-03-01, input_usd: 10, output_usd: 20}
""")
DEARER = parse("""
costs:
  prices:
    - {model: chat, valid_from: 2026-01-01, input_usd: 100, output_usd: 200}
""")


def request(second: int, **fields: Any) -> dict[str, Any]:
    return {
        "ts": START_US + second * SECOND, "model": "chat", "status": "ok", "input_tokens": 10,
        "output_tokens": 5,
    } | fields  # fmt: skip


ROWS = [
    request(8),
    request(9, cost_usd=0.5),
    request(10),
    request(11, model="unknown"),
    request(12, input_tokens=None, output_tokens=None),
]
COSTS = [20_000, 500_000_000, 200_000, None, None]  # nano-dollars


def frame(rows: list[dict[str, Any]], boot: str = "b") -> Sent:
    return Sent("request", "w", boot, 0, rows, rows[-1]["ts"])


def costs(store: MemoryStore, boot: str = "b") -> list[int | None]:
    rows = [row for row in store.raw["requests_rows"] if row["boot_id"] == boot]
    return [row.get("cost_nanousd") for row in sorted(rows, key=lambda row: row["seq"])]


def world(store: MemoryStore, configuration: Configuration) -> World:
    made = World(store, configuration)
    made.deliver([frame(ROWS)], START_US + 60 * SECOND)
    return made


def test_what_an_event_does_not_state_is_priced_by_its_time() -> None:
    store = MemoryStore()
    with store.installed():
        world(store, PRICED)
    assert costs(store) == COSTS


def test_without_prices_nothing_is_added() -> None:
    store = MemoryStore()
    with store.installed():
        world(store, Configuration())
    assert costs(store) == [None, 500_000_000, None, None, None]


def test_a_frame_that_comes_again_is_not_priced_again() -> None:
    store = MemoryStore()
    with store.installed():
        made = world(store, PRICED)
        made.ingestion.reconfigure(DEARER)
        made.deliver([frame(ROWS)], START_US + 61 * SECOND)
        assert costs(store) == COSTS
        made.configuration = DEARER
        made.restart()
        made.deliver([frame(ROWS)], START_US + 62 * SECOND)
        assert costs(store) == COSTS


def test_prices_of_the_configuration_in_force() -> None:
    store = MemoryStore()
    with store.installed():
        made = world(store, PRICED)
        made.ingestion.reconfigure(DEARER)
        made.deliver([frame([request(20)], "other")], START_US + 61 * SECOND)
    assert costs(store, "other") == [2_000_000]


@pytest.mark.slow
@pytest.mark.parametrize("crash", [None, "ledger", "count"])
def test_windows_are_those_of_workers_that_state_the_same_costs(crash: str | None) -> None:
    """The brute-force truth knows stated costs only, so it is told them; the store computes them."""
    stated = [
        row | ({} if nano is None else {"cost_usd": nano / 1e9})
        for row, nano in zip(ROWS, COSTS, strict=True)
    ]
    found = []
    for rows, configuration in ((stated, Configuration()), (ROWS, PRICED)):
        store = MemoryStore()
        with store.installed():
            made = World(store, configuration)
            made.deliver([frame(rows)], START_US + 60 * SECOND, crash)
            if crash == "ledger":
                made.deliver([frame(rows)], START_US + 60 * SECOND)
            made.tick(START_US + 60 * SECOND)
            made.settle()
            if rows is stated:
                assert made.check(60) > 0
        found.append({key: row["cost_usd"] for key, row in store.keyed["windows_rows"].items()})
    assert found[0] == found[1]
    assert max(value or 0 for value in found[0].values()) == pytest.approx(0.50022)


def test_requests_without_a_price_are_told() -> None:
    store, totals = MemoryStore(), Counter[str]()
    with store.installed():
        made = World(store, PRICED)
        made.ingestion._totals = totals
        made.deliver([frame(ROWS)], START_US + 60 * SECOND)
    assert totals["unpriced"] == 1
