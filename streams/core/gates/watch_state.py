"""One limit of a rollback gate: a point rule and an e-detector over minutes.

The point rule says that the limit has been broken for `for_s` seconds: the share of bad units is above
it in the first and in the newest minute of that time, and over all of it. One bad minute is not enough,
and a minute in between without a bad unit, as little traffic has them, does not reset it. Alone it
would, asked every minute of a healthy month, sooner or later hold by chance. The e-detector (streams/core/slo/detector.py, Shin,
Ramdas and Rinaldo, arXiv 2203.03532) says that it is no chance, and forgets good times as fast as it
should: a release that was healthy for a month is found as fast as one an hour old.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from ..slo.detector import ALTERNATIVES, EDetector
from .eprocess import FloatArray

MINUTE_S = 60
REMEMBERED_S = 3600
"""An alarm of the e-detector counts for an hour, or for `for_s` where that is longer."""


@dataclass(frozen=True, slots=True)
class WatchState:
    """What one limit remembers.

    Attributes:
        n, bad: units and bad ones so far.
        recent: (bad, units) of the minutes of the last `for_s` seconds.
        minutes: minutes since the first unit.
        log1p_r: log(1 + R) of each alternative.
        log_e: highest log of the average R so far.
        alarm_us: event time of the last alarm.
        baseline: of an acceptance drop, minutes with feedback, sum of their rates, of the squares.
        limit: share that may be bad; None while the baseline is being learnt.
        held: whether the point rule holds.
    """

    n: int = 0
    bad: int = 0
    recent: tuple[tuple[int, int], ...] = ()
    minutes: int = 0
    log1p_r: FloatArray = field(default_factory=lambda: np.zeros(len(ALTERNATIVES)))
    log_e: float = 0.0
    alarm_us: int | None = None
    baseline: tuple[int, float, float] = (0, 0.0, 0.0)
    limit: float | None = None
    held: bool = False


def learnt(state: WatchState, bad: int, units: int, blocks: int, sigmas: float) -> WatchState:
    """Learn the baseline from one more of its minutes, until there are enough.

    Args:
        state: before.
        bad, units: of the baseline arm in this minute.
        blocks: minutes that make a baseline.
        sigmas: how far beyond its mean the limit lies.
    """
    if state.limit is not None or units == 0:
        return state
    count, total, squares = state.baseline
    rate = bad / units
    count, total, squares = count + 1, total + rate, squares + rate * rate
    limit = None
    if count >= blocks:
        mean = total / count
        spread = max(squares / count - mean * mean, 0.0) * count / (count - 1)
        limit = min(max(mean + sigmas * float(np.sqrt(spread)), 1e-6), 1.0 - 1e-6)
    return replace(state, baseline=(count, total, squares), limit=limit)


def watched(
    state: WatchState, bad: int, units: int, end_us: int, for_s: int, alpha: float
) -> WatchState:
    """Count one minute of the release.

    Args:
        state: before, with a limit.
        bad, units: of this minute.
        end_us: its end.
        for_s: how long the limit must be broken.
        alpha: chance of an alarm within 30 days at the limit.
    """
    if state.limit is None or (units == 0 and state.n == 0):
        return state
    limit = exact(state.limit)
    detector = EDetector((limit,), alpha)
    log1p_r, log_e, alarm = detector.step(
        state.log1p_r[None], np.array([float(bad)]), np.array([float(units)])
    )
    recent = (*state.recent, (bad, units))[-(for_s // MINUTE_S) :]
    minutes = state.minutes + 1
    return replace(
        state,
        n=state.n + units,
        bad=state.bad + bad,
        recent=recent,
        minutes=minutes,
        log1p_r=log1p_r[0],
        log_e=max(state.log_e, float(log_e[0]) if units else 0.0),
        alarm_us=end_us if bool(alarm[0]) else state.alarm_us,
        held=minutes >= for_s // MINUTE_S and point_rule(recent, limit),
    )


def point_rule(recent: Sequence[tuple[int, int]], limit: Fraction) -> bool:
    """Whether the limit is broken at both ends and over all minutes together; strictly.

    >>> point_rule([(3, 100), (0, 100), (3, 100)], Fraction(1, 100))
    True
    >>> point_rule([(0, 100), (0, 100), (300, 1000)], Fraction(1, 100))
    False
    """
    some = [(bad, units) for bad, units in recent if units]
    if not some:
        return False
    together = sum(bad for bad, _ in some), sum(units for _, units in some)
    return all(bad > limit * units for bad, units in (some[0], together, some[-1]))


def alarmed(state: WatchState, end_us: int, for_s: int) -> bool:
    """Whether the e-detector's last alarm still counts."""
    if state.alarm_us is None:
        return False
    return end_us - state.alarm_us < max(for_s, REMEMBERED_S) * 1_000_000


def exact(rate: float) -> Fraction:
    """The decimal that is written, not the binary fraction next to it."""
    return Fraction(repr(rate))
