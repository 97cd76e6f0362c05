"""Shards: which slices are evaluated together.

A group is owned by one shard, so that its windows are evaluated at one watermark: the slices within a
model, a route, a tenant, the fleet. A gate whose filter spans models has a shard of its own choice, to
which the cells of all slices that it matches are sent too.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

from ...schemas.gates import LiveGate
from ...schemas.gates.absolute import AbsoluteGate
from .slices import COVERAGE_GROUPING, Slice

Takes = Callable[[Slice], bool]


def group_of(wanted: Slice) -> str:
    """The group of a slice: what its messages are keyed by.

    >>> group_of(Slice("model_route", ("chat", "/v1")))
    'model:chat'
    """
    if wanted.grouping == "fleet":
        return "fleet"
    name = wanted.grouping if wanted.grouping in ("route", "tenant") else "model"
    return f"{name}:{wanted.values[0]}"


def shard_of(group: str, shards: int) -> int:
    """The shard that owns a group: CRC-32 of its UTF-8 name, modulo the shards."""
    return zlib.crc32(group.encode()) % shards


# The same in SQL, of a row of `windows` or `panes`; ClickHouse's CRC32 is the same function.
SHARD_SQL = (
    "CRC32(multiIf(grouping = 'fleet', 'fleet', grouping = 'route', concat('route:', route),"
    " grouping = 'tenant', concat('tenant:', tenant), concat('model:', model))) % {shards:UInt32}"
)


def gate_shard(gate: LiveGate, shards: int) -> int:
    """The shard that evaluates a gate: that of its model, or of its own name where it names none."""
    model = gate.filter.model if isinstance(gate, AbsoluteGate) else None
    return shard_of(f"gate:{gate.id}" if model is None else f"model:{model}", shards)


def owner(shard: int, shards: int) -> Takes:
    """Which slices a shard publishes. Coverage is kept by every shard."""
    return _remembered(
        lambda wanted: (
            wanted.grouping == COVERAGE_GROUPING or shard_of(group_of(wanted), shards) == shard
        )
    )


def taker(shard: int, shards: int, gates: Sequence[LiveGate]) -> Takes:
    """Which slices are sent to a shard: its own, and what the gates evaluated there match."""
    owns = owner(shard, shards)
    filters = [
        gate.filter.given()
        for gate in gates
        if isinstance(gate, AbsoluteGate) and gate_shard(gate, shards) == shard
    ]
    return _remembered(
        lambda wanted: (
            owns(wanted)
            or (wanted.grouping == "release" and any(wanted.matches(given) for given in filters))
        )
    )


def _remembered(takes: Takes) -> Takes:
    """The same, each slice decided once: there are few of them, and they are asked for all the time."""
    known: dict[Slice, bool] = {}

    def ask(wanted: Slice) -> bool:
        found = known.get(wanted)
        if found is None:
            found = known[wanted] = takes(wanted)
        return found

    return ask
