"""The gates of one shard: what closed is counted, and verdicts that say something new become rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import orjson

from ..schemas.config import AbsoluteGate
from .core.gates.absolute import CoverageState
from .core.gating import GateKeeper, Marker, current_epoch, keeper_for
from .core.pipeline import Closing
from .core.shard import Shard
from .core.slices import COVERAGE, FLEET
from .core.tiles import SECOND_US
from .core.windows import MINUTE
from .publish import version_of
from .readback import cells_between
from .store import Store

GATE_DIMENSIONS = ("model", "model_version", "release", "variant")
STORE_VERDICT_S = 10  # an unchanged verdict is stored this often, in event time


def stored_markers(store: Store) -> list[Marker]:
    """Every release marker.

    Raises:
        StoreError: the store is away.
    """
    columns = ", ".join(GATE_DIMENSIONS)
    rows = store.query(
        f"SELECT toUnixTimestamp64Micro(t.ts) AS ts, {columns} FROM penstock.releases AS t"
    )
    return [Marker(int(row["ts"]), _stated(row)) for row in rows]


class Judge:
    """Gates of a shard, going on from their stored states.

    Args:
        store: has the states, and the cells that a state has not counted.
        gates: those that this shard evaluates.
        shard: rebuilt.
        markers: release markers, which begin epochs.

    Raises:
        StoreError: the store is away.
    """

    def __init__(
        self, store: Store, gates: Sequence[AbsoluteGate], shard: Shard, markers: Sequence[Marker]
    ) -> None:
        self._store = store
        self._shard = shard
        self._told: dict[str, tuple[str, int]] = {}
        self._keepers = [self._keeper(gate, markers) for gate in gates]

    def enter_epochs(self, markers: Sequence[Marker]) -> None:
        """Begin the epochs that new markers call for."""
        for keeper in self._keepers:
            if keeper.begin(current_epoch(markers, keeper.spec.filter.given())):
                self._catch_up(keeper)

    def judge(self, closing: Closing) -> list[dict[str, Any]]:
        """Let every gate count the cells that closed; rows of verdicts that say something new."""
        if not self._keepers:
            return []
        watermark_us = self._shard.watermark_us
        coverage, state = self._coverage()
        registry = self._shard.pipeline.combos.registry
        rows: list[dict[str, Any]] = []
        for keeper in self._keepers:
            before = None if keeper.verdict is None else keeper.verdict.verdict
            verdict = keeper.evaluate(closing.cells, registry, watermark_us, coverage, state)
            told, at_s = self._told.get(keeper.spec.id, ("", 0))
            closed_s = watermark_us // SECOND_US
            if verdict.verdict in (before, told) and closed_s - at_s < STORE_VERDICT_S:
                continue
            self._told[keeper.spec.id] = (verdict.verdict, closed_s)
            rows.append(self._row(keeper))
        return rows

    def _row(self, keeper: GateKeeper) -> dict[str, Any]:
        verdict, state = keeper.verdict, keeper.state
        assert verdict is not None
        assert state is not None
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
            "state": state.to_json(),
            "spec_hash": verdict.spec_hash,
            "engine": verdict.engine,
            "digest": verdict.digest,
        }

    def _coverage(self) -> tuple[float | None, CoverageState]:
        """Coverage of the last closed minute."""
        end_s = self._shard.pipeline.closed_pane_s or 0
        if end_s < MINUTE:
            return None, "no_data"
        columns = self._shard.pipeline.window(MINUTE, end_s, np.array([FLEET, COVERAGE])).columns
        share = float(columns["coverage"][0])  # type: ignore[arg-type]
        state = cast(CoverageState, columns["coverage_state"][0])
        return (None if share != share else share), state

    def _keeper(self, spec: AbsoluteGate, markers: Sequence[Marker]) -> GateKeeper:
        epoch = current_epoch(markers, spec.filter.given())
        rows = self._store.query(
            "SELECT state FROM penstock.verdicts WHERE gate_id = {gate:String}"
            " ORDER BY epoch DESC, as_of DESC LIMIT 1",
            {"gate": spec.id},
        )
        keeper = keeper_for(spec, rows[0]["state"] if rows else None, epoch)
        self._catch_up(keeper)
        return keeper

    def _catch_up(self, keeper: GateKeeper) -> None:
        """Give a gate the stored cells that it has not counted."""
        closed_s = self._shard.pipeline.closed_s
        if closed_s is None:
            return
        start_s = max(keeper.counted_to_s, keeper.epoch.start_us // SECOND_US)
        if start_s < closed_s:
            registry = self._shard.pipeline.combos.registry
            cells = cells_between(self._store, registry, start_s, closed_s)
            coverage, state = self._coverage()
            keeper.evaluate(cells, registry, closed_s * SECOND_US, coverage, state)


def _stated(row: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(row[name]) for name in GATE_DIMENSIONS if row[name]}
