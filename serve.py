"""`penstock up`: store, pipeline and API in one process."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import uvicorn

from .api.app import build_app
from .api.auth import Access
from .schemas.config import load
from .schemas.errors import InvalidConfiguration
from .schemas.ports import IngestPort, PipelineStatus, Receipt
from .streams.embedded import EmbeddedRunner
from .streams.migrate import migrate
from .streams.notifier import Notifier, notifier_of
from .streams.seal import Sealer, load_or_make_key
from .streams.store import RETRY_S, Store


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        InvalidConfiguration: the address cannot be listened on.
    """
    try:
        return socket.create_server((host, port), backlog=1024)
    except OSError as error:
        raise InvalidConfiguration(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another --host or --port"
        ) from error


class _Counted:
    """Ingestion, with the counters of the notifier beside its own."""

    def __init__(self, ingest: IngestPort, notifier: Notifier) -> None:
        self._ingest = ingest
        self._notifier = notifier

    async def post(
        self, body: bytes, form: Literal["frames", "json"], idempotency_key: str | None
    ) -> Receipt:
        return await self._ingest.post(body, form, idempotency_key)

    def status(self) -> PipelineStatus:
        status = self._ingest.status()
        return replace(status, totals={**status.totals, **self._notifier.totals})


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
    runner = EmbeddedRunner(store, configuration, sealer)
    notifier = notifier_of(store, configuration, os.environ)
    runner.start()
    if notifier is not None:
        notifier.start()
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
    ingest = runner if notifier is None else _Counted(runner, notifier)
    app = build_app(ingest, store, configuration, access, is_stopping=lambda: server.should_exit)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
    )
    try:
        server.run(sockets=[listener])
    finally:
        if notifier is not None:
            notifier.stop()
        runner.stop()
        store.close()
