"""The thread in which the client library lives: offsets, heartbeats and commits at its source.

Methods that begin with an underscore run inside it; the others are called from the application's loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka.errors import KafkaError  # type: ignore[import-untyped]
from aiokafka.structs import (  # type: ignore[import-untyped]
    OffsetAndMetadata,
    TopicPartition,
)
from faust.transport.consumer import ThreadDelegateConsumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP

from .ports import Lease, PartitionView

log = logging.getLogger("penstock")

FETCH_WAIT_MS = 200
TURN_S = 0.25
COMMIT_S = 3.0  # limit of one commit; the next one says the same and more

Fetched = dict[TP, tuple[int, list[Any]]]  # by partition: number of its seek, and records since it


@dataclass(slots=True)
class _Place:
    """Where a partition is read from.

    Attributes:
        assignment: in which it was opened; another one begins at what was committed.
        seek: number of the seek.
        next: offset that comes next.
    """

    assignment: object
    seek: int
    next: int


class ConsumerThread(AIOKafkaConsumerThread):
    """Faust's, which also knows what it has handed out since which seek.

    Args:
        consumer: Faust's, in the application's loop.
        lease: renewed by every heartbeat that is answered.

    Attributes:
        trouble: why nothing may be read any more, empty while all is well.
        turned_s: when the thread's loop last turned, as `Lease.now_s`; 0 before it is connected.
    """

    def __init__(self, consumer: ThreadDelegateConsumer, lease: Lease, **kwargs: Any) -> None:
        self._lease = lease
        self._seeks = 0
        self._places: dict[TP, _Place] = {}
        self.trouble = ""
        self.turned_s = 0.0
        self._jumps: list[tuple[TP, int, int]] = []
        super().__init__(consumer, **kwargs)

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Faust says 1.5 s. A partition that is opened meanwhile waits for the fetch under way, and so
        # does every question on its connection.
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer

    async def on_start(self) -> None:
        """Connect, and listen to heartbeats."""
        await super().on_start()
        coordinator: Any = self._ensure_consumer()._coordinator
        beat = coordinator._do_heartbeat

        async def heartbeat() -> bool:
            sent_s = self._lease.now_s()
            answered: bool = await beat()
            if answered:
                self._lease.renew(sent_s)
            return answered

        coordinator._do_heartbeat = heartbeat
        self._turning = asyncio.create_task(self._turn())

    async def _turn(self) -> None:
        while True:
            self.turned_s = self._lease.now_s()
            await asyncio.sleep(TURN_S)

    async def start_at(self, tp: TP, offset: int) -> int:
        """Fetch a partition from an offset on; returns the number of this seek.

        Raises:
            KafkaError: the partition is no longer assigned.
        """
        number: int = await self.call_thread(self._start_at, tp, offset)
        return number

    async def bounds(self, tp: TP) -> tuple[int, int]:
        """The first offset that the log still has, and the one that the next message will get.

        Raises:
            KafkaError: no broker answers.
        """
        found: tuple[int, int] = await self.call_thread(self._bounds, tp)
        return found

    async def ends(self) -> dict[TP, int]:
        """Of every assigned partition, the offset that the next message will get.

        Raises:
            KafkaError: no broker answers.
        """
        found: dict[TP, int] = await self.call_thread(self._ends)
        return found

    async def views(self) -> dict[TP, PartitionView]:
        """What is known of every assigned partition."""
        found: dict[TP, PartitionView] = await self.call_thread(self._views)
        return found

    def take_jumps(self, topic: str) -> list[tuple[TP, int, int]]:
        """Where offsets were missing: partition, the one that was expected, the one that came."""
        found = [jump for jump in self._jumps if jump[0].topic == topic]
        for jump in found:
            self._jumps.remove(jump)
        return found

    async def commit_offsets(self, offsets: Mapping[TP, int]) -> bool:
        """Commit; False where it did not succeed, which costs nothing but a reading of the lag."""
        done: bool = await self.call_thread(self._commit_offsets, offsets)
        return done

    async def leave(self) -> None:
        """Leave the group at once, so that others need not wait for the session timeout."""
        if self.turned_s:
            await self.call_thread(self._leave)

    async def _start_at(self, tp: TP, offset: int) -> int:
        self._ensure_consumer().seek(TopicPartition(*tp), offset)
        self._seeks += 1
        self._places[tp] = _Place(self._assignment(), self._seeks, offset)
        return self._seeks

    async def _bounds(self, tp: TP) -> tuple[int, int]:
        consumer = self._ensure_consumer()
        wanted = TopicPartition(*tp)
        first = await consumer.beginning_offsets([wanted])
        end = await consumer.end_offsets([wanted])
        return first[wanted], end[wanted]

    async def _ends(self) -> dict[TP, int]:
        assignment = self._assignment()
        if assignment is None or not assignment.tps:
            return {}
        found = await self._ensure_consumer().end_offsets([*assignment.tps])
        return {TP(*tp): end for tp, end in found.items()}

    async def _views(self) -> dict[TP, PartitionView]:
        assignment = self._assignment()
        if assignment is None:
            return {}
        states = {tp: assignment.state_value(tp) for tp in assignment.tps}
        return {
            TP(*tp): PartitionView(
                state.position if state.has_valid_position else None,
                state.highwater,
                (state.timestamp or 0) * 1000,
            )
            for tp, state in states.items()
        }

    async def _commit_offsets(self, offsets: Mapping[TP, int]) -> bool:
        wanted = {TopicPartition(*tp): OffsetAndMetadata(at, "") for tp, at in offsets.items()}
        try:
            async with asyncio.timeout(COMMIT_S):
                await self._ensure_consumer().commit(wanted)
        except (KafkaError, TimeoutError) as error:
            log.info("offsets are committed later: %r", error)
            return False
        return True

    async def _leave(self) -> None:
        await self._ensure_consumer()._coordinator.close()

    async def _fetch_records(  # type: ignore[override]  # app_consumer.Consumer takes it apart again
        self,
        consumer: Any,
        active_partitions: set[TP],
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Fetched:
        # Nothing is awaited between the library's hand-over and this account of it.
        records = await super()._fetch_records(
            consumer, active_partitions, timeout=timeout, max_records=max_records
        )
        return {
            TP(*tp): (place.seek, found)
            for tp, found in records.items()
            if (place := self._follows(TP(*tp), found)) is not None
        }

    def _follows(self, tp: TP, records: list[Any]) -> _Place | None:
        """Keep account of a partition's offsets; None where what came must not be used."""
        place, first = self._places.get(tp), records[0].offset
        if place is None or place.assignment is not self._assignment():
            return None  # fetched across a rebalance
        if first < place.next:
            self.trouble = (
                f"{tp.topic} partition {tp.partition} goes on at offset {first} after "
                f"{place.next - 1}: the topic was made anew, or Kafka lost what it had acknowledged"
            )
            return None
        if first > place.next:
            self._jumps.append((tp, place.next, first))
        place.next = records[-1].offset + 1
        return place

    def _assignment(self) -> Any:
        subscription = self._ensure_consumer()._subscription.subscription
        return None if subscription is None else subscription.assignment
