"""GET /v1/gates/{id}/replay: are its stored verdicts what their evidence gives?"""

from __future__ import annotations

import json
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Response
from pydantic import Field

from ..schemas.errors import NotFound
from ..schemas.gates import LiveGate
from ..schemas.ports import StoreReader
from ..streams.core.gates.blocks import BLOCKS_SQL, Block, block_of
from ..streams.core.gates.canonical import spec_hash
from ..streams.core.gates.replay import replayed
from .answers import Answer
from .gates_models import GateId, ReplayAnswer
from .gates_verdicts import Verdicts
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
        spec = self._verdicts.gates.get(gate_id)
        if spec is None:
            raise NotFound(f"the configuration has no gate {gate_id!r}")
        epoch, stored = self._stored(spec, ask.epoch)
        again = {
            at_us: orjson.dumps(verdict.to_dict()).decode()
            for at_us, verdict in replayed(
                spec, epoch, self._blocks(spec, epoch), self._start_us(spec, epoch)
            )
        }
        differing = [
            {"stored": json.loads(text), "again": _parsed(again.get(at_us))}
            for at_us, text in stored
            if again.get(at_us) != text
        ]
        return Answer(
            {
                "gate": gate_id,
                "epoch": epoch,
                "spec_hash": spec_hash(spec),
                "verdicts": len(stored),
                "same": len(stored) - len(differing),
                "differing": differing[:_MOST_SHOWN],
            }
        )

    def _stored(self, spec: LiveGate, epoch: int | None) -> tuple[int, list[tuple[int, str]]]:
        rows = self._store.query(
            "SELECT epoch, toUnixTimestamp64Micro(v.as_of) AS at_us, evidence"
            " FROM penstock.verdicts AS v WHERE gate_id = {gate:String}"
            f" AND spec_hash = {{hash:String}} ORDER BY epoch, v.as_of {BOUNDED}",
            {"gate": spec.id, "hash": spec_hash(spec)},
        )
        number = max((int(row["epoch"]) for row in rows), default=0) if epoch is None else epoch
        mine = [(int(row["at_us"]), str(row["evidence"])) for row in rows if row["epoch"] == number]
        if not mine:
            raise NotFound(f"no verdict of gate {spec.id!r} is stored for epoch {number}")
        return number, mine

    def _blocks(self, spec: LiveGate, epoch: int) -> list[Block]:
        asked = {"gate": spec.id, "epoch": epoch, "hash": spec_hash(spec), "after": 0}
        return [block_of(row) for row in self._store.query(f"{BLOCKS_SQL} {BOUNDED}", asked)]

    def _start_us(self, spec: LiveGate, epoch: int) -> int | None:
        """Where an epoch began, as a stored state tells it."""
        rows = self._store.query(
            "SELECT JSONExtractInt(state, 'state', 'start_us') AS start_us FROM penstock.verdicts"
            " WHERE gate_id = {gate:String} AND epoch = {epoch:UInt32}"
            f" AND spec_hash = {{hash:String}} AND state != '' ORDER BY as_of LIMIT 1 {BOUNDED}",
            {"gate": spec.id, "epoch": epoch, "hash": spec_hash(spec)},
        )
        return int(rows[0]["start_us"]) if rows else None


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
