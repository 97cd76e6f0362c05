"""Stored rows counted again into open tiles, as far as they were applied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ...schemas.events import EventName
from ..core import metrics as m
from ..core.boots import LedgerEntry
from ..core.counting import counted
from ..core.delta import Cuts
from ..core.pipeline import Pipeline
from ..core.tally import measure_feedback
from ..core.tiles import CELL_S, Span
from .readback import joined_feedback_between, ledger_between, rows_above, rows_between
from .store import Store

KINDS: tuple[EventName, ...] = ("request", "step")
Configured = Sequence[m.Threshold | m.CostScore]


class RowCounter:
    """Counts stored rows, feedback and coverage again, as far as they were applied."""

    def __init__(self, store: Store, configured: Configured, applied: Cuts) -> None:
        self._store = store
        self._configured = configured
        self._applied = applied

    def count(self, pipeline: Pipeline, start_s: int, end_s: int | None) -> None:
        """Count a stretch of event time into open tiles."""
        for kind in KINDS:
            table = rows_between(self._store, kind, start_s, end_s, self._applied)
            if table.num_rows:
                placed = counted(pipeline.combos, kind, table, self._configured)
                pipeline.count(
                    {span: placed[span] for span in placed if not _is_closed(pipeline, span)}
                )
        feedback = joined_feedback_between(self._store, start_s, end_s, self._applied)
        if feedback.num_rows:
            measured = measure_feedback(feedback)
            pipeline.count(
                counted(pipeline.combos, "request", feedback, self._configured, measured)
            )
        change = coverage_of(ledger_between(self._store, start_s, end_s, self._applied))
        for losses in pipeline.fleet.losses().values():
            change.update(
                {
                    (pane, metric): value
                    for (pane, metric), value in losses.items()
                    if pane >= start_s and (end_s is None or pane < end_s)
                }
            )
        pipeline.cover(change)

    def count_late(self, pipeline: Pipeline, after: Cuts) -> None:
        """Rows above the checkpoint's cuts whose cell is closed count in the cell that closes next."""
        for kind in KINDS:
            table = rows_above(self._store, kind, after, self._applied)
            if table.num_rows:
                placed = counted(pipeline.combos, kind, table, self._configured)
                pipeline.count(
                    {span: placed[span] for span in placed if _is_closed(pipeline, span)}
                )


def _is_closed(pipeline: Pipeline, span: Span) -> bool:
    """Whether a span is a cell that was published."""
    closed_s = pipeline.closed_s
    return span.length_s == CELL_S and closed_s is not None and span.end_s <= closed_s


def coverage_of(entries: Sequence[LedgerEntry]) -> Counter[tuple[int, int]]:
    """What frames add to the fleet's counters, losses apart."""
    change: Counter[tuple[int, int]] = Counter()
    for entry in entries:
        change.update(entry.coverage())
    return change
