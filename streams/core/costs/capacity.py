"""When does this fleet saturate: the trend of its load meets its utilisation law.

The interval is a block bootstrap: residuals of trend and laws are drawn in blocks, everything is fitted
again, and the crossing times of all resamples give the quantiles. A resample that does not cross
within the horizon counts as later than it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from ....schemas.costs.capacity import CapacityForecast
from ..windows import Floats, Ints
from .history import LEAST_KNOWN, History, TooLittle, history_of
from .law import Law, fit_law
from .resample import bounds, redrawn
from .series import Series
from .trend import CYCLE_STEPS, Trend, fit_cycle, fit_line

CapacityState = Literal["saturated", "saturates", "not_within_horizon", "unknown"]
RECENT_STEPS = 3
FURTHEST_LOAD = 2.0  # times the highest load seen: beyond it the law is not known
RESAMPLES = 400
_LEAST_LOAD = 0.05  # of the mean: below it shares of the expected load tell nothing


@dataclass(frozen=True, slots=True)
class Saturation:
    """A forecast; times are seconds from `end_s`.

    Attributes:
        state: `saturates` comes with an interval; `not_within_horizon` holds at the level of the
            interval.
        reason: why it is unknown, or what shows that it is saturated now.
        end_s: end of the history in event time.
        horizon_s: how far it looked; the history may carry less than was asked for.
        estimate_s: None where only an early resample crosses.
        low_s, high_s: interval; high_s None where it ends beyond the horizon.
        signal: the utilisation that is full first.
        saturating_load: estimate, low and high of the load at which it is, per second; None for one
            beyond any load.
        load: expected load at `end_s`, per second.
        daily: whether there was history enough for a daily cycle.
        steps: length of the history.
    """

    state: CapacityState
    reason: str
    end_s: int
    horizon_s: int = 0
    estimate_s: int | None = None
    low_s: int | None = None
    high_s: int | None = None
    signal: str | None = None
    saturating_load: tuple[float | None, ...] | None = None
    load: float | None = None
    daily: bool = False
    steps: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The forecast as JSON holds it."""
        return asdict(self)


def forecast(
    spec: CapacityForecast,
    series: Series,
    end_s: int,
    seed: int,
    since_s: int = 0,
    resamples: int = RESAMPLES,
) -> Saturation:
    """When the fleet saturates.

    Args:
        spec: what is taken as full.
        series: LOAD of its slice: hours of 14 days, minutes of 6 hours.
        end_s: event time up to which tiles are closed, seconds.
        seed: of the bootstrap; the same arguments give the same answer.
        since_s: earlier history is of another fleet (the last change of its size).
        resamples: of the bootstrap.
    """
    try:
        history = history_of(spec, series, end_s, since_s)
        return _forecast(spec, history, np.random.default_rng(seed), resamples)
    except TooLittle as reason:
        return Saturation("unknown", str(reason), end_s)


def _forecast(
    spec: CapacityForecast, history: History, rng: np.random.Generator, resamples: int
) -> Saturation:
    end_s = history.start_s + history.step_s * len(history.load)
    full = _full_now(spec, history)
    if full is not None:
        return Saturation("saturated", full, end_s, daily=history.daily, steps=len(history.load))
    trend = load_trend(history, rng, resamples, spec.level)
    capacity, signal = _capacity(spec, history, rng, resamples)
    ahead = np.arange(_reach(spec, history)) + len(history.load)
    known_to = FURTHEST_LOAD * float(np.nanmax(history.load))
    times = _crossings(trend.expected(ahead), np.minimum(capacity, known_to))
    low, high = bounds(times, spec.level)
    answer: CapacityState = "not_within_horizon" if np.isinf(low) else "saturates"
    beyond = capacity[0] > known_to and answer == "saturates"

    def seconds(steps: float) -> int | None:
        return None if beyond or np.isinf(steps) else int(steps) * history.step_s

    return Saturation(
        state="unknown" if beyond else answer,
        reason="beyond_known_loads" if beyond else "",
        end_s=end_s,
        horizon_s=len(ahead) * history.step_s,
        estimate_s=seconds(float(times[0])),
        low_s=seconds(low),
        high_s=seconds(high),
        signal=signal,
        saturating_load=_finite(capacity[0], *bounds(capacity, spec.level)),
        load=float(trend.expected(ahead[:1])[0, 0]),
        daily=history.daily,
        steps=len(history.load),
    )


def _finite(*values: float) -> tuple[float | None, ...]:
    return tuple(None if np.isinf(value) else float(value) for value in values)


