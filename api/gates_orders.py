"""What people order of gates: overrides and resets. Each is in the audit log before it is in force."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from ..schemas.errors import InvalidQuery, NotFound
from ..schemas.gates.budget import BudgetGate
from ..schemas.ports import Receipt
from ..streams.core.gating import marked_by
from .answers import Answer
from .auth import caller_of
from .gates_models import GateId, OverrideAnswer, OverrideBody, ResetAnswer, ResetBody
from .gates_verdicts import OVERRIDES, SHOWN, Body
from .gates_waiting import Waiting
from .journal import Journal, SignalStore
from .problems import described

Post = Callable[[bytes], Awaitable[Receipt]]
RESET_STAGE = "gate-reset"
"""`stage` of the release marker that begins a new epoch of the one gate it names."""


class Orders:
    """Takes orders.

    Args:
        store: its audit log says what is in force.
        waiting: the verdicts, which show it.
        post: takes events in, as POST /v1/events does.
        wall_us: the clock, integer microseconds since 1970.
    """

    def __init__(
        self, store: SignalStore, waiting: Waiting, post: Post, wall_us: Callable[[], int]
    ) -> None:
        self._waiting = waiting
        self._post = post
        self._wall_us = wall_us
        self._journal = Journal(store, wall_us, OVERRIDES)

    async def override(self, request: Request, gate_id: GateId, body: OverrideBody) -> Response:
        """Order what pipelines shall do, whatever the evidence says, for a while.

        It holds until its time or the next epoch, whichever comes first: an order for one release
        says nothing about the next. Every answer shows it, and it stays in the audit log.
        """
        told = await self._waiting.now(gate_id)
        at, until = self._times(body)
        order = body.model_dump(include={"action", "who", "reason"}) | {
            "gate": gate_id,
            "at": at.isoformat(),
            "until": until.isoformat(),
            "epoch": told["epoch"],
        }
        await self._write("override", caller_of(request), order)
        shown = {name: order[name] for name in SHOWN}
        return Answer({"gate": gate_id, "override": shown}, 201)

    async def end(self, request: Request, gate_id: GateId) -> Response:
        """End the override that is in force.

        Raises:
            NotFound: there is none.
        """
        self._waiting.forget()
        told = await self._waiting.now(gate_id)
        if told["override"] is None:
            raise NotFound(f"no override of the gate {gate_id!r} is in force")
        await self._write("override_ended", caller_of(request), {"gate": gate_id})
        return Answer({"gate": gate_id, "override": None})

    async def reset(self, request: Request, gate_id: GateId, body: ResetBody) -> Response:
        """Begin a new epoch: nothing that was counted before counts any more.

        A reset is a release marker for this gate alone, so that it takes its place among the events.
        """
        told = await self._waiting.now(gate_id)
        if isinstance(self._waiting.verdicts.known(gate_id), BudgetGate):
            raise InvalidQuery("a budget goes on over releases: there is no epoch to begin")
        order: Body = {"gate": gate_id, **body.model_dump()}
        await self._write("reset", caller_of(request), order)
        await self._post(json.dumps(self._marker(gate_id, told["release"], order)).encode())
        self._waiting.forget()
        return Answer({"gate": gate_id, "epoch": told["epoch"]}, 202)

    def _marker(self, gate_id: str, release: str | None, order: Body) -> Body:
        gate = self._waiting.verdicts.known(gate_id)
        return {
            "event": "release",
            "ts": self._wall_us(),
            **marked_by(gate),
            "release": release or "unnamed",
            "stage": RESET_STAGE,
            "note": f"{order['who']}: {order['reason']}",
            "attributes": {"gate": gate_id},
        }

    async def _write(self, kind: str, caller: str, order: dict[str, Any]) -> None:
        await run_in_threadpool(self._journal.write, kind, caller, order)
        self._waiting.forget()

    def _times(self, body: OverrideBody) -> tuple[datetime, datetime]:
        """From when and until when an order holds.

        Raises:
            InvalidQuery: it has no end, two ends, or one that is over.
        """
        now = datetime.fromtimestamp(self._wall_us() // 1_000_000, UTC)
        if (body.until is None) == (body.duration_s is None):
            raise InvalidQuery("give either until or duration_s: an override has an end")
        until = body.until or now + timedelta(seconds=body.duration_s or 0)
        if not now < until <= now + timedelta(days=30):
            raise InvalidQuery(
                f"until must lie within 30 days from now, {now:%Y-%m-%dT%H:%M:%SZ}; for longer, "
                "change the gate"
            )
        return now, until


def routes(orders: Orders) -> APIRouter:
    """The routes of this module."""
    router = APIRouter(tags=["gates"])
    override = "/v1/gates/{gate_id}/override"
    for method, path, endpoint, status, model, summary in (
        ("POST", override, orders.override, 201, OverrideAnswer, "Override a gate"),
        ("DELETE", override, orders.end, 200, OverrideAnswer, "End the override of a gate"),
        ("POST", "/v1/gates/{gate_id}/reset", orders.reset, 202, ResetAnswer, "Begin a new epoch"),
    ):
        router.add_api_route(
            path,
            endpoint,
            methods=[method],
            status_code=status,
            response_model=model,
            responses=described(401, 403, 404, 422, 429, 503),
            summary=summary,
        )
    return router
