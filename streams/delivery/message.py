"""A message to a receiver, and how far its delivery has come."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

State = Literal["waiting", "delivered", "dead"]


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent to one receiver in one go.

    Attributes:
        key: idempotency key: the same whenever the same message is built again.
        receiver: its name.
        lanes: sequences that it is part of: of two messages of a receiver that share a lane, the
            earlier one goes first. Mostly the ids of the alerts that it tells of.
        body: canonical JSON, without secrets: those are added when it is sent.
    """

    key: str
    receiver: str
    lanes: tuple[str, ...]
    body: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message on its way. Times are integer microseconds since 1970 UTC.

    Attributes:
        message: what is sent.
        created_us: when it was put into the outbox.
        position: among those put in together.
        state: `dead` is given up.
        attempts: how often it was tried; giving it up because of its age counts as one.
        next_us: not to be tried before.
        reason: of the last failure; empty without one.
    """

    message: Message
    created_us: int
    position: int = 0
    state: State = "waiting"
    attempts: int = 0
    next_us: int = 0
    reason: str = ""

    @property
    def key(self) -> str:
        """Idempotency key of the message."""
        return self.message.key

    @property
    def order(self) -> tuple[int, int, str]:
        """What deliveries are sorted by."""
        return self.created_us, self.position, self.key
