"""Replays a trace through worker processes, each with a simulated engine and the public emitter.

Every worker runs the simulation of its own requests and emits what it yields, stamped in event time
by a clock that all workers share. With a finite speed that clock follows the wall clock; with
`MAX_SPEED` nobody waits for it, but all workers take turns of a few seconds of event time together,
each delivered before the next, so that lateness and watermarks mean what they say.
"""

from __future__ import annotations

import math
import multiprocessing
import queue
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path

from ..schemas.errors import PenstockError
from .faults import FaultName, Faults
from .fleet import CanaryFate, Fleet, Rehearsal, VirtualClock, plan_fleet, rehearse
from .replay_worker import Report, Together, work
from .settings import EmitterSettings
from .traces import BUNDLED, TraceFormat, read_trace
from .traffic import make_traffic

_START_TIMEOUT_S = 120.0
_POLL_S = 0.2


class ReplayFailed(PenstockError):
    """A worker process of a replay died; its own output says why."""

    slug = "replay-failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """What to replay, where to, and how fast.

    Attributes:
        path: trace file, by default the bundled hour.
        form: its format.
        url: of the server.
        speed: seconds of events per second; `MAX_SPEED` (infinite) waits for nothing but delivery.
        workers: worker processes of the control arm.
        canary: what becomes of a canary from the middle on; None for no canary.
        canary_share: share of the traffic that it takes.
        faults: what goes wrong in the second half.
        step_every: one of so many engine steps is told; of everything else all.
        seed: of everything that is drawn.
        head_s: replay only the first seconds of the trace.
        api_key: for the server, where it asks for one.
        spool_dir: where workers keep what the server did not take; by default the emitter's own.
        turn_s: event time between meetings of the workers at `MAX_SPEED`.
    """

    path: Path = BUNDLED
    form: TraceFormat = "azure"
    url: str = "http://127.0.0.1:8080"
    speed: float = 1.0
    workers: int = 5
    canary: CanaryFate | None = None
    canary_share: float = 0.2
    faults: tuple[FaultName, ...] = ()
    step_every: int = 1
    seed: int = 0
    head_s: float | None = None
    api_key: str | None = None
    spool_dir: Path | None = None
    turn_s: float = 20.0

    def fleet(self) -> Fleet:
        """Read the trace and divide it among workers.

        Raises:
            InvalidConfiguration: the trace cannot be read.
        """
        trace = read_trace(self.path, self.form)
        if self.head_s is not None:
            trace = trace.head(self.head_s)
        return plan_fleet(
            make_traffic(trace, self.seed),
            workers=self.workers,
            canary=self.canary,
            canary_share=self.canary_share,
            seed=self.seed,
            faults=Faults.of(self.faults, trace.duration_us),
            step_every=self.step_every,
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a replay is.

    Attributes:
        event_us: event time that every worker has reached, microseconds since 1970 UTC.
        done: share of the replay's event time that has passed, 0..1.
        emitted: events by kind so far.
    """

    event_us: int
    done: float
    emitted: Counter[str]


@dataclass(frozen=True, slots=True)
class ReplaySummary:
    """What was replayed; times are microseconds since 1970 UTC, of events.

    Attributes:
        emitted: events by kind, counted by the workers at their calls of the emitter.
        undelivered: events that no server has acknowledged; they are in the spool.
        start_us: begin of the trace.
        end_us: end of the last request.
        canary_us: when the canary began, None without one.
        wall_s: how long it took.
        workers: by worker id, the events that it emitted.
    """

    emitted: Counter[str]
    undelivered: int
    start_us: int
    end_us: int
    canary_us: int | None
    wall_s: float
    workers: dict[str, int] = field(default_factory=dict)


def run_replay(
    options: ReplayOptions,
    progress: Callable[[Progress], None] | None = None,
    *,
    settle: Callable[[ReplaySummary], None] | None = None,
) -> ReplaySummary:
    """Replay a trace against a running server, and return when everything is delivered or spooled.

    Args:
        options: what, where to, how fast.
        progress: called about five times a second, in this thread.
        settle: called when everything is emitted, while the workers are still there and their
            clocks are a little after the last event: the time to ask how it ended.

    Raises:
        InvalidConfiguration: the trace cannot be read.
        ReplayFailed: a worker process died.
    """
    if options.speed < 1:
        raise ReplayFailed("speed must be at least 1: events may not be in the future")
    fleet = options.fleet()
    context = multiprocessing.get_context("spawn")
    together = Together.make(context, len(fleet.workers))
    began = time.monotonic()
    with _processes(context, options, fleet, together) as processes:
        rehearsal = rehearse(fleet)  # while the workers start
        clock = _start(options, rehearsal, together, processes)
        reports = _watch(fleet, clock, rehearsal.end_us, together, processes, progress)
        summary = _summary(fleet, clock, rehearsal.end_us, reports, time.monotonic() - began)
        if settle is not None:
            settle(summary)
        together.end.set()
    return summary


