"""Releases that there were, as a gate that was not there yet would have met them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..gating import Marker, current_epoch, marked_by
from .interface import FloatArray
from .live import QueriedGate


@dataclass(frozen=True, slots=True)
class PastEpoch:
    """A stretch of history in which a gate would have had one epoch.

    Attributes:
        start_us, end_us: of it; the first one may have begun earlier.
        release: whose marker began it, None before any.
        is_marked: whether a marker began it, or it began before the period.
    """

    start_us: int
    end_us: int
    release: str | None
    is_marked: bool


def past_epochs(
    spec: QueriedGate, markers: Iterable[Marker], start_us: int, end_us: int
) -> list[PastEpoch]:
    """Epochs of a gate in [start_us, end_us), in order; at least one.

    Args:
        spec: the gate.
        markers: every release marker.
        start_us, end_us: the period, start before end.
    """
    wanted = marked_by(spec)
    mine = sorted(
        (m for m in markers if m.gate == spec.id or (not m.gate and m.matches(wanted))),
        key=lambda marker: marker.ts_us,
    )
    found: list[tuple[int, str | None]] = [(0, None)]
    number = 0
    for at, marker in enumerate(mine):
        epoch = current_epoch(mine[: at + 1], wanted, spec.id)
        release = marker.dimensions.get("release") if not marker.gate else found[-1][1]
        if epoch.number > number:
            found.append((epoch.start_us, release))
        number = epoch.number
    edges = [max(since_us, start_us) for since_us, _ in found[1:]] + [end_us]
    edges = [start_us, *edges]
    return [
        PastEpoch(edges[at], min(edges[at + 1], end_us), release, since_us > 0)
        for at, (since_us, release) in enumerate(found)
        if edges[at] < min(edges[at + 1], end_us)
    ]


def past_shares(
    spec: QueriedGate, markers: Iterable[Marker], starts_us: Sequence[int]
) -> FloatArray:
    """Configured share of the treatment in blocks that start then, NaN where no marker states it."""
    wanted = marked_by(spec)
    stated = sorted(
        (m.ts_us, m.share)
        for m in markers
        if m.share is not None and not m.gate and m.matches(wanted)
    )
    since_us = np.array([ts_us for ts_us, _ in stated], np.int64)
    shares = np.array([math.nan, *(share for _, share in stated)])
    return shares[np.searchsorted(since_us, np.array(starts_us, np.int64), side="right")]
