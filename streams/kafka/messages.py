"""What comes in from Kafka and what goes out to it, without any client library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the events topic.

    Attributes:
        partition: where it arrived.
        offset: its number there.
        append_us: when the broker took it, integer microseconds since 1970 UTC.
        value: one frame, or JSON.
        headers: by name; see schemas/topics.py.
    """

    partition: int
    offset: int
    append_us: int
    value: bytes
    headers: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to be sent; `partition` None leaves the choice to the client."""

    topic: str
    partition: int | None
    key: bytes
    value: bytes
    headers: Mapping[str, bytes] = field(default_factory=dict)


class StartAgain(Exception):
    """What this process knows of a topic no longer holds; a new start learns it anew."""


class Outlet(Protocol):
    """Sends messages; safe to call from any thread."""

    def deliver(self, messages: Sequence[Outgoing]) -> None:
        """Return when all in-sync replicas have every message.

        Raises:
            BrokerAway: the outcome is unknown; deliver the same again.
        """
        ...

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has now.

        Raises:
            BrokerAway: the cluster does not answer.
        """
        ...
