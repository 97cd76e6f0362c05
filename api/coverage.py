"""GET /v1/coverage: what workers sent and what arrived; GET /v1/quarantine: what was rejected."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import Field

from ..schemas.ports import StoreReader
from .answers import Answer
from .models import CoverageAnswer, QuarantineAnswer
from .parameters import Ask, Time, decode_cursor, encode_cursor
from .problems import described
from .queries import (
    BOUNDED,
    COVERAGE_COLUMNS,
    QUARANTINE_COLUMNS,
    Conditions,
    listed,
    micros,
    micros_of,
)

_SUMMED = ("expected", "received", "stored", "missing", "gap", "duplicate", "rejected", "late")
_ARRIVED_AT = "append_ts, incarnation, partition, offset, row_index"


class CoverageAsk(Ask):
    """Which boots."""

    worker_id: str | None = None
    start: Time | None = Field(None, description="Only boots heard at or after (event time).")
    limit: int = Field(1000, ge=1, le=10_000, description="Boots listed; totals have them all.")


class QuarantineAsk(Ask):
    """Which rejected rows."""

    reason: str | None = None
    kind: str | None = None
    worker_id: str | None = None
    boot_id: str | None = None
    start: Time | None = Field(None, description="Taken at or after.")
    end: Time | None = Field(None, description="Taken before.")
    limit: int = Field(100, ge=1, le=1000)
    cursor: str | None = Field(None, max_length=1000, description="next_cursor of the page before.")


class Coverage:
    """Answers questions for coverage and quarantine."""

    def __init__(self, store: StoreReader) -> None:
        self._store = store

    def get(self, ask: Annotated[CoverageAsk, Query()]) -> Response:
        """What was sent and what arrived, per boot of each worker and in total.

        State is the worst: `partial` is a known loss, `unknown` a worker that vanished or sends
        without identity, so that loss cannot be counted.
        """
        where = Conditions()
        where.equal("worker_id", ask.worker_id)
        where.since("last_ts", ask.start)
        rows = self._store.query(
            f"SELECT {listed(COVERAGE_COLUMNS)} FROM penstock.coverage {where.text} "
            f"ORDER BY last_append_ts DESC, worker_id, boot_id LIMIT {{limit:UInt32}} {BOUNDED}",
            where.parameters | {"limit": ask.limit},
        )
        boots = [row | {"coverage": _share(row["received"], row["expected"])} for row in rows]
        return Answer({"workers": boots, "totals": coverage_totals(self._store, where)})

    def quarantine(self, ask: Annotated[QuarantineAsk, Query()]) -> Response:
        """Rows that were rejected, newest first, with the reason of each and the count per reason.

        The rows themselves are sealed: `penstock dead-letters show` opens them. `preview` is redacted.
        """
        where = Conditions()
        for name in ("reason", "kind", "worker_id", "boot_id"):
            where.equal(name, getattr(ask, name))
        where.since("append_ts", ask.start)
        where.before("append_ts", ask.end)
        reasons = self._store.query(
            f"SELECT reason, count() AS rows FROM penstock.quarantine {where.text} "
            f"GROUP BY reason ORDER BY rows DESC, reason {BOUNDED}",
            where.parameters,
        )
        rows = self._quarantine_rows(where, ask)
        page = rows[: ask.limit]
        return Answer(
            {
                "rows": page,
                "reasons": {row["reason"]: row["rows"] for row in reasons},
                "next_cursor": _position(page[-1]) if len(rows) > ask.limit else None,
            }
        )

    def _quarantine_rows(self, where: Conditions, ask: QuarantineAsk) -> list[dict[str, Any]]:
        if ask.cursor is not None:
            names = ("c_incarnation", "c_partition", "c_offset", "c_row")
            ts_us, *rest = decode_cursor(ask.cursor, (int,) * 5)
            after = ", ".join(f"{{{name}:UInt64}}" for name in names)
            where.add(
                f"append_ts <= {micros('c_ts')} AND ({_ARRIVED_AT}) < ({micros('c_ts')}, {after})",
                c_ts=ts_us,
                **dict(zip(names, rest, strict=True)),
            )
        order = ", ".join(f"{name} DESC" for name in _ARRIVED_AT.split(", "))
        return self._store.query(
            f"SELECT {listed(QUARANTINE_COLUMNS)} FROM penstock.quarantine {where.text} "
            f"ORDER BY {order} LIMIT {{limit:UInt32}} {BOUNDED}",
            where.parameters | {"limit": ask.limit + 1},
        )


def coverage_totals(store: StoreReader, where: Conditions) -> dict[str, Any]:
    """Counts over all boots that match, and the worst of their states."""
    sums = ", ".join(f"sum(b.{name}) AS {name}" for name in _SUMMED)
    row = store.query(
        f"SELECT {sums}, count() AS boots, uniqExact(worker_id) AS workers, "
        "countIf(state = 'unknown') AS unknown_boots, countIf(state = 'partial') AS partial_boots "
        f"FROM (SELECT * FROM penstock.coverage {where.text}) AS b {BOUNDED}",
        where.parameters,
    )[0]
    unknown, partial = row.pop("unknown_boots"), row.pop("partial_boots")
    if partial or row["missing"] or row["gap"]:
        state = "partial"
    elif unknown:
        state = "unknown"
    else:
        state = "ok" if row["expected"] else "no_data"
    return row | {"coverage": _share(row["received"], row["expected"]), "state": state}


def routes(store: StoreReader) -> APIRouter:
    """The routes of this module."""
    router = APIRouter(tags=["coverage"])
    coverage = Coverage(store)
    router.add_api_route(
        "/v1/coverage",
        coverage.get,
        methods=["GET"],
        response_model=CoverageAnswer,
        responses=described(401, 403, 422, 429, 503),
        summary="What was sent and what arrived",
    )
    router.add_api_route(
        "/v1/quarantine",
        coverage.quarantine,
        methods=["GET"],
        response_model=QuarantineAnswer,
        response_model_exclude_unset=True,
        responses=described(401, 403, 422, 429, 503),
        summary="What was rejected, and why",
    )
    return router


def _share(received: int, expected: int) -> float | None:
    return received / expected if expected else None


def _position(row: dict[str, Any]) -> str:
    rest = [row[name] for name in ("incarnation", "partition", "offset", "row_index")]
    return encode_cursor((micros_of(row["append_ts"]), *rest))
