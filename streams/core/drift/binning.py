"""The two ways values are binned, and what an error of a bin means for a score.

`LOG` are the bins of sketch.py: values of zero and below share one bin. Features of any sign use
`SIGNED`: the same log bins for the magnitude, mirrored around a bin for zero. In both, bins order
as values do, and a value lies within a relative distance of 1 % of its bin's estimate.

>>> bins = SIGNED.bins_of(np.array([-250.0, 0.0, 250.0]))
>>> [round(float(value), 1) for value in SIGNED.values_of(bins)]
[-252.2, 0.0, 252.2]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .. import sketch
from ..metrics import SKETCHES

_MIDDLE = 32768
_LARGEST = 32767  # magnitudes from 1e-17 to 1e266

Values = npt.NDArray[np.float64]
Bins = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Binning:
    """How values become bins and bins become values.

    Attributes:
        bins_of: bins of finite values, shape (n,).
        values_of: estimates of bins, shape (n,); infinite for the bin of overdue requests.
    """

    bins_of: Callable[[Values], npt.NDArray[np.uint32]]
    values_of: Callable[[Bins], Values]


def _signed_bins(values: Values) -> npt.NDArray[np.uint32]:
    magnitudes = np.clip(sketch.bins_of(np.abs(values)).astype(np.int64), 0, _LARGEST)
    return np.asarray(_MIDDLE + np.sign(values) * magnitudes, dtype=np.uint32)


def _signed_values(bins: Bins) -> Values:
    shifted = bins.astype(np.int64) - _MIDDLE
    return np.asarray(np.sign(shifted) * sketch.values_of(np.abs(shifted)), dtype=np.float64)


LOG = Binning(sketch.bins_of, sketch.values_of)
SIGNED = Binning(_signed_bins, _signed_values)


def binning_of(feature: str) -> Binning:
    """`LOG` for what panes hold sketches of, `SIGNED` for any other feature."""
    return LOG if feature in SKETCHES else SIGNED
