"""/v1/config: the configuration in force, its versions, a new one, and the way back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from ..schemas.config_versions import MAX_BYTES, ConfigVersion
from ..schemas.errors import InvalidConfiguration
from ..streams.core.config_changes import Changes
from .answers import Answer
from .auth import caller_of
from .bodies import read_bounded
from .config_models import AppliedAnswer, ConfigAnswer, VersionsAnswer
from .config_versions import Proposal, Versions, expected_version
from .parameters import Ask
from .problems import described

Body = dict[str, Any]
IfMatch = Annotated[
    str | None,
    Header(description="ETag of GET /v1/config: the version that this replaces.", examples=['"3"']),
]
_TEXT = {"schema": {"type": "string", "description": "penstock.yaml, the whole of it."}}
_REQUEST_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/yaml": _TEXT, "application/json": {"schema": {"type": "object"}}},
    }
}
_WHY = Field(min_length=1, max_length=1000, examples=["p95 limit for the new GPUs"])
_EXPECTED = Field(None, ge=0, description="Instead of If-Match.", examples=[3])
_DRY_RUN = Field(False, description="Only say what would change.")


class ApplyAsk(Ask):
    """How a configuration is to be applied."""

    why: str = _WHY
    dry_run: bool = _DRY_RUN
    expected_version: int | None = _EXPECTED


class VersionsAsk(Ask):
    """How many versions."""

    limit: int = Field(20, ge=1, le=200)


class RollbackBody(BaseModel):
    """Which version is to be in force again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = Field(ge=0, description="0 is penstock.yaml.", examples=[2])
    why: str = _WHY
    dry_run: bool = _DRY_RUN
    expected_version: int | None = _EXPECTED


class Config:
    """Answers questions about the configuration.

    Args:
        versions: of the store.
    """

    def __init__(self, versions: Versions) -> None:
        self._versions = versions

    def get(self) -> Response:
        """The configuration in force. Its ETag is what a change names in If-Match."""
        newest = self._versions.newest()
        number = 0 if newest is None else newest.number
        means = self._versions.understood(newest)
        body = _shown(newest) | {
            "text": newest and newest.text,
            "configuration": means and means.model_dump(mode="json"),
        }
        answer = Answer(body)
        answer.headers["ETag"] = f'"{number}"'
        return answer

    def listed(self, ask: Annotated[VersionsAsk, Query()]) -> Response:
        """Versions, the newest first."""
        return Answer({"versions": [_shown(item) for item in self._versions.latest(ask.limit)]})

    async def apply(
        self, request: Request, ask: Annotated[ApplyAsk, Query()], if_match: IfMatch = None
    ) -> Response:
        """Put a configuration in force, without a restart; with `dry_run`, say what it would change.

        The body is the whole of penstock.yaml, as YAML or JSON: what is left out is removed. Everybody
        takes it up within seconds and loses no count. A configuration that has mistakes changes
        nothing, and so does one that changes nothing.
        """
        declared = request.headers.get("content-length")
        raw = await read_bounded(request.stream(), declared, MAX_BYTES)
        text = _decoded(raw)
        who = caller_of(request)

        def work() -> Response:
            proposal = self._versions.propose(text)
            return self._made(proposal, ask, if_match, who)

        return await run_in_threadpool(work)

    def rollback(self, request: Request, body: RollbackBody, if_match: IfMatch = None) -> Response:
        """Put an earlier version in force again, as a new version; 0 is penstock.yaml."""
        proposal = self._versions.propose_rollback(body.version)
        return self._made(proposal, body, if_match, caller_of(request))

    def _made(
        self, proposal: Proposal, ask: ApplyAsk | RollbackBody, if_match: str | None, who: str
    ) -> Response:
        number = proposal.before
        if not ask.dry_run:
            expected = expected_version(if_match, ask.expected_version)
            if proposal.changes.parts or expected != proposal.before or not proposal.understood:
                number = self._versions.make(proposal, expected, who, ask.why).number
        answer = Answer(
            {
                "version": number,
                "replaced": proposal.before,
                "dry_run": ask.dry_run,
                "changes": proposal.changes.to_dict(),
            }
        )
        answer.headers["ETag"] = f'"{number}"'
        return answer


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidConfiguration(f"the body is not UTF-8: {error}") from error


def _shown(version: ConfigVersion | None) -> Body:
    if version is None:
        nobody = dict.fromkeys(("action", "rolled_back_to", "at", "who", "why"))
        return {"version": 0, **nobody, "changes": Changes({}, ()).to_dict()}
    return {
        "version": version.number,
        "action": version.action,
        "rolled_back_to": version.rolled_back_to,
        "at": datetime.fromtimestamp(version.at_s, UTC),
        "who": version.who,
        "why": version.why,
        "changes": version.changes,
    }


def routes(versions: Versions) -> APIRouter:
    """The routes of this module."""
    config = Config(versions)
    router = APIRouter(tags=["config"])
    for method, path, endpoint, model, summary, statuses, more in (
        ("GET", "/v1/config", config.get, ConfigAnswer, "The configuration in force", (), None),
        (
            "POST", "/v1/config", config.apply, AppliedAnswer, "Change the configuration",
            (409, 413, 422), _REQUEST_BODY,
        ),
        (
            "GET", "/v1/config/versions", config.listed, VersionsAnswer,
            "Versions of the configuration", (422,), None,
        ),
        (
            "POST", "/v1/config/rollback", config.rollback, AppliedAnswer,
            "Go back to a version", (404, 409, 422), None,
        ),
    ):  # fmt: skip
        router.add_api_route(
            path,
            endpoint,
            methods=[method],
            response_model=model,
            responses=described(401, 403, *statuses, 429, 503),
            summary=summary,
            openapi_extra=more,
        )
    return router
