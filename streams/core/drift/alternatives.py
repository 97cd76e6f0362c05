"""What a monitor looks for: a few changed versions of the reference's shares.

Each is compared with the reference by its likelihood ratio. The reference is itself a sample, and
over thousands of looks the smallest error of its shares would add up to an alarm. So every ratio is
divided by the largest mean that it has for true shares within four standard errors of those seen:
what the reference does not know about itself is not taken for drift, and a small reference finds
large changes only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TILTS = np.array([0.25, 0.5, 1.0])  # in standard deviations of the shape; PSI is about the square
CONTAMINATIONS = np.array([0.1, 0.3])  # share of the rows that move into one bin
STANDARD_ERRORS = 4.0


def alternatives(bins: int, ordered: bool) -> int:
    """How many there are."""
    return 4 * len(TILTS) * ordered + len(CONTAMINATIONS) * bins


def smoothed(reference: Ints) -> Floats:
    """Shares with half a value added to every bin, shape (k,), so that none is zero."""
    return np.asarray((reference + 0.5) / (reference.sum() + 0.5 * len(reference)), np.float64)


def log_ratios(reference: Ints, ordered: bool, design_effect: float = 1.0) -> Floats:
    """ln of the likelihood ratio of one value in each bin.

    Args:
        reference: counts by bin, shape (k,).
        ordered: bins of a number, which may also shift, widen and narrow as a whole; otherwise
            categories.
        design_effect: values of the reference that weigh as one.

    Returns:
        Shape (alternatives, k).
    """
    share = smoothed(reference)
    parts = CONTAMINATIONS[:, None, None] * (np.eye(len(share)) / share - 1)
    found = [np.log1p(parts.reshape(-1, len(share)))]
    if ordered:
        found.append(_tilted(share))
    ratios = np.concatenate(found)
    # The variance of a ratio whose mean is 1, over the values that the reference is worth.
    variance = np.exp(2 * ratios) @ share - 1
    worth = max(float(reference.sum()) / design_effect, 1.0)
    error = np.sqrt(np.maximum(variance, 0.0) / worth)
    return np.asarray(ratios - np.log1p(STANDARD_ERRORS * error)[:, None], np.float64)


def _tilted(share: Floats) -> Floats:
    """Exponential tilts by the normal scores of the bins' middles, and by their squares."""
    score = special.ndtri(np.cumsum(share) - share / 2)
    shapes = np.stack([score, -score, score**2, -(score**2)])
    middle = (shapes @ share)[:, None]
    spread = np.sqrt(((shapes - middle) ** 2) @ share)[:, None]
    exponents = TILTS[:, None, None] * (shapes - middle) / np.maximum(spread, 1e-9)
    ratios = exponents.reshape(-1, len(share))
    return np.asarray(ratios - np.log(np.exp(ratios) @ share)[:, None], np.float64)
