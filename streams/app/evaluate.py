"""The desk of the panes topic: deltas are applied, results published."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from faust.types import TP

from ...schemas.errors import StoreError
from ...schemas.topics import PANES
from ..kafka.messages import Message
from .consumer import Consumer
from .desk import BaseDesk
from .inbox import Inbox
from .ports import Evaluator, Lease, Unassigned, WorkerSettings

ENDS_S = 1.0  # an older end is as right, and has more deltas after it that say nothing new
MAX_MESSAGES, MAX_BYTES = 256, 16 * 2**20  # applied in one go


class EvaluateDesk(BaseDesk):
    """Applies deltas as they come. The store is the truth: after an error a shard is rebuilt from it.

    Args:
        evaluator: does the work; only this desk's thread calls it.
        settings: times.
        lease: see BaseDesk.
        totals: see BaseDesk.
        consumer: see BaseDesk.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        settings: WorkerSettings,
        lease: Lease,
        totals: Counter[str],
        consumer: Callable[[], Consumer],
    ) -> None:
        super().__init__(PANES, Inbox(MAX_MESSAGES, MAX_BYTES, 0.0), lease, totals, consumer)
        self._evaluator = evaluator
        self._publish_s, self._pause_s = settings.publish_s, settings.pause_s
        self._published_s = self._next_publish_s = 0.0
        self._ends: dict[TP, int] = {}
        self._ends_s = 0.0

    def _release(self, partition: int) -> None:
        self._evaluator.release(partition)

    def _reset(self) -> None:
        self._ends = {}  # what could not be applied must not come again
        self._evaluator.reset()

    async def _take_over(self, partition: int) -> None:
        # Whatever is in the log before this moment is in the store that `assign` reads.
        self._inbox.drop(partition)
        self._placed.discard(partition)
        self._next[partition] = await self._end(partition)
        await self._call(self._evaluator.assign, partition)

    async def _end(self, partition: int) -> int:
        tp = self._tp(partition)
        if tp not in self._ends or time.monotonic() > self._ends_s + ENDS_S:
            self._ends_s = time.monotonic()
            self._ends = await self._consumer().client.ends()
        if tp not in self._ends:
            raise Unassigned(f"{tp} is no longer ours")
        return self._ends[tp]

    async def _place(self, partition: int) -> None:
        await self._consumer().open(self._tp(partition), self._next[partition])

    async def _step(self) -> None:
        wait_s = self._next_publish_s - time.monotonic()
        if wait_s <= 0:
            self._published_s = time.monotonic()
            self._next_publish_s = self._published_s + self._publish_s
            await self._look()
            if self.wanted:
                await self._write(self._evaluator.publish, time.time_ns() // 1000)
                self._failures = 0
        elif batch := self._next_batch():
            await self._write(self._apply, batch)
            self._next.update({message.partition: message.offset + 1 for message in batch})
            self._totals["deltas"] += len(batch)
            self._next_publish_s = min(self._next_publish_s, self._published_s + self._pause_s)
        else:
            await self._rest(wait_s)

    def _apply(self, messages: Sequence[Message]) -> None:
        """Runs in the desk's thread; a message that cannot be applied is skipped by rebuilding."""
        for message in messages:
            try:
                self._evaluator.apply(message.partition, message.value)
            except StoreError:
                raise
            except Exception as error:
                raise StoreError(f"a delta cannot be applied: {error!r}") from error

    async def _let_end(self) -> None:
        """Nothing: no call leaves anything under way."""

    async def _finish(self) -> None:
        await self._write(self._evaluator.publish, time.time_ns() // 1000, True)
