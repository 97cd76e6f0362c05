"""One boot of an emitter: its buffer's flusher, its outbox, its sender, and how they end."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from ..schemas.events import EventName
from ..schemas.kafka import parse_address
from ..schemas.redaction import Redactor
from .flusher import Flusher
from .framer import Boot, Framer
from .guards import Tracker
from .intake import Call
from .kafka import KafkaTransport
from .outbox import Outbox
from .redact import KeyedHash
from .rows import RowBuilder
from .sampling import Sampler
from .sender import Backoff, DeliveryCounts, Sender
from .settings import EmitterSettings, check_private, is_kafka, spool_folder
from .snapshot import Counters, Delivery, Snapshot
from .spool import Spool, boot_folder
from .transport import HttpTransport, Partitioned, Transport

_ASK_LIMIT_S = 2.0  # of the first frames of a boot, for the partitions of Kafka


class Session:
    """Everything that belongs to one boot_id; a forked child makes a new one."""

    def __init__(
        self,
        worker_id: str,
        *,
        calls: Mapping[EventName, deque[Call]],
        tracker: Tracker,
        settings: EmitterSettings,
        address: str,
        transport: Transport | None,
        defaults: Mapping[str, Any],
        clock_us: Callable[[], int],
        us_per_tick: int,
    ) -> None:
        self.boot = Boot(worker_id)
        self.warned_late = False
        self._settings = settings
        self._clock_us = clock_us
        self._transport = transport or self._open_transport(address)
        self._spool_dir = spool_folder(settings, address)
        self._outbox = Outbox(self._open_spool)
        self._sender = Sender(
            self._outbox,
            self._transport,
            self._spool_dir,
            settings.spool_max_bytes,
            Backoff(settings.retry_base_s, settings.retry_cap_s),
        )
        self._flusher = Flusher(
            calls,
            _row_builder(settings, defaults),
            Framer(self.boot),
            self._outbox,
            tracker,
            settings,
            clock_us,
            us_per_tick,
            self._ask_partitions if isinstance(self._transport, Partitioned) else None,
        )
        self._started = False

    def start(self) -> None:
        """Start the threads."""
        self._started = True
        self._flusher.start()
        self._sender.start()

    def flush(self, timeout_s: float) -> bool:
        """See `Emitter.flush`."""
        end = time.monotonic() + timeout_s
        if not self._flusher.settled.wait(timeout_s):
            return False
        self._flusher.cycle()
        self._sender.hurry()
        with self._outbox.changed:
            return self._outbox.changed.wait_for(
                lambda: self._outbox.empty, max(0.0, end - time.monotonic())
            )

    def snapshot(self, reset: bool) -> Snapshot:
        """See `Emitter.snapshot`."""
        if self._started:
            self._flusher.settled.wait(_ASK_LIMIT_S)
        with self._flusher.lock:
            self._flusher.cycle()
            taken = _taken(self.boot, self._flusher.counters, self._delivery(), self._clock_us())
            if reset:
                self._flusher.counters.clear(taken["until_us"])
            return taken

    @staticmethod
    def empty_snapshot() -> Snapshot:
        """What a disabled emitter has counted."""
        delivery = _delivery(DeliveryCounts(), lost=0, spooled=0, pending=False)
        return _taken(Boot("", ""), Counters(0), delivery, 0)

    def close(self) -> None:
        """Send the rest, or leave it in the spool."""
        if self._started:
            end = time.monotonic() + self._settings.close_timeout_s
            self._flusher.stop()
            left = max(0.0, end - time.monotonic())
            self._sender.finish(left, self._flusher.say_goodbye)
            self._outbox.close()
            self._sender.release()

    def before_fork(self) -> None:
        """Wait until no thread of ours is in the middle of a frame or of a spool record."""
        self._flusher.lock.acquire()
        self._outbox.changed.acquire()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._outbox.changed.release()
        self._flusher.lock.release()

    def abandon(self) -> None:
        """In a forked child: let go of the parent's descriptors; no lock is taken."""
        self._outbox.abandon()
        self._sender.abandon()
        self._transport.abandon()

    def _open_transport(self, address: str) -> Transport:
        timeout_s = self._settings.timeout_s
        if is_kafka(address):
            return KafkaTransport(parse_address(address), timeout_s=timeout_s)
        return HttpTransport(
            address,
            api_key=self._settings.api_key,
            timeout_s=timeout_s,
            on_rejected=self._count_rejected,
        )

    def _ask_partitions(self) -> int | None:
        """Half of what `close` may take at most, so that it has time left to deliver."""
        settings = self._settings
        limit_s = min(_ASK_LIMIT_S, settings.timeout_s, settings.close_timeout_s / 2)
        assert isinstance(self._transport, Partitioned)
        return self._transport.partitions(limit_s)

    def _open_spool(self) -> Spool:
        if self._settings.spool_dir is None:
            check_private(self._spool_dir)
        return Spool(
            boot_folder(self._spool_dir, self.boot.boot_id),
            self._settings.spool_max_bytes,
            synced=self._settings.spool_sync,
        )

    def _count_rejected(self, count: int) -> None:
        self._sender.counts.rejected_events += count

    def _delivery(self) -> Delivery:
        return _delivery(
            self._sender.counts,
            lost=self._flusher.framer.lost_events + self._outbox.lost_events,
            spooled=self._outbox.spooled_frames,
            pending=not self._outbox.empty,
        )


def _row_builder(settings: EmitterSettings, defaults: Mapping[str, Any]) -> RowBuilder:
    return RowBuilder(
        defaults,
        Sampler(settings.sampling),
        Redactor(settings.redaction),
        KeyedHash(settings.hash_key),
        transport_timing=settings.transport_timing is not False,
    )


def _delivery(counts: DeliveryCounts, *, lost: int, spooled: int, pending: bool) -> Delivery:
    return Delivery(
        delivered_events=counts.delivered_events,
        delivered_frames=counts.delivered_frames,
        lost_events=lost,
        rejected_events=counts.rejected_events,
        refused_frames=counts.refused_frames,
        spooled_frames=spooled,
        failed_deliveries=counts.failures,
        pending=pending,
    )


def _taken(boot: Boot, counters: Counters, delivery: Delivery, until_us: int) -> Snapshot:
    return Snapshot(
        worker_id=boot.worker_id,
        boot_id=boot.boot_id,
        since_us=counters.since_us,
        until_us=until_us,
        events=dict(counters.events),
        requests=dict(counters.requests),
        errors=dict(counters.errors),
        overdue=counters.overdue,
        backends=dict(counters.backends),
        backend_fallbacks=dict(counters.fallbacks),
        items=dict(counters.items),
        sketches={name: sketch.summary() for name, sketch in counters.sketches.items()},
        delivery=delivery,
    )
