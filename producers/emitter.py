"""The emitter: what a worker calls. See docs/emitter.md."""

from __future__ import annotations

import functools
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, ParamSpec, Self, TypedDict, TypeVar, Unpack, overload

from ..schemas.errors import InvalidConfiguration
from ..schemas.events import EVENT_TYPES, EventName
from . import process
from .guards import (
    NULL_GUARD,
    Recorder,
    RequestGuard,
    StepGuard,
    TimedStep,
    TrackedRequest,
    Tracker,
)
from .intake import Call, Intake
from .session import Session
from .settings import EmitterSettings, Environment
from .snapshot import Snapshot
from .transport import Transport

_LOG = logging.getLogger("penstock")
P = ParamSpec("P")
R = TypeVar("R")


class Defaults(TypedDict, total=False):
    """Fields that every event of the emitter carries, unless the call says otherwise."""

    model: str
    model_version: str
    adapter: str
    route: str
    release: str
    variant: str
    tenant: str
    region: str
    experiment: str


def _nothing(*args: Any, **fields: Any) -> None:
    """What every recorder of a disabled emitter is."""


class Emitter:
    """Sends events of this process to Penstock; every call returns at once and never raises.

    `request`, `step`, `feedback`, `release` and `span` record one event each; their keywords are
    the fields of docs/events.md. Threads start with the first event (or `with`), so an emitter may
    be made before a process forks; each child is a boot of its own.

    Args:
        url: http(s):// address of the server, or kafka:// address of the brokers, as
            `schemas.kafka.parse_address` reads it; default PENSTOCK_URL.
        worker_id: name of the process; default host name and process id.
        settings: what is rarely changed.
        clock: the event time of calls without `ts`, integer microseconds UTC; called from the
            caller's thread and the flusher's. Default the system's clock.
        transport: how frames leave, instead of to `url`.
        disabled: make every call a no-op, as PENSTOCK_DISABLED=1 does.
        **defaults: fields that every event carries: model, model_version, adapter, route, release,
            variant, tenant, region, experiment.

    Raises:
        InvalidConfiguration: there is neither url nor transport, a setting makes no sense, or
            confluent-kafka is not installed and `url` needs it.

    Attributes:
        disabled: whether calls do nothing.
        request: records a request event.
        step: records a step event.
        feedback: records feedback on a request.
        release: records a release marker.
        span: records a span.
    """

    request: Recorder
    step: Recorder
    feedback: Recorder
    release: Recorder
    span: Recorder

    def __init__(
        self,
        url: str | None = None,
        *,
        worker_id: str | None = None,
        settings: EmitterSettings | None = None,
        clock: Callable[[], int] | None = None,
        transport: Transport | None = None,
        disabled: bool = False,
        **defaults: Unpack[Defaults],
    ) -> None:
        environment = Environment.read()
        unknown = set(defaults) - Defaults.__annotations__.keys()
        if unknown:
            raise TypeError(f"unknown arguments: {', '.join(sorted(unknown))}")
        self.disabled = disabled or environment.disabled
        self._settings = environment.complete(settings or EmitterSettings())
        self._tracker = Tracker(self._settings.overdue_ms)
        self._lock = threading.RLock()
        self._session: Session | None = None
        self._state: Literal["new", "running", "closed"] = "new"
        if self.disabled:
            vars(self).update(dict.fromkeys(EVENT_TYPES, _nothing))
            return
        url = url or environment.url
        if url is None and transport is None:
            raise InvalidConfiguration("say where events go: Emitter(url=...) or PENSTOCK_URL")
        # The system's clock is read in seconds, which is cheapest, and scaled off the caller's
        # thread; a double holds today's seconds to 0.24 us.
        read, us_per_tick = (clock, 1) if clock else (time.time, 1_000_000)
        self._intake = Intake(read)
        vars(self).update(self._intake.recorders)
        self._new_session = functools.partial(
            Session,
            calls=self._intake.calls,
            tracker=self._tracker,
            settings=self._settings,
            address=url or type(transport).__name__,
            transport=transport,
            defaults={key: item for key, item in defaults.items() if item is not None},
            clock_us=clock or _system_clock_us,
            us_per_tick=us_per_tick,
        )
        self._worker_id = worker_id
        self._begin()
        process.watch(self)

    @property
    def worker_id(self) -> str:
        """Name of this process in every event; empty when disabled."""
        return self._session.boot.worker_id if self._session else ""

    @property
    def boot_id(self) -> str:
        """Random id of this start of the process; empty when disabled."""
        return self._session.boot.boot_id if self._session else ""

    @property
    def transport_timing(self) -> bool:
        """Whether the time between processes is measured (PENSTOCK_TRANSPORT_TIMING)."""
        return bool(self._settings.transport_timing) and not self.disabled

    def stamp(self) -> int:
        """A time to hand to another process of this host; 0 when transport timing is off."""
        return time.monotonic_ns() if self.transport_timing else 0

    def since_stamp_ms(self, stamp: int) -> float | None:
        """Milliseconds since another process took `stamp`, for `transport_ms`; None when off."""
        if not stamp or not self.transport_timing:
            return None
        return max(0, time.monotonic_ns() - stamp) / 1e6

    def track_request(self, **fields: Any) -> RequestGuard:
        """A guard that times a request and records it when it ends.

        `with emit.track_request(route="/chat") as r:` (or `async with`): `r.set(...)` adds fields,
        `r.first_token()` sets ttft_ms; latency, status and error type come by themselves, and an
        exception goes on. In flight for longer than overdue_ms, it is announced once.
        """
        if self.disabled:
            return NULL_GUARD
        return TrackedRequest(self.request, self._tracker, self._settings.error_types, fields)

    @overload
    def timed_step(self, function: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def timed_step(self, function: None = None, /, **fields: Any) -> StepGuard: ...
    def timed_step(self, function: Callable[..., Any] | None = None, /, **fields: Any) -> Any:
        """A decorator or guard that records one step event per call or block.

        `@emit.timed_step`, `@emit.timed_step(kind="train")`, and
        `with emit.timed_step(kind="train") as s: s.set(loss=...)`.
        """
        guard: StepGuard = NULL_GUARD
        if not self.disabled:
            guard = TimedStep(self.step, self._tracker, fields)
        return guard if function is None else guard(function)

    def snapshot(self, reset: bool = False) -> Snapshot:
        """This process's own counters and sketches, everything recorded so far included.

        Args:
            reset: start counting again (delivery counts go on).
        """
        if self._session is None:
            return Session.empty_snapshot()
        return self._session.snapshot(reset)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Send what is buffered, and wait until the server has all of it.

        Returns:
            Whether it has; False after `timeout_s`, when the rest is in the spool or in memory.
        """
        if self._session is None:
            return True
        self._start()
        return self._session.flush(timeout_s)

    def close(self) -> None:
        """Send what is left and the closing record; idempotent, bounded by close_timeout_s.

        What cannot be delivered is left in the spool for a later emitter. Events recorded after
        this are dropped with one warning.
        """
        with self._lock:
            if self._session is None or self._state == "closed":
                return
            self._state = "closed"
            self._intake.divert(self._too_late)
            self._session.close()
            process.closed(self)

    def __enter__(self) -> Self:
        if not self.disabled:
            self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _begin(self) -> None:
        """A new boot, whose threads start with its first event."""
        worker_id = self._worker_id or f"{socket.gethostname()}-{os.getpid()}"
        self._session = self._new_session(worker_id[:256])
        self._state = "new"
        self._intake.divert(self._first)

    def _first(self, kind: EventName, call: Call) -> None:
        self._start()
        if self._state == "closed":
            self._too_late(kind, call)
        else:
            self._intake.calls[kind].append(call)

    def _start(self) -> None:
        with self._lock:
            if self._session is not None and self._state == "new":
                self._state = "running"
                self._session.start()
                self._intake.collect()
                process.started(self)

    def _too_late(self, kind: EventName, call: Call) -> None:
        if self._session is not None and not self._session.warned_late:
            self._session.warned_late = True
            _LOG.warning("a %s event came after the emitter was closed; dropped", kind)

    def before_fork(self) -> None:
        """See `process.Watched`; not for users."""
        self._lock.acquire()
        if self._session is not None:
            self._session.before_fork()

    def after_fork_in_parent(self) -> None:
        """See `process.Watched`; not for users."""
        if self._session is not None:
            self._session.after_fork_in_parent()
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """See `process.Watched`; not for users."""
        self._lock = threading.RLock()
        self._tracker.clear()
        if self._session is not None:
            self._intake.clear()
            self._session.abandon()
            self._begin()


def _system_clock_us() -> int:
    return time.time_ns() // 1000
