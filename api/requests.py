"""GET /v1/requests and /v1/requests/{id}: find requests, and see all that belongs to one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from ..schemas.errors import NotFound
from ..schemas.ports import StoreReader
from .answers import Answer
from .models import RequestDetail, RequestsAnswer
from .parameters import Ask, Time, decode_cursor, encode_cursor
from .problems import described
from .queries import (
    BOUNDED,
    BY_ID,
    REQUEST_COLUMNS,
    REQUEST_FILTERS,
    REQUEST_LIST_COLUMNS,
    STEP_DETAIL,
    Conditions,
    event_columns,
    listed,
    micros,
    micros_of,
    text_columns,
    without_empty,
)

MAX_STEPS = 2000
MAX_RELATED = 1000
# A step ends within the life of its request; clocks and flushes get a minute on each side.
_SLACK_US = 60_000_000
_UNKNOWN_LATENCY_US = 3_600_000_000

# Where to look first, back from the newest row.
_RECENT_US = (3_600_000_000, 86_400_000_000)

_REQUEST_TEXTS = text_columns("request")
_KEY = "ts, boot_id, seq"


class RequestsAsk(Ask):
    """Which requests."""

    model: str | None = None
    model_version: str | None = None
    adapter: str | None = None
    route: str | None = None
    release: str | None = None
    variant: str | None = None
    tenant: str | None = None
    status: str | None = Field(None, examples=["error"])
    error_type: str | None = None
    worker_id: str | None = None
    trace_id: str | None = None
    session_id: str | None = None
    min_latency_ms: float | None = Field(None, ge=0, allow_inf_nan=False)
    start: Time | None = Field(None, description="Completed at or after.")
    end: Time | None = Field(None, description="Completed before.")
    limit: int = Field(100, ge=1, le=1000)
    cursor: str | None = Field(None, max_length=1000, description="next_cursor of the page before.")


def search_sql(
    ask: RequestsAsk, cursor: tuple[int, str, int] | None, since_us: int | None
) -> tuple[str, dict[str, Any]]:
    """Statement and parameters for one page and one row more.

    Pages continue at a key, not at an offset: rows that arrive meanwhile shift nothing.

    Args:
        ask: the question; its `start` and `cursor` are given apart.
        cursor: key of the last row of the page before, ts in microseconds.
        since_us: only rows at or after.
    """
    where = Conditions()
    for name in REQUEST_FILTERS:
        where.equal(name, getattr(ask, name))
    if ask.min_latency_ms is not None:
        where.add("latency_ms >= {min_latency_ms:Float64}", min_latency_ms=ask.min_latency_ms)
    where.since("ts", since_us)
    where.before("ts", ask.end)
    if cursor is not None:
        # The first condition says nothing new, but it alone lets the store skip what is newer.
        where.add(
            f"ts <= {micros('cursor_ts')} AND "
            f"({_KEY}) < ({micros('cursor_ts')}, {{cursor_boot:String}}, {{cursor_seq:UInt64}})",
            cursor_ts=cursor[0],
            cursor_boot=cursor[1],
            cursor_seq=cursor[2],
        )
    sql = (
        f"SELECT {listed(REQUEST_LIST_COLUMNS)} FROM penstock.requests {where.text} "
        f"ORDER BY ts DESC, boot_id DESC, seq DESC LIMIT {{limit:UInt32}} {BY_ID}"
    )
    return sql, where.parameters | {"limit": ask.limit + 1}


class Requests:
    """Answers questions for requests.

    Args:
        store: raw rows.
        newest_us: event time of the newest event, 0 where nobody knows.
    """

    def __init__(self, store: StoreReader, newest_us: Callable[[], int]) -> None:
        self._store = store
        self._newest_us = newest_us

    def search(self, ask: Annotated[RequestsAsk, Query()]) -> Response:
        """Requests by their dimensions, newest first.

        A request in flight for too long is listed with status null once, and again when it ends.
        Payloads and features are in the detail only.
        """
        rows = self._newest_rows(ask)
        page = rows[: ask.limit]
        cursor = None
        if len(rows) > ask.limit:
            last = page[-1]
            cursor = encode_cursor((micros_of(last["ts"]), last["boot_id"], last["seq"]))
        return Answer(
            {
                "requests": [without_empty(row, _REQUEST_TEXTS) for row in page],
                "next_cursor": cursor,
            }
        )

    def _newest_rows(self, ask: RequestsAsk) -> list[dict[str, Any]]:
        """One page and one row more.

        The newest rows are nearly always within the last hour or day. Looking there first keeps the
        store from reading all of history; a page that is full there is full of the newest.
        """
        cursor = None if ask.cursor is None else _key_of(ask.cursor)
        newest_us = cursor[0] if cursor else ask.end or self._newest_us()
        for recent_us in _RECENT_US:
            since_us = newest_us - recent_us
            if since_us > (ask.start or 0):
                rows = self._store.query(*search_sql(ask, cursor, since_us))
                if len(rows) > ask.limit:
                    return rows
        return self._store.query(*search_sql(ask, cursor, ask.start))

    def detail(
        self, request_id: Annotated[str, Path(max_length=1000, examples=["r-17"])]
    ) -> Response:
        """A request with its spans, its feedback, and the engine steps that served it."""
        found = self._store.query(
            f"SELECT {listed(REQUEST_COLUMNS)} FROM penstock.requests "
            "WHERE request_id = {request_id:String} "
            # Announced overdue first and finished later, it has two rows: the outcome is meant.
            f"ORDER BY status = '', ts DESC, boot_id DESC, seq DESC LIMIT 1 {BY_ID}",
            {"request_id": request_id},
        )
        if not found:
            raise NotFound(f"no request has the id {request_id!r}")
        request = found[0]
        steps, total = self._steps(request)
        return Answer(
            {
                "request": without_empty(request, _REQUEST_TEXTS),
                "feedback": self._related("feedback", "request_id", request_id),
                "spans": self._related("span", "trace_id", request["trace_id"]),
                "steps": steps,
                "steps_total": total,
            }
        )

    def _related(self, event: Any, column: str, value: str) -> list[dict[str, Any]]:
        if not value:
            return []
        table = {"feedback": "feedback", "span": "spans"}[event]
        where = Conditions()
        where.equal(column, value)
        order = "start_us, ts" if event == "span" else "ts"
        rows = self._store.query(
            f"SELECT {listed(event_columns(event))} FROM penstock.{table} {where.text} "
            f"ORDER BY {order}, boot_id, seq LIMIT {MAX_RELATED} {BOUNDED}",
            where.parameters,
        )
        return [without_empty(row, text_columns(event)) for row in rows]

    def _steps(self, request: Mapping[str, Any]) -> tuple[list[dict[str, Any]], int]:
        first, last = request["first_step"], request["last_step"]
        if first is None and last is None:
            return [], 0
        end_us = micros_of(request["ts"])
        latency = request["latency_ms"]
        latency_us = _UNKNOWN_LATENCY_US if latency is None else int(latency * 1000)
        where = Conditions()
        where.equal("boot_id", request["boot_id"])
        where.since("ts", max(0, end_us - latency_us - _SLACK_US))
        where.before("ts", end_us + _SLACK_US)
        where.add(
            "kind = 'engine' AND step BETWEEN {first:UInt64} AND {last:UInt64}",
            first=last if first is None else first,
            last=first if last is None else last,
        )
        rows = self._store.query(
            f"SELECT {listed(STEP_DETAIL)}, count() OVER () AS total FROM penstock.steps "
            f"{where.text} ORDER BY step, ts, seq LIMIT {MAX_STEPS} {BOUNDED}",
            where.parameters,
        )
        total = rows[0]["total"] if rows else 0
        texts = text_columns("step")
        return [
            without_empty({name: row[name] for name in STEP_DETAIL}, texts) for row in rows
        ], total


def _key_of(cursor: str) -> tuple[int, str, int]:
    """Raises InvalidQuery where the cursor is not one of ours."""
    ts_us, boot_id, seq = decode_cursor(cursor, (int, str, int))
    return ts_us, boot_id, seq


def routes(store: StoreReader, newest_us: Callable[[], int]) -> APIRouter:
    """The routes of this module."""
    router = APIRouter(tags=["requests"])
    requests = Requests(store, newest_us)
    router.add_api_route(
        "/v1/requests",
        requests.search,
        methods=["GET"],
        response_model=RequestsAnswer,
        responses=described(401, 403, 422, 429, 503),
        summary="Find requests",
    )
    router.add_api_route(
        "/v1/requests/{request_id:path}",
        requests.detail,
        methods=["GET"],
        response_model=RequestDetail,
        responses=described(401, 403, 404, 422, 429, 503),
        summary="One request and what belongs to it",
    )
    return router
