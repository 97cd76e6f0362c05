"""GET /v1/costs: where the money goes, whether the plan holds, and when the fleet is full."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Response
from pydantic import Field

from ..schemas.costs.budgets import Budget, SpendLimit
from ..schemas.costs.capacity import CapacityForecast
from ..schemas.costs.section import Costs as Section
from ..schemas.errors import InvalidQuery
from ..schemas.ports import StoreReader
from ..streams.core.costs.budget import budget_hash
from ..streams.core.costs.limits import limit_hash
from ..streams.core.costs.saturation import forecast_hash
from ..streams.core.slices import GROUPINGS
from ..streams.core.windows import WINDOWS
from .answers import Answer
from .parameters import Ask, Time
from .problems import described
from .queries import BOUNDED, listed
from .signal_models import Body, CostsAnswer
from .windows import WindowName

_USED = (
    "requests", "input_tokens", "cached_tokens", "output_tokens", "cost_usd",
    "cost_per_1k_tokens_usd",
)  # fmt: skip
_AMOUNTS = ("budget", "spent", "projected", "low", "high", "last_hour", "budget_per_hour")
_TOLD = (
    "as_of", "state", "reasons", "period_start", "period_end", "method", "measured_share",
)  # fmt: skip
_FORECAST = (
    "as_of", "state", "reason", "history_end", "horizon_s", "estimate_s", "low_s", "high_s",
    "signal", "load", "saturating_load", "saturating_load_low", "saturating_load_high", "daily",
    "steps",
)  # fmt: skip
Row = Mapping[str, Any]
S = TypeVar("S", Budget, SpendLimit, CapacityForecast)


class CostsAsk(Ask):
    """Which spending."""

    window: WindowName = Field("7d", description="Length of the rolling window.")
    by: list[str] = Field(
        default=["model", "route", "tenant"],
        max_length=20,
        description="Grouping sets, repeated or separated by commas.",
        examples=[["model,tenant"]],
    )
    end: Time | None = Field(None, description="Newest end of the window at or before this time.")
    limit: int = Field(100, ge=1, le=1000, description="Rows of each, the dearest ones.")


class Costs:
    """Reads spending, budgets, spend limits and forecasts.

    Args:
        store: where the streams put them.
        section: of the configuration; None for whatever the store has.
    """

    def __init__(self, store: StoreReader, section: Section | None) -> None:
        self._store = store
        self._section = section

    def all(self, ask: CostsAsk) -> Body:
        """Spending by grouping set, and every budget, spend limit and forecast.

        Raises:
            InvalidQuery: there is no such grouping set.
        """
        section = self._section
        groupings = [name.strip() for part in ask.by for name in part.split(",")]
        unknown = [name for name in groupings if name not in GROUPINGS]
        if unknown:
            raise InvalidQuery(f"there is no grouping {unknown[0]!r}: {', '.join(GROUPINGS)}")
        fleet = self._spend(ask, "fleet")
        total = fleet[0]["cost_usd"] if fleet else 0.0
        return {
            "window": ask.window,
            "as_of": fleet[0]["end"] if fleet else None,
            "total": _row(fleet[0], "fleet", total) if fleet else None,
            "spend": {
                name: [_row(row, name, total) for row in self._spend(ask, name)]
                for name in dict.fromkeys(groupings)
            },
            "budgets": self._newest(
                "cost_status_rows",
                "budget_id",
                None if section is None else section.budgets,
                _budget,
            ),
            "spend_limits": self._newest(
                "spend_status_rows",
                "limit_id",
                None if section is None else section.spend_limits,
                _limit,
            ),
            "forecasts": self._newest(
                "capacity_forecasts_rows",
                "forecast_id",
                None if section is None else section.forecasts,
                _forecast,
            ),
        }

    def _spend(self, ask: CostsAsk, grouping: str) -> list[dict[str, Any]]:
        until = "" if ask.end is None else "AND `end` <= toDateTime({last:UInt32}, 'UTC')"
        shown = listed((*GROUPINGS[grouping], "end", *_USED))
        return self._store.query(
            f"SELECT {shown} FROM penstock.windows "
            "WHERE window_s = {window_s:UInt32} AND grouping = {grouping:String} AND `end` = ("
            "SELECT `end` FROM penstock.windows WHERE window_s = {window_s:UInt32} "
            f"AND grouping = 'fleet' {until} ORDER BY `end` DESC LIMIT 1) "
            f"ORDER BY cost_usd DESC, requests DESC LIMIT {{limit:UInt32}} {BOUNDED}",
            {
                "window_s": WINDOWS[ask.window],
                "grouping": grouping,
                "limit": ask.limit,
                "last": (ask.end or 0) // 1_000_000,
            },
        )

    def _newest(
        self,
        table: str,
        column: str,
        specs: Iterable[S] | None,
        shown: Callable[[str, S | None, Row | None], Body],
    ) -> list[Body]:
        """The newest status of each entry of the configuration, or of all that the store has."""
        if specs is None:
            return [shown(name, None, row) for name, row in self._stored(table, column).items()]
        by_id: dict[str, S] = {spec.id: spec for spec in specs}
        rows = self._stored(table, column, [*by_id])
        return [shown(name, spec, rows.get(name)) for name, spec in by_id.items()]

    def _stored(self, table: str, column: str, names: list[str] | None = None) -> dict[str, Row]:
        """The newest status of some entries, or of all, by id."""
        if names is None:
            known = f"SELECT DISTINCT {column} FROM penstock.{table} {BOUNDED}"
            names = [row[column] for row in self._store.query(known)]
        if not names:
            return {}
        newest = (
            f"(SELECT * FROM penstock.{table} WHERE {column} = {{b{number}:String}} "
            "ORDER BY as_of DESC, version DESC LIMIT 1)"
            for number in range(len(names))
        )
        rows = self._store.query(
            f"SELECT * FROM ({' UNION ALL '.join(newest)}) {BOUNDED}",
            {f"b{number}": name for number, name in enumerate(names)},
        )
        return {row[column]: row for row in sorted(rows, key=lambda row: str(row[column]))}


def _row(row: Row, grouping: str, total_usd: float) -> Body:
    return {
        "dimensions": {name: row[name] for name in GROUPINGS[grouping]},
        **{name: row[name] for name in _USED},
        "share": row["cost_usd"] / total_usd if total_usd else None,
    }


def _budget(budget_id: str, spec: Budget | None, row: Row | None) -> Body:
    """A budget for people, in dollars; unknown where it was not evaluated as it is now."""
    head = {"id": budget_id, "filter": spec.filter.given() if spec else {}}
    if row is None or (spec is not None and budget_hash(spec) != row["spec_hash"]):
        nothing = dict.fromkeys((*_TOLD, *(f"{name}_usd" for name in _AMOUNTS)))
        usd = None if spec is None else float(spec.usd)
        told = {"state": "unknown", "reasons": ["not_evaluated"], "method": "none"}
        return head | nothing | told | {"budget_usd": usd}
    amounts = {name: row[f"{name}_nanousd"] for name in _AMOUNTS}
    dollars = {f"{name}_usd": None if n is None else n / 1e9 for name, n in amounts.items()}
    return head | {name: row[name] for name in _TOLD} | dollars


def _limit(limit_id: str, spec: SpendLimit | None, row: Row | None) -> Body:
    """A spend limit for people, in dollars; no keys where it was not evaluated as it is now."""
    if row is None or (spec is not None and limit_hash(spec) != row["spec_hash"]):
        head = (spec.by, spec.window_s, float(spec.usd)) if spec else (None, None, None)
        at, above, keys = None, None, []
    else:
        head = row["by"], row["window_s"], row["limit_nanousd"] / 1e9
        at, above = row["as_of"], row["above"]
        keys = [
            {
                "key": key,
                "spent_usd": spent / 1e9,
                "share": spent / row["limit_nanousd"],
                "above_since": since,
            }
            for key, spent, since in zip(
                row["keys"], row["spent_nanousd"], row["since"], strict=True
            )
        ]
    named = dict(zip(("by", "window_s", "limit_usd"), head, strict=True))
    return {"id": limit_id, **named, "as_of": at, "above": above, "keys": keys}


def _forecast(forecast_id: str, spec: CapacityForecast | None, row: Row | None) -> Body:
    """A forecast; unknown where it was not evaluated as it is now."""
    head = {"id": forecast_id, "filter": spec.filter.given() if spec else {}}
    if row is None or (spec is not None and forecast_hash(spec) != row["spec_hash"]):
        told = {"state": "unknown", "reason": "not_evaluated"}
        return head | dict.fromkeys(_FORECAST) | told
    return head | {name: row[name] for name in _FORECAST} | {"signal": row["signal"] or None}


def routes(costs: Costs) -> APIRouter:
    """The routes of this module."""

    def get(ask: Annotated[CostsAsk, Query()]) -> Response:
        """What a rolling window cost, budgets with projections, spend limits, forecasts of capacity."""
        return Answer(costs.all(ask))

    router = APIRouter(tags=["costs"])
    router.add_api_route(
        "/v1/costs",
        get,
        methods=["GET"],
        response_model=CostsAnswer,
        responses=described(401, 403, 422, 429, 503),
        summary="Spending and budgets",
    )
    return router
