"""The history that a forecast of capacity is made from: load, queue and utilisation in equal steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ....schemas.costs.capacity import CapacityForecast
from ..windows import Floats
from .series import DAY_S, HOUR_S, MINUTE_S, Bins, Series

LEAST_STEPS = 30
MOST_DAYS = 14
SHORT_S = 6 * HOUR_S  # what is looked at without a cycle: further back the hour of the day misleads
LEAST_KNOWN = 0.8  # share of steps that must be known
_MOST_MINUTES = 240


class TooLittle(ValueError):
    """There is no history to forecast from; the text is the reason code."""


@dataclass(frozen=True, slots=True)
class History:
    """Equal steps up to now.

    Attributes:
        step_s: length of a step.
        start_s: start of the first one.
        load: per second, shape (n,), NaN where unknown.
        queue_depth: mean per engine step, shape (n,), NaN where unknown.
        utilisation: shares by signal, shape (n,) each, NaN where unknown.
        daily: whether it is whole days in hours.
    """

    step_s: int
    start_s: int
    load: Floats
    queue_depth: Floats
    utilisation: Mapping[str, Floats]
    daily: bool

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Steps with a load, shape (n,)."""
        return ~np.isnan(self.load)


def history_of(spec: CapacityForecast, series: Series, end_s: int, since_s: int) -> History:
    """The history before a time: up to 14 whole days in hours, or else up to 6 hours in minutes.

    Raises:
        TooLittle: no_history, too_short, gaps.
    """
    first_s = series.first_s
    if first_s is None or first_s >= end_s:
        raise TooLittle("no_history")
    hour_s = end_s // HOUR_S * HOUR_S
    days = min((hour_s - max(first_s, since_s)) // DAY_S, MOST_DAYS)
    if days >= 2:
        bins, step_s = series.bins(hour_s - days * DAY_S, hour_s, HOUR_S), HOUR_S
    else:
        # The first hour may have begun in its middle.
        minute_s = end_s if series.first_minute_s is None else series.first_minute_s
        bins, step_s = _minutes(series, max(minute_s, since_s, end_s - SHORT_S), end_s)
    if bins.known.mean() < LEAST_KNOWN:
        raise TooLittle("gaps")
    return _shares(spec, bins, step_s, days >= 2)


def _minutes(series: Series, first_s: int, end_s: int) -> tuple[Bins, int]:
    step_s = MINUTE_S if end_s - first_s <= _MOST_MINUTES * MINUTE_S else 2 * MINUTE_S
    end_s, first_s = end_s // step_s * step_s, -(-first_s // step_s) * step_s
    if end_s - first_s < LEAST_STEPS * step_s:
        raise TooLittle("too_short")
    return series.bins(first_s, end_s, step_s), step_s


def _shares(spec: CapacityForecast, bins: Bins, step_s: int, daily: bool) -> History:
    columns = bins.columns
    load = columns[spec.load.removesuffix("_per_s")] / step_s
    ratio = {
        "batch_fill": _ratio(columns["batch_size"], columns["batch_capacity"], 1),
        "kv_cache_usage": _mean(bins, "kv_cache_usage", 1_000_000),
        "gpu_utilization": _mean(bins, "gpu_utilization", 1_000_000),
    }
    return History(
        step_s=step_s,
        start_s=int(bins.starts_s[0]),
        load=np.where(bins.known, load, np.nan),
        queue_depth=_mean(bins, "queue_depth", 1),
        utilisation={name: ratio[name] for name in spec.limits},
        daily=daily,
    )


def _mean(bins: Bins, name: str, scale: int) -> Floats:
    return _ratio(bins.columns[f"{name}_sum"], bins.columns[f"{name}_count"], scale)


def _ratio(above: npt.NDArray[np.int64], below: npt.NDArray[np.int64], scale: int) -> Floats:
    result = np.full(len(below), np.nan)
    np.divide(above, below * float(scale), out=result, where=below > 0)
    return result
