"""What live gates counted: read from raw rows when blocks close, stored, and read back.

A block is read once, when it closes, and stored before a verdict is told of it. So a verdict is a pure
function of stored rows, and rows that come later change none (docs/decisions/0013).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

import pyarrow as pa

from ..core.delta import Cuts
from ..core.gates.blocks import BLOCKS_SQL, Block, Key, block_of, block_texts
from ..core.gates.interface import Context, Wanted
from ..core.gates.query import gathered, parameters_of, per_request, requests_sql, units_sql
from ..core.tiles import SECOND_US
from ..core.windows import MINUTE
from ..storage.publish import timestamps
from ..storage.readback import applied_sql
from ..storage.store import Store

Insert: TypeAlias = Callable[[str, pa.Table], None]
"""Stores rows of a table."""
MAX_BLOCKS = 360
"""Blocks read by one pair of queries, which bounds their memory when a gate catches up."""


def read_blocks(
    store: Store,
    wanted: Wanted,
    first_us: int,
    end_us: int,
    epoch_us: int,
    shares: Sequence[tuple[int, float]],
    coverage: Callable[[int], float | None],
    upto: Cuts,
    watermark_us: int,
    epoch: int,
) -> list[Block]:
    """Blocks that start in [first_us, end_us), from raw rows.

    Args:
        store: has the rows.
        wanted: what the gate needs.
        first_us, end_us: multiples of the block's length.
        epoch_us: start of the gate's epoch.
        shares: (since us, configured share of the treatment), ascending, from release markers.
        coverage: end of a block -> share of the fleet's events of the minute before that arrived.
        upto: the cuts up to which rows are applied; others are not there yet.
        watermark_us: where event time is.
        epoch: number of it.

    Raises:
        StoreError: the store is away.
    """
    applied, cuts = applied_sql(upto, "")
    parameters = parameters_of(wanted, first_us, end_us, epoch_us) | cuts

    def ask(sql: str) -> list[dict[str, Any]]:
        return store.query(sql.replace("{applied}", applied), parameters)

    requests = ask(requests_sql(wanted)) if per_request(wanted) else []
    assigned, sums, ahead_us = gathered(wanted, ask(units_sql(wanted)), requests)
    block_us = wanted.block_s * SECOND_US
    starts_us = range(first_us, end_us, block_us)
    texts = block_texts(wanted, starts_us, assigned, sums)
    rate = _requests_per_s(assigned, starts_us, wanted.block_s)
    context = Context(watermark_us, epoch, rate, ahead_us / SECOND_US)
    return [
        Block(start + block_us, coverage(start + block_us), _share(shares, start), text, context)
        for start, text in zip(starts_us, texts, strict=True)
    ]


def stored_blocks(
    store: Store, gate_id: str, epoch: int, spec_hash: str, after_us: int = 0
) -> list[Block]:
    """What a gate counted in an epoch, in event-time order.

    Args:
        store: where it is.
        gate_id, epoch, spec_hash: which gate.
        after_us: only blocks that end later.

    Raises:
        StoreError: the store is away.
    """
    asked = {"gate": gate_id, "epoch": epoch, "hash": spec_hash, "after": after_us}
    return [block_of(row) for row in store.query(BLOCKS_SQL, asked)]


def block_rows(
    gate_id: str, epoch: int, spec_hash: str, version: int, blocks: Sequence[Block]
) -> pa.Table:
    """Blocks for the table `gate_inputs_rows`."""
    size = len(blocks)
    return pa.table(
        {
            "gate_id": [gate_id] * size,
            "epoch": pa.array([epoch] * size, pa.uint32()),
            "spec_hash": [spec_hash] * size,
            "end": timestamps([block.end_us for block in blocks]),
            "version": pa.array([version] * size, pa.uint64()),
            "coverage": pa.array([block.coverage for block in blocks], pa.float64()),
            "share": pa.array([block.share for block in blocks], pa.float64()),
            "rows": [block.text for block in blocks],
            "context": [json.dumps(asdict(block.context)) for block in blocks],
        }
    )


def _share(shares: Sequence[tuple[int, float]], start_us: int) -> float | None:
    """The share in force when a block starts."""
    found = None
    for since_us, share in shares:
        if since_us <= start_us:
            found = share
    return found


def _requests_per_s(assigned: Mapping[Key, int], starts_us: range, block_s: int) -> float:
    """Units of the newest minute of blocks, per second."""
    newest = starts_us[-max(1, MINUTE // block_s) :]
    units = sum(count for key, count in assigned.items() if key[0] in newest)
    return units / (len(newest) * block_s) if newest else 0.0
