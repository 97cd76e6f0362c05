"""Two arms' means of bounded values, and ratios of two means such as cost per token.

An observation is (a, b), both in 0..1 in units of their caps; b is 1 for a plain mean. The level l is
mean(a) / mean(b), tested through u = a - l b, whose mean is 0 at the true level ("cost - limit *
tokens"). u >= -l and u <= 1, so bets on u from both sides need only the six sums of `Moments`, at
every level at once. The two arms meet as in intersection.py: the treatment at l, the control at l / m
or l - d.

A rate with an absolute margin is the same with a = 1 for a bad unit, tested by beta mixtures, which
see rare events that bets on two sums would not.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
import numpy.typing as npt

from .bounded import log_e_positive
from .eprocess import FloatArray, log_e_axis
from .intersection import smallest_bracket
from .two_arm import Direction

_OUTWARDS = np.concatenate([np.arange(1, 65), 64 + np.cumsum(2 ** np.arange(1, 10))]).astype(float)
_STEPS = np.concatenate([-_OUTWARDS[::-1], [0.0], _OUTWARDS])
_PER_MARGIN = 32
_SMALLEST_STEP = 1e-3
_FURTHEST = 2.0
_SMALLEST_LEVEL = 1e-9


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over the observations of one arm, numbers or arrays of one shape.

    Attributes:
        n: observations.
        a, b: sums of values and of their weights.
        aa, ab, bb: sums of their products.
        top_a, top_b: the largest value and weight of any of them, or more.
    """

    n: FloatArray
    a: FloatArray
    b: FloatArray
    aa: FloatArray
    ab: FloatArray
    bb: FloatArray
    top_a: FloatArray = field(default_factory=lambda: np.ones(()))
    top_b: FloatArray = field(default_factory=lambda: np.ones(()))

    def spread(self) -> Moments:
        """The same with an axis for levels at the end."""
        return Moments(*(np.asarray(getattr(self, item.name))[..., None] for item in fields(self)))


@dataclass(frozen=True, slots=True)
class Margin:
    """What is allowed: treatment <= control * ratio + absolute.

    Attributes:
        ratio: at least 1.
        absolute: in caps, at least 0.
    """

    ratio: float = 1.0
    absolute: float = 0.0

    def control_level(self, level: FloatArray) -> FloatArray:
        """The control's level that belongs to a level of the treatment."""
        return np.asarray((level - self.absolute) / self.ratio, np.float64)


def levels_around(centre: FloatArray, margin: Margin) -> FloatArray:
    """Levels from 0 to infinity: 1/32 of the margin apart near the centre, doubling outwards.

    Args:
        centre: above 0, shape (...).
        margin: what is allowed.

    Returns:
        Ascending along the last axis, shape (..., K); levels below 0 are 0 again.
    """
    if margin.absolute > 0:
        offsets = _STEPS * margin.absolute / _PER_MARGIN
        inner = np.maximum(np.asarray(centre)[..., None] + offsets, 0.0)
    else:
        step = max(np.log(margin.ratio) / _PER_MARGIN, _SMALLEST_STEP)
        scale = np.exp(np.clip(_STEPS * step, -_FURTHEST, _FURTHEST))
        inner = np.asarray(centre)[..., None] * scale
    ends = np.zeros((*inner.shape[:-1], 1))
    return np.concatenate([ends, inner, ends + np.inf], axis=-1)


def log_e_mean(
    treatment: Moments, control: Moments, margin: Margin, direction: Direction, plain: bool
) -> FloatArray:
    """Log e-value of the treatment's level against the control's and a margin.

    Args:
        treatment, control: sums of shape (...).
        margin: what is allowed.
        direction: FAIL shows more than the margin, PASS less.
        plain: whether every weight is 1, so that u is at most 1 - l.

    Returns:
        Natural logarithms, shape (...); 0 without observations of both arms.
    """
    weight = treatment.b + control.b
    able = (treatment.n > 0) & (control.n > 0) & (weight > 0)
    pooled = (treatment.a + control.a) / np.where(able, weight, 1.0)
    levels = levels_around(np.maximum(pooled, _SMALLEST_LEVEL), margin)
    theirs = margin.control_level(levels)
    one, other = treatment.spread(), control.spread()
    if direction == "FAIL":
        pair = _above(one, levels), _below(other, theirs, plain)
    else:
        pair = _below(one, levels, plain), _above(other, theirs)
    return np.where(able, smallest_bracket(*pair, direction), 0.0)


