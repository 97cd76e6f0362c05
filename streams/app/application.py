"""The Faust application of `penstock worker`: two agents, each with a desk that does the work."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import faust
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]
from faust.app.base import BootStrategy
from faust.streams import Stream
from faust.types import TP, StreamT

from ...schemas.kafka import KafkaAddress
from ..kafka.messages import Outlet
from .consumer import Consumer, Transport
from .courier import Courier
from .desk import BaseDesk
from .evaluate import EvaluateDesk
from .ingest import IngestDesk
from .ports import Evaluator, Ingestor, Lease, WorkerSettings
from .status import WorkerStatus, status_of

log = logging.getLogger("penstock")

MAX_FETCH_BYTES = 4 * 2**20  # of one partition; a larger message still comes, alone
STREAM_BUFFER = 64  # messages between Faust's fetcher and an agent, which takes them at once
REBALANCE_TIMEOUT_S = 30.0
REQUEST_TIMEOUT_S = 20.0
COMMIT_S = 1.0
TURN_S = 0.25
MEASURE_S = 2.0
METADATA_AGE_MS = 30_000  # until added partitions are seen
NEVER_S = 365 * 86_400.0


class _Boot(BootStrategy):
    """Only what is used: no producer of Faust's, no web server."""

    enable_kafka_producer = False
    enable_web = False


class WorkerApp(faust.App):
    """The application, and what there is to know of it.

    Args:
        settings: of the processor.
        totals: counters of the process.
        desks: by topic; filled before it starts.

    Attributes:
        lease: how long the partitions are surely ours.
        totals: counters of the process.
        desks: by topic.
        status: of the last turn of the event loops; read it from any thread.
        start_again: set it from any thread to end with exit code 75: why a new start is needed.
        on_start_again: called with that reason, in the event loop.
        work: what runs beside the agents.
        circuits: by name, whether calls are made: closed, open or half-open.
    """

    BootStrategy = _Boot

    def __init__(
        self, settings: WorkerSettings, totals: Counter[str], desks: dict[str, BaseDesk]
    ) -> None:
        self.settings = settings
        self.lease = Lease(settings.session_timeout_s)
        self.totals = totals
        self.desks = desks
        self.status = WorkerStatus("starting", turned_s=self.lease.now_s())
        self.start_again = ""
        self.on_start_again: Callable[[str], None] = log.critical
        self._ends: dict[TP, int] = {}
        self._desk_tasks: list[asyncio.Task[None]] = []
        self.circuits: dict[str, Callable[[], str]] = {}
        self.work: list[Callable[[], Awaitable[None]]] = [self._turn, self._measure]
        super().__init__(settings.group, **_options(settings))

    def penstock_consumer(self) -> Consumer:
        """The consumer, once there is one."""
        consumer = self.consumer
        assert isinstance(consumer, Consumer)
        return consumer

    async def depart(self) -> None:
        """The first part of a planned stop: finish what runs, commit, leave the group."""
        for desk in self.desks.values():
            desk.stop()
        if self._desk_tasks:
            await asyncio.wait(self._desk_tasks, timeout=self.settings.stop_s / 2)
        await self.penstock_consumer().leave()

    async def on_first_start(self) -> None:
        """Start the desks beside the agents."""
        await super().on_first_start()
        self._desk_tasks = [asyncio.create_task(desk.run()) for desk in self.desks.values()]
        for work in self.work:
            self.add_future(work())

    async def _turn(self) -> None:
        while True:
            circuits = {name: state() for name, state in self.circuits.items()}
            now_s = self.lease.now_s()
            self.status = status_of(
                self.desks.values(),
                self.lease.age_s,
                min(now_s, self.penstock_consumer().client.turned_s or now_s),
                self.totals,
                circuits,
                self._ends,
            )
            if reason := self.start_again or self._trouble():
                self.on_start_again(reason)
            await asyncio.sleep(TURN_S)

    def _trouble(self) -> str:
        for desk, task in zip(self.desks.values(), self._desk_tasks, strict=True):
            if desk.trouble:
                return desk.trouble
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                return f"{desk.topic}: ended by {error!r}"
        return ""

    async def _measure(self) -> None:
        """Ask how far the logs go, also while nothing is fetched from them."""
        while True:
            await asyncio.sleep(MEASURE_S)
            with contextlib.suppress(KafkaError):
                if any(desk.wanted for desk in self.desks.values()):
                    self._ends = await self.penstock_consumer().client.ends()

    def _new_transport(self) -> Any:
        make = partial(Consumer, lease=self.lease, desks=self.desks, totals=self.totals)
        return Transport(self.conf.broker_consumer, self, make)

    def _create_directories(self) -> None:
        """None: they are for tables."""


