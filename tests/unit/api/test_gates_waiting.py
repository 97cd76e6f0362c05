"""Waiting for verdicts: any number of callers are one reader, and only a change wakes them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, cast

import pytest
from penstock.api.gates_verdicts import Body, Verdicts
from penstock.api.gates_waiting import AHEAD_S, MAX_AGE_S, POLL_S, Waiting
from penstock.schemas.errors import NotFound, StoreError
from penstock.tests.support.api import eventually


class Board:
    """Stands for `Verdicts`: two gates, and how often they were read."""

    def __init__(self) -> None:
        self.gates = {"one": None, "two": None}
        self.told = {name: self.body("UNDECIDED") for name in self.gates}
        self.reads = 0
        self.error: StoreError | None = None
        self.stopping = False
        self.read_s = 0.0

    @staticmethod
    def body(verdict: str, epoch: int = 1, action: str = "wait") -> Body:
        return {"verdict": verdict, "epoch": epoch, "action": action}

    def known(self, gate_id: str) -> None:
        if gate_id not in self.gates:
            raise NotFound(gate_id)

    def latest(self) -> dict[str, Body]:
        self.reads += 1
        time.sleep(self.read_s)
        if self.error is not None:
            raise self.error
        return dict(self.told)

    def waiting(self) -> Waiting:
        return Waiting(cast(Verdicts, self), lambda: self.stopping, time.monotonic)


def run(work: Callable[[Board, Waiting], Coroutine[Any, Any, None]]) -> None:
    async def all_of_it() -> None:
        board = Board()
        await work(board, board.waiting())

    asyncio.run(all_of_it())


def is_decided(body: Body) -> bool:
    return body["verdict"] in ("PASS", "FAIL")


def test_a_thousand_who_wait_are_one_reader() -> None:
    async def work(board: Board, waiting: Waiting) -> None:
        looks = SimpleNamespace(two=0)

        def look(body: Body) -> bool:
            looks.two += 1
            return is_decided(body)

        ones = [asyncio.create_task(waiting.settled("one", 60, is_decided)) for _ in range(1000)]
        two = asyncio.create_task(waiting.settled("two", 60, look))
        await eventually(lambda: waiting.waiting == 1001)
        began, reads = time.monotonic(), board.reads
        await asyncio.sleep(2 * POLL_S)
        assert board.reads - reads <= (time.monotonic() - began) / POLL_S + 1
        assert not any(task.done() for task in ones)
        board.told["one"] = Board.body("PASS")
        assert [body["verdict"] for body in await asyncio.gather(*ones)] == ["PASS"] * 1000
        # The other gate did not change: its caller slept on.
        assert not two.done()
        board.stopping = True
        assert (await two)["verdict"] == "UNDECIDED"
        assert looks.two < 20

    run(work)


@pytest.mark.parametrize(
    "change",
    [Board.body("NO_DATA"), Board.body("UNDECIDED", 2), Board.body("UNDECIDED", 1, "hold")],
)
def test_any_change_is_told(change: Body) -> None:
    async def work(board: Board, waiting: Waiting) -> None:
        task = asyncio.create_task(waiting.settled("one", 60, is_decided))
        await eventually(lambda: waiting.waiting == 1)
        board.told["one"] = change
        assert await task == change

    run(work)


def test_the_time_is_over() -> None:
    async def work(board: Board, waiting: Waiting) -> None:
        assert (await waiting.settled("one", 0.05, is_decided))["verdict"] == "UNDECIDED"
        assert waiting.waiting == 0
        assert (await waiting.settled("one", 0, is_decided))["verdict"] == "UNDECIDED"

    run(work)


def test_many_questions_at_once_are_one_read_and_a_fresh_answer_none() -> None:
    async def work(board: Board, waiting: Waiting) -> None:
        board.read_s = 0.05
        await asyncio.gather(*(waiting.now("one") for _ in range(100)))
        assert board.reads == 1
        await asyncio.sleep(MAX_AGE_S)
        await waiting.now("one")
        assert board.reads == 2
        waiting.forget()
        await waiting.now("two")
        assert board.reads == 3

    run(work)


def test_a_steady_caller_never_waits_for_the_store() -> None:
    async def work(board: Board, _: Waiting) -> None:
        clock = SimpleNamespace(s=100.0)
        waiting = Waiting(cast(Verdicts, board), lambda: False, lambda: clock.s)

        async def told() -> Any:
            return (await waiting.now("one"))["verdict"]

        assert await told() == "UNDECIDED"
        board.told["one"] = Board.body("PASS")
        clock.s += AHEAD_S + 0.01
        # Old enough to be read again, young enough to be told meanwhile.
        assert await told() == "UNDECIDED"
        await eventually(lambda: board.reads == 2)
        while await told() == "UNDECIDED":
            await asyncio.sleep(0.01)
        # Where that reading fails, it is told to whoever asks when what was read is too old.
        board.error = StoreError("away", retryable=True)
        clock.s += AHEAD_S + 0.01
        assert await told() == "PASS"
        await eventually(lambda: board.reads == 3)
        clock.s += MAX_AGE_S
        with pytest.raises(StoreError):
            await told()

    run(work)


def test_what_was_read_before_an_order_is_not_told_after_it() -> None:
    async def work(board: Board, waiting: Waiting) -> None:
        board.read_s = 0.05
        early = asyncio.create_task(waiting.now("one"))
        await eventually(lambda: board.reads == 1)
        waiting.forget()
        late = asyncio.create_task(waiting.now("one"))
        await asyncio.gather(early, late)
        assert board.reads == 2
        await waiting.now("one")
        assert board.reads == 2

    run(work)


def test_a_caller_who_leaves_takes_the_answer_from_nobody() -> None:
    async def work(board: Board, waiting: Waiting) -> None:
        board.read_s = 0.1
        first = asyncio.create_task(waiting.now("one"))
        second = asyncio.create_task(waiting.now("one"))
        await eventually(lambda: board.reads == 1)
        first.cancel()
        assert (await second)["verdict"] == "UNDECIDED"

    run(work)


@pytest.mark.slow
def test_a_store_that_is_away() -> None:
    async def work(board: Board, waiting: Waiting) -> None:
        with pytest.raises(NotFound):
            await waiting.now("nobody")
        task = asyncio.create_task(waiting.settled("one", 60, is_decided))
        await eventually(lambda: waiting.waiting == 1)
        board.error = StoreError("away", retryable=True)
        await eventually(lambda: board.reads > 3)
        board.error = None
        board.told["one"] = Board.body("FAIL")
        assert (await task)["verdict"] == "FAIL"
        board.error = StoreError("away", retryable=True)
        waiting.forget()
        with pytest.raises(StoreError):
            await waiting.now("one")
        # The next one asks again.
        board.error = None
        assert (await waiting.now("one"))["verdict"] == "FAIL"

    run(work)
