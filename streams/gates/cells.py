"""Absolute gates: closed cells are counted as they are published, and caught up from the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from ...schemas.gates.absolute import AbsoluteGate
from ..core.gates.absolute import CoverageState
from ..core.gates.blocks import Block
from ..core.gates.canonical import spec_hash
from ..core.gates.interface import Context
from ..core.gates.verdict import Verdict
from ..core.gating import Marker, epoch_of, keeper_for
from ..core.pipeline import Closing
from ..core.shard import Shard
from ..core.tiles import SECOND_US
from ..storage.publish import version_of
from ..storage.readback import cells_between
from ..storage.store import Store
from .inputs import Insert, block_rows, stored_blocks

Coverage: TypeAlias = Callable[[int], tuple[float | None, CoverageState]]
"""End of a minute in s -> share of the fleet's events of it that arrived, and what is known of them."""


class CellKeeper:
    """One absolute gate, going on from its stored state.

    Args:
        store: has the state, and the cells that it has not counted.
        spec: the gate.
        shard: rebuilt.
        markers: release markers, which begin epochs.
        coverage: of the shard.
        insert: stores rows of a table.

    Raises:
        StoreError: the store is away.
    """

    def __init__(
        self,
        store: Store,
        spec: AbsoluteGate,
        shard: Shard,
        markers: Sequence[Marker],
        coverage: Coverage,
        insert: Insert,
    ) -> None:
        self.spec = spec
        self._store = store
        self._shard = shard
        self._coverage = coverage
        self._insert = insert
        self._hash = spec_hash(spec)
        rows = store.query(
            "SELECT epoch, state, toUnixTimestamp64Micro(t.as_of) AS told_us"
            " FROM penstock.verdicts AS t WHERE gate_id = {gate:String}"
            " AND spec_hash = {hash:String} ORDER BY epoch DESC, t.as_of DESC LIMIT 1",
            {"gate": spec.id, "hash": self._hash},
        )
        epoch = epoch_of(spec, markers, rows[0]["epoch"] if rows else 0)
        self._keeper = keeper_for(spec, rows[0]["state"] if rows else None, epoch)
        told_us = 0 if self._keeper.state is None else int(rows[0]["told_us"])
        self._record: Block | None = None
        for block in stored_blocks(store, spec.id, epoch.number, self._hash, told_us - 1):
            self._record = block
            if block.end_us > told_us:  # its verdict was not stored any more
                self._keeper.replay(block.text)
        self._catch_up()

    @property
    def verdict(self) -> Verdict | None:
        """The newest."""
        return self._keeper.verdict

    def enter_epoch(self, markers: Sequence[Marker]) -> None:
        """Begin the epoch that new markers call for."""
        if self._keeper.begin(epoch_of(self.spec, markers, self._keeper.epoch.number)):
            self._record = None
            self._catch_up()

    def judge(self, closing: Closing) -> Verdict:
        """Count the cells that closed."""
        end_s = self._shard.pipeline.closed_pane_s or 0
        registry = self._shard.pipeline.combos.registry
        return self._keeper.evaluate(
            closing.cells, registry, self._as_of_us, *self._coverage(end_s)
        )

    def state_to_store(self) -> str:
        """The state as text; what it was computed from is stored first.

        Raises:
            StoreError: the store is away.
        """
        assert self._keeper.state is not None
        at_us = self._as_of_us
        # Rows of one event time replace each other, so this one tells what the one before it told.
        before = self._record.text if self._record and self._record.end_us == at_us else None
        self._record = Block(at_us, None, None, self._keeper.take_record(before), Context(at_us))
        version = version_of(*self._shard.version)
        epoch = self._keeper.epoch.number
        self._insert(
            "gate_inputs_rows", block_rows(self.spec.id, epoch, self._hash, version, [self._record])
        )
        return self._keeper.state.to_json()

    @property
    def _as_of_us(self) -> int:
        """Event time of an evaluation. It never goes back: a rebuilt shard knows whole seconds only."""
        return max(self._shard.watermark_us, 0 if self._record is None else self._record.end_us)

    def _catch_up(self) -> None:
        """Count the stored cells that the state has not counted."""
        pipeline = self._shard.pipeline
        if pipeline.closed_s is None:
            return
        start_s = max(self._keeper.counted_to_s, self._keeper.epoch.start_us // SECOND_US)
        if start_s < pipeline.closed_s:
            registry = pipeline.combos.registry
            cells = cells_between(self._store, registry, start_s, pipeline.closed_s)
            coverage = self._coverage(pipeline.closed_pane_s or 0)
            self._keeper.evaluate(cells, registry, self._as_of_us, *coverage)