def _full_now(spec: CapacityForecast, history: History) -> str | None:
    """The signal that has been full for the last steps."""
    seen = {"queue_depth": (history.queue_depth, spec.max_queue_depth)}
    for name, limit in spec.limits.items():
        seen[name] = (history.utilisation[name], limit)
    for name, (values, most) in seen.items():
        if most is not None and bool(np.all(values[-RECENT_STEPS:] >= most)):
            return name
    return None


def _reach(spec: CapacityForecast, history: History) -> int:
    """Steps to look ahead: twice the history with a daily cycle, as long as it without."""
    most = len(history.load) * (2 if history.daily else 1)
    return min(max(spec.horizon_s // history.step_s, 1), most)


def load_trend(history: History, rng: np.random.Generator, resamples: int, level: float) -> Trend:
    """Fits of the load and of its resamples, the observed one first, shape (1 + resamples,).

    Steps count from the start of the history.
    """
    steps = np.arange(len(history.load)) if history.daily else np.flatnonzero(history.known)
    load = (_filled(history.load) if history.daily else history.load[steps])[None, :]
    fitted = fit_cycle(load) if history.daily else fit_line(load, steps)
    # Noise of a load grows with it: residuals are drawn as shares of what was expected.
    expected = np.maximum(fitted.expected(steps), _LEAST_LOAD * load.mean())
    residuals = (load / expected)[0] - 1.0 if load.any() else np.zeros(len(steps))
    if history.daily:  # each hour of the cycle follows the few days that it is taken from
        residuals = residuals * np.sqrt(len(steps) / (len(steps) - CYCLE_STEPS))
    again = np.maximum(expected * (1.0 + redrawn(rng, residuals, resamples, level)), 0.0)
    loads = np.concatenate([load, again])
    return fit_cycle(loads) if history.daily else fit_line(loads, steps)


def _filled(load: Floats) -> Floats:
    """Unknown hours as the median of the same hour on other days."""
    days = load.reshape(-1, CYCLE_STEPS)
    gaps = np.isnan(days)
    if gaps.all(axis=0).any():
        raise TooLittle("gaps")
    usual = np.nanmedian(days, axis=0)
    return np.asarray(np.where(gaps, usual, days).ravel())


def _capacity(
    spec: CapacityForecast, history: History, rng: np.random.Generator, resamples: int
) -> tuple[Floats, str]:
    """Load at which the first signal is full, shape (1 + resamples,), and that signal."""
    found: dict[str, Floats] = {}
    measured = False
    for name, limit in spec.limits.items():
        values = history.utilisation[name]
        usable = history.known & ~np.isnan(values)
        if usable.mean() < LEAST_KNOWN:
            continue
        measured = True
        law = _laws(history.load[usable], values[usable], rng, resamples, spec.level)
        if float(np.quantile(law.per_load, (1 - spec.level) / 2)) > 0:
            found[name] = law.load_at(limit)
    if not found:
        raise TooLittle("load_does_not_move_utilisation" if measured else "no_utilisation")
    signal = min(found, key=lambda name: float(found[name][0]))
    return np.min(np.stack(list(found.values())), axis=0), signal


def _laws(
    load: Floats, values: Floats, rng: np.random.Generator, resamples: int, level: float
) -> Law:
    """The law of what was observed, and of resamples of its residuals at the same loads."""
    fitted = fit_law(load, values[None, :])
    expected = fitted.at(load)
    again = expected + redrawn(rng, (values - expected)[0], resamples, level)
    return fit_law(load, np.concatenate([values[None, :], again]))


def _crossings(expected: Floats, capacity: Floats) -> Floats:
    """Steps ahead at which each series reaches its capacity, infinite where it does not, shape (B,)."""
    above = expected >= capacity[:, None]
    return np.asarray(np.where(above.any(axis=1), above.argmax(axis=1), np.inf))


def load_forecast(
    spec: CapacityForecast, series: Series, end_s: int, steps: int, seed: int
) -> Floats:
    """Expected load of the next steps, per second, shape (steps,); without an interval.

    More cautious than the trend that `forecast` extends: a slope that is not clear is made smaller.

    Raises:
        TooLittle: as the reasons of `forecast`.
    """
    history = history_of(spec, series, end_s, 0)
    trend = load_trend(history, np.random.default_rng(seed), RESAMPLES // 4, spec.level)
    ahead: Ints = len(history.load) + np.arange(steps)
    return np.asarray(trend.shrunk(len(history.load)).expected(ahead)[0])
