"""GET /v1/drift: what drift monitors say, over time and as distributions to be drawn."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import Field

from ..schemas.drift.monitors import DriftMonitor
from ..schemas.errors import InvalidQuery, NotFound
from ..schemas.ports import StoreReader
from .answers import Answer
from .drift_models import DriftAnswer
from .parameters import Ask, Time
from .problems import described
from .queries import BOUNDED, Conditions, micros_of
from .signal_models import Body

MAX_POINTS = 2000
MAX_ROWS = 100_000
_DEFAULT_POINTS = 500
_WEEK_US = 7 * 86_400 * 1_000_000
_POINT = (
    "end", "state", "confirmed", "psi", "js", "p", "ks", "cramers_v", "e_value", "missing_share",
)  # fmt: skip
_LOOK = (
    *_POINT, "severity", "reasons", "believed", "alarm", "revision", "n_reference", "n_current",
    "wasserstein", "missing_state", "figures", "bars",
)  # fmt: skip


class DriftAsk(Ask):
    """Which looks."""

    monitor: str | None = Field(None, max_length=64, examples=["chat"])
    model: str | None = Field(None, description="Monitors of this model, and those of any.")
    series: str | None = Field(None, max_length=200, examples=["input_tokens"])
    start: Time | None = Field(
        None, description="End of the window, inclusive. Without it, the 7 days before the end."
    )
    end: Time | None = Field(None, description="Inclusive. Without it, the newest look.")
    step: int | None = Field(
        None,
        ge=1,
        le=31 * 86_400,
        description="Seconds: the last look of each is shown. Without it, about 500 points.",
        examples=[3600],
    )


class Drift:
    """Reads looks of drift monitors.

    Args:
        store: where the streams put them.
        monitors: of the configuration; None for whatever the store has.
    """

    def __init__(self, store: StoreReader, monitors: Sequence[DriftMonitor] | None) -> None:
        self._store = store
        self._any = monitors is None
        self._monitors = {monitor.id: monitor for monitor in monitors or ()}

    def all(self, ask: DriftAsk) -> Body:
        """Monitors with their series over time.

        Raises:
            NotFound: there is no such monitor.
            InvalidQuery: the range or the step makes no sense.
        """
        ids = self._asked(ask)
        end_us = self._newest_us(ids) if ask.end is None and ids else ask.end or 0
        start_us = max(end_us - _WEEK_US, 0) if ask.start is None else ask.start
        step_s = _step_s(start_us, end_us, ask.step)
        where = Conditions({"step": step_s})
        where.add("monitor IN {monitors:Array(String)}", monitors=ids)
        where.add("end >= toDateTime({first:UInt32}, 'UTC')", first=-(-start_us // 1_000_000))
        where.add("end <= toDateTime({last:UInt32}, 'UTC')", last=end_us // 1_000_000)
        if ask.series is not None:
            where.add("series = {series:String}", series=ask.series)
        series = self._series(where) if ids and end_us else {}
        return {
            "as_of": max((item["latest"]["end"] for item in _each(series)), default=None),
            "step_s": step_s,
            "monitors": [self._described(name) | {"series": series.get(name, [])} for name in ids],
        }

    def _asked(self, ask: DriftAsk) -> list[str]:
        if self._any:
            rows = self._store.query(
                "SELECT DISTINCT monitor FROM penstock.drift_scores_rows"
                f" WHERE {{model:String}} IN ('', filter['model']) ORDER BY monitor {BOUNDED}",
                {"model": ask.model or ""},
            )
            known = [row["monitor"] for row in rows]
        else:
            models = (None, ask.model)
            monitors = self._monitors.values()
            known = [m.id for m in monitors if ask.model is None or m.filter.model in models]
        if ask.monitor is None:
            return known
        if ask.monitor not in known:
            raise NotFound(f"there is no drift monitor {ask.monitor!r}; GET /v1/drift lists them")
        return [ask.monitor]

    def _newest_us(self, ids: Sequence[str]) -> int:
        rows = self._store.query(
            "SELECT max(end) AS newest FROM penstock.drift_scores_rows"
            f" WHERE monitor IN {{monitors:Array(String)}} {BOUNDED}",
            {"monitors": list(ids)},
        )
        return micros_of(rows[0]["newest"])

    def _series(self, where: Conditions) -> dict[str, list[Body]]:
        """Series by monitor, each with its newest look and its points."""
        points = self._store.query(
            f"SELECT monitor, series, {', '.join(_POINT)} FROM penstock.drift_scores {where.text}"
            " ORDER BY end DESC"
            " LIMIT 1 BY monitor, series, intDiv(toUnixTimestamp(end), {step:UInt32})"
            f" LIMIT {MAX_ROWS} {BOUNDED}",
            where.parameters,
        )
        by_series: dict[tuple[str, str], list[Body]] = {}
        for row in reversed(points):
            by_series.setdefault((row.pop("monitor"), row.pop("series")), []).append(row)
        latest = self._store.query(
            f"SELECT monitor, series, kind, {', '.join(_LOOK)} FROM penstock.drift_scores"
            f" {where.text} ORDER BY end DESC LIMIT 1 BY monitor, series {BOUNDED}",
            where.parameters,
        )
        found: dict[str, list[Body]] = {}
        for row in sorted(latest, key=lambda row: (row["kind"] == "concept", row["series"])):
            monitor, series, kind = (row.pop(name) for name in ("monitor", "series", "kind"))
            item = {"series": series, "kind": kind, "latest": _whole(row)}
            item["points"] = by_series.get((monitor, series), [])
            found.setdefault(monitor, []).append(item)
        return found

    def _described(self, name: str) -> Body:
        spec = self._monitors.get(name)
        if spec is None:
            nothing = dict.fromkeys(("reference", "window_s", "every_s", "false_alarms_per_30d"))
            return {"id": name, "filter": {}} | nothing
        return {
            "id": name,
            "filter": spec.filter.given(),
            "reference": spec.reference.model_dump(mode="json"),
            "window_s": spec.window_s,
            "every_s": spec.every_s,
            "false_alarms_per_30d": spec.alarms_per_30d * len(spec.series),
        }


def _whole(row: Mapping[str, Any]) -> Body:
    return {**row, "figures": json.loads(row["figures"]), "bars": json.loads(row["bars"])}


def _each(series: Mapping[str, Iterable[Body]]) -> Iterable[Body]:
    return (item for items in series.values() for item in items)


def _step_s(start_us: int, end_us: int, step_s: int | None) -> int:
    if start_us > end_us:
        raise InvalidQuery("end must not lie before start")
    length_s = (end_us - start_us) // 1_000_000
    found = step_s or max(length_s // _DEFAULT_POINTS, 1)
    if length_s // found > MAX_POINTS:
        raise InvalidQuery(f"more than {MAX_POINTS} points: shorten the range or enlarge step")
    return found


def routes(drift: Drift) -> APIRouter:
    """The route of this module."""

    def listed(ask: Annotated[DriftAsk, Query()]) -> Response:
        """Scores of every series over time, and the newest look with both distributions."""
        return Answer(drift.all(ask))

    router = APIRouter(tags=["drift"])
    router.add_api_route(
        "/v1/drift",
        listed,
        methods=["GET"],
        response_model=DriftAnswer,
        responses=described(401, 403, 404, 422, 429, 503),
        summary="Drift monitors and their scores",
    )
    return router
