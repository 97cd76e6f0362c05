"""Faust's Kafka consumer with positions and commits taken out of its hands.

Faust 0.15.3 commits past what was processed and loses messages between the broker and a stream
(docs/decisions/0006-faust.md says where). Here a partition is read from where it was opened, whoever
takes a message asks whether it is the next one, and what is committed is what its desk says is durable.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import uvloop
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from .ports import Lease, PartitionView
from .thread import ConsumerThread

log = logging.getLogger("penstock")

HEAL_S = 2.0  # a message that Faust was given and did not deliver is read again after this
IDLE_S = 0.25


class Desk(Protocol):
    """Where the messages of one topic are worked on; called in the application's loop."""

    topic: str

    async def revoked(self) -> None:
        """Nothing is ours any more; return soon, because the whole group waits."""
        ...

    def assigned(self, partitions: frozenset[int], generation: int) -> None:
        """These are ours from now on."""
        ...

    def durable(self) -> Mapping[int, int]:
        """By partition: offset of the first message that is not durable."""
        ...


@dataclass(slots=True)
class _Reading:
    """A partition that is being read.

    Attributes:
        seek: number of the seek that it was opened by.
        handed: offsets that were given to Faust and not yet taken.
        next: offset after the last one given to Faust.
        moved_s: when something was last given or taken.
    """

    seek: int
    next: int
    handed: deque[int] = field(default_factory=deque)
    moved_s: float = 0.0


