"""What the API asks of the parts behind it, so that it imports none of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol


@dataclass(frozen=True, slots=True)
class Rejection:
    """One row that was not stored: its position in the request, and why."""

    index: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one POST; every row is in exactly one of the three counts."""

    accepted: int
    duplicate: int = 0
    rejected: int = 0
    rejections: Sequence[Rejection] = ()


@dataclass(frozen=True, slots=True)
class PipelineStatus:
    """Penstock's own state; times are integer microseconds since 1970 UTC, 0 when there is none.

    Attributes:
        watermark_us: event time up to which everything is taken as complete.
        lag_s: how far the watermark is behind the newest event seen, in seconds.
        pending_events: events taken over HTTP and not yet durable.
        totals: counters since start: frames, accepted, duplicate, rejected, late, flushes,
            store_retries, panes_published, windows_written.
        ingest_s: quantile -> seconds from arrival of a POST to durable, over the last minute.
        failure: why the pipeline stopped, empty while it runs.
    """

    watermark_us: int
    newest_event_us: int
    lag_s: float
    pending_events: int
    active_boots: int
    totals: Mapping[str, int] = field(default_factory=dict)
    ingest_s: Mapping[float, float] = field(default_factory=dict)
    failure: str = ""


class IngestPort(Protocol):
    """Takes events in; the answer comes when they are durable."""

    async def post(
        self, body: bytes, form: Literal["frames", "json"], idempotency_key: str | None
    ) -> Receipt:
        """Apply a body (already decompressed by its Content-Encoding).

        Raises:
            InvalidFrame: the body is neither frames nor JSON; nothing was applied.
            Backpressure: too much is pending; nothing was applied.
            IdempotencyConflict: the key came before with another body.
            StoreError: the store is away; the outcome of this POST is unknown, send it again.
            BrokerAway: Kafka is away; as StoreError.
        """
        ...

    def status(self) -> PipelineStatus:
        """Cheap, callable from any thread."""
        ...


class StoreReader(Protocol):
    """Runs read-only SQL. Blocking: callers on an event loop use a thread."""

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Rows as dictionaries; `{name:Type}` placeholders take their values from `parameters`.

        Raises:
            StoreError: the store is away or refuses.
        """
        ...

    def ping(self) -> None:
        """Write and read a probe row.

        Raises:
            StoreError: not readable or not writable.
        """
        ...

    def free_bytes(self) -> int | None:
        """Free disk space below the store; None where the store is elsewhere."""
        ...
