"""The desk of the events topic: batches become durable, deltas go out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from ...schemas.topics import EVENTS
from ..kafka.messages import Message, StartAgain
from .consumer import Consumer
from .courier import Courier
from .desk import BaseDesk
from .inbox import Inbox
from .ports import Ingestor, Lease, WorkerSettings

log = logging.getLogger("penstock")

T = TypeVar("T")

FRESH_US = 5_000_000  # a broker that has not answered for so long may have more
LAST_DELTAS_S = 2.0


class IngestDesk(BaseDesk):
    """Flushes batches one after the other, and the next one gathers meanwhile.

    Args:
        ingestor: does the work; only this desk's thread calls it.
        courier: takes the deltas.
        settings: sizes and times.
        lease: see BaseDesk.
        totals: see BaseDesk.
        consumer: see BaseDesk.
    """

    def __init__(
        self,
        ingestor: Ingestor,
        courier: Courier,
        settings: WorkerSettings,
        lease: Lease,
        totals: Counter[str],
        consumer: Callable[[], Consumer],
    ) -> None:
        inbox = Inbox(settings.max_flush_messages, settings.max_flush_bytes, settings.gather_s)
        super().__init__(EVENTS, inbox, lease, totals, consumer)
        self._ingestor = ingestor
        self._courier = courier
        self._partitions = settings.partitions
        self._tick_s, self._pause_s = settings.tick_s, settings.pause_s
        self._ticked_s = self._next_tick_s = 0.0
        self._batch: list[Message] = []
        self._staged: list[Message] = []  # under way into the store
        self._forgotten = 0  # how often everything that waited was dropped
        self._append_us: dict[int, int] = {}

    def _release(self, partition: int) -> None:
        self._ingestor.release(partition)

    def _reset(self) -> None:
        self._ingestor.reset()

    async def _take_over(self, partition: int) -> None:
        if self._partitions and partition >= self._partitions:
            raise StartAgain(f"{EVENTS} has more than {self._partitions} partitions now")
        cut = await self._call(self._ingestor.assign, partition)
        if partition in self._placed and cut + 1 < self._next[partition]:
            log.warning(
                "the store holds partition %d up to offset %d, not %d any more: reading it again",
                partition,
                cut,
                self._next[partition] - 1,
            )
            self._consumer().shut(self._tp(partition))
            self._inbox.drop(partition)
            self._batch = [message for message in self._batch if message.partition != partition]
            self._placed.discard(partition)
        if partition not in self._placed:
            self._append_us[partition] = 0
        self._next[partition] = cut + 1

    async def _place(self, partition: int) -> None:
        await self._consumer().open(self._tp(partition), self._next[partition])

    async def _step(self) -> None:
        wait_s = self._next_tick_s - time.monotonic()
        if wait_s <= 0:
            self._ticked_s = time.monotonic()
            self._next_tick_s = self._ticked_s + self._tick_s
            await self._tick()
            return
        self._batch = self._batch or self._next_batch()
        if self._batch:
            await self._stage(self._batch)
        elif self._staged:
            await self._land()
            # What has just become durable is told at once.
            self._next_tick_s = min(self._next_tick_s, self._ticked_s + self._pause_s)
        else:
            due_s = self._inbox.due_in_s()
            await self._rest(wait_s if due_s is None else min(wait_s, due_s))

    async def _stage(self, batch: list[Message]) -> None:
        """Start a batch on its way; the one before has arrived then."""
        self.busy_us = min(message.append_us for message in [*self._staged, *batch])
        arrived, self._staged, self._batch = self._staged, [*self._staged, *batch], []
        await self._careful(self._ingestor.stage, batch)
        self._staged = batch
        self._arrived(arrived)

    async def _land(self) -> None:
        """Wait for the batch that is on its way."""
        await self._careful(self._ingestor.settle)
        arrived, self._staged = self._staged, []
        self._arrived(arrived)

    async def _let_end(self) -> None:
        if self._staged:
            await self._land()

    async def _careful(self, call: Callable[..., T], *args: object) -> T:
        """Write; after a failure what was on its way is written again, before what comes next."""
        before = self._forgotten
        try:
            return await self._write(call, *args)
        except BaseException:
            again = [*self._staged, *self._batch] if self._forgotten == before else []
            self._batch, self._staged = again, []
            if not again:
                self.busy_us = None
            raise

    def _arrived(self, batch: list[Message]) -> None:
        if not self._staged:
            self.busy_us = None
        if not batch:
            return
        self._failures = 0
        for message in batch:
            at = max(self._next[message.partition], message.offset + 1)
            self._next[message.partition] = at
            self._append_us[message.partition] = message.append_us
        self._totals["batches"] += 1
        self._totals["messages"] += len(batch)

    async def _tick(self, final: bool = False) -> None:
        now_us = time.time_ns() // 1000  # before the look: what comes after it is newer
        await self._look()
        await self._explain_jumps()
        if self.wanted is None or not self.held:
            return
        behind = {
            partition: self._append_us[partition]
            for partition in self.held
            if not self._is_read_out(partition, now_us)
        }
        self._courier.post(await self._careful(self._ingestor.deltas, now_us, behind, final))
        if not self._batch and not self._staged:
            self._failures = 0

    def _is_read_out(self, partition: int, now_us: int) -> bool:
        view = self.views.get(partition)
        return (
            view is not None
            and now_us - view.polled_us < FRESH_US
            and self._consumer().is_read_out(self._tp(partition), view, self._next[partition])
        )

    async def _explain_jumps(self) -> None:
        """Offsets that were not there: lost to retention, or never messages at all."""
        for tp, due, came in self._consumer().client.take_jumps(self.topic):
            first, _ = await self._consumer().client.bounds(tp)
            if first > due:
                self._declare_gap(tp.partition, due, min(first, came))

    def _declare_gap(self, partition: int, start: int, end: int) -> None:
        self._totals["offsets_lost"] += end - start
        log.error(
            "gap: offsets %d to %d of partition %d of %s are gone from Kafka and were never stored; "
            "its retention is shorter than the time that nobody read",
            start,
            end - 1,
            partition,
            self.topic,
        )

    async def _finish(self) -> None:
        await self._land()
        await self._tick(final=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_DELTAS_S):
                await self._courier.sent()

    def _forget(self) -> None:
        self._batch = []  # what is on its way arrives or fails
        self._forgotten += 1
        super()._forget()
