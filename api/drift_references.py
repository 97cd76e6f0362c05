"""/v1/drift/references: training distributions, and what monitors chose; uploads and pins."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from ..schemas.drift.monitors import DriftMonitor
from ..schemas.drift.references import Name
from ..schemas.errors import InvalidQuery, NotFound
from ..streams.core.drift.reference_sets import ReferenceSet, reference_set
from ..streams.core.drift.series_counts import SeriesCounts
from ..streams.core.drift.stored import (
    Scope,
    counting_of,
    counts_of_rows,
    counts_sql,
    newest_sql,
    reference_rows,
    set_of_rows,
    set_sql,
)
from .answers import Answer
from .drift_models import ReferenceAnswer, ReferencesAnswer
from .journal import SignalStore
from .parameters import Ask
from .problems import described
from .queries import BOUNDED
from .signal_models import Body

MOST_KEYS = 100_000
Count = Annotated[int, Field(ge=0, lt=2**53)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SeriesBody(_Body):
    """Counts of one series: by sketch bin of a feature, by name of a category."""

    kind: Literal["feature", "category"]
    rows: Count = Field(0, description="Rows with and without a value; 0: not known.")
    counts: dict[str, Count] = Field(min_length=1, max_length=MOST_KEYS)

    @model_validator(mode="after")
    def _bins(self) -> SeriesBody:
        if self.kind == "feature" and not all(
            key.isdecimal() and int(key) < 65536 for key in self.counts
        ):
            raise ValueError("keys of a feature are sketch bins, 0 to 65535")
        if self.rows and self.rows < sum(self.counts.values()):
            raise ValueError("more values than rows")
        return self


class ReferenceBody(_Body):
    """A reference to be kept: `series` of an upload, or what `monitor` saw."""

    name: Name = Field(examples=["training"])
    series: dict[str, SeriesBody] = Field(default_factory=dict, max_length=200)
    monitor: str | None = Field(None, max_length=64, description="Pin what this monitor saw.")
    start: AwareDatetime | None = Field(
        None, description="Of a period; without it, what the monitor is compared with now."
    )
    end: AwareDatetime | None = None

    @model_validator(mode="after")
    def _one_source(self) -> ReferenceBody:
        if bool(self.series) == (self.monitor is not None):
            raise ValueError("give either series or monitor")
        if (self.start is None) != (self.end is None):
            raise ValueError("give start and end, or neither")
        if self.start is not None and (self.monitor is None or self.end <= self.start):  # type: ignore[operator]  # both or neither, above
            raise ValueError("start and end are of a monitor, and start comes first")
        return self


class ReferencesAsk(Ask):
    """Which references."""

    scope: Literal["uploaded", "monitor"] | None = None
    name: str | None = Field(None, max_length=64)
    limit: int = Field(100, ge=1, le=1000)


class StoredReferences:
    """References in the store.

    Args:
        store: keeps them.
        monitors: of the configuration.
        wall_us: the clock, integer microseconds since 1970.
    """

    def __init__(
        self, store: SignalStore, monitors: Sequence[DriftMonitor], wall_us: Callable[[], int]
    ) -> None:
        self._store = store
        self._monitors = {monitor.id: monitor for monitor in monitors}
        self._wall_us = wall_us

    def all(self, ask: ReferencesAsk) -> Body:
        """Revisions of references, the newest first."""
        given = {name: text for name in ("scope", "name") if (text := getattr(ask, name))}
        where = "".join(f" AND {name} = {{{name}:String}}" for name in given)
        rows = self._store.query(
            "SELECT scope, name, revision, any(source) AS source, max(created) AS stored,"
            " CAST((groupArray(series), groupArray(values)), 'Map(String, UInt64)') AS sizes"
            f" FROM penstock.drift_references WHERE 1{where} GROUP BY scope, name, revision"
            f" ORDER BY stored DESC, scope, name, revision DESC LIMIT {{limit:UInt32}} {BOUNDED}",
            {"limit": ask.limit, **given},
        )
        return {"references": [_shown(row) for row in rows]}

    def keep(self, body: ReferenceBody) -> Body:
        """Store a reference; equal content keeps its revision.

        Raises:
            NotFound: there is no such monitor.
            InvalidQuery: the monitor saw nothing there.
            StoreError: the outcome is unknown; it may be repeated.
        """
        made = self._uploaded(body) if body.series else self._pinned(body)
        now_us = self._wall_us()
        newest = self._newest("uploaded", body.name)
        found = made.revised(newest)
        if newest is None or found.revision != newest.revision:
            rows = reference_rows("uploaded", body.name, found, now_us)
            token = f"drift-{body.name}-{found.revision}-{found.digest}"
            self._store.insert("drift_references_rows", rows, token)
        return next(
            item
            for item in self.all(ReferencesAsk(scope="uploaded", name=body.name, limit=1000))[
                "references"
            ]
            if item["revision"] == found.revision
        )

    def _uploaded(self, body: ReferenceBody) -> ReferenceSet:
        piece = {
            name: SeriesCounts(item.rows or sum(item.counts.values()), item.counts)
            for name, item in body.series.items()
        }
        features = [name for name, item in body.series.items() if item.kind == "feature"]
        categories = [name for name, item in body.series.items() if item.kind == "category"]
        # Without hours: nobody knows when these values were.
        return reference_set(body.name, {"kind": "uploaded"}, {0: piece}, features, categories)

    def _pinned(self, body: ReferenceBody) -> ReferenceSet:
        spec = self._monitors.get(body.monitor or "")
        if spec is None:
            raise NotFound(f"the configuration has no drift monitor {body.monitor!r}")
        if body.start is None or body.end is None:
            found = self._newest("monitor", spec.id)
            if found is None:
                raise InvalidQuery(f"{spec.id} has chosen no reference yet: give start and end")
            return ReferenceSet(found.series)
        counting = counting_of(spec)
        span = _seconds(body.start), _seconds(body.end)
        rows = self._store.query(*counts_sql(counting, [span], counting.series))
        pieces = counts_of_rows(rows, counting, [span], counting.series)
        told = {"kind": "pinned", "monitor": spec.id, "span": list(span)}
        made = reference_set(body.name, told, pieces, spec.features, spec.categories)
        if not made.series:
            raise InvalidQuery(f"{spec.id} counted nothing from {body.start} to {body.end}")
        return made

    def _newest(self, scope: Scope, name: str) -> ReferenceSet | None:
        revision = int(self._store.query(*newest_sql(scope, name))[0]["newest"])
        return set_of_rows(self._store.query(*set_sql(scope, name, revision)), revision)


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _shown(row: dict[str, Any]) -> Body:
    found = {name: row[name] for name in ("scope", "name", "revision")}
    return found | {
        "source": json.loads(row["source"]),
        "series": dict(row["sizes"]),
        "created": row["stored"],
    }


def read_routes(references: StoredReferences) -> APIRouter:
    """The route that lists them."""

    def listed(ask: Annotated[ReferencesAsk, Query()]) -> Response:
        """Uploaded and pinned references, and what each monitor chose, every revision."""
        return Answer(references.all(ask))

    router = APIRouter(tags=["drift"])
    router.add_api_route(
        "/v1/drift/references",
        listed,
        methods=["GET"],
        response_model=ReferencesAnswer,
        responses=described(401, 403, 422, 429, 503),
        summary="References that traffic is compared with",
    )
    return router


def write_routes(references: StoredReferences) -> APIRouter:
    """The route that keeps one."""

    def keep(body: ReferenceBody) -> Response:
        """Upload a distribution as counts, or pin what a monitor saw. Equal content changes nothing."""
        return Answer(references.keep(body), 201)

    router = APIRouter(tags=["drift"])
    router.add_api_route(
        "/v1/drift/references",
        keep,
        methods=["POST"],
        status_code=201,
        response_model=ReferenceAnswer,
        responses=described(401, 403, 404, 422, 429, 503),
        summary="Keep a reference",
    )
    return router
