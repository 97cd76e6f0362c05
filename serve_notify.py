"""`penstock notify`: the notifier of the distributed form, in a process of its own."""

from __future__ import annotations

import logging
import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

from .schemas.config import load
from .streams.notifier import Notifier, notifier_of
from .streams.store import Store

log = logging.getLogger("penstock")

QUIET = ("urllib3", "clickhouse_connect")  # what failed is in the error of the call


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyOptions:
    """What a notifier is told.

    Attributes:
        store: URL of the store.
        config: penstock.yaml, the same that the workers have.
        once: look once, deliver what is due, and end.
        metrics_host: address of /metrics, /healthz and /readyz.
        metrics_port: their port; 0 picks a free one.
    """

    store: str
    config: Path | None = None
    once: bool = False
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 9187


def serve_notify(options: NotifyOptions) -> dict[str, int]:
    """Run until SIGTERM or SIGINT, or once.

    Returns:
        Counters of what it did.

    Raises:
        InvalidConfiguration: an option or the configuration file makes no sense, or a secret is missing.
        PenstockError: with `once`, the store is away or another notifier works.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    store = Store(options.store)
    notifier = notifier_of(store, load(options.config), os.environ)
    if notifier is None:
        log.info("there are no alerts.receivers in the configuration: nobody is to be told")
    try:
        if not options.once:
            _serve(options, notifier)
        elif notifier is not None:
            notifier.once()
    finally:
        store.close()
    return {} if notifier is None else dict(notifier.totals) | {"waiting": notifier.left}


def _serve(options: NotifyOptions, notifier: Notifier | None) -> None:
    # Not needed for one look, and slow to import.
    from .api import openmetrics
    from .serve_worker import rendered
    from .streams.notifier_http import NotifierHTTP

    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    http = NotifierHTTP(
        options.metrics_host,
        options.metrics_port,
        notifier,
        rendered,
        openmetrics.CONTENT_TYPE,
    )
    http.start()
    log.info("metrics on http://%s:%d/metrics", options.metrics_host, http.port)
    if notifier is not None:
        notifier.start()
    ended.wait()
    if notifier is not None:
        notifier.stop()
    http.stop()
