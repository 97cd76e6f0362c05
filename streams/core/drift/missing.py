"""Rows without a feature, and conditions that must hold for a while."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ....schemas.drift.thresholds import MissingThresholds

_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Missing:
    """Share of rows without a feature, its Wilson interval at 95 %, and what to say about it."""

    share: float
    low: float
    high: float
    state: Literal["no_data", "ok", "warning", "critical"]


def missing(rows: int, present: int, thresholds: MissingThresholds | None = None) -> Missing:
    """Warning above 1 % and critical above 5 % of the rows (strictly).

    Raises:
        ValueError: more rows carry the feature than there are.

    >>> missing(1000, 940).state
    'critical'
    """
    limits = thresholds or MissingThresholds()
    if not 0 <= present <= rows:
        raise ValueError(f"{present} of {rows} rows cannot carry a feature")
    if rows == 0:
        return Missing(math.nan, 0.0, 1.0, "no_data")
    absent = rows - present
    share = absent / rows
    low, high = wilson(absent, rows)
    if rows < limits.min_rows:
        return Missing(share, low, high, "no_data")
    if absent > limits.critical * rows:
        return Missing(share, low, high, "critical")
    return Missing(share, low, high, "warning" if absent > limits.warning * rows else "ok")


def wilson(count: int, total: int) -> tuple[float, float]:
    """Wilson's score interval of a share at 95 % (1927); (0, 1) without data."""
    if total == 0:
        return 0.0, 1.0
    share = count / total
    scale = 1 + _Z**2 / total
    middle = (share + _Z**2 / (2 * total)) / scale
    half = _Z / scale * math.sqrt(share * (1 - share) / total + _Z**2 / (4 * total**2))
    low = middle - half if count else 0.0
    return low, middle + half if count < total else 1.0


def held_since_s(
    looks: Iterable[tuple[int, float]], limit: float, max_gap_s: int
) -> tuple[int, int] | None:
    """For how long a score has been above a limit, from stored looks in any order, repeats allowed.

    Args:
        looks: (end of the look in seconds, score); NaN is a look without data, left out.
        limit: strictly above it counts.
        max_gap_s: what is further apart is not one stretch: no data is no proof of drift.

    Returns:
        (first, last) look of the stretch that ends with the newest look; None where that one is not
        above the limit. Prediction shift fires when last - first >= hold_s.

    >>> held_since_s([(3600, 0.2), (7200, 0.3), (0, 0.1)], 0.15, 3600)
    (3600, 7200)
    """
    known = sorted({at: score for at, score in looks if not math.isnan(score)}.items())
    stretch: tuple[int, int] | None = None
    for at, score in known:
        if score <= limit:
            stretch = None
        elif stretch is None or at - stretch[1] > max_gap_s:
            stretch = (at, at)
        else:
            stretch = (stretch[0], at)
    return stretch
