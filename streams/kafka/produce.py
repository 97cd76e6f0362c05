"""Events in for an API process of the distributed form: POSTs become messages on the events topic.

A POST is answered when all in-sync replicas have its messages. What became of its rows is known when
a processor has applied them; which rows break a rule is known at once.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ...schemas.config import Configuration
from ...schemas.errors import Backpressure, BrokerAway, PenstockError
from ...schemas.kafka import KafkaAddress
from ...schemas.ports import PipelineStatus, Receipt
from ..breaker import Breaker, CircuitOpen
from ..core.tiles import SECOND_US
from ..ingest.parcels import Layout, Parcel, identity_of, pack_frames, pack_json
from ..storage.store import Store
from .sender import Sender, SenderSettings
from .topics import home_partitions
from .watch import BrokerWatch, StoreWatch

_DAY_US = 86_400 * SECOND_US
_DECODERS = 4  # threads: bodies of 32 MiB are taken apart beside the event loop, few at a time
_FAILURES = 3  # POSTs in a row that fail, after which the next ones are not tried
Form = Literal["frames", "json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProduceSettings:
    """Limits and periods.

    Attributes:
        sender: of the producer.
        period_s: how often broker and store are looked at.
        broker_timeout_s: after which a broker that does not answer is taken as away.
        silence_s: after which a store that does not answer is.
        rest_s: pause before a POST is tried again where POSTs fail though the broker answers.
    """

    sender: SenderSettings = field(default_factory=SenderSettings)
    period_s: float = 1.0
    broker_timeout_s: float = 3.0
    silence_s: float = 10.0
    rest_s: float = 5.0


class KafkaIngest:
    """`IngestPort` of an API process.

    Args:
        address: of the cluster.
        store: migrated; where the streams tell how far they are.
        configuration: limits and retention.
        settings: limits of this port.
        clock_us: integer microseconds UTC; tells rows that are too late.
    """

    def __init__(
        self,
        address: KafkaAddress,
        store: Store,
        configuration: Configuration,
        settings: ProduceSettings | None = None,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._settings = settings or ProduceSettings()
        self._store = store
        self._limits = configuration.limits
        self._retention_us = configuration.retention.warm_days * _DAY_US
        self._clock_us = clock_us
        self._breaker = Breaker(_FAILURES, self._settings.rest_s)
        # What librdkafka tells of a lost broker is looked into at once.
        self._sender = Sender(address, self._settings.sender, lambda: self._broker.wake())
        self._broker = BrokerWatch(
            address,
            self._sender.refresh,
            self._breaker,
            self._settings.period_s,
            self._settings.broker_timeout_s,
        )
        self._store_watch = StoreWatch(
            store,
            configuration.time.boot_timeout_s,
            self._settings.period_s,
            self._settings.silence_s,
        )
        self._pool = ThreadPoolExecutor(_DECODERS, "penstock-decode")
        self._homes = 0
        self._lock = threading.Lock()
        self._pending = 0
        self._totals = Counter(accepted=0, duplicate=0, rejected=0, messages=0, refused_posts=0)
        self._latencies: deque[tuple[float, float]] = deque(maxlen=10_000)

    def start(self) -> None:
        """Begin; a broker that is away is waited for, and POSTs are answered 503 meanwhile.

        Raises:
            InvalidConfiguration: the topics were never made.
            StoreError: the store is away or not migrated.
        """
        self._homes = home_partitions(self._store)
        self._sender.start()
        self._broker.start()
        self._store_watch.start()

    def stop(self) -> None:
        """Wait until what was sent is acknowledged, and end. No POST may be under way."""
        self._pool.shutdown()
        self._sender.stop()
        self._broker.stop()
        self._store_watch.stop()

    async def post(self, body: bytes, form: Form, idempotency_key: str | None) -> Receipt:
        """See `IngestPort.post`; duplicates and conflicts of keys are not known here.

        Raises:
            InvalidFrame: the body is neither frames nor JSON; nothing was sent.
            TooLarge: a row or a frame does not fit the topic.
            Backpressure: too much is under way; nothing was sent.
            BrokerAway: Kafka is away, or did not acknowledge all of it in time: it may be there.
        """
        began_s = time.perf_counter()
        self._check()
        try:
            with self._breaker.call(BrokerAway):
                receipt = await self._deliver(body, form, idempotency_key)
        except CircuitOpen as error:
            self._totals["refused_posts"] += 1
            raise BrokerAway(f"nothing was sent: {error}") from error
        except BrokerAway:
            self._totals["refused_posts"] += 1
            raise
        now_s = time.perf_counter()
        self._latencies.append((now_s, now_s - began_s))
        self._totals["accepted"] += receipt.accepted
        self._totals["rejected"] += receipt.rejected
        return receipt

    def status(self) -> PipelineStatus:
        """See `IngestPort.status`: totals of this process, progress of the whole."""
        since_s = time.perf_counter() - 60
        recent = [seconds for at, seconds in list(self._latencies) if at >= since_s]
        progress = self._store_watch.progress
        failures = self._broker.failure or self._breaker.reason, self._store_watch.failure
        watermark_us, newest_us = progress.watermark_us, progress.newest_us
        return PipelineStatus(
            watermark_us=watermark_us,
            newest_event_us=newest_us,
            lag_s=max(newest_us - watermark_us, 0) / SECOND_US if watermark_us else 0.0,
            pending_events=self._pending,
            active_boots=progress.active_boots,
            totals=dict(self._totals),
            ingest_s={p: float(np.quantile(recent, p)) for p in (0.5, 0.9, 0.99)} if recent else {},
            failure="; ".join(filter(None, failures)),
        )

    def broker_failure(self) -> str:
        """Why nothing can be sent now; empty while a broker answers."""
        return self._broker.failure

    def _check(self) -> None:
        if self._pending >= self._limits.max_pending_events:
            raise Backpressure(f"{self._pending} events are under way to Kafka", 1.0)
        self._sender.check()

    async def _deliver(self, body: bytes, form: Form, key: str | None) -> Receipt:
        loop = asyncio.get_running_loop()
        parcel, answer = await loop.run_in_executor(self._pool, self._send, body, form, key, loop)
        if answer is not None:
            # The producer answers by itself; this is for the case that it does not.
            limit_s = self._settings.sender.delivery_timeout_s + 5
            try:
                async with asyncio.timeout(limit_s):
                    await answer
            except TimeoutError as error:
                text = f"Kafka: no acknowledgement within {limit_s:g} s"
                raise BrokerAway(text) from error
        return parcel.receipt

    def _send(
        self, body: bytes, form: Form, key: str | None, loop: asyncio.AbstractEventLoop
    ) -> tuple[Parcel, asyncio.Future[None] | None]:
        """Take a body apart and send it; blocking, in a thread."""
        parcel = self._pack(body, form, key)
        if not parcel.messages:
            return parcel, None

        def account(events: int) -> None:
            with self._lock:
                self._pending += events

        account(parcel.events)
        try:
            answer = self._sender.send(parcel.messages, loop, lambda: account(-parcel.events))
        except PenstockError:
            account(-parcel.events)
            raise
        self._totals["messages"] += len(parcel.messages)
        return parcel, answer

    def _pack(self, body: bytes, form: Form, key: str | None) -> Parcel:
        oldest_us = self._clock_us() - self._retention_us
        layout = self._layout()
        if form == "json":
            return pack_json(body, identity_of(body, key), layout, oldest_us)
        parcel = pack_frames(body, layout, oldest_us)
        if parcel.highest_home >= layout.partitions:  # added since the last look?
            self._broker.look()
            if self._layout() != layout:
                parcel = pack_frames(body, self._layout(), oldest_us)
        return parcel

    def _layout(self) -> Layout:
        if not self._broker.partitions:
            raise BrokerAway(self._broker.failure)
        return Layout(self._homes, self._broker.partitions)
