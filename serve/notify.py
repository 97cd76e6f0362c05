"""`penstock notify`: what goes out of the distributed form, in a process of its own.

Notifier, explainer, and the sender to the topic of alerts.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..schemas.config import load
from ..schemas.errors import StoreError
from ..schemas.kafka import KafkaAddress, parse_address
from ..streams.config_feed import ConfigurationFeed
from ..streams.explain.explainer import Explainer
from ..streams.notify.live import LiveNotifier
from ..streams.notify.notifier import Notifier, notifier_of
from ..streams.notify.topic import AlertsTopic
from ..streams.storage.store import Store

log = logging.getLogger("penstock")

NOBODY = "there are no alerts.receivers in the configuration: nobody is to be told"
QUIET = ("urllib3", "clickhouse_connect")  # what failed is in the error of the call


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyOptions:
    """What a notifier is told.

    Attributes:
        store: URL of the store.
        config: penstock.yaml, the same that the workers have.
        kafka: address of the cluster; without it nothing is sent to the topic of alerts.
        once: look once, deliver what is due, and end.
        metrics_host: address of /metrics, /healthz and /readyz.
        metrics_port: their port; 0 picks a free one.
    """

    store: str
    config: Path | None = None
    kafka: str | None = None
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
    address = None if options.kafka is None else parse_address(options.kafka)
    store = Store(options.store)
    feed = ConfigurationFeed(store, load(options.config))
    try:
        with _topic(store, address) as topic:
            if options.once:
                return _once(store, feed, topic)
            return _serve(options, store, feed, topic)
    finally:
        store.close()


@contextlib.contextmanager
def _topic(store: Store, address: KafkaAddress | None) -> Iterator[AlertsTopic | None]:
    """The sender to the topic of alerts; None without a broker."""
    if address is None:
        yield None
        return
    from ..streams.kafka.outlet import KafkaOutlet  # brings Kafka's client library along

    outlet = KafkaOutlet(address)
    try:
        yield AlertsTopic(store, outlet)
    finally:
        outlet.close()


def _once(store: Store, feed: ConfigurationFeed, topic: AlertsTopic | None) -> dict[str, int]:
    with contextlib.suppress(StoreError):  # whoever is to be told will need the store, and say so
        feed.look()
    notifier = notifier_of(store, feed.configuration(), os.environ)
    if notifier is None:
        log.info(NOBODY)
    else:
        notifier.once()
    explainer = Explainer(store, feed.configuration)
    while explainer.turn():  # after people are told: their messages go without
        pass
    if topic is not None:
        topic.once()
    return _told({} if notifier is None else notifier.totals, notifier, topic)


def _told(
    totals: Mapping[str, int], notifier: Notifier | None, topic: AlertsTopic | None
) -> dict[str, int]:
    sent = {} if topic is None else topic.totals
    return {**totals, **sent} | ({} if notifier is None else {"waiting": notifier.left})


def _serve(
    options: NotifyOptions, store: Store, feed: ConfigurationFeed, topic: AlertsTopic | None
) -> dict[str, int]:
    # Not needed for one look, and slow to import.
    from ..api import openmetrics
    from ..streams.notify.http import NotifierHTTP
    from .worker import rendered

    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with contextlib.suppress(StoreError):  # it is waited for
        feed.look()
    live = LiveNotifier(store, feed.configuration, os.environ)
    if live.notifier is None:
        log.info(NOBODY)
    http = NotifierHTTP(
        options.metrics_host,
        options.metrics_port,
        lambda: live.notifier,
        topic,
        rendered,
        openmetrics.CONTENT_TYPE,
    )
    http.start()
    log.info("metrics on http://%s:%d/metrics", options.metrics_host, http.port)
    feed.follow()
    live.start()
    if topic is not None:
        topic.start()
    explainer = Explainer(store, feed.configuration)
    explainer.start()
    ended.wait()
    feed.stop()
    explainer.stop()
    live.stop()
    if topic is not None:
        topic.stop()
    http.stop()
    return _told(live.totals, live.notifier, topic)
