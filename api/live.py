"""GET /v1/live: what the dashboard shows, once a second, as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from starlette.responses import StreamingResponse

from ..schemas.errors import StoreError
from ..schemas.ports import IngestPort, StoreReader
from ..streams.core.windows import WINDOWS
from .answers import encode
from .gates import Verdicts
from .models import LiveMessage
from .problems import described
from .queries import BOUNDED
from .shared import Shared
from .windows import newest_rows

PERIOD_S = 1.0
WINDOW = "1m"
FLEET = (
    "requests", "request_rate", "errors", "error_rate", "errors_by_type", "availability",
    "input_tokens", "output_tokens", "tokens_per_s", "ttft_ms_p50", "ttft_ms_p90", "ttft_ms_p95",
    "ttft_ms_p99", "tpot_ms_p50", "tpot_ms_p95", "tpot_ms_p99", "latency_ms_p50", "latency_ms_p90",
    "latency_ms_p95", "latency_ms_p99", "queue_depth_mean", "queue_depth_p99", "batch_fill_mean",
    "kv_cache_usage_mean", "gpu_utilization_mean", "cache_hit_rate", "safety_rate", "quality_mean",
    "acceptance_rate", "cost_usd", "cost_per_1k_tokens_usd", "workers", "coverage",
)  # fmt: skip


class LiveReader:
    """Builds one message after the other; blocking.

    Args:
        store: windows and release markers.
        verdicts: to tell when a gate changes its mind.
        ingest: knows the watermark.
        wall_us: clock, integer microseconds since 1970.
    """

    def __init__(
        self,
        store: StoreReader,
        verdicts: Verdicts,
        ingest: IngestPort,
        wall_us: Callable[[], int],
    ) -> None:
        self._store = store
        self._verdicts = verdicts
        self._ingest = ingest
        self._wall_us = wall_us
        self._seen: dict[str, Any] = {}

    def read(self) -> dict[str, Any]:
        """The next message.

        Raises:
            StoreError: the store is away.
        """
        rows = newest_rows(self._store, WINDOWS[WINDOW], "fleet", FLEET, 1)
        fleet = rows[0] if rows else None
        seen = {
            "windows": fleet and fleet["end"],
            "releases": self._store.query(
                "SELECT count() AS n, max(append_ts) AS newest FROM penstock.releases " + BOUNDED
            ),
            "gates": [
                (name, body["epoch"], body["verdict"])
                for name, body in self._verdicts.latest().items()
            ],
        }
        changed = [name for name, value in seen.items() if self._seen.get(name) != value]
        self._seen = seen
        watermark_us = self._ingest.status().watermark_us
        return {
            "now": _time(self._wall_us()),
            "watermark": _time(watermark_us) if watermark_us else None,
            "window": WINDOW,
            "fleet": fleet,
            "changed": changed,
        }


class Live:
    """Sends messages to everybody who listens."""

    def __init__(self, reader: LiveReader, is_stopping: Callable[[], bool]) -> None:
        self._shared = Shared(reader.read, PERIOD_S, is_stopping)

    async def get(self) -> StreamingResponse:
        """Server-sent events: each second one `data:` line with a JSON object.

        While the store is away there are comment lines instead. The stream ends when the server
        stops; a client connects again then.
        """
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._lines(), headers=headers, media_type="text/event-stream")

    async def _lines(self) -> AsyncIterator[bytes]:
        yield b"retry: 2000\n\n"
        first = True
        async with aclosing(self._shared.follow()) as messages:
            async for message in messages:
                if isinstance(message, StoreError):
                    yield b": the store does not answer\n\n"
                    continue
                if first:  # to a new listener everything is new
                    message = message | {"changed": ["windows", "releases", "gates"]}
                    first = False
                yield b"data: " + encode(message) + b"\n\n"


def routes(reader: LiveReader, is_stopping: Callable[[], bool]) -> APIRouter:
    """The routes of this module."""
    router = APIRouter(tags=["live"])
    described_200: dict[str, Any] = {
        "description": "A stream of `data: {LiveMessage}` lines.",
        "content": {
            "text/event-stream": {
                "schema": {"$ref": f"#/components/schemas/{LiveMessage.__name__}"}
            }
        },
    }
    router.add_api_route(
        "/v1/live",
        Live(reader, is_stopping).get,
        methods=["GET"],
        response_class=StreamingResponse,
        responses=described(401, 403, 429) | {200: described_200},
        summary="Live stream",
    )
    return router


def _time(time_us: int) -> datetime:
    return datetime.fromtimestamp(time_us / 1e6, UTC)
