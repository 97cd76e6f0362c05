"""What an API process sees of broker and store, looked at again and again beside the event loop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ...schemas.errors import PenstockError, StoreError
from ...schemas.kafka import KafkaAddress
from ...schemas.topics import EVENTS
from ..breaker import Breaker
from ..storage.store import Store
from .brokers import BrokerError, BrokerRefused, TopicAdmin

log = logging.getLogger("penstock")

_RECENT_US = 600_000_000


class _Watch:
    """A thread that looks once a period, and at once when woken."""

    def __init__(self, name: str, period_s: float) -> None:
        self._period_s = period_s
        self._stopping = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Look once, then begin."""
        self.look()
        self._thread.start()

    def stop(self) -> None:
        """End; a look that hangs is left behind."""
        self._stopping = True
        self.wake()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def wake(self) -> None:
        """Look now; callable from any thread."""
        self._wake.set()

    def look(self) -> None:
        """Look once; no error of ours comes out of it."""
        raise NotImplementedError

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(self._period_s)
            self._wake.clear()
            if not self._stopping:
                self.look()


class BrokerWatch(_Watch):
    """Whether a broker answers, and how many partitions the events topic has.

    It opens the breaker when none answers, and closes it when one does again: so a dead broker costs
    one question a second, not a timeout per POST.

    Args:
        address: of the cluster.
        refresh: makes the producer learn of partitions that were added: (topic, timeout in s).
        breaker: around sending.
        period_s: between two looks.
        timeout_s: after which a broker is taken as away.

    Attributes:
        partitions: of the events topic; 0 while it was never seen.
        failure: why nothing can be sent; empty while all is well.
    """

    def __init__(
        self,
        address: KafkaAddress,
        refresh: Callable[[str, float], None],
        breaker: Breaker,
        period_s: float,
        timeout_s: float,
    ) -> None:
        super().__init__("penstock-broker-watch", period_s)
        self._admin = TopicAdmin(address, timeout_s)
        self._refresh = refresh
        self._breaker = breaker
        self._timeout_s = timeout_s
        self._looking = threading.Lock()
        self._topic_id = ""
        self.partitions = 0
        self.failure = "Kafka has not been asked yet"

    def look(self) -> None:
        """Ask for the events topic."""
        with self._looking:
            try:
                failure = self._ask()
            except PenstockError as error:
                failure = str(error)
            if failure:
                self._breaker.trip(failure)
            elif self.failure:
                self._breaker.close()
            if bool(failure) != bool(self.failure):
                _tell(failure, "Kafka answers")
            self.failure = failure

    def _ask(self) -> str:
        try:
            state = self._admin.describe([EVENTS])
        except BrokerRefused:
            raise
        except BrokerError:
            if not self.partitions:
                raise
            self._admin.ping()
            return ""  # the others choose a new leader; what is known of the topic still holds
        partitions, topic_id = state.partitions.get(EVENTS), state.ids.get(EVENTS, "")
        if not partitions:
            return f"Kafka has no topic {EVENTS}: run penstock topics"
        if (partitions, topic_id) != (self.partitions, self._topic_id):
            self._refresh(EVENTS, self._timeout_s)
            log.info("%s has %d partitions", EVENTS, partitions)
            self.partitions, self._topic_id = partitions, topic_id
        return ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the streams are; times in integer microseconds UTC, 0 where nothing is known.

    Attributes:
        watermark_us: event time up to which every shard has published.
        newest_us: clock of the foremost boot.
        active_boots: heard of lately, and not closed.
    """

    watermark_us: int = 0
    newest_us: int = 0
    active_boots: int = 0


class StoreWatch(_Watch):
    """How far the streams are, as they tell in the store.

    Args:
        store: where.
        boot_timeout_s: silence after which a boot is no longer active.
        period_s: between two looks.
        silence_s: after which a store whose answer is still awaited is taken as away.

    Attributes:
        progress: as last seen.
    """

    def __init__(
        self, store: Store, boot_timeout_s: float, period_s: float, silence_s: float
    ) -> None:
        super().__init__("penstock-store-watch", period_s)
        self._store = store
        self._timeout_us = round(boot_timeout_s * 1e6)
        self._silence_s = silence_s
        self._failure = ""
        self._seen_s = time.monotonic()
        self.progress = Progress()

    @property
    def failure(self) -> str:
        """Why nothing is known of the streams' progress; empty while all is well."""
        silent_s = time.monotonic() - self._seen_s
        if not self._failure and silent_s > self._silence_s:
            return f"the store has not answered for {silent_s:.0f} s"
        return self._failure

    def look(self) -> None:
        """Ask for checkpoints and boots."""
        try:
            self.progress = self._ask()
            failure = ""
        except StoreError as error:
            failure = f"the store does not answer: {error}"
        if bool(failure) != bool(self._failure):
            _tell(failure, "the store answers")
        self._failure, self._seen_s = failure, time.monotonic()

    def _ask(self) -> Progress:
        (closed,) = self._store.query(
            "SELECT toUnixTimestamp(min(closed_ts)) AS s FROM penstock.checkpoints"
        )
        now_us = time.time_ns() // 1000
        # Boots that fell silent long ago cannot be the foremost, once one has been seen.
        since_us = now_us - _RECENT_US if self.progress.newest_us else 0
        (boots,) = self._store.query(
            "SELECT toUnixTimestamp64Micro(max(last_ts)) AS newest_us, countIf(identified AND NOT"
            " closed AND last_append_ts > fromUnixTimestamp64Micro({active:Int64})) AS active"
            " FROM penstock.coverage"
            " WHERE last_append_ts > fromUnixTimestamp64Micro({since:Int64})",
            {"active": now_us - self._timeout_us, "since": since_us},
        )
        return Progress(
            watermark_us=int(closed["s"]) * 1_000_000,
            newest_us=max(self.progress.newest_us, int(boots["newest_us"])),
            active_boots=int(boots["active"]),
        )


def _tell(failure: str, well: str) -> None:
    log.log(logging.WARNING if failure else logging.INFO, "%s", failure or well)
