"""The utilisation law: how full a fleet is at a load, and the load at which it is full.

A straight line, utilisation = base + per_load * load, by the incomplete Theil method (the median slope of
pairs half the range apart): robust, and cheap enough for many resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..windows import Floats


@dataclass(frozen=True, slots=True)
class Law:
    """Fits of B series: utilisation at no load and per unit of load, shape (B,) each."""

    base: Floats
    per_load: Floats

    def at(self, load: Floats) -> Floats:
        """Utilisation at loads of shape (k,), shape (B, k)."""
        return self.base[:, None] + self.per_load[:, None] * load

    def load_at(self, utilisation: float) -> Floats:
        """Load at which a utilisation is reached, shape (B,); infinite where load does not raise it."""
        rising = self.per_load > 0
        slope = np.where(rising, self.per_load, 1.0)
        return np.asarray(
            np.where(rising, np.maximum((utilisation - self.base) / slope, 0), np.inf)
        )


def fit_law(load: Floats, utilisation: Floats) -> Law:
    """Fit lines.

    Args:
        load: of the steps, shape (n,), n >= 2.
        utilisation: of the same steps, shape (B, n).
    """
    order = np.argsort(load, kind="stable")
    x, y = load[order], utilisation[:, order]
    half = len(x) // 2
    run, rise = x[-half:] - x[:half], y[:, -half:] - y[:, :half]
    slope = np.median(np.where(run > 0, rise / np.where(run > 0, run, 1.0), 0.0), axis=1)
    return Law(np.median(y - slope[:, None] * x, axis=1), slope)