def log_e_rate_difference(
    bad1: npt.ArrayLike,
    n1: npt.ArrayLike,
    bad0: npt.ArrayLike,
    n0: npt.ArrayLike,
    absolute: float,
    direction: Direction,
) -> FloatArray:
    """Log e-value of "the treatment's rate is above (PASS: below) the control's by `absolute`".

    Args:
        bad1, n1: bad units and units of the treatment, shape (...).
        bad0, n0: of control.
        absolute: the margin.
        direction: which.

    Returns:
        Natural logarithms, shape (...); 0 without units of both arms.
    """
    x1, all1, x0, all0 = (np.asarray(sums, np.float64) for sums in (bad1, n1, bad0, n0))
    able = (all1 > 0) & (all0 > 0)
    pooled = (x1 + x0) / np.where(able, all1 + all0, 1.0)
    levels = levels_around(np.maximum(pooled, _SMALLEST_LEVEL), Margin(absolute=absolute))
    theirs = levels - absolute
    fail = direction == "FAIL"
    pair = _rate(x1, all1, levels, fail), _rate(x0, all0, theirs, not fail)
    return np.where(able, smallest_bracket(*pair, direction), 0.0)


def mean_range(
    moments: Moments, plain: bool, log_threshold: float
) -> tuple[float | None, float | None]:
    """Levels that the mean (or ratio) lies between, at every time at once, in caps.

    Args:
        moments: of one arm.
        plain: as `log_e_mean`.
        log_threshold: log(2 / alpha) for a level of 1 - alpha.
    """
    if not (moments.n > 0 and moments.b > 0):
        return None, None
    level = np.asarray(max(float(moments.a / moments.b), _SMALLEST_LEVEL))
    levels = levels_around(level, Margin(1.1))
    kept = (_above(moments, levels) < log_threshold) & (
        _below(moments, levels, plain) < log_threshold
    )
    inside = np.flatnonzero(kept)
    low, high = int(inside[0]) - 1, int(inside[-1]) + 1
    return (
        float(levels[max(low, 0)]),
        float(levels[high]) if high < len(levels) - 1 else None,
    )


def _sums(moments: Moments, level: FloatArray) -> tuple[FloatArray, FloatArray]:
    total = moments.a - level * moments.b
    squares = moments.aa - 2.0 * level * moments.ab + level * level * moments.bb
    return np.asarray(total, np.float64), np.asarray(np.maximum(squares, 0.0), np.float64)


def _above(moments: Moments, level: FloatArray) -> FloatArray:
    """Log e-value of "the level is at most `level`": certain at infinity, impossible below 0."""
    inner = np.isfinite(level) & (level > 0)
    safe = np.where(inner, level, 1.0)
    total, squares = _sums(moments, safe)
    # u = a - l b is at least -l b
    told = log_e_positive(total / safe, squares / safe**2, moments.top_b)
    at_zero = np.where((level < 0) | (moments.a > 0), np.inf, 0.0)
    return np.where(inner, told, np.where(level <= 0, at_zero, 0.0))


def _below(moments: Moments, level: FloatArray, plain: bool) -> FloatArray:
    """Log e-value of "the level is at least `level`": certain at 0, impossible above all values."""
    inner = np.isfinite(level) & (level > 0) & ((level < 1) | (not plain))
    safe = np.where(inner, level, 0.5)
    total, squares = _sums(moments, safe)
    reach = 1.0 - safe if plain else np.ones_like(safe)
    # -u = l b - a is at least -a, and l - a where every b is 1
    worst = np.maximum(moments.top_a - safe, 0.0) if plain else moments.top_a
    told = log_e_positive(-total / reach, squares / reach**2, worst / reach)
    return np.where(inner, told, np.where(level <= 0, 0.0, np.inf))


def _rate(bad: FloatArray, n: FloatArray, level: FloatArray, above: bool) -> FloatArray:
    """Log e-value of "the rate is at most `level`" (above) or at least: certain or impossible ends."""
    bad, n = (np.broadcast_to(sums[..., None], level.shape) for sums in (bad, n))
    inner = (level > 0) & (level < 1)
    told = np.zeros(level.shape)
    told[inner] = log_e_axis(bad[inner], n[inner], level[inner], above)
    if above:
        at_end = np.where((level < 0) | ((level <= 0) & (bad > 0)), np.inf, 0.0)
    else:
        at_end = np.where((level > 1) | ((level >= 1) & (bad < n)), np.inf, 0.0)
    return np.where(inner, told, at_end)
