"""Memory rebuilt from the store: at start, and after a flush that failed.

The ledger is the commit record: rows above its cut were never acknowledged and are removed. Closed
tiles were published up to the checkpoint; panes that hold rows above the checkpoint's cut, and open
ones, are counted again from the raw rows. Nothing is added to what is stored, so doing it twice, or
crashing in the middle, changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..schemas.config import Configuration
from ..schemas.events import EventName
from .core import metrics as m
from .core.boots import ANONYMOUS, BootTracker, LedgerEntry
from .core.ingest import DAY_US, TABLES, counted
from .core.pipeline import Pipeline
from .core.slices import DIMENSIONS, SliceRegistry, stored_slice
from .core.tally import measure_feedback
from .core.tiles import CELL_S, PANE_S, SECOND_US, Span
from .core.windows import MINUTE
from .publish import OFFSET_MASK
from .readback import (
    joined_feedback_between,
    late_rows_after,
    ledger_after,
    ledger_between,
    panes_touched_after,
    rows_between,
    stored_boots,
    tile_loader,
)
from .store import Store

PANES_KEPT_S = 47 * 3600  # an hour less than panes of 10 s are kept
Configured = Sequence[m.Threshold | m.CostScore]


@dataclass(slots=True)
class Recovered:
    """The pipeline, the offset that the next frame gets, and the checkpoint's cut (-1 for none)."""

    pipeline: Pipeline
    next_offset: int
    cut: int


