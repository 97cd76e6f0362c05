"""One poller for any number of listeners: a hundred open dashboards cost the store what one does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Generic, TypeVar

from fastapi.concurrency import run_in_threadpool

from ..schemas.errors import StoreError

T = TypeVar("T")


class Shared(Generic[T]):
    """Reads a value again and again while anybody listens, and stops when nobody does.

    Args:
        read: blocking; runs in a thread.
        period_s: pause between two reads.
        is_stopping: whether the server is about to end; listeners are let go then, for a server
            that shuts down waits for open responses.
    """

    def __init__(
        self, read: Callable[[], T], period_s: float, is_stopping: Callable[[], bool]
    ) -> None:
        self._read = read
        self._period_s = period_s
        self._is_stopping = is_stopping
        self._listeners: dict[
            asyncio.Queue[T | StoreError | None], Callable[[T | StoreError], bool]
        ]
        self._listeners = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)

    async def follow(
        self, wanted: Callable[[T | StoreError], bool] = lambda _: True
    ) -> AsyncGenerator[T | StoreError, None]:
        """Each value as it is read, or the error of reading it; ends when the server stops.

        A listener that is slow gets the newest value, not all of them.

        Args:
            wanted: which values; the others do not wake the listener.
        """
        queue: asyncio.Queue[T | StoreError | None] = asyncio.Queue(maxsize=1)
        self._listeners[queue] = wanted
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll())
        try:
            while (value := await queue.get()) is not None:
                yield value
        finally:
            self._listeners.pop(queue, None)
            if not self._listeners and self._task is not None:
                task, self._task = self._task, None
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _poll(self) -> None:
        try:
            while not self._is_stopping():
                try:
                    value: T | StoreError = await run_in_threadpool(self._read)
                except StoreError as error:
                    value = error
                self._tell(value)
                await self._pause()
        finally:
            # Also after an unforeseen error: nobody must wait for a value that will never come.
            self._tell(None)

    async def _pause(self) -> None:
        """The period, in pieces, so that a stop is seen soon."""
        left_s = self._period_s
        while left_s > 0 and not self._is_stopping():
            await asyncio.sleep(min(left_s, 0.25))
            left_s -= 0.25

    def _tell(self, value: T | StoreError | None) -> None:
        for queue, wanted in self._listeners.items():
            if value is not None and not wanted(value):
                continue
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(value)
