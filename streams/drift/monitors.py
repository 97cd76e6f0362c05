"""Drift monitors of one shard: looks at what the watermark passed, and their rows in the store.

Rows are counted every few seconds as they are applied (counting.py), so that a look finds little to do.

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
from ..core.drift.series_counts import LABELS, labels_of_counts
from ..core.drift.stored import counting_of, reference_rows
from ..core.drift.unlabelled import importance_correlation
from ..core.drift.watcher import MonitorLook, MonitorWatcher
from ..core.gates.canonical import canonical_json
from ..core.tiles import SECOND_US
from ..storage.publish import version_of
from ..storage.readback import applied_sql
from ..storage.store import Store
from .counting import Counted
from .references import Chosen, ReferenceKeeper
from .rows import score_rows
from .states import prune_states, state_rows, stored_state

Insert = Callable[[str, pa.Table], None]
STEP_S = 5  # event time between two steps of counting of one monitor; cells close once a second


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

        Monitors without one count what was applied, a few of them at a time.

        Args:
            after_s, end_s: seconds of event time; rows before `end_s` are complete.
            upto: rows above these cuts are not there yet.
            version: of the shard.
            now_us: the clock, integer microseconds.

        Raises:
            StoreError: not everything was stored.
        """
        readings: list[SignalReading] = []
        idle: list[_Monitor] = []
        number = version_of(*version)
        for monitor in self._monitors:
            every_s = monitor.spec.every_s
            ends = range(after_s // every_s * every_s + every_s, end_s + 1, every_s)
            if ends:
                readings += monitor.look(ends, upto, number, now_us)
                name = monitor.spec.id
                prune_states(self._store, name, self.saved.get(name, 0), ends[-1])
                self.saved[name] = ends[-1]
            else:
                idle.append(monitor)
        waiting = sorted((m.counted_s, at) for at, m in enumerate(idle))
        for _, at in waiting[: -(-len(self._monitors) // STEP_S)]:
            idle[at].count(after_s, end_s, upto, number)
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
        arms = [counting_of(spec)]
        if isinstance(spec.reference, ControlReference):
            arms.append(counting_of(spec, spec.reference.variant))
        label_s = -(-limits.concept.window_s // spec.piece_s) * spec.piece_s  # whole stretches
        self._counted = Counted(store, spec, arms, label_s, insert)
        self.counted_s = 0
        state = {} if saved_s is None else json.loads(stored_state(store, spec.id, saved_s) or "{}")
        watcher = state.get("watcher")
        self._watcher = MonitorWatcher(spec, limits, watcher and canonical_json(watcher))
        chosen = state.get("chosen")
        self._references = ReferenceKeeper(store, spec, arms[0], chosen and Chosen(**chosen))

    def count(self, after_s: int, end_s: int, upto: Cuts, version: int) -> None:
        """Count some of what was applied, if a step is due; nothing ends within (after_s, end_s]."""
        if end_s < self.counted_s + STEP_S:
            return
        if self._counted.step(after_s, end_s, upto, version):
            self.counted_s = end_s

    def look(
        self, ends: Sequence[int], upto: Cuts, version: int, now_us: int
    ) -> Iterator[SignalReading]:
        """See `DriftLooks.look`."""
        spec, counted = self.spec, self._counted
        counted.finish(ends[0] - 1, ends[-1], upto, version)
        looks: list[MonitorLook] = []
        for end_s in ends:
            found = self._reference(end_s, now_us) or ReferenceSet()
            evidence = Evidence(
                found.labels,
                labels_of_counts(counted.labels(0, end_s)),
                self._importance(end_s, upto),
            )
            looks.append(
                self._watcher.look(
                    end_s,
                    found.of(spec.features, spec.categories),
                    counted.window(0, end_s - spec.window_s, end_s),
                    counted.window(0, end_s - spec.every_s, end_s),
                    evidence,
                )
            )
        self._insert("drift_scores_rows", score_rows(spec, looks, version))
        rows = state_rows(spec.id, ends[-1], self._remembered(), version)
        self._insert("drift_states_rows", rows)
        counted.keep(ends[-1], version)
        self.counted_s = ends[-1]
        return (reading for look in looks for reading in look.readings)

    def _remembered(self) -> str:
        chosen = self._references.chosen
        return canonical_json(
            {
                "watcher": json.loads(self._watcher.to_json()),
                "chosen": None if chosen is None else asdict(chosen),
            }
        )

    def _reference(self, end_s: int, now_us: int) -> ReferenceSet | None:
        spec = self.spec
        if isinstance(spec.reference, ControlReference):
            counted = self._counted
            arm = counted.window(1, end_s - spec.window_s, end_s)
            arm |= {LABELS: counted.labels(1, end_s)}
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
