"""Audit of gates: stored verdicts are what their gates give for what was counted."""

from __future__ import annotations

from typing import Any

from ...schemas.config import Configuration
from ...schemas.gates import LiveGate
from ..core.gate_history import START_SQL, TOLD_SQL, differing
from ..core.gates.canonical import ENGINE, spec_hash
from ..core.ingest import DAY_US
from ..core.tiles import SECOND_US
from ..gates.inputs import stored_blocks
from ..storage.store import Store
from .report import Report, Scope, at


def check_gates(store: Store, configuration: Configuration, scope: Scope, report: Report) -> None:
    """Every verdict of the epochs looked at can be computed again, to the last byte.

    Those of another specification or engine than those in force are noted: they cannot be.

    Raises:
        StoreError: the store is away or refuses.
    """
    gates = {gate.id: gate for gate in configuration.live_gates}
    rows = store.query(
        "SELECT gate_id, epoch, spec_hash, engine, count() AS n FROM penstock.verdicts"
        f" WHERE {scope.low_sql('as_of')} GROUP BY gate_id, epoch, spec_hash, engine"
        " ORDER BY gate_id, epoch"
    )
    for row in rows:
        spec = gates.get(row["gate_id"])
        if spec is None or row["spec_hash"] != spec_hash(spec) or row["engine"] != ENGINE:
            report.note(
                f"gate {row['gate_id']}: verdicts of another specification or engine than those in"
                " force were not computed again"
            )
        else:
            kept_us = scope.now_us - (configuration.retention.cold_days - 1) * DAY_US
            _check_epoch(store, spec, int(row["epoch"]), kept_us, report)


def _check_epoch(store: Store, spec: LiveGate, epoch: int, kept_us: int, report: Report) -> None:
    asked: dict[str, Any] = {
        "gate": spec.id,
        "epoch": epoch,
        "hash": spec_hash(spec),
        "engine": ENGINE,
    }
    told = {int(row["at_us"]): str(row["sha256"]) for row in store.query(TOLD_SQL, asked)}
    blocks = stored_blocks(store, spec.id, epoch, asked["hash"])
    if blocks and blocks[0].end_us < kept_us:
        report.note(f"gate {spec.id}, epoch {epoch}: what it counted at first may have expired")
        return
    starts = store.query(START_SQL, asked)
    start_us = int(starts[0]["start_us"]) if starts else None
    report.checked["verdicts"] += len(told)
    for at_us, text in differing(spec, epoch, blocks, start_us, told).items():
        report.add(
            "verdicts", f"gate {spec.id}, epoch {epoch}: {at(at_us // SECOND_US)}",
            "what the gate gives for the blocks that are stored",
            "nothing was counted then" if text is None else "another text",
            f"penstock gate replay {spec.id} --epoch {epoch} shows both",
        )  # fmt: skip
