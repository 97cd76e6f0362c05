"""Drift monitors of one shard: looks at what the watermark passed, and their rows in the store.

**The same looks whatever crashes.** Counts, scores and states are keyed rows that replace themselves, and
they are stored before the checkpoint, which says after which look each monitor stands. A crash before the
checkpoint leaves rows of looks that nobody was told of: they are looked at again from the state before
them and replaced. A crash after it leaves nothing to do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict

import pyarrow as pa

from ...schemas.drift.monitors import DriftConfiguration, DriftMonitor
from ...schemas.drift.references import ControlReference
from ..core.alerts.signals import SignalReading
from ..core.delta import Cuts
from ..core.drift.concept import Evidence
from ..core.drift.reference_sets import ReferenceSet, reference_set
from ..core.drift.series_counts import LABELS, SeriesCounts, labels_of_counts, total
from ..core.drift.stored import Counting, Piece, counting_of, reference_rows
from ..core.drift.unlabelled import importance_correlation
from ..core.drift.watcher import MonitorLook, MonitorWatcher
from ..core.gates.canonical import canonical_json
from ..core.tiles import SECOND_US
from ..storage.publish import version_of
from ..storage.readback import applied_sql
from ..storage.store import Store
from .counts import count_rows, count_rows_table, stored_counts
from .references import Chosen, ReferenceKeeper
from .rows import score_rows
from .states import prune_states, state_rows, stored_state

Insert = Callable[[str, pa.Table], None]


class DriftLooks:
    """The monitors that one shard evaluates. Not for several threads at once.

    Args:
        store: has raw rows, counts, references and states.
        monitors: those of this shard.
        limits: what all monitors share.
        insert: puts rows into a table.
        saved: the last look of each monitor, as the checkpoint says.

    Raises:
        StoreError: the store is away.
    """

    def __init__(
        self,
        store: Store,
        monitors: Sequence[DriftMonitor],
        limits: DriftConfiguration,
        insert: Insert,
        saved: Mapping[str, int],
    ) -> None:
        self.saved = {spec.id: saved[spec.id] for spec in monitors if spec.id in saved}
        self._store = store
        self._monitors = [
            _Monitor(store, spec, limits, insert, saved.get(spec.id)) for spec in monitors
        ]

    def look(
        self, after_s: int, end_s: int, upto: Cuts, version: tuple[int, int], now_us: int
    ) -> list[SignalReading]:
        """Look at every window that ends within (after_s, end_s], and store what was found.

        Args:
            after_s, end_s: seconds of event time; rows before `end_s` are complete.
            upto: rows above these cuts are not there yet.
            version: of the shard.
            now_us: the clock, integer microseconds.

        Raises:
            StoreError: not everything was stored.
        """
        readings: list[SignalReading] = []
        for monitor in self._monitors:
            every_s = monitor.spec.every_s
            ends = range(after_s // every_s * every_s + every_s, end_s + 1, every_s)
            if ends:
                readings += monitor.look(ends, upto, version_of(*version), now_us)
                name = monitor.spec.id
                prune_states(self._store, name, self.saved.get(name, 0), ends[-1])
                self.saved[name] = ends[-1]
        return readings


class _Monitor:
    """One monitor: what it remembers, and the stretches that its windows are made of."""

    def __init__(
        self,
        store: Store,
        spec: DriftMonitor,
        limits: DriftConfiguration,
        insert: Insert,
        saved_s: int | None,
    ) -> None:
        self.spec = spec
        self._store = store
        self._limits = limits
        self._insert = insert
        self._sides = [counting_of(spec)]
        if isinstance(spec.reference, ControlReference):
            self._sides.append(counting_of(spec, spec.reference.variant))
        self._pieces: list[dict[int, Piece]] = [{} for _ in self._sides]
        self._read = False
        state = {} if saved_s is None else json.loads(stored_state(store, spec.id, saved_s) or "{}")
        watcher = state.get("watcher")
        self._watcher = MonitorWatcher(spec, limits, watcher and canonical_json(watcher))
        chosen = state.get("chosen")
        self._references = ReferenceKeeper(store, spec, self._sides[0], chosen and Chosen(**chosen))

    def look(
        self, ends: Sequence[int], upto: Cuts, version: int, now_us: int
    ) -> Iterator[SignalReading]:
        """See `DriftLooks.look`."""
        self._count(ends, upto, version)
        spec = self.spec
        looks: list[MonitorLook] = []
        for end_s in ends:
            found = self._reference(end_s, now_us) or ReferenceSet()
            evidence = Evidence(
                found.labels,
                labels_of_counts(self._labels(0, end_s)),
                self._importance(end_s, upto),
            )
            looks.append(
                self._watcher.look(
                    end_s,
                    found.of(spec.features, spec.categories),
                    self._window(0, end_s - spec.window_s, end_s),
                    self._window(0, end_s - spec.every_s, end_s),
                    evidence,
                )
            )
        self._insert("drift_scores_rows", score_rows(spec, looks, version))
        rows = state_rows(spec.id, ends[-1], self._remembered(), version)
        self._insert("drift_states_rows", rows)
        return (reading for look in looks for reading in look.readings)

    def _remembered(self) -> str:
        chosen = self._references.chosen
        return canonical_json(
            {
                "watcher": json.loads(self._watcher.to_json()),
                "chosen": None if chosen is None else asdict(chosen),
            }
        )

    def _count(self, ends: Sequence[int], upto: Cuts, version: int) -> None:
        """Count what the looks need and nobody counted, store it, and have it in memory."""
        spec = self.spec
        fresh_s, last_s = ends[0] - spec.every_s, ends[-1]
        keep_s = ends[0] - max(spec.window_s, self._label_s)
        for side, pieces in zip(self._sides, self._pieces, strict=True):
            if not self._read:
                pieces |= self._stored(side, ends[0], fresh_s)
            # Of a monitor that begins, the whole of its first window.
            wanted = range(ends[0] - spec.window_s, fresh_s, spec.piece_s)
            first_s = next(
                (at for at in wanted if not {*spec.series} & {*pieces.get(at, ())}), fresh_s
            )
            made = count_rows(self._store, side, first_s, last_s, upto)
            self._insert("drift_counts_rows", count_rows_table(side, made, version))
            pieces |= made
            for at in [at for at in pieces if at < keep_s]:
                del pieces[at]
        self._read = True

    def _stored(self, side: Counting, end_s: int, before_s: int) -> dict[int, Piece]:
        """Counts of earlier looks that the next ones need; labels reach back further."""
        names = (*side.features, *side.categories)
        found = stored_counts(self._store, side, [(end_s - self.spec.window_s, before_s)], names)
        labels = stored_counts(self._store, side, [(end_s - self._label_s, before_s)], [LABELS])
        for at, piece in labels.items():
            found.setdefault(at, {}).update(piece)
        return found

    @property
    def _label_s(self) -> int:
        """How far back labels are judged: whole stretches."""
        piece_s = self.spec.piece_s
        return -(-self._limits.concept.window_s // piece_s) * piece_s

    def _window(self, side: int, start_s: int, end_s: int) -> Piece:
        pieces = self._pieces[side]
        parts = [pieces[at] for at in range(start_s, end_s, self.spec.piece_s) if at in pieces]
        return {
            name: total(part[name] for part in parts if name in part) for name in self.spec.series
        }

    def _labels(self, side: int, end_s: int) -> SeriesCounts:
        pieces = self._pieces[side]
        wanted = range(end_s - self._label_s, end_s, self.spec.piece_s)
        return total(pieces[at][LABELS] for at in wanted if LABELS in pieces.get(at, {}))

    def _reference(self, end_s: int, now_us: int) -> ReferenceSet | None:
        spec = self.spec
        if isinstance(spec.reference, ControlReference):
            arm = self._window(1, end_s - spec.window_s, end_s) | {LABELS: self._labels(1, end_s)}
            source = spec.reference.model_dump(mode="json")
            # One stretch: hours of the week do not matter to what runs side by side.
            return reference_set(spec.id, source, {0: arm}, spec.features, spec.categories)
        found, is_new = self._references.at(end_s)
        if found is not None and is_new:
            rows = reference_rows("monitor", spec.id, found, now_us)
            self._insert("drift_references_rows", rows)
        return found

    def _importance(self, end_s: int, upto: Cuts) -> float | None:
        """How alike the importances of the last two release markers are that carry some."""
        given = self.spec.filter.given()
        named = [name for name in ("model", "adapter", "variant") if name in given]
        applied, parameters = applied_sql(upto)
        matches = "".join(f" AND t.{name} = {{of_{name}:String}}" for name in named)
        rows = self._store.query(
            "SELECT feature_importance FROM penstock.releases_rows AS t FINAL"
            f" WHERE notEmpty(t.feature_importance){matches} AND {applied}"
            " AND t.ts < fromUnixTimestamp64Micro({end:Int64})"
            " ORDER BY t.ts DESC, t.boot_id DESC, t.seq DESC LIMIT 2",
            {"end": end_s * SECOND_US, **parameters}
            | {f"of_{name}": given[name] for name in named},
        )
        if len(rows) < 2:
            return None
        after, before = (dict(row["feature_importance"]) for row in rows)
        return importance_correlation(before, after)
