"""`penstock worker`: ingestion and evaluation of the distributed form."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ..api import openmetrics
from ..schemas.config import Configuration, load
from ..schemas.errors import BrokerAway, InvalidConfiguration, SchemaTooNew, StoreError
from ..schemas.kafka import KafkaAddress, parse_address
from ..schemas.topics import EVENTS, PANES
from ..streams.app.application import WorkerApp, build_app
from ..streams.app.http import Reading, Sources, WorkerHTTP
from ..streams.app.ports import Lease, WorkerSettings
from ..streams.app.runner import run
from ..streams.app.status import WorkerStatus
from ..streams.app.watchdog import Judge, Limits, Look, Watchdog
from ..streams.config_feed import ConfigurationFeed
from ..streams.core.configured import configured_counters
from ..streams.dead_letters.seal import Sealer, key_from_text, load_key, load_or_make_key
from ..streams.evaluator import Evaluator
from ..streams.ingest.ingestor import Ingestor, IngestorSettings
from ..streams.ingest.parcels import Layout
from ..streams.kafka.brokers import BrokerError, BrokerRefused, TopicAdmin, TopicState
from ..streams.kafka.outlet import KafkaOutlet
from ..streams.kafka.topics import home_partitions, incarnation, shards
from ..streams.storage.migrate import check_migrated
from ..streams.storage.store import Store

log = logging.getLogger("penstock")

OWN_KEY = Path("penstock-data/sealing.key")
QUIET = ("urllib3", "clickhouse_connect")  # what failed is in the error of the call
TELL_S = 5.0
TOPICS_S = 5.0  # between two looks at the topics


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What a processor is told.

    Attributes:
        kafka: address of the cluster.
        store: URL of the store.
        config: penstock.yaml.
        ingest: whether it works on events.
        evaluate: whether it works on deltas.
        metrics_host: address of /metrics, /healthz and /readyz.
        metrics_port: their port; 0 picks a free one.
        wait_s: how long to wait for broker, store, topics and migrations.
        watchdog_s: after so long without progress the process ends.
        sealing_key: file of the key for dead letters; made beside the data where None is given.
        sealing_key_text: the key itself as base64, instead of a file.
    """

    kafka: str
    store: str
    config: Path | None = None
    ingest: bool = True
    evaluate: bool = True
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 9187
    wait_s: float = 60.0
    watchdog_s: float = 120.0
    sealing_key: Path | None = None
    sealing_key_text: str = ""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What broker and store say before anything starts."""

    incarnation: int
    homes: int
    shards: int
    topics: TopicState


def serve_worker(options: WorkerOptions) -> NoReturn:
    """Run until SIGTERM or SIGINT; ends the process itself.

    Raises:
        InvalidConfiguration: an option or the configuration file makes no sense, or there are no topics.
        StoreError: the store is away or not migrated, even after waiting.
        BrokerAway: Kafka does not answer, even after waiting.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until the application has its own
    if not options.ingest and not options.evaluate:
        raise InvalidConfiguration("with --no-ingest and --no-evaluate there is nothing to do")
    configuration = load(options.config)
    address = parse_address(options.kafka)
    sealer = _sealer(options)
    configured_counters(configuration)  # a mistake is told at once, not by the first partition
    parts = _Parts(options, configuration, address, Store(options.store))
    http = WorkerHTTP(
        options.metrics_host,
        options.metrics_port,
        Sources(parts.status, parts.watermark_age_s),
        rendered,
        openmetrics.CONTENT_TYPE,
    )
    http.start()
    log.info("metrics on http://%s:%d/metrics", options.metrics_host, http.port)
    found = await_surroundings(address, parts.store, options.wait_s, parts.tell)
    app = parts.build(found, sealer)
    TopicWatch(address, found.topics, app).start()
    _watchdog(app, parts.store, options.watchdog_s).start()
    roles = [
        name for name, on in (("ingest", options.ingest), ("evaluate", options.evaluate)) if on
    ]
    log.info("%s, Kafka at %s", " and ".join(roles), address.servers)
    run(app)


class _Parts:
    """What is made of the options, one after the other."""

    def __init__(
        self,
        options: WorkerOptions,
        configuration: Configuration,
        address: KafkaAddress,
        store: Store,
    ) -> None:
        self._options = options
        self._address = address
        self._app: WorkerApp | None = None
        self._ingestor: Ingestor | None = None
        self._waiting_for = "starting"
        self.store = store
        self._feed = ConfigurationFeed(store, configuration)

    def tell(self, waiting_for: str) -> None:
        """Why it does not start yet."""
        self._waiting_for = waiting_for

    def status(self) -> WorkerStatus:
        """Of the application, once there is one."""
        if self._app is None:
            return WorkerStatus(self._waiting_for, turned_s=Lease.now_s())
        return self._app.status

    def watermark_age_s(self) -> float | None:
        """How far ingestion's watermark is behind the clock."""
        watermark_us = 0 if self._ingestor is None else self._ingestor.watermark_us
        return time.time() - watermark_us / 1e6 if watermark_us > 0 else None

    def build(self, found: Surroundings, sealer: Sealer) -> WorkerApp:
        """The application; the store must answer."""
        self._feed.start()
        newest = self._feed.configuration
        totals: Counter[str] = Counter()
        outlet = KafkaOutlet(self._address)
        partitions = found.topics.partitions[EVENTS]
        if self._options.ingest:
            layout = Layout(found.homes, partitions)
            settings = IngestorSettings(found.incarnation, layout, found.shards)
            self._ingestor = Ingestor(
                self.store, newest(), settings, outlet, sealer, totals, clock_us, newest
            )
        evaluator = None
        if self._options.evaluate:
            evaluator = Evaluator(self.store, newest(), found.shards, totals, clock_us, newest)
        worker = WorkerSettings(self._address, partitions)
        self._app = build_app(worker, self._ingestor, evaluator, outlet, totals)
        return self._app


