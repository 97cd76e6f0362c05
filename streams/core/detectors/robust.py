"""Middle and spread that a few outliers cannot move."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

MAD_TO_SD = 1.4826  # of a normal distribution
MEAN_DEVIATION_TO_SD = 1.2533


def middle_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Median, and the median absolute deviation as a standard deviation.

    Where more than half of the values are equal the mean deviation stands in, and where all are, a
    millionth of their size: any other value is then far away.
    """
    middle = statistics.median(values)
    deviations = [abs(value - middle) for value in values]
    spread = MAD_TO_SD * statistics.median(deviations)
    if spread == 0:
        spread = MEAN_DEVIATION_TO_SD * statistics.fmean(deviations)
    return middle, spread or smallest_spread(middle)


def smallest_spread(middle: float) -> float:
    """What stands in for the spread of a constant."""
    return max(1e-6 * abs(middle), 1e-12)
