"""Messages between Faust's stream and the next flush."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from ..kafka.messages import Message


class Inbox:
    """Messages in the order they came, which keeps each partition's offsets in order.

    Args:
        max_messages: in one batch.
        max_bytes: in one batch, unless a single message is larger.
        gather_s: how long the first message of a batch waits for company.
        clock: seconds.

    >>> inbox = Inbox(max_messages=2, max_bytes=100, gather_s=0.0)
    >>> for offset in range(3):
    ...     inbox.put(Message(0, offset, 0, b"frame"))
    >>> [message.offset for message in inbox.take()]
    [0, 1]
    """

    def __init__(
        self,
        max_messages: int,
        max_bytes: int,
        gather_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._gather_s = gather_s
        self._clock = clock
        self._waiting: deque[tuple[float, Message]] = deque()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_over(self) -> bool:
        """Whether more than a batch waits beside the one that is being flushed: fetch no more."""
        return len(self) >= 2 * self._max_messages or self.bytes >= 2 * self._max_bytes

    @property
    def is_low(self) -> bool:
        """Whether less than a batch waits: fetch again."""
        return len(self) < self._max_messages and self.bytes < self._max_bytes

    @property
    def oldest_us(self) -> int | None:
        """When the broker took the first message that waits, in microseconds."""
        return self._waiting[0][1].append_us if self._waiting else None

    def put(self, message: Message) -> None:
        """Add a message."""
        self._waiting.append((self._clock(), message))
        self.bytes += len(message.value)

    def due_in_s(self) -> float | None:
        """Seconds until a batch is ready, None while nothing waits."""
        if not self._waiting:
            return None
        if len(self) >= self._max_messages or self.bytes >= self._max_bytes:
            return 0.0
        return max(self._waiting[0][0] + self._gather_s - self._clock(), 0.0)

    def take(self) -> list[Message]:
        """The next batch, empty while none is ready."""
        if self.due_in_s() != 0.0:
            return []
        batch: list[Message] = []
        size = 0
        while self._waiting and len(batch) < self._max_messages:
            value = self._waiting[0][1].value
            if batch and size + len(value) > self._max_bytes:
                break
            batch.append(self._waiting.popleft()[1])
            size += len(value)
        self.bytes -= size
        return batch

    def drop(self, partition: int) -> None:
        """Remove what waits of a partition."""
        kept = [item for item in self._waiting if item[1].partition != partition]
        self._waiting = deque(kept)
        self.bytes = sum(len(message.value) for _, message in kept)

    def clear(self) -> None:
        """Remove everything."""
        self._waiting.clear()
        self.bytes = 0
