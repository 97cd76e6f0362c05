"""GET /v1/gates and /v1/gates/{id}/verdict: may this release go on?"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from ..streams.core.gating import marked_by
from .answers import Answer
from .gates_models import GateId
from .gates_verdicts import Body, Verdicts
from .gates_waiting import DECIDED, Waiting
from .models import GatesAnswer, VerdictAnswer
from .parameters import Ask, Wait
from .problems import described

__all__ = ["Verdicts", "Waiting", "routes"]


class VerdictAsk(Ask):
    """Of which release, and how long the caller would wait."""

    wait: Wait = Field(0.0, description="Wait for a decision or a change, at most 60 s.")
    release: str | None = Field(
        None,
        max_length=200,
        description="The release that is asked about. Until its marker is the gate's newest, the "
        "answer is NO_DATA: never the verdict of the release before it.",
    )


def of_release(told: Body, release: str | None) -> Body:
    """The answer about one release: that of another is none.

    >>> of_release({"release": "r1", "verdict": "PASS"}, "r1")["verdict"]
    'PASS'
    """
    if release is None or told["release"] == release:
        return told
    current = told["release"] or "no release"
    text = f"NO_DATA: the gate judges {current}; no newer release marker of {release} was stored"
    nothing = {"verdict": "NO_DATA", "reasons": ["no_data"], "evidence": [], "n": 0, "text": text}
    unknown = {"action": "wait", "n_needed": None, "eta_s": None, "digest": "", "override": None}
    return told | nothing | unknown


class Gates:
    """Answers questions for gates.

    Args:
        waiting: the verdicts.
    """

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting

    async def get(self) -> Response:
        """Every gate of the configuration: its specification and its newest verdict."""
        verdicts = self._waiting.verdicts
        latest = await run_in_threadpool(verdicts.latest)
        return Answer(
            {
                "gates": [
                    {
                        "id": name,
                        "kind": gate.kind,
                        "filter": marked_by(gate),
                        "spec": gate.model_dump(mode="json"),
                        "latest": latest[name],
                    }
                    for name, gate in verdicts.gates.items()
                ]
            }
        )

    async def verdict(self, gate_id: GateId, ask: Annotated[VerdictAsk, Query()]) -> Response:
        """The newest verdict of a gate; with `wait`, as soon as it is decided or changes.

        Always 200 while the service works, whatever the verdict: a pipeline reads `verdict` and
        `action`. 4xx and 5xx are faults, never verdicts.
        """
        told = await self._waiting.settled(
            gate_id,
            ask.wait,
            lambda body: body["verdict"] in DECIDED and body is of_release(body, ask.release),
        )
        return Answer(of_release(told, ask.release))


def routes(waiting: Waiting) -> APIRouter:
    """The routes of this module."""
    router = APIRouter(tags=["gates"])
    gates = Gates(waiting)
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
