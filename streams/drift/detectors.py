"""Streaming detectors of one shard: their windows, and their states in the store."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pyarrow as pa

from ...schemas.drift.detectors import SeriesDetector
from ..core.alerts.signals import SignalReading
from ..core.detectors.keeper import DetectorKeeper
from ..core.gates.canonical import canonical_json
from ..core.shard import Shard
from ..core.slices import Slice
from ..storage.publish import version_of
from ..storage.store import Store
from .states import prune_states, state_rows, stored_state


class DetectorLooks:
    """The detectors of one shard; as drift.py argues, the same alarms whatever crashes.

    Args:
        store: has their states.
        specs: all of the configuration.
        shard: rebuilt.
        owns: which slices are evaluated here.
        insert: puts rows into a table.
        saved_s: the last moment that was evaluated, as the checkpoint says; None to begin.

    Raises:
        StoreError: the store is away.
    """

    def __init__(
        self,
        store: Store,
        specs: Sequence[SeriesDetector],
        shard: Shard,
        owns: Callable[[Slice], bool],
        insert: Callable[[str, pa.Table], None],
        saved_s: int | None,
    ) -> None:
        self._store = store
        self._shard = shard
        self._insert = insert
        self._name = f"detectors/{shard.number}"
        self.saved_s = saved_s
        text = "" if saved_s is None else stored_state(store, self._name, saved_s)
        registry = shard.pipeline.combos.registry
        self._keeper = DetectorKeeper(specs, registry, owns, json.loads(text) if text else None)

    def look(self, after_s: int, end_s: int) -> list[SignalReading]:
        """Take in every window that ends within (after_s, end_s], and store the states after it.

        Raises:
            StoreError: they were not stored.
        """
        moments = self._keeper.moments(after_s, end_s)
        if not moments:
            return []
        pipeline = self._shard.pipeline
        found = [item for at in moments for item in self._keeper.evaluate(at, pipeline.window)]
        last_s, version = moments[-1], version_of(*self._shard.version)
        state = canonical_json(self._keeper.state)
        self._insert("drift_states_rows", state_rows(self._name, last_s, state, version))
        prune_states(self._store, self._name, self.saved_s or 0, last_s)
        self.saved_s = last_s
        return found
