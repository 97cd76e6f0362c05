"""Comparing two arms through a level that nobody knows.

"The treatment's quantile (or mean) is at most the control's, by the margin" says that there is a level
at which the treatment is not above it and the control, by the margin, not below it. For each level the
product of one e-process per arm tests that pair, so their minimum over all levels is an e-process for
the whole null, whatever the level is.

Levels are a finite ascending axis. A level between two of its points is covered by taking each arm at
the point that favours the null: its two hypotheses hold there as well. So the minimum over brackets is
valid for every level, and a coarse axis costs power only.

At a level each arm's E alone is an e-process of the pair too, and so is any mean of e-processes: with
shares of its own (`with_each_alone`), an arm that shows all there is to show is not dragged down by one
that says nothing there.
"""

from __future__ import annotations

import math

import numpy as np

from .eprocess import FloatArray
from .two_arm import Direction


def smallest_bracket(
    treatment: FloatArray, control: FloatArray, direction: Direction
) -> FloatArray:
    """Log e-value over all levels.

    Args:
        treatment: log e-values of the treatment's hypothesis at each level, shape (..., K). For FAIL
            "not above the level", for PASS "not below it".
        control: of the control's opposite hypothesis at the level less the margin, same shape.
        direction: which.

    Returns:
        Shape (...).
    """
    if direction == "FAIL":
        pairs = treatment[..., 1:] + control[..., :-1]
    else:
        pairs = treatment[..., :-1] + control[..., 1:]
    return np.asarray(pairs.min(axis=-1), np.float64)


def with_each_alone(one: FloatArray, other: FloatArray, alone: float) -> FloatArray:
    """Log of a mean of two e-values and their product.

    Args:
        one, other: log e-values of the two arms at a level, same shape.
        alone: share of each for itself, in (0, 1/2).
    """
    either = np.logaddexp(one, other) + math.log(alone)
    both = one + other + math.log(1.0 - 2.0 * alone)
    return np.asarray(np.logaddexp(either, both), np.float64)
