"""Declared losses: ranges of sequence numbers that will never arrive."""

from __future__ import annotations

from collections.abc import Iterable

from ..schemas.frames import FrameHeader, encode_frame

Gap = tuple[int, int]


def merge_gaps(gaps: Iterable[Gap]) -> tuple[Gap, ...]:
    """The same sequence numbers as few, ordered, half-open ranges.

    >>> merge_gaps([(5, 7), (0, 2), (2, 3)])
    ((0, 3), (5, 7))
    """
    merged: list[Gap] = []
    for low, high in sorted(gap for gap in gaps if gap[0] < gap[1]):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def gap_frame(lost: list[FrameHeader]) -> bytes | None:
    """A control frame that declares all that `lost` frames of one boot held, had they arrived.

    It repeats what they said of the boot itself: their own gaps, and the closing.
    """
    gaps = merge_gaps(
        gap for header in lost for gap in ((header.seq0, header.seq0 + header.count), *header.gaps)
    )
    closing = any(header.closing for header in lost)
    if not gaps and not closing:
        return None
    next_seq = max(header.next_seq for header in lost)
    return encode_frame(
        FrameHeader(
            kind="control",
            worker_id=lost[-1].worker_id,
            boot_id=lost[-1].boot_id,
            seq0=next_seq,
            count=0,
            next_seq=next_seq,
            clock_us=max(header.clock_us for header in lost),
            closing=closing,
            gaps=gaps,
            home=lost[-1].home,
        ),
        [],
    )
