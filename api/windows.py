"""GET /v1/windows: rolling windows of slices, the newest ones or a series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import Field

from ..schemas.errors import InvalidQuery
from ..schemas.ports import StoreReader
from ..streams.core.metrics import LATENCIES
from ..streams.core.slices import DIMENSIONS, GROUPINGS
from ..streams.core.windows import WINDOWS, tick_s
from .answers import Answer
from .models import WindowsAnswer
from .parameters import Ask, Time
from .problems import described
from .queries import (
    BOUNDED,
    DEFAULT_METRICS,
    QUANTILES,
    WINDOW_METRICS,
    Conditions,
    identifier,
    listed,
)

MAX_POINTS = 50_000
# A slice whose newest window is older than this is not part of "now" (or the window, if longer).
_NOW_S = 3600

WindowName = Literal["1m", "5m", "30m", "1h", "2h", "6h", "1d", "3d", "7d", "28d", "30d"]
GroupingName = Literal[
    "fleet",
    "model",
    "model_version",
    "release",
    "model_route",
    "model_adapter",
    "route",
    "tenant",
]


class WindowsAsk(Ask):
    """Which windows, of which slices, when."""

    metric: list[str] = Field(
        default=list(DEFAULT_METRICS),
        max_length=200,
        description="Columns of the table `windows`, repeated or separated by commas. A bare "
        "latency such as `ttft_ms` means its p50, p90, p95 and p99.",
        examples=[["ttft_ms_p95", "request_rate"]],
    )
    window: WindowName = Field("1m", description="Length of the window.")
    grouping: GroupingName | None = Field(
        None,
        description="Grouping set; without it the smallest one that holds the given filters, "
        "`fleet` when there are none.",
    )
    model: str | None = None
    model_version: str | None = None
    adapter: str | None = None
    route: str | None = None
    release: str | None = None
    variant: str | None = None
    tenant: str | None = None
    start: Time | None = Field(
        None,
        description="First end of a window, inclusive. Without it, the newest window of each slice.",
    )
    end: Time | None = Field(None, description="Last end of a window, inclusive.")
    step: int | None = Field(
        None,
        ge=1,
        le=31 * 86_400,
        description="Seconds between points; a multiple of how often the window is stored "
        "(10 s for 1m and 5m, 30 s for 30m, 60 s for 1h, else 300 s). Points lie on its multiples.",
        examples=[60],
    )


def columns_wanted(metrics: Sequence[str]) -> list[str]:
    """Columns of a list of metrics, bare latencies resolved, each once, in the order asked for.

    Raises:
        InvalidQuery: there is no such metric.
    """
    columns: dict[str, None] = {}
    for name in (part.strip() for metric in metrics for part in metric.split(",")):
        if name in LATENCIES:
            columns |= dict.fromkeys(f"{name}_{quantile}" for quantile in QUANTILES)
        elif name in WINDOW_METRICS:
            columns[name] = None
        else:
            raise InvalidQuery(f"there is no metric {name!r}; docs/api.md lists them")
    return list(columns)


def grouping_for(wanted: str | None, filters: Mapping[str, str]) -> str:
    """The grouping set to read.

    Raises:
        InvalidQuery: it (or any) does not keep all the filtered dimensions.
    """
    if wanted is None:
        fitting = [name for name, held in GROUPINGS.items() if set(filters) <= set(held)]
        if not fitting:
            raise InvalidQuery(f"no grouping keeps {' and '.join(filters)} together")
        return min(fitting, key=lambda name: len(GROUPINGS[name]))
    missing = [name for name in filters if name not in GROUPINGS[wanted]]
    if missing:
        raise InvalidQuery(f"grouping {wanted} does not keep {' and '.join(missing)}")
    return wanted


def windows_sql(
    ask: WindowsAsk, grouping: str, filters: Mapping[str, str], columns: Sequence[str]
) -> tuple[str, dict[str, Any]]:
    """Statement and parameters for the rows of an answer, slices together, times ascending.

    Raises:
        InvalidQuery: the time range or the step makes no sense.
    """
    length_s = WINDOWS[ask.window]
    where = Conditions()
    where.add("window_s = {window_s:UInt32}", window_s=length_s)
    where.add("grouping = {grouping:String}", grouping=grouping)
    for name, value in filters.items():
        where.equal(name, value)
    held = GROUPINGS[grouping]
    if ask.end is not None:
        where.add("`end` <= toDateTime({last:UInt32}, 'UTC')", last=ask.end // 1_000_000)
    if ask.start is None:
        _newest(where, ask, length_s)
        order = f"`end` DESC LIMIT 1 BY {listed(('grouping', *held))}"
    else:
        _series(where, ask, length_s)
        order = listed((*held, "end"))
    shown = dict.fromkeys((*held, "end", "coverage", "coverage_state", *columns))
    sql = f"SELECT {listed(list(shown))} FROM penstock.windows {where.text} ORDER BY {order}"
    return f"{sql} LIMIT {MAX_POINTS + 1} {BOUNDED}", where.parameters


def _newest(where: Conditions, ask: WindowsAsk, length_s: int) -> None:
    if ask.step is not None:
        raise InvalidQuery("step needs start")
    # The fleet has a row at every tick, so its newest end is the newest of all.
    until = "" if ask.end is None else "AND `end` <= toDateTime({last:UInt32}, 'UTC')"
    where.add(
        "`end` > (SELECT `end` FROM penstock.windows WHERE window_s = {window_s:UInt32} "
        f"AND grouping = 'fleet' {until} ORDER BY `end` DESC LIMIT 1) "
        "- toIntervalSecond({recent_s:UInt32})",
        recent_s=max(_NOW_S, length_s),
    )


def _series(where: Conditions, ask: WindowsAsk, length_s: int) -> None:
    assert ask.start is not None
    if ask.end is not None and ask.end < ask.start:
        raise InvalidQuery("end must not lie before start")
    where.add("`end` >= toDateTime({first:UInt32}, 'UTC')", first=-(-ask.start // 1_000_000))
    if ask.step is not None:
        if ask.step % tick_s(length_s):
            raise InvalidQuery(
                f"window {ask.window} is stored every {tick_s(length_s)} s; "
                "step must be a multiple of it"
            )
        where.add("toUnixTimestamp(`end`) % {step:UInt32} = 0", step=ask.step)


def series_of(
    rows: Sequence[Mapping[str, Any]], grouping: str, columns: Sequence[str]
) -> list[dict[str, Any]]:
    """Rows as the points of each slice."""
    held = GROUPINGS[grouping]
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        point = {
            "end": row["end"],
            "values": {name: row[name] for name in columns},
            "coverage": row["coverage"],
            "coverage_state": row["coverage_state"],
        }
        found.setdefault(tuple(row[name] for name in held), []).append(point)
    return [
        {"slice": dict(zip(held, values, strict=True)), "points": points}
        for values, points in sorted(found.items())
    ]


class Windows:
    """Answers questions for windows."""

    def __init__(self, store: StoreReader) -> None:
        self._store = store

    def get(self, ask: Annotated[WindowsAsk, Query()]) -> Response:
        """Rolling windows, as the streams computed them.

        Without `start`, the newest window of each slice seen within the last hour of event time.
        Null is a value that cannot be told (no requests, so no error rate); it is never zero.
        """
        columns = columns_wanted(ask.metric)
        filters = {name: value for name in DIMENSIONS if (value := getattr(ask, name)) is not None}
        grouping = grouping_for(ask.grouping, filters)
        rows = self._store.query(*windows_sql(ask, grouping, filters, columns))
        if len(rows) > MAX_POINTS:
            raise InvalidQuery(
                f"more than {MAX_POINTS} points: shorten the range, enlarge step, or add filters"
            )
        return Answer(
            {
                "window": ask.window,
                "grouping": grouping,
                "metrics": columns,
                "series": series_of(rows, grouping, columns),
            }
        )


def newest_rows(
    store: StoreReader, window_s: int, grouping: str, columns: Sequence[str], limit: int
) -> list[dict[str, Any]]:
    """Rows at the newest end of a window, the busiest slices first."""
    shown = dict.fromkeys((*GROUPINGS[grouping], "end", "coverage_state", *columns))
    return store.query(
        f"SELECT {listed(list(shown))} FROM penstock.windows "
        "WHERE window_s = {window_s:UInt32} AND grouping = {grouping:String} AND `end` = ("
        "SELECT `end` FROM penstock.windows WHERE window_s = {window_s:UInt32} "
        "AND grouping = 'fleet' ORDER BY `end` DESC LIMIT 1) "
        f"ORDER BY {identifier('requests')} DESC LIMIT {{limit:UInt32}} {BOUNDED}",
        {"window_s": window_s, "grouping": grouping, "limit": limit},
    )


def routes(store: StoreReader) -> APIRouter:
    """The routes of this module."""
    router = APIRouter(tags=["windows"])
    router.add_api_route(
        "/v1/windows",
        Windows(store).get,
        methods=["GET"],
        response_model=WindowsAnswer,
        responses=described(401, 403, 422, 429, 503),
        summary="Rolling windows",
    )
    return router
