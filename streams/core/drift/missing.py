"""Rows without a feature."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ....schemas.drift.thresholds import MissingThresholds

_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Missing:
    """Share of rows without a feature, its Wilson interval at 95 %, and what to say about it.

    Attributes:
        usual: share that is usual, which thresholds are counted from.
    """

    share: float
    low: float
    high: float
    state: Literal["no_data", "ok", "warning", "critical"]
    usual: float = 0.0

    @property
    def excess(self) -> float:
        """Share above the usual; NaN without rows."""
        return self.share - self.usual


def missing(
    rows: int, present: int, thresholds: MissingThresholds | None = None, usual: float = 0.0
) -> Missing:
    """Warning above 1 % and critical above 5 % of the rows (strictly), more than are usual.

    Args:
        rows: that carry the feature or could have done.
        present: that carry it.
        thresholds: the two shares.
        usual: share of rows without it in the reference.

    Raises:
        ValueError: more rows carry the feature than there are.

    >>> missing(1000, 940).state
    'critical'
    """
    limits = thresholds or MissingThresholds()
    if not 0 <= present <= rows:
        raise ValueError(f"{present} of {rows} rows cannot carry a feature")
    if rows == 0:
        return Missing(math.nan, 0.0, 1.0, "no_data", usual)
    absent = rows - present
    share = absent / rows
    low, high = wilson(absent, rows)
    if rows < limits.min_rows:
        return Missing(share, low, high, "no_data", usual)
    if absent > (limits.critical + usual) * rows:
        return Missing(share, low, high, "critical", usual)
    above = absent > (limits.warning + usual) * rows
    return Missing(share, low, high, "warning" if above else "ok", usual)


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
