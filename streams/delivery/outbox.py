"""The outbox: messages wait here until they were taken, so that none is lost between two lives."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from .message import Delivery, Message, State
from .schedule import ready

REMEMBERED = 10_000


class Outbox(Protocol):
    """What the dispatcher and the planner need of an outbox; safe to call from any thread."""

    def put(self, messages: Sequence[Message], now_us: int) -> int:
        """Take messages in, durably; those whose key is known change nothing.

        Returns:
            How many are new.

        Raises:
            PenstockError: the outcome is unknown; put the same again.
        """
        ...

    def due(self, now_us: int) -> list[Delivery]:
        """Deliveries that may be tried now, in order: `schedule.ready`. Never raises."""
        ...

    def mark_delivered(self, key: str, now_us: int) -> None:
        """A message was taken. Never raises: what cannot be stored now is stored later."""
        ...

    def mark_failed(self, key: str, reason: str, now_us: int, next_us: int | None) -> None:
        """An attempt failed; try again at `next_us`, never where it is None. Never raises."""
        ...


class MemoryOutbox:
    """An outbox that ends with the process: for tests, and what `StoredOutbox` works on.

    Args:
        waiting: where an earlier life left off.

    Attributes:
        finished: the newest deliveries that were taken or given up, by key, without their bodies.
    """

    def __init__(self, waiting: Iterable[Delivery] = ()) -> None:
        self._lock = threading.Lock()
        self._waiting = {delivery.key: delivery for delivery in waiting}
        self._newest_us = max((d.created_us for d in self._waiting.values()), default=0)
        self.finished: dict[str, Delivery] = {}

    def put(self, messages: Sequence[Message], now_us: int) -> int:
        """Take messages in; see `Outbox`."""
        return self.adopt(self.deliveries(messages, now_us))

    def deliveries(self, messages: Iterable[Message], now_us: int) -> list[Delivery]:
        """Messages as new deliveries that come after all others, even if the clock was set back."""
        with self._lock:
            self._newest_us = max(now_us, self._newest_us + 1)
            return [Delivery(m, self._newest_us, position) for position, m in enumerate(messages)]

    def adopt(self, deliveries: Iterable[Delivery]) -> int:
        """Take deliveries in where their keys are not known; returns how many."""
        with self._lock:
            before = len(self._waiting)
            for delivery in deliveries:
                if delivery.key not in self.finished:
                    self._waiting.setdefault(delivery.key, delivery)
            return len(self._waiting) - before

    def due(self, now_us: int) -> list[Delivery]:
        """Deliveries that may be tried now; see `Outbox`."""
        with self._lock:
            return ready(self._waiting.values(), now_us)

    def waiting(self) -> list[Delivery]:
        """All that wait, in order."""
        with self._lock:
            return sorted(self._waiting.values(), key=lambda delivery: delivery.order)

    def mark_delivered(self, key: str, now_us: int) -> None:
        """A message was taken; see `Outbox`."""
        self.mark(key, "", None, delivered=True)

    def mark_failed(self, key: str, reason: str, now_us: int, next_us: int | None) -> None:
        """An attempt failed; see `Outbox`."""
        self.mark(key, reason, next_us, delivered=False)

    def mark(
        self, key: str, reason: str, next_us: int | None, *, delivered: bool
    ) -> Delivery | None:
        """The delivery after an attempt; None where it does not wait here any more."""
        with self._lock:
            before = self._waiting.pop(key, None)
            if before is None:
                return None
            attempts = before.attempts + 1
            if delivered or next_us is None:
                state: State = "delivered" if delivered else "dead"
                after = replace(before, state=state, attempts=attempts, reason=reason)
                self.finished[key] = replace(after, message=replace(after.message, body=""))
                if len(self.finished) > REMEMBERED:
                    del self.finished[next(iter(self.finished))]
                return after
            after = replace(before, attempts=attempts, next_us=next_us, reason=reason)
            self._waiting[key] = after
            return after
