"""GET /v1/gates/{id}/evidence: the SQL that shows the numbers of a verdict, and the rows behind them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import Field

from ..schemas.errors import NotFound
from ..schemas.gates import LiveGate
from ..schemas.gates.budget import BudgetGate
from ..schemas.ports import StoreReader
from ..streams.core.gates.canonical import spec_hash
from ..streams.core.gates.contributing import contributing
from ..streams.core.gates.evidence_sql import Counted, MetricSql, Statements, metric_sql
from ..streams.core.gates.live import inputs_wanted
from ..streams.core.gates.verdict import iso
from ..streams.core.tiles import SECOND_US
from .answers import Answer
from .gates_evidence_models import EvidenceAnswer
from .gates_models import GateId
from .gates_verdicts import Body, Verdicts, life_of, stored_markers
from .parameters import Ask
from .problems import described
from .queries import BOUNDED, micros_of

_LEFT_OUT = (
    "rows that came after their second had closed (late_rows) were too late for the verdict; the SQL "
    "leaves them out"
)
_BLOCKS = (
    "some of the late rows came before their block was closed and some after: which ones is not stored, "
    "and the SQL has them all; minutes before a baseline was learnt are in the SQL alone"
)
_NOTES = {
    "absolute": "a late row counts in the cell that closes next, so some are in the evidence and some "
    "came after it; the SQL has them all by their own time",
    "budget": "the status was written again since, with rows that came late",
}


class EvidenceAsk(Ask):
    """Which life of the gate."""

    epoch: int | None = Field(None, ge=0, description="The newest where it is not given.")


class Evidence:
    """Shows what verdicts rest on.

    Args:
        store: has verdicts, and the rows behind them.
        verdicts: knows which gates there are.
    """

    def __init__(self, store: StoreReader, verdicts: Verdicts) -> None:
        self._store = store
        self._verdicts = verdicts

    def get(self, gate_id: GateId, ask: Annotated[EvidenceAsk, Query()]) -> Response:
        """The newest verdict of an epoch: per metric the SQL that shows its counts, and what it finds.

        The SQL is run as it is shown. It reads the rows that are stored now.
        """
        spec = self._verdicts.known(gate_id)
        told = self._told(spec, ask.epoch)
        answer: Body = {
            "gate": gate_id,
            "kind": spec.kind,
            "spec_hash": spec_hash(spec),
            **dict.fromkeys(("epoch", "verdict", "as_of", "engine", "digest", "start"), None),
            "reproduces": None,
            "metrics": [],
            "told": told,
        }
        if told is not None:
            counted = Counted(self._start_us(spec, told["epoch"]), _micros(told["as_of"]))
            metrics = self._metrics(spec, told, counted)
            names = ("epoch", "verdict", "as_of", "engine", "digest")
            answer |= {name: told[name] for name in names}
            answer |= {
                "start": iso(counted.start_us) if counted.start_us else None,
                "metrics": metrics,
                "reproduces": all(metric["reproduces"] for metric in metrics) if metrics else None,
            }
        return Answer(answer)

    def _told(self, spec: LiveGate, epoch: int | None) -> Body | None:
        """The newest stored verdict under the specification in force; None where there is none yet."""
        of_epoch = "" if epoch is None else "AND epoch = {epoch:UInt32} "
        rows = self._store.query(
            "SELECT evidence FROM penstock.verdicts WHERE gate_id = {gate:String} "
            f"AND spec_hash = {{hash:String}} {of_epoch}"
            f"ORDER BY epoch DESC, as_of DESC LIMIT 1 {BOUNDED}",
            {"gate": spec.id, "hash": spec_hash(spec), "epoch": epoch or 0},
        )
        if not rows and epoch is not None:
            raise NotFound(
                f"no verdict of gate {spec.id!r} is stored for epoch {epoch} under the specification "
                f"in force; GET /v1/gates/{spec.id}/epochs lists its epochs"
            )
        found: Body | None = json.loads(rows[0]["evidence"]) if rows else None
        return found

    def _start_us(self, spec: LiveGate, epoch: int) -> int:
        """Where an epoch began: as a state tells it, or its marker, or its first block."""
        if isinstance(spec, BudgetGate):
            return 0
        asked = {"gate": spec.id, "epoch": epoch, "hash": spec_hash(spec)}
        mine = (
            "WHERE gate_id = {gate:String} AND epoch = {epoch:UInt32} AND spec_hash = {hash:String}"
        )
        wanted = inputs_wanted(spec)
        path = "'start_us'" if wanted is None else "'state', 'start_us'"
        rows = self._store.query(
            f"SELECT JSONExtractInt(state, {path}) AS start_us FROM penstock.verdicts "
            f"{mine} AND state != '' ORDER BY as_of LIMIT 1 {BOUNDED}",
            asked,
        )
        if rows:
            return int(rows[0]["start_us"])
        marked, _ = life_of(spec, stored_markers(self._store))
        if marked.number == epoch and marked.start_us:
            return marked.start_us
        block_us = 0 if wanted is None else wanted.block_s * SECOND_US
        (row,) = self._store.query(
            "SELECT min(toUnixTimestamp64Micro(i.end)) AS first_us "
            f"FROM penstock.gate_inputs AS i {mine} {BOUNDED}",
            asked,
        )
        return int(row["first_us"]) - block_us

    def _metrics(self, spec: LiveGate, told: Body, counted: Counted) -> list[Body]:
        evidence = {item["metric"]: item for item in told["evidence"]}
        typical_ms = {name: _typical_ms(item) for name, item in evidence.items()}
        return [
            self._metric(spec, evidence[one.metric], one)
            for one in metric_sql(spec, counted, typical_ms)
            if one.metric in evidence
        ]

    def _metric(self, spec: LiveGate, item: Body, asked: MetricSql) -> Body:
        told = {arm: _told_counts(item, arm) for arm in asked.arms}
        chosen, note = asked.every, ""
        found = self._counts(chosen, told)
        if found != told and asked.in_time is not None:
            in_time = self._counts(asked.in_time, told)
            if in_time == told:
                chosen, found, note = asked.in_time, in_time, _LEFT_OUT
        if found != told:
            note = _NOTES.get(spec.kind, _BLOCKS)
        late = self._run(asked.late)
        measure = asked.measure
        return {
            "metric": asked.metric,
            "declared": item["declared"],
            "decision": item["decision"],
            "reproduces": found == told,
            "note": note,
            "late_rows": late[0]["n"] if late else None,
            "sql": chosen.counts,
            "arms": self._arms(chosen, told, found),
            "unit": "" if measure is None else measure.unit,
            "slices": [
                asdict(one)
                for one in contributing(
                    self._run(chosen.slices),
                    two_arms=len(asked.arms) > 1,
                    higher_is_better=measure is not None and measure.higher_is_better,
                )
            ],
        }

    def _counts(self, asked: Statements, told: Mapping[str, Body]) -> dict[str, Body]:
        """What is found of each arm, in the shape of the evidence."""
        rows = {row["arm_name"]: row for row in self._run(asked.counts)}
        return {arm: _found_counts(rows.get(arm, {}), counts) for arm, counts in told.items()}

    def _arms(
        self, asked: Statements, told: Mapping[str, Body], found: Mapping[str, Body]
    ) -> list[Body]:
        examples = defaultdict(list)
        for row in self._run(asked.examples):
            examples[row["arm_name"]].append(row["id"])
        return [
            {"arm": arm, "evidence": told[arm], "found": found[arm], "examples": examples[arm]}
            for arm in told
        ]

    def _run(self, sql: str) -> list[dict[str, Any]]:
        return self._store.query(f"{sql}\n{BOUNDED}") if sql else []


def _told_counts(item: Body, arm: str) -> Body:
    one = _arms(item).get(arm, item)
    return {"n": one["n"], "bad": one["bad"]}


def _arms(item: Body) -> dict[str, Body]:
    """What the evidence has of each arm; nothing of a gate of one arm."""
    return {one["arm"]: one for one in item.get("arms", ())}


def _found_counts(row: Mapping[str, Any], told: Body) -> Body:
    """Counts of a row of the answer; without one there was nothing."""
    bad = None if told["bad"] is None else int(row.get("bad", 0))
    return {"n": int(row.get("n", 0)), "bad": bad}


def _typical_ms(item: Body) -> float | None:
    """The estimate of control, of a latency by ratio."""
    found: float | None = _arms(item).get("control", {}).get("estimate")
    return found


def _micros(text: str) -> int:
    return micros_of(datetime.fromisoformat(text))


def routes(evidence: Evidence) -> APIRouter:
    """The routes of this module."""
    router = APIRouter(tags=["gates"])
    router.add_api_route(
        "/v1/gates/{gate_id}/evidence",
        evidence.get,
        methods=["GET"],
        response_model=EvidenceAnswer,
        responses=described(401, 403, 404, 422, 429, 503),
        summary="What a verdict rests on: SQL, examples, slices",
    )
    return router
