"""Asking for verdicts: read at most five times a second however many ask, and waiting costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from fastapi.concurrency import run_in_threadpool

from ..schemas.errors import StoreError
from .gates_verdicts import Body, Verdicts
from .shared import Shared

MAX_AGE_S = 0.2  # a verdict is stored at most every half second
AHEAD_S = (
    0.12  # from this age on it is read anew beside the answer, so that steady callers never wait
)
POLL_S = 0.5
DECIDED = ("PASS", "FAIL")
Board = dict[str, Body]
# Of what a waiting caller is told the change.
_TOLD = ("epoch", "verdict", "action")


class Waiting:
    """The newest verdicts, shared by everybody who asks this process.

    A thousand callers that wait are one reader: each is woken by a change of its gate or by the end
    of its time, and by nothing else (benchmarks/gate_waiters.py).

    Args:
        verdicts: read in a thread.
        is_stopping: whether the server is about to end; those who wait are answered then.
        monotonic_s: clock of the age.
    """

    def __init__(
        self,
        verdicts: Verdicts,
        is_stopping: Callable[[], bool],
        monotonic_s: Callable[[], float],
    ) -> None:
        self.verdicts = verdicts
        self._monotonic_s = monotonic_s
        self._shared = Shared(self._read, POLL_S, is_stopping)
        self._kept: tuple[float, Board] | None = None
        self._reading: asyncio.Task[Board] | None = None
        self._changes = 0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._shared.listeners

    def forget(self) -> None:
        """Something was changed: the next question reads the store, also while it is being read."""
        self._kept = self._reading = None
        self._changes += 1

    async def now(self, gate_id: str) -> Body:
        """The verdict of a gate, at most `MAX_AGE_S` old.

        Raises:
            NotFound: there is no such gate.
            StoreError: the store is away.
        """
        self.verdicts.known(gate_id)
        kept = self._kept
        age_s = MAX_AGE_S + 1 if kept is None else self._monotonic_s() - kept[0]
        if kept is None or age_s > MAX_AGE_S:
            # A caller that goes away must not end the reading of the others.
            return (await asyncio.shield(self._begun()))[gate_id]
        if age_s > AHEAD_S:
            self._begun()
        return kept[1][gate_id]

    async def settled(
        self, gate_id: str, wait_s: float, is_settled: Callable[[Body], bool]
    ) -> Body:
        """The verdict as soon as it is settled or changes; after `wait_s` the present one.

        Raises:
            NotFound: there is no such gate.
            StoreError: the store is away, at once or at the end of the wait.
        """
        body = await self.now(gate_id)
        if wait_s <= 0 or is_settled(body):
            return body
        was = [body[name] for name in _TOLD]

        def ends(value: Board | StoreError) -> bool:
            if isinstance(value, StoreError):
                return False
            mine = value.get(gate_id)
            return mine is None or is_settled(mine) or [mine[name] for name in _TOLD] != was

        try:
            async with asyncio.timeout(wait_s), aclosing(self._shared.follow(ends)) as values:
                async for _ in values:
                    break
        except TimeoutError:
            pass  # as long as the caller would wait: the present verdict is the answer
        return await self.now(gate_id)

    def _begun(self) -> asyncio.Task[Board]:
        """The reading under way, or a new one."""
        task = self._reading
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            task = self._reading = asyncio.create_task(run_in_threadpool(self._read))
            # Of a reading that nobody awaits: whoever asks later reads again, and is told.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    def _read(self) -> Board:
        began_s, changes = self._monotonic_s(), self._changes
        board = self.verdicts.latest()
        if changes == self._changes:
            self._kept = began_s, board
        return board
