"""GET /v1/costs: where the money goes, and whether the plan holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import Field

from ..schemas.costs.budgets import Budget
from ..schemas.errors import InvalidQuery
from ..schemas.ports import StoreReader
from ..streams.core.costs.budget import budget_hash
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
    """Reads spending and budgets.

    Args:
        store: where the streams put them.
        budgets: of the configuration; None for whatever the store has.
    """

    def __init__(self, store: StoreReader, budgets: Sequence[Budget] | None) -> None:
        self._store = store
        self._budgets = None if budgets is None else {budget.id: budget for budget in budgets}

    def all(self, ask: CostsAsk) -> Body:
        """Spending by grouping set, and every budget.

        Raises:
            InvalidQuery: there is no such grouping set.
        """
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
            "budgets": self._budget_rows(),
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

    def _budget_rows(self) -> list[Body]:
        stored = self._stored()
        if self._budgets is None:
            return [_budget(name, None, row) for name, row in stored.items()]
        return [_budget(name, spec, stored.get(name)) for name, spec in self._budgets.items()]

    def _stored(self) -> dict[str, Mapping[str, Any]]:
        """The newest status of each budget, by id."""
        names = self._known() if self._budgets is None else [*self._budgets]
        if not names:
            return {}
        newest = (
            f"(SELECT * FROM penstock.cost_status_rows WHERE budget_id = {{b{number}:String}} "
            "ORDER BY as_of DESC, version DESC LIMIT 1)"
            for number in range(len(names))
        )
        rows = self._store.query(
            f"SELECT * FROM ({' UNION ALL '.join(newest)}) {BOUNDED}",
            {f"b{number}": name for number, name in enumerate(names)},
        )
        return {row["budget_id"]: row for row in sorted(rows, key=lambda row: row["budget_id"])}

    def _known(self) -> list[str]:
        rows = self._store.query(
            f"SELECT DISTINCT budget_id FROM penstock.cost_status_rows {BOUNDED}"
        )
        return [row["budget_id"] for row in rows]


def _row(row: Mapping[str, Any], grouping: str, total_usd: float) -> Body:
    return {
        "dimensions": {name: row[name] for name in GROUPINGS[grouping]},
        **{name: row[name] for name in _USED},
        "share": row["cost_usd"] / total_usd if total_usd else None,
    }


def _budget(budget_id: str, spec: Budget | None, row: Mapping[str, Any] | None) -> Body:
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


def routes(costs: Costs) -> APIRouter:
    """The routes of this module."""

    def get(ask: Annotated[CostsAsk, Query()]) -> Response:
        """What a rolling window cost by model, route and tenant, and every budget with its projection."""
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
