"""GET /v1/gates/{id}/verdicts and /epochs: what a gate said, and on what evidence."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field

from ..schemas.ports import StoreReader
from .answers import Answer
from .gates_models import EpochsAnswer, GateId, HistoryAnswer
from .gates_verdicts import Body, Verdicts
from .parameters import Ask, Time
from .problems import described
from .queries import BOUNDED, Conditions, micros, micros_of

MAX_VERDICTS = 1000


class HistoryAsk(Ask):
    """Which stored verdicts."""

    epoch: int | None = Field(None, ge=0, description="Without it, the newest.")
    start: Time | None = Field(None, description="At or after, in event time.")
    end: Time | None = Field(None, description="Before.")
    step: int = Field(
        10, ge=1, le=86_400, description="Seconds of event time; the last verdict of each counts."
    )
    limit: int = Field(200, ge=1, le=MAX_VERDICTS, description="The newest so many.")


class EpochsAsk(Ask):
    """Which epochs."""

    limit: int = Field(20, ge=1, le=200, description="The newest so many.")


class History:
    """Reads what gates said.

    Args:
        store: where the streams put it.
        verdicts: knows which gates there are.
    """

    def __init__(self, store: StoreReader, verdicts: Verdicts) -> None:
        self._store = store
        self._verdicts = verdicts

    def verdicts(self, gate_id: GateId, ask: Annotated[HistoryAsk, Query()]) -> Response:
        """Stored verdicts of one epoch with their evidence, oldest first.

        A verdict is stored when it changes, and every ten seconds of event time while it does not.
        """
        self._verdicts.known(gate_id)
        epoch = ask.epoch if ask.epoch is not None else self._newest(gate_id)
        where = Conditions()
        where.add("gate_id = {gate:String}", gate=gate_id)
        where.add("epoch = {epoch:UInt32}", epoch=epoch or 0)
        for time_us, name, sign in ((ask.start, "since", ">="), (ask.end, "before", "<")):
            if time_us is not None:
                where.add(f"as_of {sign} {micros(name)}", **{name: time_us})
        rows = self._store.query(
            "SELECT as_of, epoch, verdict, digest, evidence FROM penstock.verdicts "
            f"{where.text} ORDER BY as_of DESC "
            "LIMIT 1 BY intDiv(toUnixTimestamp(as_of), {step:UInt32}) "
            f"LIMIT {{limit:UInt32}} {BOUNDED}",
            where.parameters | {"step": ask.step, "limit": ask.limit},
        )
        return Answer(
            {
                "gate": gate_id,
                "epoch": epoch,
                "step_s": ask.step,
                "verdicts": [_told(row) for row in reversed(rows)],
            }
        )

    def epochs(self, gate_id: GateId, ask: Annotated[EpochsAsk, Query()]) -> Response:
        """Each release that the gate judged: how it ended, how often it changed its mind."""
        self._verdicts.known(gate_id)
        # Narrow columns first: the evidence of a year of verdicts is gigabytes.
        rows = self._store.query(
            "SELECT epoch, min(as_of) AS first, max(as_of) AS last, argMax(said, as_of) AS verdict, "
            "argMax(n, as_of) AS n, countIf(before NOT IN ('', said)) AS changes, "
            "sumMap(map(said, toUInt64(1))) AS seen FROM ("
            "SELECT epoch, as_of, n, toString(verdict) AS said, lagInFrame(said) OVER "
            "(PARTITION BY epoch ORDER BY as_of ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS before "
            "FROM penstock.verdicts WHERE gate_id = {gate:String}) "
            f"GROUP BY epoch ORDER BY epoch DESC LIMIT {{limit:UInt32}} {BOUNDED}",
            {"gate": gate_id, "limit": ask.limit},
        )
        evidence = self._store.query(
            "SELECT epoch, evidence FROM penstock.verdicts WHERE gate_id = {gate:String} "
            f"AND toUnixTimestamp64Micro(as_of) IN {{lasts:Array(Int64)}} {BOUNDED}",
            {"gate": gate_id, "lasts": [micros_of(row["last"]) for row in rows]},
        )
        told = {row["epoch"]: json.loads(row["evidence"]) for row in evidence}
        epochs = [row | {"told": told[row["epoch"]]} for row in rows]
        return Answer({"gate": gate_id, "epochs": epochs})

    def _newest(self, gate_id: str) -> int | None:
        rows = self._store.query(
            "SELECT epoch FROM penstock.verdicts WHERE gate_id = {gate:String} "
            f"ORDER BY epoch DESC, as_of DESC LIMIT 1 {BOUNDED}",
            {"gate": gate_id},
        )
        return int(rows[0]["epoch"]) if rows else None


def _told(row: Body) -> Body:
    names = ("as_of", "epoch", "verdict", "digest")
    return {name: row[name] for name in names} | {"told": json.loads(row["evidence"])}


def routes(history: History) -> APIRouter:
    """The routes of this module."""
    router = APIRouter(tags=["gates"])
    problems = described(401, 403, 404, 422, 429, 503)
    router.add_api_route(
        "/v1/gates/{gate_id}/verdicts",
        history.verdicts,
        methods=["GET"],
        response_model=HistoryAnswer,
        responses=problems,
        summary="What a gate said, with evidence",
    )
    router.add_api_route(
        "/v1/gates/{gate_id}/epochs",
        history.epochs,
        methods=["GET"],
        response_model=EpochsAnswer,
        responses=problems,
        summary="The releases that a gate judged",
    )
    return router
