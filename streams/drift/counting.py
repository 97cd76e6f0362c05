"""What one drift monitor has counted: open stretches step by step, finished ones for its looks.

A stretch is what was applied of it by the time that the watermark passed its end. Rows are counted in
between, each once, because counting an hour of them at once would hold evaluation up for seconds. A
step takes rows by their place in the sources, not by their time, so late ones count as long as their
stretch is open.

Open stretches are stored once a minute, and whenever one was finished, before the checkpoint that tells
of it: so a restart goes on from there, and what was told is never counted again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from ...schemas.drift.monitors import DriftMonitor
from ..core.delta import Cuts
from ..core.drift.open_counts import OpenCounts
from ..core.drift.series_counts import LABELS, SeriesCounts, total
from ..core.drift.stored import Counting, Piece
from ..core.gates.canonical import canonical_json
from ..core.shard import above
from ..storage.store import Store
from .counts import count_rows, count_rows_table, first_cuts, next_cuts, stored_counts
from .states import state_rows, stored_state

STEP_ROWS = 150_000  # counted at once while nothing is due: about 0.1 s
FEW_ROWS = 20_000  # not worth a step of their own, which costs 0.03 s whatever it counts
KEEP_S = 60  # event time after which open stretches are counted all the same, and stored
_NEWEST = 0  # their only place in the table of states


class Counted:
    """The counts of one monitor. Not for several threads at once.

    Args:
        store: has raw rows and counts.
        spec: the monitor.
        arms: what is counted, of its own traffic first.
        label_s: how far back labels are judged, whole stretches.
        insert: puts rows into a table.
    """

    def __init__(
        self,
        store: Store,
        spec: DriftMonitor,
        arms: Sequence[Counting],
        label_s: int,
        insert: Callable[[str, pa.Table], None],
    ) -> None:
        self._store = store
        self._spec = spec
        self._arms = arms
        self._label_s = label_s
        self._insert = insert
        self._pieces: list[dict[int, Piece]] = [{} for _ in arms]
        self._open: list[OpenCounts] = []
        self._kept_s = 0

    def step(self, after_s: int, end_s: int, upto: Cuts, version: int) -> bool:
        """Count some of the rows that were applied; finish stretches that ended.

        Args:
            after_s: everything up to it was evaluated.
            end_s: rows before it are complete; no look ends within (after_s, end_s].
            upto: rows above these cuts are not there yet.
            version: of the shard.

        Returns:
            Whether all of them are counted, but for a few.

        Raises:
            StoreError: not everything was stored.
        """
        self._begin(after_s, upto)
        is_over = any(end_s >= counts.since_s + self._spec.piece_s for counts in self._open)
        is_long = end_s >= self._kept_s + KEEP_S
        is_behind = False
        for counts in self._open:
            cuts, rows = next_cuts(self._store, counts.cuts, upto, STEP_ROWS)
            is_behind |= above(cuts, upto)
            if is_over or is_long or rows >= FEW_ROWS:
                self._take(counts, cuts)
        if is_over and not is_behind:
            self.finish(after_s, end_s, upto, version)
        if is_long or (is_over and not is_behind):
            self.keep(end_s, version)
        return not is_behind

    def finish(self, after_s: int, end_s: int, upto: Cuts, version: int) -> None:
        """Count all rows that were applied, finish every stretch that ended and store it.

        Call `keep` when what follows from it is stored, too.

        Args:
            after_s, end_s, upto, version: as `step`.

        Raises:
            StoreError: not everything was stored.
        """
        self._begin(after_s, upto)
        for counts, pieces in zip(self._open, self._pieces, strict=True):
            self._take(counts, upto)
            made = counts.finish(end_s)
            self._insert("drift_counts_rows", count_rows_table(counts.counting, made, version))
            pieces |= made
            # The next look ends after `after_s`.
            keep_s = after_s + 1 - max(self._spec.window_s, self._label_s)
            for at in [at for at in pieces if at < keep_s]:
                del pieces[at]

    def keep(self, end_s: int, version: int) -> None:
        """Store the open stretches, after what was finished of them.

        Raises:
            StoreError: they were not stored.
        """
        state = canonical_json([counts.to_dict() for counts in self._open])
        self._insert("drift_states_rows", state_rows(self._name, _NEWEST, state, version))
        self._kept_s = end_s

    def window(self, arm: int, start_s: int, end_s: int) -> Piece:
        """The sum over finished stretches of an arm within [start_s, end_s)."""
        parts = [*self._parts(arm, start_s, end_s)]
        return {
            name: total(part[name] for part in parts if name in part) for name in self._spec.series
        }

    def labels(self, arm: int, end_s: int) -> SeriesCounts:
        """The labels of an arm that are judged at `end_s`."""
        parts = self._parts(arm, end_s - self._label_s, end_s)
        return total(part[LABELS] for part in parts if LABELS in part)

    def _parts(self, arm: int, start_s: int, end_s: int) -> Iterator[Piece]:
        pieces = self._pieces[arm]
        return (pieces[at] for at in range(start_s, end_s, self._spec.piece_s) if at in pieces)

    @property
    def _name(self) -> str:
        return f"{self._spec.id}/counts"

    def _take(self, counts: OpenCounts, upto: Cuts) -> None:
        if above(counts.cuts, upto):
            found = count_rows(self._store, counts.counting, counts.since_s, counts.cuts, upto)
            counts.add(found, upto)

    def _begin(self, after_s: int, upto: Cuts) -> None:
        """Build memory from what is stored."""
        if self._open:
            return
        spec = self._spec
        end_s = after_s // spec.every_s * spec.every_s + spec.every_s
        saved = json.loads(stored_state(self._store, self._name, _NEWEST) or "[]")
        known = [
            OpenCounts.from_dict(arm, item) for arm, item in zip(self._arms, saved, strict=False)
        ]
        known += [None] * (len(self._arms) - len(known))
        made: list[OpenCounts] = []
        for arm, counts, pieces in zip(self._arms, known, self._pieces, strict=True):
            if counts is not None and counts.since_s < end_s - spec.window_s:
                counts = None  # it did not run for long
            before_s = end_s - spec.every_s if counts is None else counts.since_s
            pieces |= self._stored(arm, end_s, before_s)
            # Of a monitor that begins, the whole of its first window.
            wanted = range(end_s - spec.window_s, before_s, spec.piece_s)
            lacking = [at for at in wanted if not {*spec.series} & {*pieces.get(at, ())}]
            if counts is None or lacking:
                since_s = lacking[0] if lacking else before_s
                counts = OpenCounts(arm, since_s, first_cuts(self._store, since_s, upto))
            made.append(counts)
        self._open = made

    def _stored(self, arm: Counting, end_s: int, before_s: int) -> dict[int, Piece]:
        """Counts of finished stretches that the next looks need; labels reach back further."""
        names = (*arm.features, *arm.categories)
        found = stored_counts(self._store, arm, [(end_s - self._spec.window_s, before_s)], names)
        labels = stored_counts(self._store, arm, [(end_s - self._label_s, before_s)], [LABELS])
        for at, piece in labels.items():
            found.setdefault(at, {}).update(piece)
        return found