class TopicWatch:
    """Sees that a topic was made anew or grew, which offsets alone do not always tell.

    Args:
        address: of the cluster.
        known: the topics as the application was told of them.
        app: asked to start again.
    """

    def __init__(self, address: KafkaAddress, known: TopicState, app: WorkerApp) -> None:
        self._admin = TopicAdmin(address)
        self._known = known
        self._app = app
        self._thread = threading.Thread(target=self._run, name="topic-watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def look(self) -> str:
        """What is different, empty where nothing is."""
        try:
            now = self._admin.describe([EVENTS, PANES])
        except (BrokerAway, BrokerError, BrokerRefused):
            return ""
        for topic, known in self._known.ids.items():
            if now.ids.get(topic, known) != known:
                return f"{topic} was made anew"
            partitions = self._known.partitions[topic]
            if now.partitions.get(topic, partitions) != partitions:
                return f"{topic} has {now.partitions[topic]} partitions now, not {partitions}"
        return ""

    def _run(self) -> None:
        while not self._app.start_again:
            time.sleep(TOPICS_S)
            self._app.start_again = self.look()


def await_surroundings(
    address: KafkaAddress, store: Store, wait_s: float, tell: Callable[[str], None]
) -> Surroundings:
    """Ask broker and store for what must be there, until it is.

    Args:
        address: of the cluster.
        store: to be asked.
        wait_s: how long.
        tell: called with what is missing, each time.

    Raises:
        InvalidConfiguration: there are no topics, even after waiting.
        SchemaTooNew: waiting does not help.
        StoreError: the store is away or not migrated, even after waiting.
        BrokerAway: Kafka does not answer, even after waiting.
    """
    until_s = time.monotonic() + wait_s
    told_s = 0.0
    admin = TopicAdmin(address, timeout_s=5.0)
    while True:
        try:
            return _ask(admin, store)
        except SchemaTooNew:
            raise
        except (InvalidConfiguration, StoreError, BrokerAway) as error:
            tell(str(error))
            now_s = time.monotonic()
            if now_s > until_s:
                raise
            if now_s - told_s > TELL_S:
                told_s = now_s
                log.info("waiting for %.0f s more: %s", until_s - now_s, error)
            time.sleep(0.5)


def _ask(admin: TopicAdmin, store: Store) -> Surroundings:
    check_migrated(store)
    topics = admin.describe([EVENTS, PANES])
    for topic in (EVENTS, PANES):
        if topic not in topics.ids:
            raise InvalidConfiguration(f"Kafka has no topic {topic}: run penstock topics")
    number = incarnation(store, EVENTS, topics.ids[EVENTS])
    found = Surroundings(number, home_partitions(store), shards(store), topics)
    if topics.partitions[PANES] != found.shards:
        raise InvalidConfiguration(
            f"{PANES} has {topics.partitions[PANES]} partitions, but the store was written with "
            f"{found.shards} shards: penstock topics says what to do"
        )
    return found


def _watchdog(app: WorkerApp, store: Store, watchdog_s: float) -> Watchdog:
    timeout_s = app.settings.session_timeout_s

    def look() -> Look:
        status = app.status
        return Look(
            now_s=Lease.now_s(),
            turned_s=status.turned_s,
            work={
                EVENTS: (status.totals.get("messages", 0), status.lag(EVENTS)),
                PANES: (status.totals.get("deltas", 0), status.lag(PANES)),
            },
            connected=status.heartbeat_age_s < timeout_s,
        )

    def ping() -> None:
        store.query("SELECT 1 AS one")

    return Watchdog(Judge(Limits(timeout_s, progress_s=watchdog_s)), look, ping)


def _sealer(options: WorkerOptions) -> Sealer:
    if options.sealing_key is not None:
        return Sealer(load_key(options.sealing_key))
    if options.sealing_key_text:
        return Sealer(key_from_text(options.sealing_key_text))
    log.warning(
        "dead letters are sealed with the key in %s: every worker needs the same one, "
        "see --sealing-key",
        OWN_KEY,
    )
    return Sealer(load_or_make_key(OWN_KEY))


def rendered(readings: Sequence[Reading]) -> str:
    """The text of /metrics."""
    return openmetrics.render(
        openmetrics.Sample(openmetrics.Metric(*reading.definition), reading.value, reading.labels)
        for reading in readings
    )


def clock_us() -> int:
    """The clock, integer microseconds since 1970 UTC."""
    return time.time_ns() // 1000
