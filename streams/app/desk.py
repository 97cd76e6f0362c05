"""Who holds which partitions, and the one thread that works on them.

A rebalance only notes what is ours now. A task of its own then makes it so: it releases and takes over,
waits and repeats while the store is away, and does the desk's work in between. So neither Faust's event
loop nor a heartbeat ever waits for the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from aiokafka.errors import KafkaError  # type: ignore[import-untyped]
from faust.types import TP
from faust.types import Message as FaustMessage

from ...schemas.errors import PenstockError
from ..kafka.messages import Message, StartAgain
from .consumer import Consumer
from .inbox import Inbox
from .ports import Lease, PartitionView

log = logging.getLogger("penstock")

T = TypeVar("T")
Retryable = (PenstockError, KafkaError)

REVOKE_S = 5.0  # how long a rebalance waits for the call that runs
IDLE_S = 0.25
FIRST_DELAY_S, MAX_DELAY_S = 0.1, 5.0


def backoff_s(failures: int) -> float:
    """Seconds to wait after so many failures: growing, and different for everybody."""
    longest = min(FIRST_DELAY_S * 2.0 ** min(failures, 16), MAX_DELAY_S)
    return longest * random.uniform(0.5, 1.0)


class BaseDesk(ABC):
    """The partitions of one topic.

    Args:
        topic: whose partitions.
        inbox: what waits for the next piece of work.
        lease: checked before anything is written.
        totals: counters of the process, added to.
        consumer: gives the consumer; it exists once the application runs.

    Attributes:
        wanted: partitions that are ours, None during a rebalance.
        held: partitions that the worker object has taken over.
        views: what the client library knew of them at the last look.
        trouble: why only a new start of the process helps; `run` has ended then.
        busy_us: when the broker took the first message that is being worked on, None for none.
    """

    def __init__(
        self,
        topic: str,
        inbox: Inbox,
        lease: Lease,
        totals: Counter[str],
        consumer: Callable[[], Consumer],
    ) -> None:
        self.topic = topic
        self.wanted: frozenset[int] | None = None
        self.held: set[int] = set()
        self.views: dict[int, PartitionView] = {}
        self.busy_us: int | None = None
        self.trouble = ""
        self._inbox = inbox
        self._lease = lease
        self._totals = totals
        self._consumer = consumer
        self._next: dict[int, int] = {}
        self._kept: frozenset[int] = frozenset()
        self._placed: set[int] = set()
        self._generation = -1
        self._failures = 0
        self._unsure = False
        self._resting = False
        self._stopping = False
        self._wake = asyncio.Event()
        self._at_rest = asyncio.Event()  # nothing is ours, and nothing is under way
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=topic)

    # -- what the desk does; the first two block and run in its thread

    @abstractmethod
    def _release(self, partition: int) -> None:
        """Have the worker object forget a partition."""

    @abstractmethod
    def _reset(self) -> None:
        """Have the worker object forget everything."""

    @abstractmethod
    async def _take_over(self, partition: int) -> None:
        """Have the worker object take a partition over."""

    @abstractmethod
    async def _place(self, partition: int) -> None:
        """Open a partition where its state ends."""

    @abstractmethod
    async def _step(self) -> None:
        """One piece of work, or a wait for some."""

    @abstractmethod
    async def _let_end(self) -> None:
        """Wait for what is under way when nothing is ours any more."""

    @abstractmethod
    async def _finish(self) -> None:
        """What is done last."""

    # -- what happens to it, in the application's loop

    def take(self, message: FaustMessage) -> None:
        """Take in what Faust delivers; never raises, never waits."""
        plain = _plain(message)
        if not self._consumer().accept(self._tp(plain.partition), plain.offset):
            return
        self._inbox.put(plain)
        if self._inbox.is_over:
            self._consumer().hold_back(self.topic)
        if len(self._inbox) == 1 or not self._inbox.is_low:
            self._wake.set()

    async def revoked(self) -> None:
        """Nothing is ours any more; waits a little for what is under way to end."""
        self.wanted = None
        self._forget()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REVOKE_S):
                await self._at_rest.wait()

    def assigned(self, partitions: frozenset[int], generation: int) -> None:
        """These are ours from now on.

        With no generation in between nobody else can have had them, so state is kept.
        """
        uninterrupted = generation == self._generation + 1
        self._kept = partitions & self.held if uninterrupted else frozenset()
        self._generation = generation
        self._placed.clear()
        self._forget()
        self._at_rest.clear()
        self.wanted = partitions

    def durable(self) -> Mapping[int, int]:
        """By partition: offset of the first message that is not durable."""
        ours = self.held if self.wanted is None else self.held & self.wanted
        return {partition: self._next[partition] for partition in ours}

    def reached(self) -> Mapping[int, int]:
        """By partition that is ours: offset of the first message not durable, as far as known."""
        return {p: self._next[p] for p in sorted(self.wanted or ()) if p in self._next}

    @property
    def oldest_us(self) -> int | None:
        """When the broker took the first message that is not durable, None for none."""
        return self.busy_us if self.busy_us is not None else self._inbox.oldest_us

    @property
    def waiting_for(self) -> str:
        """Why the desk does no work, empty while it does."""
        wanted = self.wanted
        if wanted is None:
            return f"{self.topic}: no partitions are assigned yet"
        missing = len(wanted - (self.held & self._placed))
        if missing:
            return f"{self.topic}: {missing} of {len(wanted)} partitions are being taken over"
        return "" if self._lease.valid else f"{self.topic}: the broker answers no heartbeats"

    def circuit(self) -> str:
        """Whether the store is called: closed, open while it is left alone, half-open at a try."""
        if not self._failures:
            return "closed"
        return "open" if self._resting else "half-open"

    async def run(self) -> None:
        """Work until `stop`, or until there is trouble; no other task has the worker object called."""
        while not self._stopping:
            try:
                await self._work()
            except Retryable as error:
                await self._retry(error)
            except StartAgain as error:
                self.trouble = str(error)
                self._at_rest.set()
                return
            except Exception as error:
                # A bug must not end the work in silence: say so, and rebuild from the store.
                log.exception("%s: failed", self.topic)
                self._unsure = True
                await self._retry(error)
        with contextlib.suppress(*Retryable):
            await (self._let_end() if self.wanted is None else self._finish())
        self._at_rest.set()

    def stop(self) -> None:
        """Let `run` end after the call that runs."""
        self._stopping = True
        self._wake.set()

    # -- for the desk's own use

    async def _work(self) -> None:
        wanted = self.wanted
        if wanted is None:
            await self._let_end()
            if self.wanted is None:
                self._at_rest.set()
            await self._rest(IDLE_S)
        elif self.held != wanted or self._placed != wanted:
            await self._settle(wanted)
        else:
            await self._step()

    async def _settle(self, wanted: frozenset[int]) -> None:
        for partition in sorted(self.held - self._kept):
            await self._call(self._release, partition)
            self.held.discard(partition)
        if self.wanted is not wanted:
            return
        self._kept = wanted
        for partition in sorted(wanted):
            if partition not in self.held:
                await self._take_over(partition)
                self.held.add(partition)
            if self.wanted is wanted and partition not in self._placed:
                await self._place(partition)
                self._placed.add(partition)
            if self.wanted is not wanted:
                self._placed.clear()
                return

    async def _retry(self, error: Exception) -> None:
        """Wait, then go on; from the store where what was being written may be there or not."""
        self._failures += 1
        self._totals["retries"] += 1
        delay_s = backoff_s(self._failures)
        if self._failures < 4 or self._failures % 10 == 0:
            log.warning("%s: %s; trying again in %.1f s", self.topic, error, delay_s)
        if self._unsure:
            await self._call(self._reset)
            self.held.clear()
            self._unsure = False
        self._resting = True
        await self._rest(delay_s)
        self._resting = False

    def _forget(self) -> None:
        """Drop messages that wait: they are nobody's, or will be read again."""
        self._inbox.clear()
        self._consumer().let_flow(self.topic)
        self._wake.set()

    def _next_batch(self) -> list[Message]:
        batch = self._inbox.take()
        if self._inbox.is_low:
            self._consumer().let_flow(self.topic)
        return batch

    async def _look(self) -> None:
        """See how far the logs go, and mend what Faust has lost."""
        consumer = self._consumer()
        if consumer.client.trouble:
            raise StartAgain(consumer.client.trouble)
        views = await consumer.client.views()
        self.views = {tp.partition: view for tp, view in views.items() if tp.topic == self.topic}
        await consumer.heal()

    async def _call(self, call: Callable[..., T], *args: object) -> T:
        """Run a blocking call in the desk's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)

    async def _write(self, call: Callable[..., T], *args: object) -> T:
        """Run a blocking call that writes, unless the partitions may be somebody else's."""

        def fenced() -> T:
            self._lease.check()
            self._unsure = True
            done = call(*args)
            self._unsure = False
            return done

        return await self._call(fenced)

    async def _rest(self, seconds: float) -> None:
        """Wait, or until something happens."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()

    def _tp(self, partition: int) -> TP:
        return TP(self.topic, partition)


def _plain(message: FaustMessage) -> Message:
    """A message without Faust; one without a value is empty, and Ingestion says that it is bad."""
    return Message(
        message.partition,
        message.offset,
        round((message.timestamp or 0.0) * 1000) * 1000,
        message.value or b"",
        _headers(message.headers),
    )


def _headers(found: Any) -> dict[str, bytes]:
    pairs = found.items() if isinstance(found, Mapping) else found or ()
    return {str(name): value or b"" for name, value in pairs}
