"""Rows without a feature."""

import math

import pytest
from penstock.streams.core.drift.missing import missing, wilson


@pytest.mark.parametrize(
    ("absent", "state"),
    [(0, "ok"), (10, "ok"), (11, "warning"), (50, "warning"), (51, "critical"), (1000, "critical")],
)
def test_thresholds_are_strict(absent: int, state: str) -> None:
    found = missing(1000, 1000 - absent)
    assert found.state == state
    assert found.low <= found.share <= found.high


def test_little_or_nothing_is_no_answer() -> None:
    assert missing(99, 0).state == "no_data"
    nothing = missing(0, 0)
    assert math.isnan(nothing.share)
    assert (nothing.low, nothing.high, nothing.state) == (0.0, 1.0, "no_data")
    assert wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="cannot carry"):
        missing(5, 6)


def test_wilson_known_answer() -> None:
    assert wilson(15, 50) == pytest.approx((0.19103, 0.43750), abs=1e-4)


def test_what_is_usual_is_not_missing() -> None:
    assert missing(1000, 690, usual=0.3).state == "ok"
    assert missing(1000, 689, usual=0.3).state == "warning"
    found = missing(1000, 600, usual=0.3)
    assert (found.state, found.usual, round(found.excess, 9)) == ("critical", 0.3, 0.1)
