"""Blocks of one arm against blocks of another: no worse than a margin, by ranks (ranks.py)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..eprocess import FloatArray
from ..reasons import Reason
from ..verdict import ArmEvidence
from .conclude import Interval, Measured, rounded
from .ranks import log_e_larger, ratio_interval, ratio_of


def no_worse(
    name: str,
    new: FloatArray,
    old: FloatArray,
    direction: str,
    margin_ratio: float,
    reason: Reason,
    critical: bool = True,
    detail: dict[str, Any] | None = None,
) -> Measured:
    """`new` is at most `margin_ratio` times worse than `old`.

    Args:
        name: of the metric in evidence.
        new, old: independent blocks of the two arms, shapes (N,) and (M,).
        direction: which way is better.
        margin_ratio: 1.05 is 5 %; of the new by the old where lower is better, else the other way.
        reason: what a FAIL is called.
        critical, detail: as in `Measured`.
    """
    lower = direction == "lower"
    limit = margin_ratio if lower else 1.0 / margin_ratio
    worst = allowed_of(old, direction, margin_ratio)

    def log_e(scale: float) -> tuple[float, float]:
        above, below = log_e_larger(new, worst, scale), log_e_larger(worst, new, scale)
        return (above, below) if lower else (below, above)

    def interval(alpha: float) -> Interval:
        return ratio_interval(new, old, alpha)

    return Measured(
        metric=name,
        declared=f"{(limit - 1.0) * 100:+.3g} %",
        unit="relative",
        limit=limit,
        estimate=ratio_of(new, old),
        n=min(new.size, old.size),
        log_e=log_e,
        interval=interval,
        reason=reason,
        critical=critical,
        arms=(arm_of("treatment", new), arm_of("control", old)),
        detail=detail or {},
    )


def allowed_of(old: FloatArray, direction: str, margin_ratio: float) -> FloatArray:
    """The worst that values may become. The margin is a share of their size: a loss may be negative.

    >>> allowed_of(np.array([10.0, -10.0]), "lower", 1.1).round(6).tolist()
    [11.0, -9.0]
    """
    if direction == "lower":
        return np.asarray(old + (margin_ratio - 1.0) * np.abs(old), np.float64)
    return np.asarray(old - (1.0 - 1.0 / margin_ratio) * np.abs(old), np.float64)


def arm_of(name: str, blocks: FloatArray) -> ArmEvidence:
    """An arm by its median block."""
    median = rounded(float(np.median(blocks))) if blocks.size else None
    return ArmEvidence(name, blocks.size, None, median)
