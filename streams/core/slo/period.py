"""The stretch of event time that a budget is about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ....schemas.slo.burn import DAY_S, PERIOD_S, Window
from .ledger import HOUR_S


@dataclass(frozen=True, slots=True)
class Period:
    """A window at one moment.

    Attributes:
        start_s, end_s: first second, and first one after it; a calendar period may end in the future.
        length_s: what its budget is for: 30 days where it is called so.
        rolling: whether it moves with time.
    """

    start_s: int
    end_s: int
    length_s: int
    rolling: bool


def period_at(window: Window, end_s: int) -> Period:
    """The period that holds the moment before `end_s`.

    A rolling one starts at the full hour before, because that is how finely the past is kept: it
    is up to an hour longer than its name.

    Args:
        window: of an objective.
        end_s: what is closed, in seconds since 1970 UTC.

    >>> period = period_at("month", 1_767_225_600 + 10)  # ten seconds into 2026
    >>> period.start_s, period.length_s // 86400
    (1767225600, 31)
    """
    if window.endswith("d"):
        length_s = PERIOD_S[window]
        return Period((end_s - length_s) // HOUR_S * HOUR_S, end_s, length_s, True)
    day = datetime.fromtimestamp(max(end_s - 1, 0) // DAY_S * DAY_S, UTC)
    if window == "week":
        first = day - timedelta(days=day.weekday())
        after = first + timedelta(days=7)
    else:
        months = 1 if window == "month" else 3
        first = day.replace(day=1, month=(day.month - 1) // months * months + 1)
        after = (first + timedelta(days=31 * months)).replace(day=1)
    start_s, after_s = int(first.timestamp()), int(after.timestamp())
    return Period(start_s, after_s, after_s - start_s, False)
