"""Calendar periods of UTC: days, weeks from Monday on, and months."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

from .series import DAY_S, WEEK_S

_FIRST_MONDAY_S = 4 * DAY_S  # 5 January 1970


def period_of(period: Literal["day", "week", "month"], at_s: int) -> tuple[int, int]:
    """Start and end of the period that holds a time, seconds since 1970 UTC.

    >>> period_of("week", 1_767_225_600)  # Thursday, 1 January 2026
    (1766966400, 1767571200)
    """
    if period == "month":
        moment = datetime.fromtimestamp(at_s, UTC)
        start = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        end = (start + timedelta(days=32)).replace(day=1)
        return int(start.timestamp()), int(end.timestamp())
    length_s, phase_s = (DAY_S, 0) if period == "day" else (WEEK_S, _FIRST_MONDAY_S)
    start_s = (at_s - phase_s) // length_s * length_s + phase_s
    return start_s, start_s + length_s
