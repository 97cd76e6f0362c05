"""Deltas as bytes: the messages of the panes topic. Internal, and only as old as that topic's retention.

One msgpack map, compressed with zstd; integer arrays are little-endian bytes.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgpack  # type: ignore[import-untyped]  # has no type information
import numpy as np
import zstandard

from ...schemas.errors import InvalidFrame
from ..core.boots import Presence
from ..core.delta import Delta
from ..core.slices import GROUPINGS, Combo, Slice
from ..core.tiles import Span, Tile

VERSION = 1
MAX_DELTA_BYTES = 256 * 2**20
_GROUPINGS = tuple(GROUPINGS)


def encode_delta(delta: Delta) -> bytes:
    """A delta as the value of one message."""
    packed: bytes = msgpack.packb(
        {
            "v": VERSION,
            "ranges": [[*source, *offsets] for source, offsets in delta.ranges.items()],
            "watermark_us": delta.watermark_us,
            "combos": [[None if part is None else part.values for part in c] for c in delta.combos],
            "tiles": [
                [
                    span.length_s,
                    span.start_s,
                    tile.codes.astype("<u8").tobytes(),
                    tile.counts.astype("<i8").tobytes(),
                ]
                for span, tile in delta.tiles.items()
            ],
            "coverage": [[*key, count] for key, count in delta.coverage.items()],
            "boots": [
                [
                    one.worker_id, one.boot_id, one.partition, one.first_clock_us, one.clock_us,
                    one.vanished, [[*key, count] for key, count in one.losses.items()],
                ]
                for one in delta.presences
            ],
            "feedback": delta.feedback,
            "releases": delta.releases,
            "life": delta.life,
            "serial": delta.serial,
            "counting": delta.counting,
        }
    )  # fmt: skip
    return zstandard.ZstdCompressor(level=1).compress(packed)


def decode_delta(value: bytes) -> Delta:
    """The inverse of `encode_delta`.

    Raises:
        InvalidFrame: these bytes are no delta of this version; the store has the rows.
    """
    try:
        packed = zstandard.ZstdDecompressor().decompress(value, max_output_size=MAX_DELTA_BYTES)
        raw: dict[str, Any] = msgpack.unpackb(packed)
        if raw["v"] != VERSION:
            raise InvalidFrame(f"delta of version {raw['v']}, this reader knows {VERSION}")
        return Delta(
            ranges={(i, p): (after, cut) for i, p, after, cut in raw["ranges"]},
            watermark_us=raw["watermark_us"],
            combos=[_combo(parts) for parts in raw["combos"]],
            tiles={
                Span(length, start): Tile(np.frombuffer(codes, "<u8"), np.frombuffer(counts, "<i8"))
                for length, start, codes, counts in raw["tiles"]
            },
            coverage={(pane, metric): count for pane, metric, count in raw["coverage"]},
            presences=[
                Presence(
                    worker_id, boot_id, partition, first_us, clock_us, vanished,
                    Counter({(pane, metric): n for pane, metric, n in losses}),
                )
                for worker_id, boot_id, partition, first_us, clock_us, vanished, losses in raw["boots"]
            ],
            feedback=raw["feedback"],
            releases=raw["releases"],
            life=raw["life"],
            serial=raw["serial"],
            counting=raw.get("counting", ""),  # earlier senders do not say it: rows are read instead
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, IndexError, zstandard.ZstdError) as error:
        raise InvalidFrame(f"no delta: {error!r}") from error


def _combo(parts: list[list[str] | None]) -> Combo:
    return tuple(
        None if values is None else Slice(grouping, tuple(values))
        for grouping, values in zip(_GROUPINGS, parts, strict=True)
    )
