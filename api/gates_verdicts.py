"""The newest verdict of each gate, as every route and the live stream show it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from ..schemas.alerts.base import unix_s
from ..schemas.errors import NotFound
from ..schemas.gates import LiveGate
from ..schemas.gates.absolute import AbsoluteGate
from ..schemas.gates.budget import BudgetGate
from ..schemas.ports import StoreReader
from ..streams.core.gates.absolute import CellCounts, Context, evaluate, initial_state
from ..streams.core.gates.budget import budget_verdict
from ..streams.core.gates.canonical import spec_hash
from ..streams.core.gates.interface import Context as QueryContext
from ..streams.core.gates.interface import no_inputs
from ..streams.core.gates.live import advance, begin
from ..streams.core.gates.verdict import iso
from ..streams.core.gating import MARKERS_SQL, Epoch, Marker, epoch_of, marked_by, marker_of
from ..streams.core.tiles import SECOND_US
from .queries import BOUNDED

Body = dict[str, Any]
OVERRIDES = "gates"
"""Chain of the audit log that says who overrode which gate; what is in force is read off it."""
SHOWN = ("action", "who", "reason", "at", "until", "epoch")

# Of rows of one time the highest version counts, as in the view; to read it off the end of the rows
# themselves costs a fraction.
_ROWS = (
    "SELECT gate_id, epoch, toUnixTimestamp64Micro(v.as_of) AS at_us, evidence"
    " FROM penstock.verdicts_rows AS v WHERE "
)
_LAST = " ORDER BY gate_id, epoch DESC, v.as_of DESC, version DESC LIMIT 1 BY gate_id"
_OF_GATE = "gate_id = {gate@:String} AND spec_hash = {hash@:String}"
_SINCE = (
    f"({_OF_GATE} AND epoch >= {{epoch@:UInt32}} AND (epoch > {{epoch@:UInt32}}"
    " OR v.as_of >= fromUnixTimestamp64Micro({at@:Int64}, 'UTC')))"
)
_NEWEST = f"({_ROWS}{_OF_GATE} ORDER BY epoch DESC, v.as_of DESC, version DESC LIMIT 1)"


class Verdicts:
    """Reads the newest verdict of each gate.

    Args:
        store: where the streams put them.
        gates: the specifications in force.
        watermark_us: event time now, for gates that nobody has evaluated yet.
        wall_us: clock that overrides end by, integer microseconds since 1970.
    """

    def __init__(
        self,
        store: StoreReader,
        gates: Sequence[LiveGate],
        watermark_us: Callable[[], int],
        wall_us: Callable[[], int],
    ) -> None:
        self.gates = {gate.id: gate for gate in gates}
        self._hashes = {gate.id: spec_hash(gate) for gate in gates}
        self._store = store
        self._watermark_us = watermark_us
        self._wall_us = wall_us
        self._seen: dict[str, tuple[int, int]] = {}

    def known(self, gate_id: str) -> LiveGate:
        """The gate of that id.

        Raises:
            NotFound: there is none.
        """
        found = self.gates.get(gate_id)
        if found is None:
            raise NotFound(f"the configuration has no gate {gate_id!r}; GET /v1/gates lists them")
        return found

    def latest(self) -> dict[str, Body]:
        """The verdict of every gate, as the streams stored it, and what people made of it.

        A verdict under another specification than the one in force is not shown: a limit that was
        changed must not pass on the strength of the old one. Nor is one of an earlier epoch, once
        the marker of a new release is stored: the new release must not pass on the old one's.
        """
        if not self.gates:
            return {}
        stored, overrides = self._stored(), self._overrides()
        markers = stored_markers(self._store)
        watermark_us = self._watermark_us()
        found = {}
        for name, gate in self.gates.items():
            body = stored.get(name)
            epoch, release = life_of(gate, markers, 0 if body is None else body["epoch"])
            if body is None or body["epoch"] < epoch.number:
                body = not_evaluated(gate, watermark_us, epoch)
            started = iso(epoch.start_us) if epoch.number else None
            found[name] = body | {"release": release, "epoch_started": started, "override": None}
            order = overrides.get(name)
            if order is not None and order["epoch"] == body["epoch"]:
                found[name] |= {"override": order, "action": order["action"]}
        return found

    def _stored(self) -> dict[str, Body]:
        """The newest stored verdict of each gate: where one was seen, only what came since is read."""
        seen = self._seen
        known = [name for name in self.gates if name in seen]
        rows = self._query(known, f"{_ROWS}({{}}){_LAST}", _SINCE, " OR ") if known else []
        found = {str(row["gate_id"]) for row in rows}
        # New to this process, or the store was put back to before what was seen.
        others = [name for name in self.gates if name not in found]
        if others:
            # One short read at the end of each gate's rows, which one query over all would not be.
            rows += self._query(others, "SELECT * FROM ({})", _NEWEST, " UNION ALL ")
        self._seen = {row["gate_id"]: (row["epoch"], row["at_us"]) for row in rows}
        return {row["gate_id"]: json.loads(row["evidence"]) for row in rows}

    def _query(self, names: Sequence[str], sql: str, of_one: str, joint: str) -> list[Body]:
        asked: Body = {}
        for number, name in enumerate(names):
            epoch, at_us = self._seen.get(name, (0, 0))
            of = {"gate": name, "hash": self._hashes[name], "epoch": epoch, "at": at_us}
            asked |= {f"{key}{number}": value for key, value in of.items()}
        each = joint.join(of_one.replace("@", str(number)) for number in range(len(names)))
        return self._store.query(f"{sql.format(each)} {BOUNDED}", asked)

    def _overrides(self) -> dict[str, Body]:
        """The override of each gate that is in force, the last one of several."""
        rows = self._store.query(
            "SELECT JSONExtractString(body, 'gate') AS gate, argMax(kind, seq) AS last, "
            "argMax(body, seq) AS told FROM penstock.audit_log WHERE chain = {chain:String} "
            f"AND kind IN ('override', 'override_ended') GROUP BY gate {BOUNDED}",
            {"chain": OVERRIDES},
        )
        now_s = self._wall_us() // SECOND_US
        orders = {row["gate"]: json.loads(row["told"]) for row in rows if row["last"] == "override"}
        return {
            gate: {name: order[name] for name in SHOWN}
            for gate, order in orders.items()
            if unix_s(datetime.fromisoformat(order["until"])) > now_s
        }


def stored_markers(store: StoreReader) -> list[Marker]:
    """Every release marker.

    Raises:
        StoreError: the store is away.
    """
    return [marker_of(row) for row in store.query(f"{MARKERS_SQL} {BOUNDED}")]


def life_of(gate: LiveGate, markers: Sequence[Marker], stored: int = 0) -> tuple[Epoch, str | None]:
    """The epoch that a gate is in (gating.py), and the release whose marker is the newest in it."""
    if isinstance(gate, BudgetGate):
        return epoch_of(gate, markers), None
    wanted = marked_by(gate)
    mine = [marker for marker in markers if not marker.gate and marker.matches(wanted)]
    newest = max(mine, key=lambda marker: marker.ts_us, default=None)
    release = None if newest is None else newest.dimensions.get("release")
    return epoch_of(gate, markers, stored), release


def not_evaluated(gate: LiveGate, watermark_us: int, epoch: Epoch) -> Body:
    """The verdict of a gate before anything was counted: NO_DATA, with every key of a verdict."""
    if isinstance(gate, BudgetGate):
        return budget_verdict(gate, None, watermark_us, epoch=epoch.number).to_dict()
    if not isinstance(gate, AbsoluteGate):
        fresh = begin(gate, epoch.number, epoch.start_us)
        asked = QueryContext(watermark_us=watermark_us, epoch=epoch.number)
        return advance(gate, fresh, no_inputs(), asked)[1].to_dict()
    none = np.empty(0, np.int64)
    each = dict.fromkeys([limit.name for limit in gate.metrics], none)
    context = Context(
        watermark_us=watermark_us, coverage=None, coverage_state="no_data", epoch=epoch.number
    )
    state = initial_state(gate, epoch.number, epoch.start_us)
    return evaluate(gate, state, CellCounts(none, none, each, each, each), context)[1].to_dict()
