"""GET /v1/releases: release markers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field

from ..schemas.ports import StoreReader
from .answers import Answer
from .models import ReleasesAnswer
from .parameters import Ask, Time
from .problems import described
from .queries import BOUNDED, Conditions, event_columns, listed, text_columns, without_empty

_TEXTS = text_columns("release")


class ReleasesAsk(Ask):
    """Which markers."""

    model: str | None = None
    release: str | None = None
    variant: str | None = None
    stage: str | None = None
    start: Time | None = Field(None, description="At or after.")
    end: Time | None = Field(None, description="Before.")
    limit: int = Field(200, ge=1, le=1000)


class Releases:
    """Answers questions for releases."""

    def __init__(self, store: StoreReader) -> None:
        self._store = store

    def get(self, ask: Annotated[ReleasesAsk, Query()]) -> Response:
        """Release markers, newest first: deploys and changes of a canary's share."""
        where = Conditions()
        for name in ("model", "release", "variant", "stage"):
            where.equal(name, getattr(ask, name))
        where.since("ts", ask.start)
        where.before("ts", ask.end)
        rows = self._store.query(
            f"SELECT {listed(event_columns('release'))} FROM penstock.releases {where.text} "
            f"ORDER BY ts DESC, boot_id DESC, seq DESC LIMIT {{limit:UInt32}} {BOUNDED}",
            where.parameters | {"limit": ask.limit},
        )
        return Answer({"releases": [without_empty(row, _TEXTS) for row in rows]})


def routes(store: StoreReader) -> APIRouter:
    """The routes of this module."""
    router = APIRouter(tags=["releases"])
    router.add_api_route(
        "/v1/releases",
        Releases(store).get,
        methods=["GET"],
        response_model=ReleasesAnswer,
        responses=described(401, 403, 422, 429, 503),
        summary="Release markers",
    )
    return router
