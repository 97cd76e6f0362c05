"""Two arms' rates: the e-process of a rate ratio, conditional on how many units were bad.

In one pane and stratum let n1 and n0 units be assigned to treatment and control, w = n1/(n1+n0) the
realised share, and x1, x0 the bad ones. If the treatment's rate is r times the control's, a bad unit
is the treatment's with probability

    theta(r, w) = w r / (w r + 1 - w)

whatever the rate itself is, so time of day and stratum drop out. Against the margin m,

    L_r = prod over panes, strata of (theta(r,w)/theta(m,w))^x1 ((1-theta(r,w))/(1-theta(m,w)))^x0
    log L_r = X1 log(r/m) - sum of (x1+x0) log1p(w (r-m) / (w m + 1 - w))

and E is the mean of L_r over a prior on log r: normal, mean 0, sd 1, truncated to r > m to show FAIL
and to r < m to show PASS. L_r is monotone in the true ratio, so E is valid for the whole null, and by
Ville's inequality its running maximum reaches 1/alpha with probability at most alpha. For finite
panes x1 is hypergeometric, which binomials bound (Hoeffding 1963); where rates exceed some 10 % that
makes E conservative. Panes without units of both arms say nothing: theta is 0 or 1 there.

The prior is a fixed grid: 48 Gauss-Legendre nodes in t, log r = log m +- 8 t^2, weighted by the
density and normalised. It is a discrete prior, so validity does not rest on the quadrature. Nodes lie
close near the margin, where long streams decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import special

from .eprocess import FloatArray

Direction: TypeAlias = Literal["FAIL", "PASS"]

NODES = 48
_REACH = 8.0
_LARGE = 1 << 20
_T, _W = np.polynomial.legendre.leggauss(NODES)


@dataclass(frozen=True, slots=True)
class Grid:
    """A discrete prior on the rate ratio.

    Attributes:
        ratio: of each node, shape (48,).
        log_over: log(ratio / margin).
        weight: prior probability, adding up to 1.
        margin: what it is truncated at.
    """

    ratio: FloatArray
    log_over: FloatArray
    weight: FloatArray
    margin: float


@lru_cache(maxsize=256)
def grid_of(margin: float, direction: Direction) -> Grid:
    """The nodes beyond the margin in one direction, from the margin outwards."""
    t = 0.5 * (_T + 1.0)
    over = _REACH * t * t
    log_over = over if direction == "FAIL" else -over
    log_ratio = math.log(margin) + log_over
    weight = _W * t * np.exp(-0.5 * log_ratio * log_ratio)
    return Grid(margin * np.exp(log_over), log_over, weight / weight.sum(), margin)


def log_likelihood_steps(
    bad1: npt.NDArray[np.int64],
    bad0: npt.NDArray[np.int64],
    n1: npt.NDArray[np.int64],
    n0: npt.NDArray[np.int64],
    grid: Grid,
) -> FloatArray:
    """What each pane and stratum adds to log L_r.

    Args:
        bad1, bad0: bad units of treatment and control, shape (P,).
        n1, n0: units, shape (P,).
        grid: of `grid_of`.

    Returns:
        Shape (P, 48); 0 where an arm has no unit.
    """
    total = n1 + n0
    both = (n1 > 0) & (n0 > 0)
    share = np.where(both, n1 / np.where(total > 0, total, 1), 0.0)[:, None]
    bad = np.where(both, bad1 + bad0, 0).astype(np.float64)[:, None]
    tilt = share * (grid.ratio - grid.margin) / (share * grid.margin + 1.0 - share)
    gained = np.where(both, bad1, 0).astype(np.float64)[:, None] * grid.log_over
    return np.asarray(gained - bad * special.log1p(tilt), np.float64)


def log_e_ratio(log_likelihood: FloatArray, grid: Grid) -> FloatArray:
    """Log e-value: the log of the mean of L_r over the prior, along the last axis.

    >>> steps = log_likelihood_steps(*(np.array([v]) for v in (10, 20, 100, 900)), grid_of(1.0, "FAIL"))
    >>> round(float(np.exp(log_e_ratio(steps, grid_of(1.0, "FAIL")))[0]), 3)
    118.062
    """
    return log_mean_exp(log_likelihood, grid.weight)


def log_mean_exp(logs: FloatArray, weight: FloatArray) -> FloatArray:
    """log of the weighted mean of exp(logs) along the last axis, without under- or overflow.

    Added node by node, so that a value does not depend on what is computed beside it.
    """
    top = logs.max(axis=-1)
    safe = np.where(np.isfinite(top), top, 0.0)
    if logs.size < _LARGE:  # one call is faster, and takes another array of that size
        scaled = weight * special.exp2((logs - safe[..., None]) / math.log(2.0))
        total = np.cumsum(scaled, axis=-1)[..., -1]
    else:
        total = np.zeros_like(safe)
        for node in range(logs.shape[-1]):
            total = total + weight[node] * special.exp2((logs[..., node] - safe) / math.log(2.0))
    return np.asarray(np.where(np.isfinite(top), safe + special.xlogy(1.0, total), top), np.float64)


def ratio_interval(
    fail: FloatArray, passed: FloatArray, margin: float, alpha: float
) -> tuple[float | None, float | None]:
    """Confidence sequence of the rate ratio: the ratios that the untruncated mixture keeps.

    A ratio is rejected where the mean likelihood over the whole prior is 1/alpha times its own. Read
    off at the nodes and rounded outwards to the next node, so it never covers too little.

    Args:
        fail, passed: log L_r at the nodes of `grid_of(margin, "FAIL")` and of "PASS", shape (48,).
        margin: of both grids.
        alpha: error rate over the whole life.

    Returns:
        (lower, upper); None where no ratio on that side is rejected.
    """
    up, down = grid_of(margin, "FAIL"), grid_of(margin, "PASS")
    above = 0.5 * special.erfc(math.log(margin) / math.sqrt(2.0))
    ratio = np.concatenate([down.ratio[::-1], up.ratio])
    logs = np.concatenate([passed[::-1], fail])
    weight = np.concatenate([down.weight[::-1] * (1.0 - above), up.weight * above])
    kept = np.flatnonzero(float(log_mean_exp(logs, weight)) - logs < math.log(1.0 / alpha))
    low, high = int(kept[0]) - 1, int(kept[-1]) + 1
    return (
        float(ratio[low]) if low >= 0 else None,
        float(ratio[high]) if high < len(ratio) else None,
    )
