"""Resampling in blocks, so that what hangs together in time stays together (Kuensch 1989)."""

from __future__ import annotations

import math

import numpy as np
from scipy import special, stats

from ..windows import Floats, Ints

MOST_CORRELATED = 0.95


def redrawn(rng: np.random.Generator, residuals: Floats, resamples: int, level: float) -> Floats:
    """Errors for resamples of a fit: its residuals in circular blocks, widened.

    Args:
        rng: of the blocks.
        residuals: of the fit of a line, in time order, shape (n,).
        resamples: how many.
        level: confidence level that the resamples are for.

    Returns:
        Shape (resamples, n).
    """
    n = len(residuals)
    r = correlation(residuals)
    length = block_length(n, r)
    starts = rng.integers(0, n, (resamples, -(-n // length)))
    within: Ints = (starts[:, :, None] + np.arange(length)) % n
    drawn = residuals[within.reshape(resamples, -1)[:, :n]]
    return np.asarray(drawn * widening(n, r, length, level))


def correlation(values: Floats) -> float:
    """Correlation at lag 1 of values in time order, shape (n,), within 0 and MOST_CORRELATED."""
    centred = values - values.mean()
    power = float(centred @ centred)
    r = float(centred[1:] @ centred[:-1]) / power if power > 0 else 0.0
    return min(max(r, 0.0), MOST_CORRELATED)


def block_length(n: int, r: float) -> int:
    """Length of blocks for n residuals of correlation r at lag 1: two autocorrelation times.

    At least the cube root of n (the rate of Hall, Horowitz and Jing 1995) and at most a fifth of n.
    """
    return max(min(math.ceil(2 * _time(r)), n // 5), math.ceil(math.cbrt(n)))


def _time(r: float) -> float:
    """Autocorrelation time of an autoregression."""
    return (1 + r) / (1 - r)


def widening(n: int, r: float, length: int, level: float) -> float:
    """What residuals must be multiplied by to be as uncertain as the errors are.

    Three things make them too certain: the correlation is estimated too low, by about (2 + 4 r) / n
    for an autoregression about a fitted line; blocks cut at their ends what hangs together; and a line
    follows its data, by two numbers. Few independent blocks call for Student's t in place of the normal.
    """
    corrected = min((n * r + 2) / (n - 4), MOST_CORRELATED)
    long_run = _time(corrected)
    in_blocks = _time(r) - 2 * r * (1 - r**length) / (length * (1 - r) ** 2)
    free = max(n / long_run - 2, 3.0)
    followed = 1 / (1 - 2 * length / n)
    tails = stats.t.ppf(0.5 + level / 2, free) / special.ndtri(0.5 + level / 2)
    return float(math.sqrt(max(long_run / in_blocks, 1.0) * followed) * tails)


def bounds(values: Floats, level: float) -> tuple[float, float]:
    """Interval from an estimate and its resamples, infinite ones allowed, shape (1 + resamples,).

    Bias-corrected percentiles (Efron 1981): where most resamples lie to one side of the estimate, so
    does the estimate of the truth.
    """
    estimate, again = values[0], values[1:]
    below = (np.mean(again < estimate) + np.mean(again <= estimate)) / 2
    shift = 2 * special.ndtri(np.clip(below, 0.5 / len(again), 1 - 0.5 / len(again)))
    z = special.ndtri(0.5 + level / 2)
    low, high = special.ndtr(shift - z), special.ndtr(shift + z)
    return (
        float(np.quantile(again, low, method="lower")),
        float(np.quantile(again, high, method="higher")),
    )
