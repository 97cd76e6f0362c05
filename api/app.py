"""The API, put together: every dependency comes in as an argument, nothing is kept in globals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Response
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ..schemas.config import Configuration
from ..schemas.ports import IngestPort
from . import (
    alerts,
    config,
    costs,
    coverage,
    drift,
    drift_examples,
    drift_references,
    events,
    gates,
    gates_backtest,
    gates_create,
    gates_evidence,
    gates_history,
    gates_orders,
    gates_replay,
    health,
    live,
    metrics,
    page,
    pipelines,
    problems,
    releases,
    requests,
    slos,
)
from . import windows as windows_module
from .answers import Answer
from .auth import Access, Guard
from .config_versions import Versions
from .journal import SignalStore
from .keys import SCOPES, Scope
from .models import LiveMessage
from .silences import Said

Guarded = tuple[APIRouter, tuple[Scope, ...]]

_DESCRIPTION = """\
Events in, windows and verdicts out. Errors are `application/problem+json`; times are ISO 8601 in
UTC; null is a value that cannot be told, never zero. docs/api.md has an example of each call."""


def build_app(
    ingest: IngestPort,
    store: SignalStore,
    configuration: Configuration,
    access: Access,
    *,
    is_stopping: Callable[[], bool] = lambda: False,
    monotonic_s: Callable[[], float] = time.monotonic,
    wall_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    parts: Mapping[str, Callable[[], str]] | None = None,
    versions: Versions | None = None,
) -> FastAPI:
    """The application.

    Args:
        ingest: takes events in.
        store: runs read-only SQL, and takes in silences and acknowledgements; blocking, so its
            callers run in threads.
        configuration: limits, gates, SLOs, alerts and costs.
        access: whether keys are needed, and where they are.
        is_stopping: whether the server was told to end. Open streams and waits end within half a
            second then; uvicorn waits for them (`lambda: server.should_exit`).
        monotonic_s: clock of rate limits.
        wall_us: clock of the live stream and of silences, integer microseconds since 1970.
        parts: what else this process needs to be ready, by name: each tells why it does not work.
        versions: of the configuration; without them, those of the store over `configuration`.
    """
    version = metadata.version("penstock")
    app = _empty_app(version)
    versions = versions or Versions(store, configuration, wall_us)
    guard = Guard(access, monotonic_s)
    verdicts = gates.Verdicts(
        store, configuration.live_gates, lambda: ingest.status().watermark_us, wall_us
    )
    waiting = gates.Waiting(verdicts, is_stopping, monotonic_s)
    backtests = gates_backtest.Backtests(
        store, verdicts, lambda: ingest.status().watermark_us, monotonic_s, is_stopping
    )
    reader = live.LiveReader(store, verdicts, ingest, wall_us)
    checks = health.Health(ingest, store, configuration.limits, version, parts)
    guarded: tuple[Guarded, ...] = (
        (events.routes(ingest, configuration.limits.max_body_mb), ("ingest",)),
        (windows_module.routes(store), ("read",)),
        (requests.routes(store, lambda: ingest.status().newest_event_us), ("read",)),
        *_release_routes(releases.Releases(store, verdicts)),
        (coverage.routes(store), ("read",)),
        *_gate_routes(store, ingest, waiting, wall_us),
        (gates_backtest.routes(backtests), ("gate", "read")),
        (live.routes(reader, is_stopping), ("read",)),
        (health.routes(checks), ("read",)),
        (metrics.routes(ingest, store, version), ("read",)),
        *_signal_routes(store, configuration, wall_us),
        (config.routes(versions), ("admin",)),
        (gates_create.routes(gates_create.Create(versions)), ("admin",)),
        (_openapi_routes(app), SCOPES),
    )
    app.include_router(health.open_routes(checks))
    _include(app, guard, guarded, pipelines.hook_routes(waiting))
    page.install(app)
    return app


def _include(app: FastAPI, guard: Guard, guarded: Iterable[Guarded], hooks: APIRouter) -> None:
    """Routes behind keys with any of their scopes; those of hooks may have theirs in the address."""
    for router, scopes in guarded:
        app.include_router(router, dependencies=[Depends(guard.needs(*scopes))])
    by_url = Depends(pipelines.needs_by_url(guard, "gate", "read"))
    app.include_router(hooks, dependencies=[by_url])


def _release_routes(marked: releases.Releases) -> Iterator[Guarded]:
    yield releases.routes(marked), ("read",)
    yield releases.good_routes(marked), ("gate", "read")


def _empty_app(version: str) -> FastAPI:
    """An application without routes, whose errors are problem documents."""
    # No /docs page of the framework: it would load its scripts from elsewhere.
    app = FastAPI(
        title="Penstock",
        version=version,
        description=_DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    problems.install(app)
    return app


def _gate_routes(
    store: SignalStore, ingest: IngestPort, waiting: gates.Waiting, wall_us: Callable[[], int]
) -> tuple[Guarded, ...]:
    """What pipelines ask; what overrules a gate needs `admin`."""
    past = gates_history.History(store, waiting.verdicts)
    orders = gates_orders.Orders(
        store, waiting, lambda body: ingest.post(body, "json", None), wall_us
    )
    return (
        (gates.routes(waiting), ("gate", "read")),
        (gates_history.routes(past), ("gate", "read")),
        (gates_replay.routes(gates_replay.Replay(store, waiting.verdicts)), ("gate", "read")),
        (gates_evidence.routes(gates_evidence.Evidence(store, waiting.verdicts)), ("gate", "read")),
        (pipelines.routes(waiting), ("gate", "read")),
        (gates_orders.routes(orders), ("admin",)),
    )


def _signal_routes(
    store: SignalStore, configuration: Configuration, wall_us: Callable[[], int]
) -> tuple[Guarded, ...]:
    """SLOs, alerts and costs; what changes what people are told needs `admin`."""
    said = Said(store, configuration.alerts.silences, wall_us)
    raised = alerts.Alerts(store, configuration.alerts, said)
    return (
        (slos.routes(slos.Slos(store, configuration.objectives)), ("read",)),
        (alerts.read_routes(raised, said), ("read",)),
        (alerts.write_routes(raised, said), ("admin",)),
        (costs.routes(costs.Costs(store, configuration.costs)), ("read",)),
        *_drift_routes(store, configuration, wall_us),
    )


def _drift_routes(
    store: SignalStore, configuration: Configuration, wall_us: Callable[[], int]
) -> tuple[Guarded, ...]:
    """Drift; what traffic is compared with is changed by `admin`."""
    monitors = configuration.drift.monitors
    kept = drift_references.StoredReferences(store, monitors, wall_us)
    return (
        (drift.routes(drift.Drift(store, monitors)), ("read",)),
        (drift_examples.routes(drift_examples.Examples(store)), ("read",)),
        (drift_references.read_routes(kept), ("read",)),
        (drift_references.write_routes(kept), ("admin",)),
    )


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of an application, with the shapes that no route names directly."""
    document = app.openapi()
    extra: list[type[BaseModel]] = [problems.Problem, LiveMessage]
    _, definitions = models_json_schema(
        [(model, "serialization") for model in extra],
        ref_template="#/components/schemas/{model}",
    )
    document["components"]["schemas"] |= definitions["$defs"]
    return document


def _openapi_routes(app: FastAPI) -> APIRouter:
    async def openapi() -> Response:
        return Answer(describe(app))

    router = APIRouter()
    router.add_api_route("/openapi.json", openapi, methods=["GET"], include_in_schema=False)
    return router
