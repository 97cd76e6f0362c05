"""The ingesting side of a processor: which rows are new, and which slices they count in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .slices import Combos
from .tiles import SECOND_US
from .tracker import BootTracker


class Intake:
    """What frames are admitted by.

    Args:
        tracker: boots of the partitions held.
        combos: slices met so far; their caps decide what counts as `(other)`.
    """

    def __init__(self, tracker: BootTracker, combos: Combos) -> None:
        self.tracker = tracker
        self.combos = combos

    def is_late(self, ts_us: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether the watermark has passed the cell of each row, shape (n,)."""
        return np.asarray(ts_us // SECOND_US < self.tracker.watermark_us // SECOND_US)
