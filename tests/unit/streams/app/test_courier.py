"""Deltas on their way: repeated in order, bounded, dropped where the broker never takes them."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Sequence

from penstock.schemas.errors import BrokerAway
from penstock.streams.app.courier import Courier
from penstock.streams.kafka.messages import Outgoing
from penstock.streams.kafka.outlet import MessageRefused


class RecordingOutlet:
    """Fails as told, then takes everything."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.taken: list[bytes] = []
        self.gate = threading.Event()
        self.gate.set()

    def partitions(self, topic: str) -> int:
        raise AssertionError("a courier needs to know no partitions")

    def deliver(self, messages: Sequence[Outgoing]) -> None:
        assert self.gate.wait(10)
        if self.failures:
            raise self.failures.pop(0)
        self.taken += [message.value for message in messages]


def values(*texts: bytes) -> list[Outgoing]:
    return [Outgoing("panes", 0, b"", text) for text in texts]


def run(outlet: RecordingOutlet, limit_bytes: int, act: Callable[[Courier], None]) -> Counter[str]:
    """Let a courier send what `act` posts; returns the counters once nothing waits."""
    totals: Counter[str] = Counter()

    async def main() -> None:
        courier = Courier(outlet, limit_bytes, totals)
        task = asyncio.create_task(courier.run())
        act(courier)
        await asyncio.wait_for(courier.sent(), 10)
        assert courier.circuit() == "closed"
        task.cancel()

    asyncio.run(main())
    return totals


def test_repeats_in_order() -> None:
    outlet = RecordingOutlet(BrokerAway("away"), BrokerAway("away"))

    def act(courier: Courier) -> None:
        courier.post([])
        courier.post(values(b"1", b"2"))
        courier.post(values(b"3"))

    totals = run(outlet, 1000, act)
    assert outlet.taken == [b"1", b"2", b"3"]
    assert totals == {"retries": 2, "outgoing": 3}


def test_drops_beyond_the_limit() -> None:
    """What is on its way, and all that waits behind it: the receiver reads the store once."""
    outlet = RecordingOutlet(BrokerAway("away"))

    def act(courier: Courier) -> None:
        courier.post(values(b"x" * 60))
        courier.post(values(b"y" * 60))
        courier.post(values(b"z"))

    totals = run(outlet, 100, act)
    assert outlet.taken == [b"z"]
    assert totals["outgoing_dropped"] == 2


def test_what_is_refused_does_not_stop_the_rest() -> None:
    outlet = RecordingOutlet(MessageRefused("too large"))

    async def main() -> None:
        courier = Courier(outlet, 1000, totals)
        task = asyncio.create_task(courier.run())
        courier.post(values(b"large"))
        await asyncio.wait_for(courier.sent(), 10)
        courier.post(values(b"small"))
        await asyncio.wait_for(courier.sent(), 10)
        task.cancel()

    totals: Counter[str] = Counter()
    asyncio.run(main())
    assert outlet.taken == [b"small"]
    assert totals == {"outgoing_dropped": 1, "outgoing": 1}