def _summary(
    fleet: Fleet, clock: VirtualClock, end_us: int, reports: dict[int, Report], wall_s: float
) -> ReplaySummary:
    emitted = Counter[str]()
    for report in reports.values():
        emitted.update(report.emitted)
    canary_us = fleet.canary_from_us
    return ReplaySummary(
        emitted=emitted,
        undelivered=sum(report.undelivered for report in reports.values()),
        start_us=clock.origin_event_us,
        end_us=clock.origin_event_us + end_us,
        canary_us=None if canary_us is None else clock.origin_event_us + canary_us,
        wall_s=wall_s,
        workers={
            plan.worker_id: reports[k].emitted.total() for k, plan in enumerate(fleet.workers)
        },
    )


@contextmanager
def _processes(
    context: SpawnContext, options: ReplayOptions, fleet: Fleet, together: Together
) -> Iterator[list[SpawnProcess]]:
    """One process per worker; none is left behind."""
    processes = [
        context.Process(
            target=_child, args=(options, number, together), name=plan.worker_id, daemon=True
        )
        for number, plan in enumerate(fleet.workers)
    ]
    try:
        for process in processes:
            process.start()
        yield processes
        for process in processes:
            process.join()
    finally:
        together.abort()
        for process in processes:
            if process.is_alive():
                process.terminate()
                process.join()


def _child(options: ReplayOptions, number: int, together: Together) -> None:
    """Entry of a worker process: it draws the same fleet from the same options."""
    work(
        options.fleet(),
        number,
        together,
        speed=options.speed,
        turn_us=int(options.turn_s * 1e6),
        url=options.url,
        settings=EmitterSettings(api_key=options.api_key, spool_dir=options.spool_dir),
    )


def _start(
    options: ReplayOptions,
    rehearsal: Rehearsal,
    together: Together,
    processes: list[SpawnProcess],
) -> VirtualClock:
    """When all workers are ready, set the clock that makes the last event happen now."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    for _ in processes:
        while not together.ready.acquire(timeout=_POLL_S):
            _check(processes)
            if time.monotonic() > deadline:
                raise ReplayFailed(f"workers were not ready within {_START_TIMEOUT_S:.0f} s")
    clock = VirtualClock.ending_now(time.time_ns(), rehearsal.end_us, options.speed)
    together.start(clock, rehearsal.end_us)
    return clock


def _watch(
    fleet: Fleet,
    clock: VirtualClock,
    end_us: int,
    together: Together,
    processes: list[SpawnProcess],
    progress: Callable[[Progress], None] | None,
) -> dict[int, Report]:
    """Collect the workers' reports until each has told its last."""
    reports: dict[int, Report] = {}
    while sum(report.last for report in reports.values()) < len(fleet.workers):
        deadline = time.monotonic() + _POLL_S
        while (left := deadline - time.monotonic()) > 0:
            try:
                report = together.told.get(timeout=left)
            except queue.Empty:
                break
            reports[report.number] = report
        _check(processes)
        if progress is not None and len(reports) == len(fleet.workers):
            emitted = Counter[str]()
            for report in reports.values():
                emitted.update(report.emitted)
            reached = min(report.reached_us for report in reports.values())
            share = min(1.0, reached / end_us) if end_us else 1.0
            progress(Progress(clock.origin_event_us + reached, share, emitted))
    return reports


def _check(processes: list[SpawnProcess]) -> None:
    for process in processes:
        if process.exitcode:
            raise ReplayFailed(f"{process.name} ended with exit code {process.exitcode}")


def parse_speed(text: str) -> float:
    """Speed as people write it: a number of at least 1, or `max`.

    Raises:
        ValueError: anything else.
    """
    speed = math.inf if text == "max" else float(text)
    if not speed >= 1:
        raise ValueError(f"speed must be max or a number of at least 1, not {text}")
    return speed
