"""What is to be sent, on its way to the broker."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ...schemas.errors import PenstockError
from ..kafka.messages import Outgoing, Outlet
from ..kafka.outlet import MessageRefused
from .desk import backoff_s

log = logging.getLogger("penstock")


class Courier:
    """Sends in order, from a thread of its own, until the broker has taken it.

    Beyond the limit what waits is dropped: whoever misses it reads the store instead.

    Args:
        outlet: to the broker.
        limit_bytes: of what waits.
        totals: counters of the process, added to.
    """

    def __init__(self, outlet: Outlet, limit_bytes: int, totals: Counter[str]) -> None:
        self._outlet = outlet
        self._limit_bytes = limit_bytes
        self._totals = totals
        self._waiting: list[Outgoing] = []
        self._waiting_bytes = 0
        self._posted = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._failures = 0
        self._resting = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="courier")

    def post(self, messages: Sequence[Outgoing]) -> None:
        """Send these after all that came before; returns at once."""
        if not messages:
            return
        self._waiting += messages
        self._waiting_bytes += sum(len(message.value) for message in messages)
        if self._waiting_bytes > self._limit_bytes:
            log.warning("%d messages that the broker did not take are dropped", len(self._waiting))
            self._totals["outgoing_dropped"] += len(self._waiting)
            self._waiting, self._waiting_bytes = [], 0
        self._empty.clear()
        self._posted.set()

    async def sent(self) -> None:
        """Wait until nothing waits."""
        await self._empty.wait()

    def circuit(self) -> str:
        """Whether the broker is called: closed, open while it is left alone, half-open at a try."""
        if not self._failures:
            return "closed"
        return "open" if self._resting else "half-open"

    async def run(self) -> None:
        """Send for ever."""
        while True:
            await self._posted.wait()
            self._posted.clear()
            while self._waiting:
                batch, self._waiting, self._waiting_bytes = self._waiting, [], 0
                await self._deliver(batch)
            self._empty.set()

    async def _deliver(self, batch: Sequence[Outgoing]) -> None:
        size = sum(len(message.value) for message in batch)
        while True:
            loop = asyncio.get_running_loop()
            try:
                await loop.run_in_executor(self._thread, self._outlet.deliver, batch)
            except MessageRefused as error:
                log.error("%d deltas are dropped: %s", len(batch), error)
                self._totals["outgoing_dropped"] += len(batch)
                return
            except PenstockError as error:
                self._failures += 1
                self._totals["retries"] += 1
                if self._failures < 4 or self._failures % 10 == 0:
                    log.warning("deltas are not sent yet: %s", error)
                if size + self._waiting_bytes > self._limit_bytes:
                    self._totals["outgoing_dropped"] += len(batch)
                    return
                self._resting = True
                await asyncio.sleep(backoff_s(self._failures))
                self._resting = False
            else:
                self._failures = 0
                self._totals["outgoing"] += len(batch)
                return
