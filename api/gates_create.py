"""POST /v1/gates: one gate more, as a new version of the configuration."""

from __future__ import annotations

import json
from typing import Any

import yaml
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from ..schemas.config import Configuration
from ..schemas.config_versions import RUNTIME, ConfigVersion
from ..schemas.errors import Conflict, InvalidQuery
from .answers import Answer
from .auth import caller_of
from .config_versions import Versions
from .gates_models import CreatedAnswer
from .problems import described


class GateBody(BaseModel):
    """A gate to be added, or changed where there is one of that id."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec: dict[str, Any] = Field(
        description="As an entry of `gates:` in penstock.yaml.",
        examples=[{"id": "canary", "metrics": [{"metric": "error_rate", "max_ratio": 0.01}]}],
    )
    why: str = Field(min_length=1, max_length=1000, examples=["the new model's canary"])
    replace: bool = Field(False, description="Change a gate that is there.")
    dry_run: bool = Field(False, description="Only say what would change.")


class Create:
    """Adds gates.

    Args:
        versions: of the configuration, as POST /v1/config makes them.
    """

    def __init__(self, versions: Versions) -> None:
        self._versions = versions

    async def post(self, request: Request, body: GateBody) -> Response:
        """Add a gate. It is validated with all the rest, and is in force within seconds.

        The result is a version of the configuration, to be seen and rolled back as any other
        (/v1/config/versions).
        """
        who = caller_of(request)
        return await run_in_threadpool(self._make, body, who)

    def _make(self, body: GateBody, who: str) -> Response:
        newest = self._versions.newest()
        number = 0 if newest is None else newest.number
        document = _document(newest, self._versions.configuration(newest))
        proposal = self._versions.propose(json.dumps(_with_gate(document, body)))
        if proposal.before != number:
            raise Conflict("somebody else changed the configuration meanwhile: send it again")
        if set(proposal.changes.parts) - {"gates"}:
            raise InvalidQuery(
                "penstock.yaml cannot be written again without changing "
                f"{', '.join(sorted({*proposal.changes.parts} - {'gates'}))}: send the whole of it, "
                "with the gate, to POST /v1/config"
            )
        if not body.dry_run and proposal.changes.parts:
            number = self._versions.make(proposal, number, who, body.why).number
        changes = proposal.changes.to_dict()
        told = {"gate": body.spec["id"], "version": number, "dry_run": body.dry_run}
        return Answer(told | {"changes": changes}, 200 if body.dry_run else 201)


def _document(newest: ConfigVersion | None, means: Configuration) -> dict[str, Any]:
    """The configuration in force as its own text has it, or, of penstock.yaml, as it was read."""
    if newest is not None and newest.text is not None:
        document = yaml.safe_load(newest.text)
        return dict(document) if document else {}
    return means.model_dump(mode="json", exclude_unset=True, by_alias=True, include={*RUNTIME})


def _with_gate(document: dict[str, Any], body: GateBody) -> dict[str, Any]:
    """The document with one gate added or changed in its place.

    Raises:
        InvalidQuery: the gate has no id, or is there already and is not to be replaced.
    """
    name = body.spec.get("id")
    if not isinstance(name, str):
        raise InvalidQuery("spec.id: a gate needs an id")
    gates = list(document.get("gates") or ())
    at = next((at for at, gate in enumerate(gates) if gate.get("id") == name), None)
    if at is None:
        gates.append(body.spec)
    elif body.replace:
        gates[at] = body.spec
    else:
        raise InvalidQuery(f"there is a gate {name!r} already: say replace to change it")
    return document | {"gates": gates}


def routes(create: Create) -> APIRouter:
    """The route of this module."""
    router = APIRouter(tags=["gates"])
    router.add_api_route(
        "/v1/gates",
        create.post,
        methods=["POST"],
        status_code=201,
        response_model=CreatedAnswer,
        responses=described(401, 403, 409, 422, 429, 503),
        summary="Add a gate",
    )
    return router
