from __future__ import annotations

import asyncio
import itertools
from contextlib import aclosing

import pytest
from penstock.api.shared import Shared
from penstock.schemas.errors import StoreError
from penstock.tests.support.api import eventually


class Source:
    def __init__(self) -> None:
        self.reads = 0
        self.error: Exception | None = None
        self.stopping = False

    def read(self) -> int:
        self.reads += 1
        if self.error is not None:
            raise self.error
        return self.reads

    def shared(self, period_s: float = 0.01) -> Shared[int]:
        return Shared(self.read, period_s, lambda: self.stopping)


async def take(shared: Shared[int], count: int) -> list[int | StoreError]:
    found: list[int | StoreError] = []
    async with aclosing(shared.follow()) as values:
        async for value in values:
            found.append(value)
            if len(found) == count:
                break
    return found


def test_many_listeners_cost_one_reader() -> None:
    source = Source()

    async def run() -> list[list[int | StoreError]]:
        shared = source.shared(0.02)
        return await asyncio.gather(*(take(shared, 3) for _ in range(20)))

    found = asyncio.run(run())
    assert all(values == [1, 2, 3] for values in found)
    assert source.reads <= 4


def test_reading_ends_with_the_last_listener_and_begins_again() -> None:
    source = Source()

    async def run() -> None:
        shared = source.shared()
        await take(shared, 2)
        assert shared.listeners == 0
        reads = source.reads
        await asyncio.sleep(0.1)
        assert source.reads == reads
        await take(shared, 1)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


def test_a_slow_listener_gets_the_newest_value() -> None:
    source = Source()

    async def run() -> None:
        async with aclosing(source.shared().follow()) as values:
            first = await anext(values)
            await eventually(lambda: source.reads >= 10)
            second = await anext(values)
            assert isinstance(first, int)
            assert isinstance(second, int)
            assert second - first >= 5

    asyncio.run(run())


def test_listeners_hear_of_a_store_that_is_away_and_of_its_return() -> None:
    source = Source()
    source.error = StoreError("away", 210, True)

    async def run() -> None:
        async with aclosing(source.shared().follow()) as values:
            assert isinstance(await anext(values), StoreError)
            source.error = None
            for _ in itertools.repeat(None, 5):
                if not isinstance(await anext(values), StoreError):
                    return
        raise AssertionError("no value after the store came back")

    asyncio.run(run())


def test_listeners_are_let_go_when_the_server_stops() -> None:
    source = Source()

    async def run() -> list[int | StoreError]:
        shared = source.shared(60.0)
        listener = asyncio.create_task(take(shared, 10))
        await eventually(lambda: source.reads == 1)
        source.stopping = True
        return await asyncio.wait_for(listener, 5)

    assert asyncio.run(run()) == [1]


def test_a_bug_in_the_reader_is_not_swallowed() -> None:
    source = Source()
    source.error = ValueError("bug")
    with pytest.raises(ValueError, match="bug"):
        asyncio.run(take(source.shared(), 1))
