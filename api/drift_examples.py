"""GET /v1/drift/{monitor}/examples: from a bar of a distribution to the requests behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from ..schemas.errors import InvalidQuery, NotFound
from ..schemas.ports import StoreReader
from ..streams.core.drift.columns import OTHER, in_bin_sql, text_sql
from ..streams.core.drift.described import REST
from ..streams.core.slices import DIMENSIONS
from .answers import Answer
from .drift_models import ExamplesAnswer
from .parameters import Ask, Time
from .problems import described
from .queries import (
    BOUNDED,
    REQUEST_LIST_COLUMNS,
    listed,
    micros,
    micros_of,
    text_columns,
    without_empty,
)
from .signal_models import Body

_TEXTS = text_columns("request")


class ExamplesAsk(Ask):
    """Which bar."""

    series: str = Field(max_length=200, examples=["input_tokens"])
    bin: int = Field(ge=0, description="`bin` of one of the `bars` of /v1/drift.")
    end: Time | None = Field(None, description="End of the look. Without it, the newest.")
    limit: int = Field(20, ge=1, le=500)


class Examples:
    """Finds requests.

    Args:
        store: raw rows and looks.
    """

    def __init__(self, store: StoreReader) -> None:
        self._store = store

    def of(self, monitor: str, ask: ExamplesAsk) -> Body:
        """The newest requests of a look's window whose value lies in a bar.

        Raises:
            NotFound: there is no such look, or no such bar in it.
            InvalidQuery: the bar stands for many categories.
        """
        look = self._look(monitor, ask)
        bars = (bar for bar in json.loads(look["bars"]) if bar["bin"] == ask.bin)
        bar = next(bars, None)
        if bar is None:
            raise NotFound(f"{ask.series} has no bin {ask.bin} at that look: see bars of /v1/drift")
        return {
            "monitor": monitor,
            "series": ask.series,
            "end": look["end"],
            "bar": bar,
            "requests": self._requests(look, ask, bar),
        }

    def _look(self, monitor: str, ask: ExamplesAsk) -> Mapping[str, Any]:
        at = "" if ask.end is None else " AND end = toDateTime({end:UInt32}, 'UTC')"
        rows = self._store.query(
            "SELECT end, window_s, filter, bars FROM penstock.drift_scores"
            f" WHERE monitor = {{monitor:String}} AND series = {{series:String}}{at}"
            f" ORDER BY end DESC LIMIT 1 {BOUNDED}",
            {"monitor": monitor, "series": ask.series, "end": (ask.end or 0) // 1_000_000},
        )
        if not rows:
            raise NotFound(f"monitor {monitor!r} has no look at {ask.series!r}: see /v1/drift")
        return rows[0]

    def _requests(
        self, look: Mapping[str, Any], ask: ExamplesAsk, bar: Mapping[str, Any]
    ) -> list[Body]:
        end_us = micros_of(look["end"])
        traffic = {name: text for name, text in look["filter"].items() if name in DIMENSIONS}
        matches = "".join(f" AND t.{name} = {{of_{name}:String}}" for name in traffic)
        rows = self._store.query(
            f"SELECT {listed(REQUEST_LIST_COLUMNS)} FROM penstock.requests"
            f" WHERE ts >= {micros('low')} AND ts < {micros('high')} AND (ts, boot_id, seq) IN ("
            "SELECT t.ts, t.boot_id, t.seq FROM penstock.requests_rows AS t FINAL"
            f" WHERE t.ts >= {micros('low')} AND t.ts < {micros('high')}"
            f" AND t.status != ''{matches} AND {_condition(ask.series, bar)}"
            " ORDER BY t.ts DESC, t.boot_id DESC, t.seq DESC LIMIT {limit:UInt32})"
            f" ORDER BY ts DESC, boot_id DESC, seq DESC {BOUNDED}",
            {"low": end_us - look["window_s"] * 1_000_000, "high": end_us, "limit": ask.limit}
            | {f"of_{name}": text for name, text in traffic.items()}
            | {"name": bar.get("name", "")},
        )
        return [without_empty(row, _TEXTS) for row in rows]


def _condition(series: str, bar: Mapping[str, Any]) -> str:
    """SQL of the rows that lie in a bar."""
    if "name" not in bar:
        return in_bin_sql(series, bar["first"], bar["last"])
    if bar["name"] in (REST, OTHER):
        raise InvalidQuery(f"{bar['name']} stands for many categories: ask for another bin")
    return f"{text_sql(series)} = {{name:String}}"


def routes(examples: Examples) -> APIRouter:
    """The route of this module."""

    def found(
        monitor: Annotated[str, Path(max_length=64, examples=["chat"])],
        ask: Annotated[ExamplesAsk, Query()],
    ) -> Response:
        """Requests of a look's window whose value lies in a bar, the newest first.

        Requests that came after the look are among them; those beyond their retention are not.
        """
        return Answer(examples.of(monitor, ask))

    router = APIRouter(tags=["drift"])
    router.add_api_route(
        "/v1/drift/{monitor}/examples",
        found,
        methods=["GET"],
        response_model=ExamplesAnswer,
        responses=described(401, 403, 404, 422, 429, 503),
        summary="The requests behind a shift",
    )
    return router
