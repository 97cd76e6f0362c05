"""What a processor tells of itself: taken in the event loop, read from any thread."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from faust.types import TP

from .desk import BaseDesk


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """A partition that is ours.

    Attributes:
        topic: of which.
        partition: its number.
        lag: messages that are there and not durable, None before the broker's first answer.
    """

    topic: str
    partition: int
    lag: int | None


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A processor at one moment.

    Attributes:
        waiting_for: why it does no work yet, empty when it is ready.
        partitions: those that are ours.
        oldest_s: age of the oldest message that was read and is not durable, None for none.
        heartbeat_age_s: since the broker last answered one.
        turned_s: when both event loops had last turned, as `Lease.now_s`.
        totals: counters since the start.
        circuits: by name, whether calls are made: closed, open or half-open.
    """

    waiting_for: str
    partitions: tuple[PartitionStatus, ...] = ()
    oldest_s: float | None = None
    heartbeat_age_s: float = 0.0
    turned_s: float = 0.0
    totals: Mapping[str, int] = field(default_factory=dict)
    circuits: Mapping[str, str] = field(default_factory=dict)

    def lag(self, topic: str) -> int:
        """Of the partitions of a topic together."""
        return sum(part.lag or 0 for part in self.partitions if part.topic == topic)


def status_of(
    desks: Iterable[BaseDesk],
    heartbeat_age_s: float,
    turned_s: float,
    totals: Mapping[str, int],
    circuits: Mapping[str, str],
    ends: Mapping[TP, int],
) -> WorkerStatus:
    """The desks together; to be called in their event loop."""
    desks = list(desks)
    now_us = time.time_ns() // 1000
    oldest = [at for desk in desks if (at := desk.oldest_us) is not None]
    return WorkerStatus(
        waiting_for="; ".join(text for desk in desks if (text := desk.waiting_for)),
        partitions=tuple(part for desk in desks for part in _partitions(desk, ends)),
        oldest_s=max(now_us - min(oldest), 0) / 1e6 if oldest else None,
        heartbeat_age_s=heartbeat_age_s,
        turned_s=turned_s,
        totals=dict(totals),
        circuits=circuits,
    )


def _partitions(desk: BaseDesk, ends: Mapping[TP, int]) -> Iterable[PartitionStatus]:
    reached = desk.reached()
    for partition in sorted(desk.wanted or ()):
        end, done = ends.get(TP(desk.topic, partition)), reached.get(partition)
        lag = None if end is None or done is None else max(end - done, 0)
        yield PartitionStatus(desk.topic, partition, lag)
