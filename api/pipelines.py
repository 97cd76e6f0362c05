"""Verdicts in the words of release tools: Flagger's hooks, Kayenta's executions, a word for scripts."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Path, Query, Request, Response
from pydantic import Field

from .answers import Answer
from .auth import Guard
from .gates import VerdictAsk, of_release
from .gates_models import ExecutionAnswer, GateId, HookAnswer, StartedAnswer, StatusAnswer
from .gates_verdicts import Body as Told
from .gates_waiting import Waiting
from .keys import Scope
from .pipelines_answers import (
    Follow,
    Hook,
    execution,
    execution_id,
    hook_succeeds,
    sentence_of,
    split_execution,
    status_of,
)
from .problems import described

NOT_YET = 409
ExecutionId = Annotated[str, Path(max_length=90, examples=["canary@3"])]


class PipelineAsk(VerdictAsk):
    """Of which release, how long to wait, and what decides."""

    follow: Follow = Field(
        "verdict",
        description="verdict: only what is proved; action: also what the gate's policies make of "
        "no proof after the deadline. An override counts in both.",
    )


class StatusAsk(PipelineAsk):
    """The same, in JSON or as one line."""

    format: Literal["json", "text"] = Field("json", description="text: the word and a sentence.")


class Pipelines:
    """Answers tools.

    Args:
        waiting: the verdicts.
    """

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting

    async def _told(self, gate_id: str, ask: PipelineAsk) -> Told:
        told = await self._waiting.settled(
            gate_id,
            ask.wait,
            lambda body: status_of(of_release(body, ask.release), ask.follow) != "in_progress",
        )
        return of_release(told, ask.release)

    async def status(self, gate_id: GateId, ask: Annotated[StatusAsk, Query()]) -> Response:
        """`in_progress`, `pass` or `fail`: for scripts. Always 200 while the service works."""
        told = await self._told(gate_id, ask)
        status = status_of(told, ask.follow)
        if ask.format == "text":
            return Response(f"{status} {sentence_of(told)}\n", media_type="text/plain")
        return Answer({"status": status, **_why(told)})

    async def hook(
        self,
        gate_id: GateId,
        hook: Annotated[Hook, Path()],
        ask: Annotated[PipelineAsk, Query()],
        _: Annotated[dict[str, object] | None, Body(description="Flagger's payload.")] = None,
    ) -> Response:
        """A webhook of Flagger: 200 is yes, 409 is not (yet); the body says why.

        `confirm-promotion`, `confirm-rollout` and `pre-rollout` are 200 only on a pass, `rollback`
        only on a fail; `rollout` and `confirm-traffic-increase` as long as nothing speaks against it.
        """
        told = await self._told(gate_id, ask)
        succeeds = hook_succeeds(hook, told, ask.follow)
        body = {"hook": hook, "ok": succeeds, **_why(told)}
        return Answer(body, 200 if succeeds else NOT_YET)

    async def start(self, gate_id: GateId) -> Response:
        """What Orca calls to start a canary: names the gate's epoch; a gate needs no starting."""
        told = await self._waiting.now(gate_id)
        return Answer({"canaryExecutionId": execution_id(gate_id, told["epoch"])})

    async def canary(
        self, execution: ExecutionId, follow: Annotated[Follow, Query()] = "verdict"
    ) -> Response:
        """A canary execution in Kayenta's JSON: running, then succeeded with the score 100 or 0."""
        return Answer(await self._execution(execution, follow))

    async def cancel(self, execution: ExecutionId) -> Response:
        """What Orca calls when its stage is cancelled: nothing, for asking is all there was."""
        await self._execution(execution, "verdict")
        return Answer({})

    async def _execution(self, named: str, follow: Follow) -> Told:
        gate_id, epoch = split_execution(named)
        return execution(gate_id, epoch, await self._waiting.now(gate_id), follow)


def _why(told: Told) -> Told:
    names = ("verdict", "action", "reasons", "release", "epoch", "override", "n_needed", "eta_s")
    return {name: told[name] for name in (*names, "next_poll_ms")} | {"text": sentence_of(told)}


def routes(waiting: Waiting) -> APIRouter:
    """The routes that take a bearer key."""
    router = APIRouter(tags=["pipelines"])
    pipelines = Pipelines(waiting)
    problems = described(401, 403, 404, 422, 429, 503)
    canary = "/v1/kayenta/canary/{execution}"
    for method, path, endpoint, model, summary in (
        ("GET", "/v1/gates/{gate_id}/status", pipelines.status, StatusAnswer, "One word"),
        ("POST", "/v1/kayenta/canary/{gate_id}", pipelines.start, StartedAnswer, "Start (Kayenta)"),
        ("GET", canary, pipelines.canary, ExecutionAnswer, "A canary execution (Kayenta)"),
        ("PUT", "/v1/kayenta/pipelines/{execution}/cancel", pipelines.cancel, None, "Cancel"),
    ):
        router.add_api_route(
            path,
            endpoint,
            methods=[method],
            response_model=model,
            responses=problems,
            summary=summary,
        )
    return router


def hook_routes(waiting: Waiting) -> APIRouter:
    """The hooks of Flagger, which can send no header: their key may be the URL's password."""
    router = APIRouter(tags=["pipelines"])
    router.add_api_route(
        "/v1/gates/{gate_id}/hooks/{hook}",
        Pipelines(waiting).hook,
        methods=["POST"],
        response_model=HookAnswer,
        responses=described(401, 403, 404, 422, 429, 503)
        | {NOT_YET: {"model": HookAnswer, "description": "Not (yet)"}},
        summary="A webhook of Flagger",
        openapi_extra={"security": [{"key": []}]},
    )
    return router


def needs_by_url(guard: Guard, *scopes: Scope) -> Callable[[Request], Awaitable[None]]:
    """A dependency as `Guard.needs`, which also takes a key as the password of `http://any:KEY@host`."""

    async def check(request: Request) -> None:
        token = token_of(request.headers.get("authorization", ""))
        request.state.scopes = guard.admit(token, scopes)
        request.state.caller = guard.name_of(token)

    return check


def token_of(authorization: str) -> str | None:
    """The key in a header: a bearer's, or the password of Basic; None where there is none.

    >>> token_of("Bearer psk_1_2"), token_of("Basic eDpwc2tfMV8y"), token_of("Basic ?")
    ('psk_1_2', 'psk_1_2', None)
    """
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return given.strip() or None
    if scheme.lower() != "basic":
        return None
    try:
        _, _, password = base64.b64decode(given, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return password or None
