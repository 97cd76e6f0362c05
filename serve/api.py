"""`penstock api`: the API of the distributed form, beside a store and Kafka that run elsewhere."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from ..api.app import build_app
from ..api.auth import Access
from ..api.config_versions import Versions
from ..api.live_app import LiveApp
from ..schemas.config import Configuration, load
from ..schemas.kafka import parse_address
from ..store.listening import is_loopback, listen
from ..streams.config_feed import ConfigurationFeed
from ..streams.core.configured import configured_counters
from ..streams.embedded import wall_clock_us as clock_us
from ..streams.kafka.produce import KafkaIngest, ProduceSettings
from ..streams.storage.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiOptions:
    """What an API process is told.

    Attributes:
        kafka: address of the cluster.
        store: URL of the store.
        host: address to listen on.
        port: 0 picks a free one.
        config: penstock.yaml, the same that the workers have.
        keys: whether API keys are asked for; None asks beyond loopback.
        keys_file: where they are.
    """

    kafka: str
    store: str
    host: str = "127.0.0.1"
    port: int = 8080
    config: Path | None = None
    keys: bool | None = None
    keys_file: Path = Path("penstock-data/keys.json")


def serve_api(options: ApiOptions) -> None:
    """Run until interrupted; then finish the POSTs under way.

    Raises:
        InvalidConfiguration: an option or the configuration file makes no sense, or the topics were
            never made.
        StoreError: the store is away or not migrated.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    log = logging.getLogger("penstock")
    # uvicorn raises the signal that ended it once more: what follows must run before the process ends.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    configuration = load(options.config)
    address = parse_address(options.kafka)
    store = Store(options.store)
    feed = ConfigurationFeed(store, configuration)
    settings = ProduceSettings()
    ingest = KafkaIngest(address, store, configuration, settings)
    required = options.keys if options.keys is not None else not is_loopback(options.host)
    access = Access(required=required, keys_path=options.keys_file)
    versions = Versions(store, configuration, clock_us, made=feed.look)
    try:
        ingest.start()
        feed.start()
        configured_counters(feed.configuration())
        listener = listen(options.host, options.port)
        bound = listener.getsockname()[1]
        log.info("listening on http://%s:%d, Kafka at %s", options.host, bound, address.servers)
        if required:
            log.info("API keys are asked for, those of %s", options.keys_file)
        server: uvicorn.Server

        def build(configuration: Configuration, is_over: Callable[[], bool]) -> FastAPI:
            return build_app(
                ingest,
                store,
                configuration,
                access,
                is_stopping=is_over,
                parts={"broker": ingest.broker_failure},
                versions=versions,
            )

        app = LiveApp(build, feed.configuration, lambda: server.should_exit)
        # Longer than a POST can wait for its acknowledgement.
        grace_s = round(settings.sender.delivery_timeout_s) + 6
        server = uvicorn.Server(
            uvicorn.Config(
                app, log_level="warning", access_log=False, timeout_graceful_shutdown=grace_s
            )
        )
        server.run(sockets=[listener])
    finally:
        feed.stop()
        ingest.stop()
        store.close()
