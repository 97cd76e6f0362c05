"""The windows that end at one moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ....schemas.alerts.metrics import WINDOWS_S
from ....schemas.alerts.rules import Change
from ..pipeline import WindowRows
from ..tiles import PANE_S
from .counted import CellWindow
from .ring import CellRing
from .signals import PaneWindow, Window
from .watch import Watch


@dataclass(frozen=True, slots=True)
class Panes:
    """What is known of closed panes.

    Attributes:
        window: the rows of the window of a length that ends at a time, both in seconds and whole
            panes: `Pipeline.window`. Rules ask for the same one many times; remember a few.
        oldest_s: start of the earliest pane there is; None where there is none.
    """

    window: Callable[[int, int], WindowRows]
    oldest_s: int | None = None


class Moment:
    """Windows that end at one moment, each made once."""

    def __init__(self, ring: CellRing, panes: Panes, at_s: int) -> None:
        self._ring = ring
        self._panes = panes
        self._at_s = at_s
        self._cells: dict[int, CellWindow] = {}

    def window(self, watch: Watch) -> Window:
        """The window of a rule."""
        length_s = watch.length_s
        if not watch.uses_cells:
            return PaneWindow(self._panes.window(length_s, self._at_s))
        found = self._cells.get(length_s)
        if found is None:
            found = CellWindow(self._ring.total(length_s, self._at_s), length_s)
            self._cells[length_s] = found
        return found

    def baseline(self, watch: Watch) -> PaneWindow | None:
        """The baseline of a change; None where it reaches back before the earliest pane."""
        condition = watch.rule.condition
        if not isinstance(condition, Change):
            return None
        end_s = (self._at_s - condition.offset_s) // PANE_S * PANE_S
        length_s = WINDOWS_S[condition.baseline]
        oldest_s = self._panes.oldest_s
        if oldest_s is None or end_s - length_s < oldest_s:
            return None
        return PaneWindow(self._panes.window(length_s, end_s))
