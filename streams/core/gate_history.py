"""Stored verdicts of one epoch of a gate, held against what the gate counted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import orjson

from ...schemas.gates import LiveGate
from .gates.blocks import Block
from .gates.replay import replayed

_OF_EPOCH = (
    "FROM penstock.verdicts AS v WHERE gate_id = {gate:String} AND epoch = {epoch:UInt32}"
    " AND spec_hash = {hash:String}"
)
TOLD_SQL = (
    "SELECT toUnixTimestamp64Micro(v.as_of) AS at_us, lower(hex(SHA256(evidence))) AS sha256"
    f" {_OF_EPOCH} AND engine = {{engine:String}} ORDER BY v.as_of"
)
"""When each verdict of this version of the engine was told, and the hash of its text."""
START_SQL = (
    f"SELECT JSONExtractInt(state, 'state', 'start_us') AS start_us {_OF_EPOCH}"
    " AND state != '' ORDER BY v.as_of LIMIT 1"
)
"""Where the epoch of a gate with blocks began, as its first state tells it."""


def differing(
    spec: LiveGate,
    epoch: int,
    blocks: Sequence[Block],
    start_us: int | None,
    told: Mapping[int, str],
) -> dict[int, str | None]:
    """Verdicts that are not, to the last byte, what their gate gives for what it counted.

    Where it was evaluated several times at one event time, any of its answers may have been stored.

    Args:
        spec: the gate, as it was then.
        epoch: of the blocks.
        blocks: all of the epoch, in event-time order.
        start_us: where the epoch began, None for the start of its first block.
        told: event time in us -> SHA-256 of the text of a stored verdict.

    Returns:
        Event time in us -> text of the verdict computed again, None where nothing was counted then.
    """
    found: dict[int, str | None] = dict.fromkeys(told)
    same: set[int] = set()
    for at_us, verdict in replayed(spec, epoch, blocks, start_us):
        if at_us in told:
            text = orjson.dumps(verdict.to_dict())
            found[at_us] = text.decode()
            if hashlib.sha256(text).hexdigest() == told[at_us]:
                same.add(at_us)
    return {at_us: text for at_us, text in found.items() if at_us not in same}
