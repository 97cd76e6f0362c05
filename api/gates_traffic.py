"""Stored traffic of a period, in the blocks that a gate counts."""

from __future__ import annotations

from typing import Any

from ..schemas.errors import InvalidQuery
from ..schemas.ports import StoreReader
from ..streams.core.gates.interface import GateInputs, Wanted
from ..streams.core.gates.pool import pool_of
from ..streams.core.gates.query import (
    gathered,
    parameters_of,
    per_request,
    requests_sql,
    units_sql,
)
from ..streams.core.gates.split import Split
from ..streams.core.tiles import SECOND_US
from .queries import BOUNDED, micros

MOST_ROWS = 300_000
_BLOCKS_AT_ONCE = 360
_COVERAGE_SQL = (
    "SELECT toUnixTimestamp(w.end) AS end_s, coverage FROM penstock.windows AS w"
    " WHERE window_s = 60 AND grouping = 'fleet'"
    f" AND w.end > {micros('first')} AND w.end <= {micros('end')} {BOUNDED}"
)


def traffic(
    store: StoreReader, wanted: Wanted, first_us: int, end_us: int, split: Split | None = None
) -> GateInputs:
    """Closed blocks of [first_us, end_us), from every stored row.

    Args:
        store: has the rows.
        wanted: what the gate needs.
        first_us, end_us: multiples of the block's length.
        split: which arm, in buckets, with a coverage of 1; without it both arms, with the coverage that
            was known then.

    Raises:
        InvalidQuery: there is too much of it.
        StoreError: the store is away, or took too long.
    """
    block_us = wanted.block_s * SECOND_US
    units: list[dict[str, Any]] = []
    requests: list[dict[str, Any]] = []
    for low_us in range(first_us, end_us, _BLOCKS_AT_ONCE * block_us):
        high_us = min(low_us + _BLOCKS_AT_ONCE * block_us, end_us)
        asked = parameters_of(wanted, low_us, high_us, first_us)
        units += _answers(store, units_sql(wanted, split), asked)
        if per_request(wanted):
            requests += _answers(store, requests_sql(wanted, split), asked)
        if len(units) + len(requests) > MOST_ROWS:
            raise InvalidQuery("too much traffic for one answer: ask about a shorter period")
    assigned, sums, _ = gathered(wanted, units, requests)
    starts_us = range(first_us, end_us, block_us)
    ends_s = [(start_us + block_us) // SECOND_US for start_us in starts_us]
    known = dict.fromkeys(ends_s, 1.0) if split else _coverage(store, first_us, end_us)
    return pool_of(wanted, starts_us, assigned, sums, [known.get(end_s) for end_s in ends_s])


def _coverage(store: StoreReader, first_us: int, end_us: int) -> dict[int, float | None]:
    """Coverage of the fleet in the minute that ends at each second that is stored."""
    rows = store.query(_COVERAGE_SQL, {"first": first_us, "end": end_us})
    return {int(row["end_s"]): row["coverage"] for row in rows}


def _answers(store: StoreReader, sql: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
    every_row = sql.replace("{applied}", "1")
    return store.query(f"{every_row} LIMIT {MOST_ROWS + 1} {BOUNDED}", asked)
