"""Budget gates: what the newest stored status of an objective says."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ...schemas.gates.budget import BudgetGate
from ..core.gates.blocks import Block
from ..core.gates.canonical import canonical_json, spec_hash
from ..core.gates.interface import Context
from ..core.gates.replay import verdict_of_budget
from ..core.gates.verdict import Verdict
from ..core.gating import Marker
from ..core.pipeline import Closing
from ..core.shard import Shard
from ..core.slo.burn import BurnStatus
from ..core.slo.status import ObjectiveStatus
from ..core.tiles import SECOND_US
from ..storage.publish import version_of
from ..storage.store import Store
from .inputs import Insert, block_rows

ASK_EVERY_S = 10


class BudgetKeeper:
    """One budget gate. Nothing latches and nothing is remembered but when it was asked last.

    Args:
        store: has the status of its objective, whichever shard evaluates that.
        spec: the gate.
        shard: whose watermark tells when to look again.
        insert: stores rows of a table.
    """

    def __init__(self, store: Store, spec: BudgetGate, shard: Shard, insert: Insert) -> None:
        self.spec = spec
        self.verdict: Verdict | None = None
        self._store = store
        self._shard = shard
        self._insert = insert
        self._asked_us = 0

    def enter_epoch(self, markers: Sequence[Marker]) -> None:
        """Nothing: a budget outlives releases."""

    def judge(self, closing: Closing) -> Verdict | None:
        """Look at the budget; None where that was done a moment ago.

        Raises:
            StoreError: the store is away.
        """
        now_us = self._shard.watermark_us
        if now_us - self._asked_us < ASK_EVERY_S * SECOND_US:
            return None
        self._asked_us = now_us
        status = newest_status(self._store, self.spec.slo)
        text = canonical_json([] if status is None else [status.to_dict()])
        block = Block(now_us, None, None, text, Context(now_us))
        version = version_of(*self._shard.version)
        rows = block_rows(self.spec.id, 0, spec_hash(self.spec), version, [block])
        self._insert("gate_inputs_rows", rows)
        self.verdict = verdict_of_budget(self.spec, block)
        return self.verdict

    def state_to_store(self) -> str:
        """Nothing is needed to go on."""
        return ""


def newest_status(store: Store, slo_id: str) -> ObjectiveStatus | None:
    """The newest stored status of an objective, None where there is none.

    Raises:
        StoreError: the store is away.
    """
    rows = store.query(
        "SELECT declared, target, state, bad, total, attainment, consumed, budget_minutes,"
        " left_minutes, exhaustion_s, burn_1h, coverage, spec_hash, burns,"
        " toUnixTimestamp(as_of) AS end_s, toUnixTimestamp(period_start) AS period_start_s,"
        " toUnixTimestamp(period_end) AS period_end_s,"
        " if(isNull(alarm_at), NULL, toUnixTimestamp(assumeNotNull(alarm_at))) AS alarm_s"
        " FROM penstock.slo_status_rows WHERE slo_id = {slo:String}"
        " ORDER BY as_of DESC, version DESC LIMIT 1",
        {"slo": slo_id},
    )
    if not rows:
        return None
    (row,) = rows
    burns = tuple(BurnStatus(**burn) for burn in json.loads(row.pop("burns")))
    return ObjectiveStatus(id=slo_id, burns=burns, **row)