async def receive(desk: BaseDesk, stream: Stream[bytes]) -> None:
    """Body of an agent: never raises, never waits, acknowledges nothing (see Consumer.commit)."""
    async for event in stream.noack().events():
        desk.take(event.message)


def build_app(
    settings: WorkerSettings,
    ingestor: Ingestor | None,
    evaluator: Evaluator | None,
    outlet: Outlet,
    totals: Counter[str] | None = None,
) -> WorkerApp:
    """The application of one processor; nothing is connected before it starts.

    Args:
        settings: where the broker is, sizes and times.
        ingestor: works on the events topic; None to leave that to others.
        evaluator: works on the panes topic; None to leave that to others.
        outlet: to the panes topic.
        totals: counters of the process, added to.
    """
    totals = Counter() if totals is None else totals
    desks: dict[str, BaseDesk] = {}
    app = WorkerApp(settings, totals, desks)
    if ingestor is not None:
        courier = Courier(outlet, settings.max_deltas_bytes, totals)
        app.work.append(courier.run)
        app.circuits["deltas"] = courier.circuit
        common = (settings, app.lease, totals, app.penstock_consumer)
        _bind(app, "ingest", IngestDesk(ingestor, courier, *common))
    if evaluator is not None:
        common = (settings, app.lease, totals, app.penstock_consumer)
        _bind(app, "evaluate", EvaluateDesk(evaluator, *common))
    return app


def _bind(app: WorkerApp, name: str, desk: BaseDesk) -> None:
    app.desks[desk.topic] = desk
    app.circuits[name] = desk.circuit
    topic = app.topic(
        desk.topic,
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
        internal=False,
    )

    async def agent(stream: StreamT[bytes]) -> None:
        await receive(desk, cast(Stream[bytes], stream))

    app.agent(topic, name=name, concurrency=1)(agent)


def _options(settings: WorkerSettings) -> Mapping[str, Any]:
    """Settings of Faust; those that are not here must not come from the environment either."""
    return {
        "env_prefix": "PENSTOCK_FAUST",
        "autodiscover": False,
        "broker": [f"kafka://{server}" for server in settings.kafka.bootstrap],
        "broker_client_id": "penstock-worker",
        "broker_commit_interval": COMMIT_S,
        "broker_credentials": _credentials(settings.kafka),
        "broker_heartbeat_interval": settings.heartbeat_s,
        "broker_max_poll_interval": NEVER_S,  # back pressure is not a reason to leave
        "broker_rebalance_timeout": REBALANCE_TIMEOUT_S,
        "broker_request_timeout": REQUEST_TIMEOUT_S,
        "broker_session_timeout": settings.session_timeout_s,
        "consumer_auto_offset_reset": "earliest",
        "consumer_max_fetch_size": MAX_FETCH_BYTES,
        "consumer_metadata_max_age_ms": METADATA_AGE_MS,
        "datadir": Path(tempfile.gettempdir()) / "penstock-faust",  # never made
        "stream_buffer_maxsize": STREAM_BUFFER,
        "stream_recovery_delay": 0.0,
        "stream_wait_empty": False,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "web_enabled": False,
        "worker_redirect_stdouts": False,
    }


def _credentials(address: KafkaAddress) -> Any:
    context = None
    if address.tls:
        context = ssl.create_default_context(cafile=address.ca or None)
        if address.certificate:
            context.load_cert_chain(address.certificate, address.key or None)
    if address.mechanism:
        return faust.SASLCredentials(
            username=address.user,
            password=address.password,
            ssl_context=context,
            mechanism=address.mechanism,
        )
    return None if context is None else faust.SSLCredentials(context)
