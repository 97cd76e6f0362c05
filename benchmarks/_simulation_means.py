"""Streams of costs, judged by request and by worker block."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from penstock.benchmarks._simulation_blocks import Found, note
from penstock.benchmarks._simulation_streams import FloatArray
from penstock.streams.core.gates.boundaries import MIN_BATCHES
from penstock.streams.core.gates.mean_state import log_e_asymptotic
from penstock.streams.core.gates.means import Margin, Moments, log_e_mean
from penstock.streams.core.gates.two_arm import Direction
from scipy.stats import norm

COST_SIGMA, COST_CAP = 0.5, 8.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Streams of costs, log-normal and capped at 8 times the control's mean.

    Attributes:
        dearer: mean of the treatment over that of the control.
        margin: ratio that is allowed.
        requests: of each arm between two looks; one block where blocks are units.
        periods: looks.
        blocks: whether worker blocks are units.
    """

    dearer: float
    margin: float
    requests: int
    periods: int
    blocks: bool = True


def first_cost_periods(
    rng: np.random.Generator, cost: Cost, streams: int, tests: dict[Direction, list[float]]
) -> Found:
    """As `first_periods`, for the mean of capped costs."""
    found: Found = {
        (direction, alpha): np.full(streams, np.inf)
        for direction, alphas in tests.items()
        for alpha in alphas
    }
    margin = Margin(ratio=cost.margin)
    sums, tops = np.zeros((2, 2, streams)), np.zeros((2, streams))
    paired = np.zeros((streams, 3))
    for period in range(1, cost.periods + 1):
        blocks: list[FloatArray] = []
        for arm, mean in enumerate((cost.dearer, 1.0)):
            draws = rng.lognormal(-(COST_SIGMA**2) / 2, COST_SIGMA, (streams, cost.requests))
            seen = np.minimum(mean * draws / COST_CAP, 1.0)
            if cost.blocks:
                seen = seen.mean(axis=1, keepdims=True)
            sums[arm] += seen.sum(axis=1), (seen * seen).sum(axis=1)
            tops[arm] = np.maximum(tops[arm], seen.max(axis=1))
            blocks.append(seen[:, 0])
        gap = blocks[0] - cost.margin * blocks[1]
        paired += np.stack([np.ones(streams), gap, gap * gap], axis=1)
        n = period * (1 if cost.blocks else cost.requests)
        for direction, alphas in tests.items():
            some = np.flatnonzero(np.isinf(found[direction, min(alphas)]))
            pair = [_moments(n, sums[arm][:, some], tops[arm][some]) for arm in (0, 1)]
            log_e = log_e_mean(pair[0], pair[1], margin, direction, plain=True)
            if cost.blocks and direction == "FAIL":
                log_e = np.logaddexp(log_e, log_e_asymptotic(paired[some])) - math.log(2.0)
            note(found, direction, alphas, some, log_e, period)
    return found


def _moments(n: int, sums: FloatArray, top: FloatArray) -> Moments:
    a, aa = sums
    units = np.full(len(a), float(n))
    return Moments(n=units, a=a, b=units, aa=aa, ab=a, bb=units, top_a=top)


def bar_of(cost: Cost, alpha: float) -> float:
    """Treatment requests that are allowed: twice a fixed sample of 80 % power at share 0.5.

    Of requests that is the normal test, and no fewer than any valid test takes: were a share e of control's
    at the cap, its mean would be the treatment's over the margin, and n requests without one have
    probability (1 - e)^n. Of blocks it is the normal test's whole blocks, or the 30 without which the
    asymptotic sequence says nothing.
    """
    variance = math.expm1(COST_SIGMA**2) * (cost.dearer**2 + cost.margin**2)
    reach = float(norm.isf(alpha) + norm.isf(0.2))
    normal = variance * (reach / (cost.dearer - cost.margin)) ** 2
    if cost.blocks:
        return cost.requests * max(2 * math.ceil(normal / cost.requests), MIN_BATCHES)
    unseen = (cost.dearer / cost.margin - 1.0) / (COST_CAP - 1.0)
    return 2 * max(normal, math.log(0.8 / alpha) / -math.log1p(-unseen))
