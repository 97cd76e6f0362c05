"""Which of many series to believe: the share of false alarms among all is held below a rate.

>>> e_bh(np.array([500.0, 3.0, 0.2, 25.0]), 0.1).tolist()
[True, False, False, True]
>>> benjamini_hochberg(np.array([0.001, 0.04, 0.9, 0.012]), 0.05).tolist()
[True, False, False, True]
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def e_bh(e_values: Floats, rate: float) -> Flags:
    """Series to believe at one look of many monitors (Wang and Ramdas 2022, e-BH).

    Rejects the k largest, k the largest number for which the k-th e-value is at least K / (rate k).
    Holds under any dependence between the series. NaN (no data) is never believed and not counted.

    Args:
        e_values: of each series, `exp(WatchState.log_e)`, shape (K,).
        rate: false discovery rate, in (0, 1).
    """
    known = np.isfinite(e_values) | np.isposinf(e_values)
    values = np.sort(e_values[known])[::-1]
    ranks = np.arange(1, len(values) + 1)
    passing = np.flatnonzero(values * rate * ranks >= len(values))
    result = np.zeros(len(e_values), bool)
    if len(passing):
        result[known] = e_values[known] >= values[passing[-1]]
    return result


def benjamini_hochberg(p_values: Floats, rate: float) -> Flags:
    """Series to believe at a single look (Benjamini and Hochberg 1995). NaN is never believed.

    Holds where the series are independent or positively dependent, and for one look only.
    """
    known = np.isfinite(p_values)
    result = np.zeros(len(p_values), bool)
    if known.any():
        result[known] = stats.false_discovery_control(p_values[known]) <= rate
    return result
