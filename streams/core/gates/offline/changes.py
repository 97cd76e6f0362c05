"""Did a series change for the worse? Two e-values over its block medians, and their average.

**Detector.** The change-point detector of detectors/change_point.py bets on ranks; its sum grows by
at most 1 a block while medians are exchangeable or improve. So its largest value over B blocks,
divided by B, exceeds 1 / alpha with probability at most alpha. It counts only where the medians
since the change are worse than those before by more than the margin, which makes it rarer. It
finds a change of what was steady, and a slow slide.

**Windows.** Neighbouring windows of 8 to 32 blocks, by ranks (ranks.py), the margin put into the
earlier one: the average over all places is an e-value for "nowhere worse than the window before by
more than the margin". It finds a rise of what was falling, such as a loss that jumps back to where
it was an hour ago.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from ...detectors.change_point import ChangePoint
from ..eprocess import FloatArray
from .compare import allowed_of
from .ranks import log_e_larger

_MEMORY = 40
_NEVER = 1e-290  # the detector's own alarms are not wanted: its sums are
_WINDOWS = ((8, 8), (8, 24), (16, 16), (32, 32))
"""Blocks before and since a place."""
_NOTHING = -700.0


@dataclass(frozen=True, slots=True)
class Change:
    """The clearest change for the worse.

    Attributes:
        log_e: natural log of an e-value for it.
        at: block that it began at, None without one.
    """

    log_e: float
    at: int | None


def find_change(blocks: FloatArray, better: str, margin_ratio: float) -> Change:
    """The clearest change of block medians for the worse, by more than a margin.

    Args:
        blocks: medians in the order of time, positive, shape (B,).
        better: higher or lower.
        margin_ratio: changes to at most so many times worse do not count; at least 1.
    """
    found = (_detector(blocks, better, margin_ratio), _windows(blocks, better, margin_ratio))
    log_e = float(special.logsumexp([change.log_e for change in found]) - math.log(2.0))
    return Change(log_e, max(found, key=lambda change: change.log_e).at)


def _detector(blocks: FloatArray, better: str, margin_ratio: float) -> Change:
    detector = ChangePoint(
        block=1,
        alarms_per_1000_blocks=_NEVER,
        direction="up" if better == "lower" else "down",
        memory=_MEMORY,
    )
    best = Change(_NOTHING, None)
    for at, value in enumerate(blocks):
        detector.update(float(value))
        sums = [math.expm1(log) for log in detector.log_r]
        mean = sum(sums) / len(sums) if sums else 0.0
        if mean <= 0.0 or math.log(mean / blocks.size) <= best.log_e:
            continue
        began = detector.began[max(range(len(sums)), key=sums.__getitem__)]
        if _worse(blocks[: at + 1], began, better, margin_ratio):
            best = Change(math.log(mean / blocks.size), began)
    return best


def _worse(blocks: FloatArray, began: int, better: str, margin_ratio: float) -> bool:
    """Whether the blocks since a change are worse than those before by more than the margin."""
    before, since = blocks[max(0, began - _MEMORY) : began], blocks[began:]
    if not before.size or not since.size:
        return False
    allowed = float(allowed_of(np.median(before, keepdims=True), better, margin_ratio)[0])
    middle = float(np.median(since))
    return middle > allowed if better == "lower" else middle < allowed


def _windows(blocks: FloatArray, better: str, margin_ratio: float) -> Change:
    logs, places = [_NOTHING], [-1]
    for width, length in _WINDOWS:
        for at in range(width, blocks.size - length + 1, width // 2):
            before, since = blocks[at - width : at], blocks[at : at + length]
            allowed = allowed_of(before, better, margin_ratio)
            worse = (since, allowed) if better == "lower" else (allowed, since)
            logs.append(log_e_larger(*worse))
            places.append(at)
    if len(logs) == 1:
        return Change(_NOTHING, None)
    log_e = float(special.logsumexp(logs[1:]) - math.log(len(logs) - 1))
    return Change(log_e, places[int(np.argmax(logs))])
