"""Betting on a bounded mean, block by block (Waudby-Smith and Ramdas, arXiv 2010.09686).

The unit is a block: the requests of one closed cell. Its value is the mean m_i of the cell's
capped values, in [-cap, cap]. If every request has conditional mean at most 0, given everything
that was known before its cell and given how many requests the cell holds, then so has the block,
whatever the dependence between the requests of one block is. A bet B in [0, 1) that is fixed
before the cell makes 1 + B m_i / cap a non-negative variable of conditional mean at most 1; the
product over blocks is a supermartingale, and the average over a fixed grid of bets is one too
(diversified Kelly betting). Nothing is fitted to the data, so every bet is predictable.

A block without requests is no bet. Blocks count alike whether they hold one request or a
thousand: that loses some power when traffic is uneven, never validity.

The interval beside it is the predictable plug-in empirical Bernstein confidence sequence
(Theorem 2 there), whose weights are functions of earlier blocks only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from .eprocess import FloatArray

BETS = tuple(0.96 * 2.0**-k for k in range(12))
"""Fractions of the wealth at stake, from nearly all to 1/2048."""
SHARES = tuple(2.0 ** (-k / 2) / sum(2.0 ** (-j / 2) for j in range(12)) for k in range(12))
"""Wealth that each bet starts with: more for the large ones, which decide soonest."""
_BERNSTEIN_CAP = 0.5

NO_SIGNAL = 0.5
"""A log e-value of z^2 / 2 at one standard error."""


@dataclass(frozen=True, slots=True)
class BettingState:
    """Everything about the blocks so far that the next one needs.

    Attributes:
        blocks: cells that held requests.
        up: log wealth of each bet on "the mean is above 0".
        down: log wealth of each bet on "the mean is below 0".
        total, squares: running sums of the scaled values y = (m/cap + 1)/2 and of their
            squared distances from the running mean.
        weight, weighted, penalty: running sums of the empirical Bernstein sequence.
    """

    blocks: int = 0
    up: tuple[float, ...] = (0.0,) * len(BETS)
    down: tuple[float, ...] = (0.0,) * len(BETS)
    total: float = 0.0
    squares: float = 0.0
    weight: float = 0.0
    weighted: float = 0.0
    penalty: float = 0.0

    @property
    def is_noise(self) -> bool:
        """Whether no bet has grown by more than one standard error would make it."""
        return max(*self.up, *self.down) < NO_SIGNAL

    def log_e_above(self) -> float:
        """Log e-value of the null "the mean is at most 0"."""
        return _log_mean(self.up)

    def log_e_below(self) -> float:
        """Log e-value of the null "the mean is at least 0"."""
        return _log_mean(self.down)

    def interval(self, cap: float, alpha: float) -> tuple[float, float]:
        """Confidence sequence of the mean, in the unit of `cap`, clipped to [-cap, cap]."""
        if self.blocks == 0:
            return -cap, cap
        centre = self.weighted / self.weight
        radius = (math.log(2.0 / alpha) + self.penalty) / self.weight
        low, high = max(centre - radius, 0.0), min(centre + radius, 1.0)
        return (2.0 * low - 1.0) * cap, (2.0 * high - 1.0) * cap


def advance(
    state: BettingState, means: FloatArray, alpha: float
) -> tuple[BettingState, FloatArray, FloatArray]:
    """Bet on further blocks.

    Args:
        state: after the blocks before.
        means: block means divided by the cap, in [-1, 1], in event-time order, shape (T,).
        alpha: level for which the interval's weights are tuned.

    Returns:
        The state after them and the log e-values after each block, "above" and "below",
        shape (T,). The result does not depend on how the blocks are grouped into calls.
    """
    if means.size == 0:
        return state, np.empty(0), np.empty(0)
    up = _wealth(state.up, means)
    down = _wealth(state.down, -means)
    moved = _bernstein(state, 0.5 * means + 0.5, alpha)
    after = replace(
        moved,
        blocks=state.blocks + means.size,
        up=tuple(float(row[-1]) for row in up),
        down=tuple(float(row[-1]) for row in down),
    )
    return after, _log_mean_rows(up), _log_mean_rows(down)


def _wealth(start: tuple[float, ...], values: FloatArray) -> list[FloatArray]:
    """Log wealth of every bet after every block."""
    return [
        _running(log, np.asarray(special.log1p(bet * values), np.float64))
        for log, bet in zip(start, BETS, strict=True)
    ]


def _running(start: float, steps: FloatArray) -> FloatArray:
    """start + steps[0], start + steps[0] + steps[1], ...: added strictly from left to right."""
    return np.cumsum(np.concatenate(([start], steps)))[1:]


def _bernstein(state: BettingState, y: FloatArray, alpha: float) -> BettingState:
    """Running sums of the empirical Bernstein sequence, with y in [0, 1]."""
    t = state.blocks + np.arange(1, y.size + 1, dtype=np.float64)
    totals = _running(state.total, y)
    mean = (0.5 + totals) / (t + 1.0)
    mean_before = np.concatenate(([(0.5 + state.total) / (state.blocks + 1.0)], mean[:-1]))
    squares = _running(state.squares, (y - mean) ** 2)
    squares_before = np.concatenate(([state.squares], squares[:-1]))
    variance = (0.25 + squares_before) / t
    log_t = special.log1p(t)
    tuned = np.sqrt(2.0 * math.log(2.0 / alpha) / (variance * t * log_t))
    weight = np.minimum(tuned, _BERNSTEIN_CAP)
    # psi_E(w) = (-log(1 - w) - w) / 4, times v = 4 (y - mean of the earlier ones)^2
    psi = -special.log1p(-weight) - weight
    penalty = (y - mean_before) ** 2 * psi
    return replace(
        state,
        total=float(totals[-1]),
        squares=float(squares[-1]),
        weight=float(_running(state.weight, weight)[-1]),
        weighted=float(_running(state.weighted, weight * y)[-1]),
        penalty=float(_running(state.penalty, penalty)[-1]),
    )


def _log_mean(logs: tuple[float, ...]) -> float:
    return float(_log_mean_rows([np.asarray([value]) for value in logs])[0])


def _log_mean_rows(rows: list[FloatArray]) -> FloatArray:
    """log of the weighted mean of exp(row), element by element, added in the order of the rows."""
    top = rows[0]
    for row in rows[1:]:
        top = np.maximum(top, row)
    total = np.zeros_like(top)
    for row, share in zip(rows, SHARES, strict=True):
        total = total + share * special.expm1(row - top)
    return np.asarray(top + special.log1p(total), np.float64)