def recover(
    store: Store, configuration: Configuration, configured: Configured, now_us: int
) -> Recovered:
    """Rebuild the state of the embedded processor (incarnation 1, partition 0).

    Raises:
        StoreError: the store is away; nothing was changed that repeating would not repair.
    """
    found = store.query(
        "SELECT cut, toUnixTimestamp(closed_ts) AS closed_s, stale_s, version"
        " FROM penstock.checkpoints_rows FINAL WHERE partition = 0"
    )
    closed_s, cut = (int(found[0]["closed_s"]), int(found[0]["cut"])) if found else (0, -1)
    next_offset = _remove_unacknowledged(store)
    if found:  # derived rows are versioned by offset: never give out one below theirs
        next_offset = max(next_offset, (int(found[0]["version"]) & OFFSET_MASK) + 1)
    _remove_unfinished(store, closed_s)
    registry = SliceRegistry(configuration.limits.max_slices, configuration.limits.max_tenants)
    _number_known(store, registry)
    time = configuration.time
    tracker = BootTracker(int(time.lateness_s * SECOND_US), int(time.boot_timeout_s * SECOND_US))
    changed = _restore_boots(
        store, tracker, cut, now_us - configuration.retention.warm_days * DAY_US
    )
    pipeline = Pipeline(tracker, registry, tile_loader(store, registry))
    open_from_s = closed_s // PANE_S * PANE_S
    if found:
        stale = [int(at) for at in found[0]["stale_s"]]
        pipeline.resume(closed_s, _oldest_s(store), (stale[0], stale[1]) if stale else None)
        tracker.watermark_us = closed_s * SECOND_US
        changed |= panes_touched_after(store, cut, open_from_s)
        # Whole minutes, because panes of 10 s are not kept for as long as rows may come late; the
        # last one too, where the process was away so long that its panes may be gone.
        minutes = {start // MINUTE * MINUTE for start in changed if start < open_from_s}
        if now_us // SECOND_US - open_from_s > PANES_KEPT_S and open_from_s % MINUTE:
            minutes.add(open_from_s // MINUTE * MINUTE)
        for start_s in sorted(minutes):
            end_s = min(start_s + MINUTE, open_from_s)
            scratch = Pipeline(tracker, registry, tile_loader(store, registry))
            scratch.combos = pipeline.combos
            _count(store, scratch, configured, start_s, end_s)
            for pane in (Span(PANE_S, at) for at in range(start_s, end_s, PANE_S)):
                tile = scratch.drain(pane)
                if len(tile) or pane.start_s in changed:
                    pipeline.replace(pane, tile)
        _count_late(store, pipeline, configured, cut)
    _count(store, pipeline, configured, open_from_s, None)
    return Recovered(pipeline, next_offset, cut)


def _oldest_s(store: Store) -> int | None:
    """Start of the earliest stored pane."""
    found = store.query(
        "SELECT count() AS n, toUnixTimestamp(min(pane_start)) AS oldest_s"
        " FROM penstock.panes_rows WHERE pane_s >= 10"
    )
    return int(found[0]["oldest_s"]) if int(found[0]["n"]) else None


def _remove_unacknowledged(store: Store) -> int:
    found = store.query("SELECT count() AS n, max(offset) AS cut FROM penstock.frames_rows")
    next_offset = int(found[0]["cut"]) + 1 if int(found[0]["n"]) else 0
    for name in (*TABLES.values(), "quarantine"):
        above = store.query(
            f"SELECT count() AS n FROM penstock.{name}_rows WHERE offset >= {{next:UInt64}}",
            {"next": next_offset},
        )
        if int(above[0]["n"]):
            store.command(f"DELETE FROM penstock.{name}_rows WHERE offset >= {next_offset}")
    return next_offset


def _remove_unfinished(store: Store, closed_s: int) -> None:
    """Remove what was published after the checkpoint: it closes again, perhaps with other rows."""
    for name, start, end in (
        ("panes", "pane_start", "toUnixTimestamp(pane_start) + pane_s"),
        ("windows", "end", "toUnixTimestamp(end)"),
    ):
        above = store.query(
            f"SELECT count() AS n FROM penstock.{name}_rows"
            f" WHERE {start} >= toDateTime({{since:UInt32}}) AND {end} > {{closed:UInt32}}",
            {"since": max(closed_s - 86_400, 0), "closed": closed_s},
        )
        if int(above[0]["n"]):
            store.command(f"DELETE FROM penstock.{name}_rows WHERE {end} > {closed_s}")


def _number_known(store: Store, registry: SliceRegistry) -> None:
    """Number the slices that have panes already, so that caps admit the same ones again."""
    rows = store.query(
        f"SELECT grouping, {', '.join(DIMENSIONS)}, min(pane_start) AS first"
        " FROM penstock.panes_rows WHERE pane_s >= 10 GROUP BY ALL ORDER BY first"
    )
    for row in rows:
        registry.number(stored_slice(row["grouping"], row))


def _restore_boots(store: Store, tracker: BootTracker, cut: int, since_us: int) -> set[int]:
    """Rebuild the boots; returns the panes in which the ledger's newest frames changed the losses.

    Each publication writes the boots that changed, so that up to the checkpoint's cut all are stored.
    """
    versions = {}
    for boot, version in stored_boots(store, since_us):
        tracker.adopt(boot)
        versions[boot.boot_id] = version & OFFSET_MASK
    changed: set[int] = set()
    for entry in ledger_after(store, cut):
        boot_id = entry.boot_id if entry.identified else ANONYMOUS
        if entry.offset > versions.get(boot_id, -1):
            changed |= {pane for (pane, _), value in tracker.apply(entry).items() if value}
    return changed


def _count(
    store: Store, pipeline: Pipeline, configured: Configured, start_s: int, end_s: int | None
) -> None:
    """Count stored rows, feedback and coverage of a stretch of event time into open tiles."""
    kinds: tuple[EventName, ...] = ("request", "step")
    for kind in kinds:
        table = rows_between(store, kind, start_s, end_s)
        if table.num_rows:
            placed = counted(pipeline, kind, table, configured)
            pipeline.count(
                {span: placed[span] for span in placed if not _is_closed(pipeline, span)}
            )
    feedback = joined_feedback_between(store, start_s, end_s)
    if feedback.num_rows:
        measured = measure_feedback(feedback)
        pipeline.count(counted(pipeline, "request", feedback, configured, measured))
    change = coverage_of(ledger_between(store, start_s, end_s))
    for losses in pipeline.tracker.losses():
        change.update(
            {
                (pane, metric): value
                for (pane, metric), value in losses.items()
                if pane >= start_s and (end_s is None or pane < end_s)
            }
        )
    pipeline.cover(change)


def _is_closed(pipeline: Pipeline, span: Span) -> bool:
    """Whether a span is a cell that was published; its late rows are counted by `_count_late`."""
    closed_s = pipeline.closed_s
    return span.length_s == CELL_S and closed_s is not None and span.end_s <= closed_s


def _count_late(store: Store, pipeline: Pipeline, configured: Configured, cut: int) -> None:
    """Late rows above the checkpoint's cut count in the cell that closes next, as they would have."""
    kinds: tuple[EventName, ...] = ("request", "step")
    for kind in kinds:
        table = late_rows_after(store, kind, cut)
        if table.num_rows:
            placed = counted(pipeline, kind, table, configured)
            pipeline.count({span: placed[span] for span in placed if _is_closed(pipeline, span)})


def coverage_of(entries: Sequence[LedgerEntry]) -> Counter[tuple[int, int]]:
    """What frames add to the fleet's counters, losses apart."""
    change: Counter[tuple[int, int]] = Counter()
    for entry in entries:
        change.update(entry.coverage())
    return change
