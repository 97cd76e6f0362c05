"""GET /health (the process answers), /ready (it can work), /health/detailed (each part, checked)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, Response

from ..schemas.config import Limits
from ..schemas.errors import PenstockError, StoreError
from ..schemas.ports import IngestPort, StoreReader
from .answers import Answer
from .models import DetailedHealthAnswer, HealthAnswer, ReadyAnswer
from .problems import described

Part = dict[str, Any]
_WORST = ("ok", "degraded", "failed")
# Beyond these a part works, but not well; beyond the second of a pair it fails.
SLOW_PING_S = 1.0
LONG_LAG_S = 30.0
MANY_PENDING = 0.8
FREE_BYTES_DEGRADED, FREE_BYTES_FAILED = 2 * 2**30, 256 * 2**20


class NotReady(PenstockError):
    """The service cannot do its work now."""

    http_status = 503
    slug = "not-ready"


class Health:
    """Checks the parts. Blocking.

    Args:
        ingest: takes events in.
        store: where everything is.
        limits: of pending events.
        version: that runs.
        parts: what else this process needs, each telling why it does not work, or nothing. Where
            there are such parts, the pipeline is elsewhere, and readiness does not depend on it.
    """

    def __init__(
        self,
        ingest: IngestPort,
        store: StoreReader,
        limits: Limits,
        version: str,
        parts: Mapping[str, Callable[[], str]] | None = None,
    ) -> None:
        self._ingest = ingest
        self._store = store
        self._limits = limits
        self._version = version
        self._parts = dict(parts or {})

    async def live(self) -> Response:
        """The process answers; says nothing of its parts."""
        return Answer({"status": "ok", "version": self._version})

    def ready(self) -> Response:
        """The store answers and the pipeline (or the broker) works; else 503, naming each part."""
        failures = {name: look() for name, look in self._parts.items()}
        if not failures:
            failures["pipeline"] = self._ingest.status().failure
        try:
            self._store.query("SELECT 1 AS one")
            failures["store"] = ""
        except StoreError as error:
            failures["store"] = f"does not answer: {error}"
        if any(failures.values()):
            told = (f"{name}: {text or 'ok'}" for name, text in sorted(failures.items()))
            raise NotReady("; ".join(told))
        return Answer({"status": "ready"})

    def detailed(self) -> Response:
        """Each part, really checked: a probe row is written to the store and read back.

        200 while every part works at least somehow, 503 when one has failed; the same body.
        """
        parts = {
            "store": self._check_store(),
            "pipeline": self._check_pipeline(),
            "ingest": self._check_ingest(),
        }
        for name, look in self._parts.items():
            failure = look()
            parts[name] = _part("failed" if failure else "ok", failure)
        disk = self._check_disk()
        if disk is not None:
            parts["disk"] = disk
        worst = max((part["status"] for part in parts.values()), key=_WORST.index)
        body = {"status": worst, "version": self._version, "components": parts}
        return Answer(body, 503 if worst == "failed" else 200)

    def _check_store(self) -> Part:
        start_s = time.perf_counter()
        try:
            self._store.ping()
        except StoreError as error:
            return _part("failed", str(error))
        ping_s = time.perf_counter() - start_s
        slow = ping_s > SLOW_PING_S
        return _part(
            "degraded" if slow else "ok",
            f"a probe took longer than {SLOW_PING_S:g} s" if slow else "",
            ping_ms=round(ping_s * 1000, 3),
        )

    def _check_pipeline(self) -> Part:
        status = self._ingest.status()
        numbers = {
            "lag_s": status.lag_s,
            "watermark_us": status.watermark_us,
            "newest_event_us": status.newest_event_us,
            "active_boots": status.active_boots,
            "totals": dict(status.totals),
        }
        if status.failure:
            return _part("failed", status.failure, **numbers)
        if status.lag_s > LONG_LAG_S:
            detail = f"the watermark is more than {LONG_LAG_S:g} s behind the newest event"
            return _part("degraded", detail, **numbers)
        return _part("ok", "", **numbers)

    def _check_ingest(self) -> Part:
        pending, limit = self._ingest.status().pending_events, self._limits.max_pending_events
        many = pending > MANY_PENDING * limit
        return _part(
            "degraded" if many else "ok",
            "events come in faster than they are stored; senders will be told to wait"
            if many
            else "",
            pending_events=pending,
            max_pending_events=limit,
        )

    def _check_disk(self) -> Part | None:
        """None where the store is on another machine."""
        free = self._store.free_bytes()
        if free is None:
            return None
        if free < FREE_BYTES_FAILED:
            return _part("failed", "the disk below the store is full", free_bytes=free)
        few = free < FREE_BYTES_DEGRADED
        return _part(
            "degraded" if few else "ok",
            "little space is left on the disk below the store" if few else "",
            free_bytes=free,
        )


def open_routes(health: Health) -> APIRouter:
    """The routes that need no key."""
    router = APIRouter(tags=["health"])
    # The names that orchestrators look for by habit.
    router.add_api_route("/healthz", health.live, methods=["GET"], include_in_schema=False)
    router.add_api_route("/readyz", health.ready, methods=["GET"], include_in_schema=False)
    router.add_api_route(
        "/health", health.live, methods=["GET"], response_model=HealthAnswer, summary="Liveness"
    )
    router.add_api_route(
        "/ready",
        health.ready,
        methods=["GET"],
        response_model=ReadyAnswer,
        responses=described(503),
        summary="Readiness",
    )
    return router


def routes(health: Health) -> APIRouter:
    """The routes that need a key."""
    router = APIRouter(tags=["health"])
    router.add_api_route(
        "/health/detailed",
        health.detailed,
        methods=["GET"],
        response_model=DetailedHealthAnswer,
        responses=described(401, 403, 429)
        | {503: {"model": DetailedHealthAnswer, "description": "A part has failed."}},
        summary="Health of each part",
    )
    return router


def _part(status: str, detail: str, **numbers: Any) -> Part:
    return {"status": status, "detail": detail, **numbers}
