"""What the Faust application asks of the parts behind it, and its settings."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ...schemas.errors import InvalidConfiguration, PenstockError
from ...schemas.kafka import KafkaAddress
from ..kafka.messages import Message, Outgoing

# Suspended machines must notice too, and the usual clock stands still while they sleep.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Ingestor(Protocol):
    """Makes messages durable. Blocking; one call at a time.

    Every method but `reset` raises StoreError or BrokerAway. After one of `stage`, `settle` or
    `deltas` the outcome is unknown: `reset`, `assign` the same partitions, and stage again what was
    staged and has not settled.
    """

    def assign(self, partition: int) -> int:
        """Take a partition over, its state rebuilt from the store; returns its cut, -1 for none."""
        ...

    def release(self, partition: int) -> None:
        """Forget a partition."""
        ...

    def stage(self, messages: Sequence[Message]) -> None:
        """Start making messages durable; return when those staged before are.

        Offsets at or below a partition's cut are skipped.

        Args:
            messages: of assigned partitions, in the order of their offsets within each.
        """
        ...

    def settle(self) -> None:
        """Return when everything staged is durable."""
        ...

    def reset(self) -> None:
        """Forget all partitions."""
        ...

    def deltas(self, now_us: int, behind: Mapping[int, int], final: bool = False) -> list[Outgoing]:
        """What is to be sent since the last call; watermarks, where nothing else happened.

        Args:
            now_us: the clock, integer microseconds since 1970 UTC.
            behind: partitions that are not read to their end -> when the broker took the last message
                that was flushed, in microseconds; 0 where there was none since the assignment.
            final: no later call comes.
        """
        ...


class Evaluator(Protocol):
    """Turns deltas into published results. Blocking; one call at a time.

    After an error of any method but `reset`: `reset` and `assign` the same shards.
    """

    def assign(self, shard: int) -> None:
        """Take a shard over, its state rebuilt from the store."""
        ...

    def release(self, shard: int) -> None:
        """Forget a shard."""
        ...

    def apply(self, shard: int, message: bytes) -> None:
        """Take in one message of the panes topic."""
        ...

    def publish(self, now_us: int, final: bool = False) -> None:
        """Store what has closed; `final` says that no later call comes."""
        ...

    def reset(self) -> None:
        """Forget all shards."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Of one processor.

    Attributes:
        kafka: where the broker is.
        partitions: of the events topic, as the ingestor was told; 0 to take any.
        group: consumer group; processors of one store share it.
        session_timeout_s: silence after which the broker gives the partitions away.
        heartbeat_s: between two heartbeats.
        gather_s: how long a message waits for company.
        max_flush_messages: in one flush.
        max_flush_bytes: in one flush, unless a single message is larger.
        tick_s: between two rounds of deltas and watermarks, where no batch brings one sooner.
        publish_s: between two publications of an evaluator, where no delta brings one sooner.
        pause_s: between two rounds or publications at least.
        max_deltas_bytes: deltas that wait for the broker; beyond it they are dropped.
        stop_s: limit of a planned stop.

    Raises:
        InvalidConfiguration: numbers that do not fit together.
    """

    kafka: KafkaAddress
    partitions: int = 0
    group: str = "penstock"
    session_timeout_s: float = 8.0
    heartbeat_s: float = 2.0
    gather_s: float = 0.15
    max_flush_messages: int = 256
    max_flush_bytes: int = 4 * 2**20
    tick_s: float = 0.25
    publish_s: float = 0.5
    pause_s: float = 0.1
    max_deltas_bytes: int = 64 * 2**20
    stop_s: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.heartbeat_s <= self.session_timeout_s / 3:
            raise InvalidConfiguration(
                "the session timeout must be at least three heartbeats, not "
                f"{self.session_timeout_s:g} s of {self.heartbeat_s:g} s"
            )


@dataclass(frozen=True, slots=True)
class PartitionView:
    """What the client library knows of a partition.

    Attributes:
        position: offset that is fetched next, None before the first.
        highwater: offset of the next message that is produced, None before the first answer.
        polled_us: when the broker last answered, integer microseconds; 0 for never.
    """

    position: int | None
    highwater: int | None
    polled_us: int


class LeaseExpired(PenstockError):
    """The broker has heard nothing for the session timeout: others may own the partitions."""


class Unassigned(PenstockError):
    """A partition went to somebody else meanwhile."""


class Lease:
    """How long this process may take its partitions as its own; callable from any thread.

    The broker gives partitions away when it has had no heartbeat for the session timeout. It counts
    from when a heartbeat arrives, this from when it was sent: so this always ends first.
    """

    def __init__(self, session_timeout_s: float) -> None:
        self._session_timeout_s = session_timeout_s
        self._renewed_s = self.now_s()

    @staticmethod
    def now_s() -> float:
        """Seconds that go on while the machine sleeps."""
        return time.clock_gettime(_CLOCK)

    def renew(self, sent_s: float) -> None:
        """A heartbeat sent at `sent_s` was answered."""
        self._renewed_s = max(self._renewed_s, sent_s)

    @property
    def age_s(self) -> float:
        """Seconds since the last heartbeat that was answered."""
        return self.now_s() - self._renewed_s

    @property
    def valid(self) -> bool:
        """Whether the partitions are surely still ours."""
        return self.age_s < self._session_timeout_s

    def check(self) -> None:
        """Call right before anything is written.

        Raises:
            LeaseExpired: nothing may be written; wait for the broker.
        """
        if not self.valid:
            raise LeaseExpired(f"no heartbeat for {self.age_s:.1f} s")
