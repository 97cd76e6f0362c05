"""Times and rows that tests of the store share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

# Recent, for rows beyond their retention vanish as they are written.
T0 = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=4)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def iso(seconds: float) -> str:
    return at(seconds).isoformat().replace("+00:00", "Z")


def epoch_at(seconds: float) -> int:
    """Number of the epoch of a gate whose marker is of then."""
    return int(at(seconds).timestamp())


def window(end_s: int, window_s: int = 60, **more: Any) -> dict[str, Any]:
    row = {"window_s": window_s, "end": at(end_s), "grouping": "fleet", "coverage_state": "ok"}
    return row | {"version": 1} | more
