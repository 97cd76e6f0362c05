"""GET /v1/gates/{id}/replay: are its stored verdicts what their evidence gives?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import Field

from ..schemas.errors import NotFound
from ..schemas.gates import LiveGate
from ..schemas.ports import StoreReader
from ..streams.core.gate_history import START_SQL, TOLD_SQL, differing
from ..streams.core.gates.blocks import BLOCKS_SQL, block_of
from ..streams.core.gates.canonical import ENGINE, spec_hash
from .answers import Answer
from .gates_models import GateId, ReplayAnswer
from .gates_verdicts import Body, Verdicts
from .parameters import Ask
from .problems import described
from .queries import BOUNDED

_MOST_SHOWN = 20


class ReplayAsk(Ask):
    """Which life of the gate."""

    epoch: int | None = Field(None, ge=0, description="The newest where it is not given.")


class Replay:
    """Computes stored verdicts again, from what was stored of what their gates counted."""

    def __init__(self, store: StoreReader, verdicts: Verdicts) -> None:
        self._store = store
        self._verdicts = verdicts

    def get(self, gate_id: GateId, ask: Annotated[ReplayAsk, Query()]) -> Response:
        """Every verdict that is stored of an epoch, computed again and compared to the last byte."""
        spec = self._verdicts.known(gate_id)
        epoch = self._newest(spec) if ask.epoch is None else ask.epoch
        asked = {"gate": spec.id, "epoch": epoch, "hash": spec_hash(spec), "engine": ENGINE}
        told = {row["at_us"]: row["sha256"] for row in self._query(TOLD_SQL, asked)}
        if not told:
            raise NotFound(
                f"no verdict of gate {spec.id!r} is stored for epoch {epoch} under the specification "
                f"and the engine in force; GET /v1/gates/{spec.id}/epochs lists its epochs"
            )
        blocks = [block_of(row) for row in self._query(BLOCKS_SQL, asked | {"after": 0})]
        starts = self._query(START_SQL, asked)
        found = differing(spec, epoch, blocks, starts[0]["start_us"] if starts else None, told)
        return Answer(
            {
                "gate": gate_id,
                "epoch": epoch,
                "spec_hash": spec_hash(spec),
                "verdicts": len(told),
                "same": len(told) - len(found),
                "differing": self._both(asked, dict(islice(found.items(), _MOST_SHOWN))),
            }
        )

    def _newest(self, spec: LiveGate) -> int:
        rows = self._query(
            "SELECT epoch FROM penstock.verdicts WHERE gate_id = {gate:String}"
            " AND spec_hash = {hash:String} ORDER BY epoch DESC LIMIT 1",
            {"gate": spec.id, "hash": spec_hash(spec)},
        )
        return int(rows[0]["epoch"]) if rows else 0

    def _both(self, asked: Body, found: Mapping[int, str | None]) -> list[Body]:
        """What is stored, and what was computed again."""
        rows = self._query(
            "SELECT toUnixTimestamp64Micro(v.as_of) AS at_us, evidence FROM penstock.verdicts AS v"
            " WHERE gate_id = {gate:String} AND epoch = {epoch:UInt32}"
            " AND toUnixTimestamp64Micro(v.as_of) IN {times:Array(Int64)} ORDER BY v.as_of",
            asked | {"times": list(found)},
        )
        return [
            {"stored": json.loads(row["evidence"]), "again": _parsed(found[row["at_us"]])}
            for row in rows
        ]

    def _query(self, sql: str, asked: Body) -> list[Body]:
        return self._store.query(f"{sql} {BOUNDED}", asked)


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def routes(replay: Replay) -> APIRouter:
    """The routes of this module."""
    router = APIRouter(tags=["gates"])
    router.add_api_route(
        "/v1/gates/{gate_id}/replay",
        replay.get,
        methods=["GET"],
        response_model=ReplayAnswer,
        responses=described(401, 403, 404, 422, 429, 503),
        summary="Stored verdicts of a gate, computed again",
    )
    return router
