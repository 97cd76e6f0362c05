"""`penstock up`: store, pipeline and API in one process."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import uvicorn
from fastapi import FastAPI

from ..api.app import build_app
from ..api.auth import Access
from ..api.config_versions import Versions
from ..api.live_app import LiveApp
from ..schemas.config import Configuration, load
from ..schemas.ports import IngestPort, PipelineStatus, Receipt
from ..store.listening import is_loopback, listen
from ..streams.config_feed import ConfigurationFeed
from ..streams.core.configured import configured_counters
from ..streams.dead_letters.seal import Sealer, load_or_make_key
from ..streams.delivery.secret import Secrets
from ..streams.embedded import EmbeddedRunner, wall_clock_us
from ..streams.explain.explainer import Explainer
from ..streams.notify.live import LiveNotifier
from ..streams.notify.notifier import check_secrets
from ..streams.storage.migrate import migrate
from ..streams.storage.store import RETRY_S, Store


class _Counted:
    """Ingestion, with the counters of the notifier beside its own."""

    def __init__(self, ingest: IngestPort, notifier: LiveNotifier) -> None:
        self._ingest = ingest
        self._notifier = notifier

    async def post(
        self, body: bytes, form: Literal["frames", "json"], idempotency_key: str | None
    ) -> Receipt:
        return await self._ingest.post(body, form, idempotency_key)

    def status(self) -> PipelineStatus:
        status = self._ingest.status()
        return replace(status, totals={**status.totals, **self._notifier.totals})


def _check_secrets(configuration: Configuration) -> None:
    check_secrets(configuration.alerts, Secrets(os.environ))


def serve(
    data: Path, url: str | None, host: str, port: int, config: Path | None, keys: bool | None
) -> None:
    """Run until interrupted; without `url` the store is chdb in the data folder.

    Raises:
        InvalidConfiguration: the configuration file has mistakes, or a secret of a receiver is missing.
        StoreError: the store cannot be opened.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    configuration = load(config)
    data.mkdir(parents=True, exist_ok=True)
    store = Store(url or f"chdb://{(data / 'store').absolute()}", RETRY_S)
    migrate(store, configuration.retention)
    # uvicorn raises the signal that ended it once more: what follows must run before the process ends.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    listener = listen(host, port)
    sealer = Sealer(load_or_make_key(data / "sealing.key"))
    feed = ConfigurationFeed(store, configuration)
    feed.look()
    configured_counters(feed.configuration())
    runner = EmbeddedRunner(store, configuration, sealer, newest=feed.configuration)
    notifier = LiveNotifier(store, feed.configuration, os.environ)
    explainer = Explainer(store, feed.configuration)
    runner.start()
    notifier.start()
    explainer.start()
    required = keys if keys is not None else not is_loopback(host)
    access = Access(required=required, keys_path=data / "keys.json")
    bound = listener.getsockname()[1]
    log = logging.getLogger("penstock")
    log.info("listening on http://%s:%d (data in %s)", host, bound, data)
    if required:
        log.info(
            "API keys are asked for: penstock keys create --data %s --name me --scope read", data
        )
    server: uvicorn.Server
    ingest = _Counted(runner, notifier)
    versions = Versions(store, configuration, wall_clock_us, (_check_secrets,), feed.look)

    def build(configuration: Configuration, is_over: Callable[[], bool]) -> FastAPI:
        return build_app(
            ingest, store, configuration, access, is_stopping=is_over, versions=versions
        )

    app = LiveApp(build, feed.configuration, lambda: server.should_exit)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
    )
    try:
        server.run(sockets=[listener])
    finally:
        explainer.stop()
        notifier.stop()
        runner.stop()
        store.close()
