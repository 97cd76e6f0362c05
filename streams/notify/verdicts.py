"""Changes of verdicts as the store has them.

A verdict is stored when it changes and every ten seconds of event time. So what is new is read by event
time and epoch: a change whose row is not there yet, or was written late, is seen in the next one.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..core.gates.changes import VerdictChange, changes_after
from ..core.tiles import SECOND_US
from ..storage.store import Store

AGAIN_US = 60 * SECOND_US  # of what was read, so much is read again: replicas may lag
_AT_ONCE = 1000  # changes read by one question
# Of a long series only what differs from the row before it, and the newest one, as far as it was read.
_SERIES = (
    "SELECT gate_id, epoch, us, verdict, spec_hash FROM ("
    "SELECT gate_id, epoch, toUnixTimestamp64Micro(v.as_of) AS us, verdict, spec_hash,"
    " lagInFrame((verdict, spec_hash)) OVER (PARTITION BY gate_id, epoch ORDER BY v.as_of) AS before,"
    " row_number() OVER (PARTITION BY gate_id ORDER BY v.as_of DESC, epoch DESC) AS from_end"
    " FROM penstock.verdicts AS v WHERE {})"
    f" WHERE (verdict, spec_hash) != before OR from_end = 1 ORDER BY gate_id, us, epoch LIMIT {_AT_ONCE}"
)
_NEWEST = (
    "SELECT gate_id, epoch, toUnixTimestamp64Micro(v.as_of) AS us, verdict, spec_hash"
    " FROM penstock.verdicts AS v WHERE gate_id IN {gates:Array(String)}"
    " ORDER BY us DESC, epoch DESC LIMIT 1 BY gate_id"
)


class VerdictFeed:
    """Reads on from changes that its caller remembers. Not for several threads at once.

    Args:
        store: migrated.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: dict[str, tuple[int, int]] = {}

    def newest(self, gates: Collection[str]) -> list[VerdictChange]:
        """The verdict that each of the gates has now, as if it had been given just now.

        Raises:
            StoreError: the store is away.
        """
        rows = self._store.query(_NEWEST, {"gates": sorted(gates)}) if gates else []
        return changes_after({}, rows)

    def changes(
        self, last: Mapping[str, VerdictChange], others: bool = False
    ) -> list[VerdictChange]:
        """Changes after the last ones known, of each gate in their order.

        Args:
            last: gate -> its last known change.
            others: also of all other gates, from their first verdict on.

        Raises:
            StoreError: the store is away.
        """
        parameters: dict[str, Any] = {}
        conditions = [
            self._after(change, number, parameters) for number, change in enumerate(last.values())
        ]
        if others:
            parameters["known"] = sorted(last)
            conditions.append("gate_id NOT IN {known:Array(String)}")
        if not conditions:
            return []
        rows = self._store.query(_SERIES.format(" OR ".join(conditions)), parameters)
        self._read |= {row["gate_id"]: (row["epoch"], row["us"]) for row in rows}
        return changes_after(last, rows)

    def documents(
        self, changes: Sequence[VerdictChange]
    ) -> list[tuple[VerdictChange, dict[str, Any]]]:
        """The changes with what their verdicts say: `Verdict.to_dict` and `gate_kind`.

        A verdict that was written again meanwhile, as another one, is left out with those of its gate
        that follow: they are read again.

        Raises:
            StoreError: the store is away.
        """
        found = []
        again: set[str] = set()
        for change in changes:
            document = None if change.gate_id in again else self._document(change)
            if document is None:
                again.add(change.gate_id)
                self._read.pop(change.gate_id, None)
            else:
                found.append((change, document))
        return found

    def _after(self, change: VerdictChange, number: int, parameters: dict[str, Any]) -> str:
        epoch, us = self._read.get(change.gate_id, (change.epoch, change.as_of_us))
        since_us = max(change.as_of_us, us - AGAIN_US if epoch == change.epoch else 0)
        gate, at, after = f"gate{number}", f"epoch{number}", f"us{number}"
        parameters |= {gate: change.gate_id, at: change.epoch, after: since_us}
        return (
            f"(gate_id = {{{gate}:String}} AND (epoch > {{{at}:UInt32}}"
            f" OR v.as_of > fromUnixTimestamp64Micro({{{after}:Int64}}, 'UTC')))"
        )

    def _document(self, change: VerdictChange) -> dict[str, Any] | None:
        rows = self._store.query(
            "SELECT kind, evidence FROM penstock.verdicts AS v WHERE gate_id = {gate:String}"
            " AND epoch = {epoch:UInt32} AND verdict = {verdict:String}"
            " AND v.as_of = fromUnixTimestamp64Micro({us:Int64}, 'UTC')",
            {
                "gate": change.gate_id,
                "epoch": change.epoch,
                "verdict": change.verdict,
                "us": change.as_of_us,
            },
        )
        return {**json.loads(rows[0]["evidence"]), "gate_kind": rows[0]["kind"]} if rows else None
