"""What will have been spent at the end of a period: spent so far, and an expected remainder.

The remainder is the level times a profile. The profile of an hour is what the same hour of the week
before cost, where the history reaches back eight days, else the same for every hour ("linear"); the level
is what the last whole 24 hours cost over their profile. So a change of spending tells within a day.

The interval is taken from how levels moved in the past: with levels of whole days l_1 .. l_n, the
spread of log l_(i+j) - log l_i over all lags j up to the days that remain is what a level is wrong by.
It multiplies the remainder by exp(+- t * spread), t of Student with n - 1 degrees of freedom. Below
MIN_LEVELS days it is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from ..windows import Floats
from .series import DAY_S, HOUR_S, WEEK_S, Series

MIN_LEVELS = 4
MAX_LEVELS = 21
_HOURS = DAY_S // HOUR_S
_WEEK_HOURS = WEEK_S // HOUR_S


@dataclass(frozen=True, slots=True)
class Projection:
    """Nano-dollars that a period will have cost at its end.

    Attributes:
        method: which profile; none where there is less than an hour of history.
        total: spent and expected.
        low, high: interval of `total`; None where too few days are known.
    """

    method: Literal["previous_week", "linear", "none"]
    total: int | None
    low: int | None
    high: int | None


def project(series: Series, start_s: int, now_s: int, end_s: int, level: float) -> Projection:
    """Project the spending of [start_s, end_s) from what is known before `now_s`.

    Args:
        series: with the field cost_nanousd; up to four weeks before now are looked at.
        start_s, end_s: the period, whole hours.
        now_s: event time up to which tiles are closed, whole minutes, within the period.
        level: confidence level of the interval.
    """
    spent = series.total(start_s, now_s)["cost_nanousd"]
    hour_s = now_s // HOUR_S * HOUR_S
    first_s = series.first_s
    known = 0 if first_s is None else max(hour_s // HOUR_S - -(-first_s // HOUR_S), 0)
    if known == 0:
        return Projection("none", None, None, None)
    costs = _hourly(series, hour_s, min(known, MAX_LEVELS * _HOURS + _WEEK_HOURS))
    before = costs[:-_WEEK_HOURS][-_HOURS:]
    weekly = len(before) == _HOURS and bool(np.any(before))
    ahead = max(-(-end_s // HOUR_S) - hour_s // HOUR_S, 1)
    profile = _tiled(costs, ahead) if weekly else np.ones(ahead)
    profile[0] *= 1.0 - (now_s - hour_s) / HOUR_S
    levels = _levels(costs, weekly)
    remainder = float(levels[-1] * profile.sum())
    spread = _spread(levels, -(-ahead // _HOURS), level)
    return Projection(
        method="previous_week" if weekly else "linear",
        total=spent + round(remainder),
        low=None if spread is None else spent + round(remainder / spread),
        high=None if spread is None else spent + round(remainder * spread),
    )


def _hourly(series: Series, end_s: int, hours: int) -> Floats:
    """Costs of the last hours, shape (hours,)."""
    bins = series.bins(end_s - hours * HOUR_S, end_s, HOUR_S)
    return bins.columns["cost_nanousd"].astype(np.float64)


def _tiled(costs: Floats, ahead: int) -> Floats:
    """The last week again and again, shape (ahead,)."""
    week = costs[-_WEEK_HOURS:]
    return np.tile(week, -(-ahead // _WEEK_HOURS))[:ahead]


def _levels(costs: Floats, weekly: bool) -> Floats:
    """Cost over profile of the whole days before now, the newest last; at least one.

    Days whose profile or cost is zero have no level and are left out, except the newest.
    """
    profile = np.ones(len(costs))
    if weekly:
        costs, profile = costs[_WEEK_HOURS:], costs[:-_WEEK_HOURS]
    days = max(len(costs) // _HOURS, 1)
    part = min(len(costs), _HOURS)
    above = costs[len(costs) - days * part :].reshape(days, part).sum(axis=1)
    below = profile[len(costs) - days * part :].reshape(days, part).sum(axis=1)
    usable = (above > 0) & (below > 0)
    usable[-1] = True
    return np.asarray(above[usable] / below[usable])


def _spread(levels: Floats, days: int, level: float) -> float | None:
    """Factor by which the level may be wrong, either way, over so many days ahead."""
    n = len(levels)
    if n < MIN_LEVELS or levels[-1] <= 0:
        return None
    logs = np.log(levels)
    moves = np.concatenate([logs[lag:] - logs[:-lag] for lag in range(1, min(days, n - 1) + 1)])
    t = float(stats.t.ppf(0.5 + level / 2, n - 1))
    return float(np.exp(t * np.sqrt(np.mean(moves**2))))
