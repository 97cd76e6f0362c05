"""Gates that count units of raw rows: read, store, advance, answer, and go on after a restart.

What closed is stored before it is counted, so a state is only a shortcut: it is what folding the stored
blocks of the epoch gives (docs/decisions/0013).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ..core.gates.blocks import Block, evaluations
from ..core.gates.canonical import spec_hash
from ..core.gates.interface import Wanted
from ..core.gates.live import GateState, QueriedGate, advance, begin, inputs_wanted
from ..core.gates.query import LOOK_BACK_US
from ..core.gates.verdict import Verdict
from ..core.gating import Epoch, Marker, epoch_of, marked_by
from ..core.pipeline import Closing
from ..core.shard import Shard
from ..core.tiles import SECOND_US
from ..storage.publish import version_of
from ..storage.store import Store
from .inputs import MAX_BLOCKS, Insert, block_rows, read_blocks, stored_blocks

STORE_STATE_S = 600  # a state may be 100 kB, and blocks since the last one are folded in a moment


class LiveKeeper:
    """One canary or rollback gate and its state.

    Args:
        store: has the rows.
        spec: the gate.
        shard: whose watermark closes its blocks.
        markers: release markers, which begin epochs and state shares.
        coverage: end of a block in us -> share of the fleet's events of the minute before it.
        insert: stores rows of a table.

    Raises:
        StoreError: the store is away.
    """

    def __init__(
        self,
        store: Store,
        spec: QueriedGate,
        shard: Shard,
        markers: Sequence[Marker],
        coverage: Callable[[int], float | None],
        insert: Insert,
    ) -> None:
        wanted = inputs_wanted(spec)
        assert wanted is not None
        self.spec = spec
        self.verdict: Verdict | None = None
        self._wanted: Wanted = wanted
        self._hash = spec_hash(spec)
        self._store = store
        self._shard = shard
        self._coverage = coverage
        self._insert = insert
        self._state: GateState | None = None
        self._saved_us = self._looked_us = self._read_us = 0
        self._saved_decision = False
        self._shares: list[tuple[int, float]] = []
        self._enter(epoch_of(spec, markers, newest_epoch(store, spec)), markers)

    def enter_epoch(self, markers: Sequence[Marker]) -> None:
        """Begin the epoch that new markers call for, and learn the shares that they state."""
        epoch = epoch_of(self.spec, markers, self._epoch.number)
        if epoch.number != self._epoch.number:
            self._enter(epoch, markers)
        self._shares = shares_of(self.spec, markers)

    def judge(self, closing: Closing) -> Verdict | None:
        """Count what closed since; None where nothing did, or before the treatment has traffic.

        Raises:
            StoreError: the store is away; nothing was counted.
        """
        watermark_us = self._shard.watermark_us
        start_us = self._start_us() if self._state is None else self._state.start_us
        if start_us is None:
            return None
        state = self._state or begin(self.spec, self._epoch.number, start_us)
        block_us = self._wanted.block_s * SECOND_US
        first_us = max(-(-state.end_us // block_us) * block_us, self._read_us)
        closed_us = (watermark_us - self._wanted.mature_s * SECOND_US) // block_us * block_us
        if closed_us <= first_us:
            return None
        for low_us in range(first_us, closed_us, MAX_BLOCKS * block_us):
            high_us = min(low_us + MAX_BLOCKS * block_us, closed_us)
            blocks = self._read(state.start_us, low_us, high_us)
            rows = block_rows(
                self.spec.id,
                self._epoch.number,
                self._hash,
                version_of(*self._shard.version),
                blocks,
            )
            self._insert("gate_inputs_rows", rows)
            self._read_us = high_us  # once, even if the gate refuses to count them
            state = self._fold(state, blocks)
        return self.verdict

    def state_to_store(self) -> str:
        """The state as text with a decision and now and then, else nothing."""
        state = self._state
        assert state is not None
        decided = state.latched is not None and not self._saved_decision
        if not decided and state.end_us - self._saved_us < STORE_STATE_S * SECOND_US:
            return ""
        self._remember(state)
        return state.to_json()

    def _enter(self, epoch: Epoch, markers: Sequence[Marker]) -> None:
        self._epoch = epoch
        self._shares = shares_of(self.spec, markers)
        self.verdict = None
        self._looked_us = 0
        self._state = saved_state(self._store, self.spec, self._epoch.number)
        self._remember(self._state)
        self._read_us = 0
        blocks = stored_blocks(
            self._store, self.spec.id, self._epoch.number, self._hash, self._saved_us
        )
        if not blocks:
            return
        self._read_us = blocks[-1].end_us
        state = self._state
        if state is None:
            start_us = self._epoch.start_us or blocks[0].end_us - self._wanted.block_s * SECOND_US
            state = begin(self.spec, self._epoch.number, start_us)
        self._fold(state, blocks)

    def _remember(self, saved: GateState | None) -> None:
        self._saved_us = 0 if saved is None else saved.end_us
        self._saved_decision = saved is not None and saved.latched is not None

    def _fold(self, state: GateState, blocks: Sequence[Block]) -> GateState:
        for inputs, context in evaluations(self._wanted, blocks):
            state, self.verdict = advance(self.spec, state, inputs, context)
        self._state = state
        return state

    def _read(self, epoch_us: int, first_us: int, end_us: int) -> list[Block]:
        return read_blocks(
            self._store,
            self._wanted,
            first_us,
            end_us,
            epoch_us,
            self._shares,
            self._coverage,
            self._shard.applied,
            self._shard.watermark_us,
            self._epoch.number,
        )

    def _start_us(self) -> int | None:
        """Where the epoch begins: at its marker, or without any after the treatment's first request."""
        block_us = self._wanted.block_s * SECOND_US
        watermark_us = self._shard.watermark_us
        if self._epoch.start_us or watermark_us - self._looked_us < block_us:
            return self._epoch.start_us or None
        self._looked_us = watermark_us
        given = self._wanted.arms[1]
        dimensions = " AND ".join(f"{name} = {{{name}:String}}" for name in given)
        rows = self._store.query(
            "SELECT min(toUnixTimestamp64Micro(t.ts) - toInt64(ifNull(latency_us, 0))) AS first,"
            " count() AS n FROM penstock.requests_rows AS t"
            f" WHERE t.ts >= fromUnixTimestamp64Micro({{since:Int64}}, 'UTC') AND {dimensions}",
            {"since": watermark_us - LOOK_BACK_US, **given},
        )
        # The next whole block: control's requests of the present one came before the treatment's too.
        return (int(rows[0]["first"]) // block_us + 1) * block_us if rows[0]["n"] else None


def shares_of(spec: QueriedGate, markers: Iterable[Marker]) -> list[tuple[int, float]]:
    """(since us, configured share of the treatment), ascending, as markers of it state them."""
    wanted = marked_by(spec)
    return sorted(
        (marker.ts_us, marker.share)
        for marker in markers
        if marker.share is not None and not marker.gate and marker.matches(wanted)
    )


def newest_epoch(store: Store, spec: QueriedGate) -> int:
    """Number of the newest epoch of a gate with a verdict under this specification, 0 without any.

    Raises:
        StoreError: the store is away.
    """
    rows = store.query(
        "SELECT epoch FROM penstock.verdicts WHERE gate_id = {gate:String}"
        " AND spec_hash = {hash:String} ORDER BY epoch DESC LIMIT 1",
        {"gate": spec.id, "hash": spec_hash(spec)},
    )
    return int(rows[0]["epoch"]) if rows else 0


def saved_state(store: Store, spec: QueriedGate, epoch: int) -> GateState | None:
    """The newest state of a gate's epoch that was stored under this specification and engine.

    Raises:
        StoreError: the store is away.
    """
    rows = store.query(
        "SELECT state FROM penstock.verdicts WHERE gate_id = {gate:String}"
        " AND epoch = {epoch:UInt32} AND spec_hash = {hash:String} AND state != ''"
        " ORDER BY as_of DESC LIMIT 1",
        {"gate": spec.id, "epoch": epoch, "hash": spec_hash(spec)},
    )
    if not rows:
        return None
    state = GateState.from_json(rows[0]["state"])
    return state if state.engine == begin(spec).engine else None