class Consumer(driver.Consumer):
    """Reads the partitions that desks have opened, and nothing else.

    Args:
        lease: renewed by heartbeats.
        desks: by topic.
        totals: counters of the process, added to.
    """

    def __init__(
        self,
        *args: Any,
        lease: Lease,
        desks: Mapping[str, Desk],
        totals: Counter[str],
        **kwargs: Any,
    ) -> None:
        self._lease = lease
        self._desks = desks
        self._reading: dict[TP, _Reading] = {}
        self._held_back: set[str] = set()
        self._opened = asyncio.Event()
        self._committed: dict[TP, int] = {}
        self._assignments = 0
        self._totals = totals
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> ConsumerThread:
        self.client = ConsumerThread(
            self,
            self._lease,
            loop=self.loop,
            thread_loop=uvloop.new_event_loop(),
            beacon=self.beacon,
        )
        return self.client

    # -- what desks ask for

    async def open(self, tp: TP, offset: int) -> None:
        """Read a partition from an offset on; what was given out of it before becomes stray.

        Raises:
            KafkaError: it is no longer assigned.
        """
        self._reading.pop(tp, None)
        assignment = self._assignments
        seek = await self.client.start_at(tp, offset)
        if assignment != self._assignments:
            return  # a rebalance came between: whoever has it now opens it
        self._read_offset[tp] = None  # else Faust drops what lies below
        self._reading[tp] = _Reading(seek, offset, moved_s=time.monotonic())
        self._opened.set()

    def shut(self, tp: TP) -> None:
        """Read a partition no further."""
        self._reading.pop(tp, None)

    def hold_back(self, topic: str) -> None:
        """Fetch no more of a topic; what was fetched still comes."""
        self._held_back.add(topic)

    def let_flow(self, topic: str) -> None:
        """Fetch again."""
        self._held_back.discard(topic)
        self._opened.set()

    def accept(self, tp: TP, offset: int) -> bool:
        """Whether this is the next message of a partition; False says to drop it."""
        reading = self._reading.get(tp)
        if reading is None or not reading.handed or reading.handed[0] != offset:
            self._totals["strays"] += 1
            return False
        reading.handed.popleft()
        reading.moved_s = time.monotonic()
        return True

    def is_read_out(self, tp: TP, view: PartitionView, durable: int) -> bool:
        """Whether a partition had nothing more at the broker's last answer, and all is durable."""
        reading = self._reading.get(tp)
        if reading is None or view.position is None or view.highwater is None:
            return False
        return view.position >= view.highwater and durable >= reading.next

    async def heal(self) -> None:
        """Read again what Faust was given and has not delivered.

        Raises:
            KafkaError: a partition is no longer assigned.
        """
        until_s = time.monotonic() - HEAL_S
        for tp, reading in list(self._reading.items()):
            if reading.handed and reading.moved_s < until_s and self._reading.get(tp) is reading:
                log.warning("reading %s from offset %d again", tp, reading.handed[0])
                self._totals["healed"] += 1
                await self.open(tp, reading.handed[0])

    async def leave(self) -> None:
        """Take nothing more, commit what is durable, and leave the group."""
        self._reading.clear()
        await self._commit_durable()
        await self.client.leave()

    # -- what Faust does otherwise

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Stop the flow, let the desks come to an end, and commit."""
        self._assignments += 1
        self._reading.clear()
        await super().on_partitions_revoked(revoked)
        await asyncio.gather(*(desk.revoked() for desk in self._desks.values()))
        await self._commit_durable()
        self._committed.clear()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Tell the desks."""
        self._assignments += 1
        self._reading.clear()
        self._totals["rebalances"] += 1
        self._lease.renew(self._lease.now_s())
        await super().on_partitions_assigned(assigned, generation_id)
        for topic, desk in self._desks.items():
            partitions = frozenset(tp.partition for tp in assigned if tp.topic == topic)
            desk.assigned(partitions, generation_id)

    async def perform_seek(self) -> None:
        """Nothing: partitions are opened where their state ends, not where a commit does."""

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit what is durable; True where there was something and it succeeded."""
        return False if self.app.rebalancing else await self._commit_durable()

    async def _commit_durable(self) -> bool:
        offsets = {
            TP(topic, partition): offset
            for topic, desk in self._desks.items()
            for partition, offset in desk.durable().items()
        }
        changed = {tp: at for tp, at in offsets.items() if at and self._committed.get(tp) != at}
        if not changed or not await self.client.commit_offsets(changed):
            return False
        self._committed.update(changed)
        return True

    async def _wait_next_records(self, timeout: float) -> tuple[Any, set[TP]]:
        if not self.flow_active:
            await self.wait(self.can_resume_flow)  # type: ignore[arg-type]
        # A set of its own: Faust hands on the one that changes meanwhile, and an empty one means all.
        active = {tp for tp in self._reading if tp.topic not in self._held_back}
        if not active:
            self._opened.clear()
            await self.wait_first(self._opened.wait(), timeout=IDLE_S)
            return {}, active
        return dict(self._given(await self._getmany(active, timeout))), active

    def _given(self, fetched: Mapping[TP, Any]) -> Iterator[tuple[TP, list[Any]]]:
        """What was fetched since the seeks that count, entered as given to Faust."""
        for tp, (seek, records) in fetched.items():
            reading = self._reading.get(tp)
            if reading is None or reading.seek != seek:
                continue
            reading.handed.extend(record.offset for record in records)
            reading.next = records[-1].offset + 1
            reading.moved_s = time.monotonic()
            yield tp, records

    def highwater(self, tp: TP) -> int:
        """For Faust's own statistics only; asking the library could raise during a rebalance."""
        return 0

    def on_buffer_full(self, tp: TP) -> None:
        """Nothing: desks say themselves when they have enough."""

    def on_buffer_drop(self, tp: TP) -> None:
        """Nothing."""

    async def verify_all_partitions_active(self) -> None:
        """Nothing: see watchdog.py."""

    def close(self) -> None:
        """Nothing: Faust would close the library from a loop that is not its own."""

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing: what is committed does not depend on it."""


class Transport(driver.Transport):
    """Faust's transport, with the consumer of this module.

    Args:
        urls: of the brokers.
        app: Faust's.
        consumer: makes a Consumer; Faust adds its own arguments.
    """

    def __init__(self, urls: list[Any], app: Any, consumer: Callable[..., Consumer]) -> None:
        super().__init__(urls, app)
        self._consumer = consumer

    def create_consumer(self, callback: Any, **kwargs: Any) -> Consumer:
        """Make the consumer."""
        return self._consumer(self, callback=callback, loop=self.loop, **kwargs)
