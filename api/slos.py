"""GET /v1/slos and /v1/slos/{id}: what was promised, what is kept, and how fast the budget goes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from ..schemas.errors import InvalidQuery, NotFound
from ..schemas.ports import StoreReader
from ..schemas.slo.objective import Composite, Objective
from ..streams.core.slo.burn import BurnStatus
from ..streams.core.slo.status import STATES, ObjectiveStatus, objective_hash, overall
from .answers import Answer
from .parameters import Ask, Time
from .problems import described
from .queries import BOUNDED, Conditions, micros_of
from .signal_models import Body, SloDetail, SlosAnswer

MAX_POINTS = 2000
_DEFAULT_POINTS = 500
_WEEK_US = 7 * 86_400 * 1_000_000
_POINT = (
    "as_of", "state", "bad", "total", "attainment", "consumed", "left_minutes", "burn_1h",
    "coverage",
)  # fmt: skip
_STATUS = (
    *_POINT, "declared", "target", "period_start", "period_end", "budget_minutes", "exhaustion_s",
    "burns", "alarm_at", "spec_hash",
)  # fmt: skip


class SloAsk(Ask):
    """Which part of its history."""

    start: Time | None = Field(
        None, description="Event time, inclusive. Without it, the 7 days before the end."
    )
    end: Time | None = Field(None, description="Inclusive. Without it, the newest status.")
    step: int | None = Field(
        None,
        ge=1,
        le=31 * 86_400,
        description="Seconds: the last status of each is shown. Without it, about 500 points.",
        examples=[3600],
    )


class Slos:
    """Reads the statuses of objectives.

    Args:
        store: where the streams put them.
        slos: the configuration, as `objectives_of` gives it; None for whatever the store has.
    """

    def __init__(self, store: StoreReader, slos: Sequence[Objective | Composite] | None) -> None:
        self._store = store
        self._objectives = {item.id: item for item in slos or () if isinstance(item, Objective)}
        self._composites = {item.id: item for item in slos or () if isinstance(item, Composite)}
        self._any = slos is None

    def all(self) -> Body:
        """Every objective with its newest status, and the composites."""
        ids = self._known() if self._any else [*self._objectives]
        latest = self._latest(ids)
        statuses = {name: objective_status(name, row) for name, row in latest.items()}
        states = [row["state"] for row in latest.values()]
        composites = (overall(item, statuses) for item in self._composites.values())
        return {
            "as_of": max((row["as_of"] for row in latest.values()), default=None),
            "counts": {state: states.count(state) for state in STATES}
            | {"no_data": states.count("no_data") + len(ids) - len(latest)},
            "slos": [self._described(name) | {"latest": latest.get(name)} for name in ids],
            "overall": [item.to_dict() for item in composites],
        }

    def one(self, slo_id: str, ask: SloAsk) -> Body:
        """An objective over time.

        Raises:
            NotFound: there is none of that id.
            InvalidQuery: the range or the step makes no sense.
        """
        if slo_id in self._composites:
            parts = ", ".join(self._composites[slo_id].of)
            raise NotFound(f"{slo_id} is made of others: ask for {parts}, or for /v1/slos")
        if not self._any and slo_id not in self._objectives:
            raise NotFound(f"the configuration has no SLO {slo_id!r}")
        latest = self._latest([slo_id]).get(slo_id)
        if self._any and latest is None:
            raise NotFound(f"the store has no SLO {slo_id!r}")
        step_s, points = self._points(slo_id, ask, latest)
        return self._described(slo_id) | {"latest": latest, "step_s": step_s, "points": points}

    def _known(self) -> list[str]:
        rows = self._store.query(
            f"SELECT DISTINCT slo_id FROM penstock.slo_status_rows ORDER BY slo_id {BOUNDED}"
        )
        return [row["slo_id"] for row in rows]

    def _latest(self, ids: Sequence[str]) -> dict[str, Body]:
        """The newest status by id; one of another promise than the present one is left out."""
        if not ids:
            return {}
        # One short read at the end of each one's rows, which one query over all, or over the view,
        # would not be.
        newest = (
            f"(SELECT slo_id, {', '.join(_STATUS)} FROM penstock.slo_status_rows "
            f"WHERE slo_id = {{s{number}:String}} ORDER BY as_of DESC, version DESC LIMIT 1)"
            for number in range(len(ids))
        )
        rows = self._store.query(
            f"SELECT * FROM ({' UNION ALL '.join(newest)}) {BOUNDED}",
            {f"s{number}": name for number, name in enumerate(ids)},
        )
        found: dict[str, Body] = {}
        for row in rows:
            name, spec_hash = row.pop("slo_id"), row.pop("spec_hash")
            if self._is_current(name, spec_hash):
                found[name] = row | {"burns": json.loads(row["burns"])}
        return found

    def _is_current(self, slo_id: str, spec_hash: str) -> bool:
        asked = self._objectives.get(slo_id)
        return asked is None or objective_hash(asked) == spec_hash

    def _points(
        self, slo_id: str, ask: SloAsk, latest: Mapping[str, Any] | None
    ) -> tuple[int, list[Body]]:
        end_us = ask.end
        if end_us is None:
            end_us = micros_of(latest["as_of"]) if latest else ask.start or 0
        start_us = max(end_us - _WEEK_US, 0) if ask.start is None else ask.start
        if start_us > end_us:
            raise InvalidQuery("end must not lie before start")
        length_s = (end_us - start_us) // 1_000_000
        step_s = ask.step or max(length_s // _DEFAULT_POINTS, 1)
        if length_s // step_s > MAX_POINTS:
            raise InvalidQuery(f"more than {MAX_POINTS} points: shorten the range or enlarge step")
        where = Conditions({"slo": slo_id, "step": step_s})
        where.add("slo_id = {slo:String}")
        if asked := self._objectives.get(slo_id):
            where.add("spec_hash = {spec:String}", spec=objective_hash(asked))
        where.add("as_of >= toDateTime({first:UInt32}, 'UTC')", first=-(-start_us // 1_000_000))
        where.add("as_of <= toDateTime({last:UInt32}, 'UTC')", last=end_us // 1_000_000)
        rows = self._store.query(
            f"SELECT {', '.join(_POINT)} FROM penstock.slo_status {where.text} ORDER BY as_of DESC "
            f"LIMIT 1 BY intDiv(toUnixTimestamp(as_of), {{step:UInt32}}) "
            f"LIMIT {MAX_POINTS + 2} {BOUNDED}",
            where.parameters,
        )
        return step_s, rows[::-1]

    def _described(self, slo_id: str) -> Body:
        asked = self._objectives.get(slo_id)
        return {
            "id": slo_id,
            "description": asked.description if asked else "",
            "service": asked.service if asked else "",
            "filter": asked.filter.given() if asked else {},
            "window": asked.window if asked else "",
        }


def objective_status(slo_id: str, row: Mapping[str, Any]) -> ObjectiveStatus:
    """A row of `slo_status` as the core's value."""
    same = (
        "declared", "target", "state", "bad", "total", "attainment", "consumed", "budget_minutes",
        "left_minutes", "exhaustion_s", "burn_1h", "coverage",
    )  # fmt: skip
    return ObjectiveStatus(
        id=slo_id,
        end_s=seconds_of(row["as_of"]),
        period_start_s=seconds_of(row["period_start"]),
        period_end_s=seconds_of(row["period_end"]),
        burns=tuple(BurnStatus(**burn) for burn in row["burns"]),
        alarm_s=None if row["alarm_at"] is None else seconds_of(row["alarm_at"]),
        **{name: row[name] for name in same},
    )


def seconds_of(moment: datetime) -> int:
    """Seconds since 1970 UTC of a time as the store gives it."""
    return micros_of(moment) // 1_000_000


def routes(slos: Slos) -> APIRouter:
    """The routes of this module."""

    def listed() -> Response:
        """Every objective of the configuration with its newest status, and the composites."""
        return Answer(slos.all())

    def detail(
        slo_id: Annotated[str, Path(max_length=64, examples=["chat-availability"])],
        ask: Annotated[SloAsk, Query()],
    ) -> Response:
        """Attainment over time, the curve of the budget, burn rates and state of an objective."""
        return Answer(slos.one(slo_id, ask))

    router = APIRouter(tags=["slos"])
    router.add_api_route(
        "/v1/slos",
        listed,
        methods=["GET"],
        response_model=SlosAnswer,
        responses=described(401, 403, 429, 503),
        summary="Objectives and their error budgets",
    )
    router.add_api_route(
        "/v1/slos/{slo_id}",
        detail,
        methods=["GET"],
        response_model=SloDetail,
        responses=described(401, 403, 404, 422, 429, 503),
        summary="An objective over time",
    )
    return router
