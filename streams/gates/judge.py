"""The gates of one shard: what closed is counted, and verdicts that say something new become rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np
import orjson

from ...schemas.gates import LiveGate
from ...schemas.gates.absolute import AbsoluteGate
from ...schemas.gates.budget import BudgetGate
from ..core.gates.absolute import CoverageState
from ..core.gates.verdict import Verdict
from ..core.gating import MARKERS_SQL, Marker, marker_of
from ..core.pipeline import Closing
from ..core.shard import Shard
from ..core.slices import COVERAGE, FLEET
from ..core.tiles import SECOND_US
from ..core.windows import MINUTE
from ..storage.publish import version_of
from ..storage.store import Store
from .budget import BudgetKeeper
from .cells import CellKeeper
from .inputs import Insert
from .live import LiveKeeper

STORE_VERDICT_S = 10  # an unchanged verdict is stored this often, in event time


class Keeper(Protocol):
    """One gate and what it remembers."""

    @property
    def spec(self) -> LiveGate:
        """The gate."""
        ...

    @property
    def verdict(self) -> Verdict | None:
        """The newest, None before the first."""
        ...

    def enter_epoch(self, markers: Sequence[Marker]) -> None:
        """Begin the epoch that new markers call for."""
        ...

    def judge(self, closing: Closing) -> Verdict | None:
        """Count what closed, and answer; None where nothing that it counts did."""
        ...

    def state_to_store(self) -> str:
        """What it goes on from, empty where an earlier one will do."""
        ...


def stored_markers(store: Store) -> list[Marker]:
    """Every release marker.

    Raises:
        StoreError: the store is away.
    """
    return [marker_of(row) for row in store.query(MARKERS_SQL)]


class Judge:
    """Gates of a shard, going on from what is stored of them.

    Args:
        store: has it.
        gates: those that this shard evaluates.
        shard: rebuilt.
        markers: release markers, which begin epochs.
        insert: stores rows of a table.

    Raises:
        StoreError: the store is away.
    """

    def __init__(
        self,
        store: Store,
        gates: Sequence[LiveGate],
        shard: Shard,
        markers: Sequence[Marker],
        insert: Insert,
    ) -> None:
        self._store = store
        self._shard = shard
        self._insert = insert
        self._told: dict[str, tuple[str, int]] = {}
        self._keepers = [self._keeper(gate, markers) for gate in gates]

    def enter_epochs(self, markers: Sequence[Marker]) -> None:
        """Begin the epochs that new markers call for."""
        for keeper in self._keepers:
            keeper.enter_epoch(markers)

    def judge(self, closing: Closing, final: bool = False) -> list[dict[str, Any]]:
        """Let every gate count what closed; rows of verdicts that say something new.

        Args:
            closing: what closed.
            final: the process ends. Gates that read raw rows are left to whoever comes next, who reads
                the same: an end must not wait for their queries.

        Raises:
            StoreError: the store is away.
        """
        closed_s = self._shard.watermark_us // SECOND_US
        rows: list[dict[str, Any]] = []
        for keeper in self._keepers:
            if final and not isinstance(keeper, CellKeeper):
                continue
            before = None if keeper.verdict is None else keeper.verdict.verdict
            verdict = keeper.judge(closing)
            told, at_s = self._told.get(keeper.spec.id, ("", 0))
            if verdict is None or (
                verdict.verdict in (before, told) and closed_s - at_s < STORE_VERDICT_S
            ):
                continue
            self._told[keeper.spec.id] = (verdict.verdict, closed_s)
            rows.append(self._row(keeper, verdict))
        return rows

    def _keeper(self, spec: LiveGate, markers: Sequence[Marker]) -> Keeper:
        if isinstance(spec, AbsoluteGate):
            return CellKeeper(self._store, spec, self._shard, markers, self._coverage, self._insert)
        if isinstance(spec, BudgetGate):
            return BudgetKeeper(self._store, spec, self._shard, self._insert)
        return LiveKeeper(
            self._store,
            spec,
            self._shard,
            markers,
            lambda end_us: self._coverage(end_us // SECOND_US)[0],
            self._insert,
        )

    def _row(self, keeper: Keeper, verdict: Verdict) -> dict[str, Any]:
        return {
            "gate_id": keeper.spec.id,
            "epoch": verdict.epoch,
            "as_of": verdict.watermark_us,
            "version": version_of(*self._shard.version),
            "kind": keeper.spec.kind,
            "verdict": verdict.verdict,
            "action": verdict.action,
            "reasons": list(verdict.reasons),
            "n": verdict.n,
            "n_needed": verdict.n_needed,
            "evidence": orjson.dumps(verdict.to_dict()).decode(),
            "state": keeper.state_to_store(),
            "spec_hash": verdict.spec_hash,
            "engine": verdict.engine,
            "digest": verdict.digest,
        }

    def _coverage(self, end_s: int) -> tuple[float | None, CoverageState]:
        """Coverage of the minute that ends with a closed pane."""
        if end_s < MINUTE:
            return None, "no_data"
        columns = self._shard.pipeline.window(MINUTE, end_s, np.array([FLEET, COVERAGE])).columns
        share = float(columns["coverage"][0])  # type: ignore[arg-type]
        state = cast(CoverageState, columns["coverage_state"][0])
        return (None if share != share else share), state
