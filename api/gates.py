"""GET /v1/gates and /v1/gates/{id}/verdict: may this release go on?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Path, Query, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from ..schemas.config import AbsoluteGate
from ..schemas.errors import NotFound, StoreError
from ..schemas.ports import StoreReader
from ..streams.core.gates.absolute import CellCounts, Context, evaluate, initial_state
from ..streams.core.gates.canonical import spec_hash
from .answers import Answer
from .models import GatesAnswer, VerdictAnswer
from .parameters import Ask, Wait
from .problems import described
from .queries import BOUNDED
from .shared import Shared

Body = dict[str, Any]
_DECIDED = ("PASS", "FAIL")
_POLL_S = 0.5


class VerdictAsk(Ask):
    """How long the caller would wait."""

    wait: Wait = Field(0.0, description="Wait for a decision or a change, at most 60 s.")


class Verdicts:
    """Reads the newest verdict of each gate.

    Args:
        store: where the streams put them.
        gates: the specifications in force.
        watermark_us: event time now, for gates that nobody has evaluated yet.
    """

    def __init__(
        self, store: StoreReader, gates: Sequence[AbsoluteGate], watermark_us: Callable[[], int]
    ) -> None:
        self.gates = {gate.id: gate for gate in gates}
        self._hashes = {gate.id: spec_hash(gate) for gate in gates}
        self._store = store
        self._watermark_us = watermark_us

    def latest(self) -> dict[str, Body]:
        """The verdict of every gate, as the streams stored it.

        A verdict under another specification than the one in force is not shown: a limit that was
        changed must not pass on the strength of the old one.
        """
        if not self.gates:
            return {}
        # One short read at the end of each gate's rows, which one query over all would not be.
        newest = (
            "(SELECT gate_id, spec_hash, evidence FROM penstock.verdicts "
            f"WHERE gate_id = {{g{number}:String}} ORDER BY epoch DESC, as_of DESC LIMIT 1)"
            for number in range(len(self.gates))
        )
        rows = self._store.query(
            f"SELECT * FROM ({' UNION ALL '.join(newest)}) {BOUNDED}",
            {f"g{number}": name for number, name in enumerate(self.gates)},
        )
        stored = {
            row["gate_id"]: json.loads(row["evidence"])
            for row in rows
            if row["spec_hash"] == self._hashes[row["gate_id"]]
        }
        watermark_us = self._watermark_us()
        return {
            name: stored.get(name) or not_evaluated(gate, watermark_us)
            for name, gate in self.gates.items()
        }


def not_evaluated(gate: AbsoluteGate, watermark_us: int) -> Body:
    """The verdict of a gate before anything was counted: NO_DATA, with every key of a verdict."""
    none = np.empty(0, np.int64)
    names = [limit.name for limit in gate.metrics]
    each = dict.fromkeys(names, none)
    context = Context(watermark_us=watermark_us, coverage=None, coverage_state="no_data")
    state = initial_state(gate, 0, 0)
    return evaluate(gate, state, CellCounts(none, none, each, each, each), context)[1].to_dict()


class Gates:
    """Answers questions for gates."""

    def __init__(self, verdicts: Verdicts, is_stopping: Callable[[], bool]) -> None:
        self._verdicts = verdicts
        self._shared = Shared(verdicts.latest, _POLL_S, is_stopping)

    def get(self) -> Response:
        """Every gate of the configuration: its specification and its newest verdict."""
        latest = self._verdicts.latest()
        return Answer(
            {
                "gates": [
                    {
                        "id": name,
                        "kind": gate.kind,
                        "filter": gate.filter.given(),
                        "spec": gate.model_dump(mode="json"),
                        "latest": latest[name],
                    }
                    for name, gate in self._verdicts.gates.items()
                ]
            }
        )

    async def verdict(
        self,
        gate_id: Annotated[str, Path(max_length=64, examples=["canary"])],
        ask: Annotated[VerdictAsk, Query()],
    ) -> Response:
        """The newest verdict of a gate; with `wait`, as soon as it is decided or changes.

        Always 200 while the service works, whatever the verdict: a pipeline reads `verdict` and
        `action`. 4xx and 5xx are faults, never verdicts.
        """
        if gate_id not in self._verdicts.gates:
            raise NotFound(f"the configuration has no gate {gate_id!r}")
        body = (await run_in_threadpool(self._verdicts.latest))[gate_id]
        if ask.wait > 0 and body["verdict"] not in _DECIDED:
            body = await self._changed(gate_id, body, ask.wait)
        return Answer(body)

    async def _changed(self, gate_id: str, body: Body, wait_s: float) -> Body:
        """The first verdict that is decided or another than `body`; after `wait_s` the present one.

        Raises:
            StoreError: the store is away at the end of the wait.
        """
        was = body["epoch"], body["verdict"]
        failure: StoreError | None = None
        try:
            async with asyncio.timeout(wait_s), aclosing(self._shared.follow()) as values:
                async for value in values:
                    if isinstance(value, StoreError):
                        failure = value
                        continue
                    failure, body = None, value[gate_id]
                    if body["verdict"] in _DECIDED or (body["epoch"], body["verdict"]) != was:
                        break
        except TimeoutError:
            pass  # as long as the caller would wait: the present verdict is the answer
        if failure is not None:
            raise failure
        return body


def routes(verdicts: Verdicts, is_stopping: Callable[[], bool]) -> APIRouter:
    """The routes of this module."""
    router = APIRouter(tags=["gates"])
    gates = Gates(verdicts, is_stopping)
    router.add_api_route(
        "/v1/gates",
        gates.get,
        methods=["GET"],
        response_model=GatesAnswer,
        responses=described(401, 403, 429, 503),
        summary="Gates and their newest verdicts",
    )
    router.add_api_route(
        "/v1/gates/{gate_id}/verdict",
        gates.verdict,
        methods=["GET"],
        response_model=VerdictAnswer,
        responses=described(401, 403, 404, 422, 429, 503),
        summary="Verdict of a gate",
    )
    return router
