"""Time-uniform boundaries and the confidence sequence of a rate.

Formulas of Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform, nonparametric, nonasymptotic
confidence sequences" (arXiv 1810.08240): normal mixtures (Proposition 5) and the beta-binomial
mixture (Proposition 7). `v` is intrinsic time: the variance summed over the units seen so far.
A boundary at `alpha` is crossed at any time with probability at most alpha.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import special
from scipy.optimize import brentq
from scipy.special import log_ndtr

from .eprocess import HALF_LOG_2PI, STIRLING, FloatArray


def best_rho(v_opt: float, alpha: float) -> float:
    """The rho that makes the two-sided normal mixture tightest (about) at intrinsic time `v_opt`.

    >>> round(best_rho(100, 0.05), 5)
    12.60056
    """
    log_ratio = 2.0 * math.log(1.0 / alpha)
    return v_opt / (log_ratio + math.log1p(log_ratio))


def one_sided_best_rho(v_opt: float, alpha: float) -> float:
    """As `best_rho` for the one-sided mixture: half of its mass is not needed."""
    return best_rho(v_opt, 2.0 * alpha)


LOG_2 = math.log(2.0)
MIN_BATCHES = 30
"""Batches from which on a normal mixture may stand for block means (arXiv 2103.06476)."""
RHO = one_sided_best_rho(100.0, 0.01)
"""Its mixing variance, tightest after some hundred batches."""


def normal_bound(v: float, alpha: float, rho: float) -> float:
    """Two-sided normal mixture: |S| stays below it for ever with probability 1 - alpha."""
    return math.sqrt((v + rho) * math.log((v + rho) / (rho * alpha * alpha)))


def one_sided_normal_bound(v: float, alpha: float, rho: float) -> float:
    """One-sided normal mixture: S stays below it for ever with probability 1 - alpha."""
    threshold = math.log(1.0 / alpha)

    def excess(s: float) -> float:
        return one_sided_normal_log(s, v, rho) - threshold

    return _root(excess, 0.0, 2.0 * normal_bound(v, alpha, rho))


def one_sided_normal_log(s: float, v: float, rho: float) -> float:
    """Log of the one-sided normal mixture at sum `s` and intrinsic time `v`."""
    log_m = 0.5 * math.log(4.0 * rho / (v + rho)) + s * s / (2.0 * (v + rho))
    return log_m + float(log_ndtr(s / math.sqrt(v + rho)))


def one_sided_normal_logs(s: FloatArray, v: FloatArray, rho: float) -> FloatArray:
    """As `one_sided_normal_log`, of arrays of one shape."""
    log_m = 0.5 * special.xlogy(1.0, 4.0 * rho / (v + rho)) + s * s / (2.0 * (v + rho))
    return np.asarray(log_m + special.log_ndtr(s / np.sqrt(v + rho)), np.float64)


def beta_binomial_log(s: float, v: float, g: float, h: float, r: float) -> float:
    """Log of the two-sided beta-binomial supermartingale.

    Args:
        s: sum of the centred observations, each -g or h.
        v: intrinsic time, g h per observation.
        g, h: distances down and up, both positive.
        r: precision of the mixing distribution, usually max(rho - g h, g h / 1000).
    """
    scale = g + h
    n = v / (g * h)
    x = (s + n * g) / scale
    a, b = r / (h * scale), r / (g * scale)
    return _log_two_sided(x, n, g / scale, a, b)


def beta_binomial_bound(v: float, alpha: float, g: float, h: float, r: float) -> float:
    """The s at which `beta_binomial_log` reaches log(1/alpha); v / g where it never does."""
    threshold = math.log(1.0 / alpha)
    ceiling = v / g
    if beta_binomial_log(ceiling, v, g, h, r) <= threshold:
        return ceiling
    return _root(lambda s: beta_binomial_log(s, v, g, h, r) - threshold, 0.0, ceiling)


def rate_confidence_sequence(
    bad: int, units: int, alpha: float, t_opt: float, alpha_opt: float = 0.05
) -> tuple[float, float]:
    """Interval that holds the true rate at all times at once with probability 1 - alpha.

    The rates p that the beta-binomial mixture around p has not rejected.

    Args:
        bad: bad units so far.
        units: units so far.
        alpha: error rate over the whole life.
        t_opt: number of units at which the interval shall be tightest.
        alpha_opt: level at which it is tightest.

    Returns:
        (lower, upper), within [0, 1]; (0, 1) without units.

    >>> low, high = rate_confidence_sequence(700, 1000, 0.05, 100)
    >>> round(low, 4), round(high, 4)
    (0.6516, 0.7459)
    """
    if units == 0:
        return 0.0, 1.0
    threshold = math.log(1.0 / alpha)

    def excess(p: float) -> float:
        gh = p * (1.0 - p)
        r = max(best_rho(t_opt * gh, alpha_opt) - gh, 1e-3 * gh)
        return _log_two_sided(bad, units, p, r / (1.0 - p), r / p) - threshold

    estimate = min(max(bad / units, _EDGE), 1.0 - _EDGE)
    lower, upper = 0.0, 1.0
    if bad > 0 and excess(_EDGE) > 0.0 > excess(estimate):
        lower = _root(excess, _EDGE, estimate)
    if bad < units and excess(1.0 - _EDGE) > 0.0 > excess(estimate):
        upper = _root(excess, estimate, 1.0 - _EDGE)
    return lower, upper


_EDGE = 1e-12


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(brentq(function, low, high, xtol=1e-14, rtol=1e-12))


# The same arithmetic as in eprocess on plain floats: root finding asks for one value at a time,
# and arrays of one element take some thirty times as long.


def _log_two_sided(x: float, n: float, p: float, a: float, b: float) -> float:
    """Log of the mean likelihood under Beta(a, b), a whole prior, over the likelihood of p."""
    return _deviance(x + a, n - x + b, p) - _deviance(a, b, p)


def _deviance(big_a: float, big_b: float, p: float) -> float:
    """log B(A, B) - A log p - B log(1 - p) without cancellation."""
    n = big_a + big_b
    deviance = _bd0(big_a, n * p) + _bd0(big_b, n * (1.0 - p))
    remainder = _stirling(big_a) + _stirling(big_b) - _stirling(n)
    return HALF_LOG_2PI + 0.5 * math.log(n / big_a / big_b) + deviance + remainder


def _bd0(x: float, m: float) -> float:
    """x log(x/m) + m - x: a series where x is near m."""
    v = (x - m) / (x + m)
    if abs(v) >= 0.1:
        return x * math.log(x / m) + m - x
    series = 0.0
    for k in range(15, 0, -1):
        series = (series + 1.0 / (2 * k + 1)) * v * v
    return (x - m) * v + 2.0 * x * v * series


def _stirling(z: float) -> float:
    """log Gamma(z) less Stirling's formula."""
    if z < 16.0:
        return math.lgamma(z) - (z - 0.5) * math.log(z) + z - HALF_LOG_2PI
    series = 0.0
    for coefficient in reversed(STIRLING):
        series = series / (z * z) + coefficient
    return series / z
