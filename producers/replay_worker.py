"""One worker process of a replay: the simulated engine, and the public emitter that tells of it."""

from __future__ import annotations

import heapq
import math
import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.context import SpawnContext
from multiprocessing.queues import Queue
from multiprocessing.sharedctypes import SynchronizedArray
from multiprocessing.synchronize import Barrier, Event, Semaphore
from typing import Any

from .emitter import Emitter
from .engine import Engine
from .fleet import MODEL, SETTLE_US, Fleet, VirtualClock, WorkerPlan
from .settings import EmitterSettings
from .traffic import Describer

PAUSE_S = 0.05
REPORT_S = 0.25
DEVICE_US = 10_000_000
DELIVERY_S = 60.0
_MEETING_S = 300.0


class EventClock:
    """The clock of a worker's emitter: the event time it has reached, microseconds since 1970 UTC."""

    def __init__(self, now_us: int) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        """The time."""
        return self.now_us


@dataclass(slots=True)
class Report:
    """What a worker tells its parent.

    Attributes:
        number: which worker.
        reached_us: event time since the start of the trace.
        emitted: events by kind.
        undelivered: events emitted that the server has not acknowledged; of the last report only.
        last: nothing will follow.
    """

    number: int
    reached_us: int = 0
    emitted: Counter[str] = field(default_factory=Counter)
    undelivered: int = 0
    last: bool = False

    def copy(self) -> Report:
        """For the queue, which pickles later."""
        return replace(self, emitted=Counter(self.emitted))


@dataclass(frozen=True, slots=True)
class Together:
    """What the processes of a replay share.

    Attributes:
        ready: released by each worker that is ready to start.
        go: set when the clock is.
        end: set when the workers may stop.
        clock: origin in wall time (ns), origin in event time (us), end since the origin (us).
        turns: where the workers meet.
        told: their reports.
    """

    ready: Semaphore
    go: Event
    end: Event
    clock: SynchronizedArray[int]
    turns: Barrier
    told: Queue[Report]

    @classmethod
    def make(cls, context: SpawnContext, workers: int) -> Together:
        """For a number of workers that are about to be spawned."""
        return cls(
            context.Semaphore(0),
            context.Event(),
            context.Event(),
            context.Array("q", 3),
            context.Barrier(workers),
            context.Queue(),
        )

    def start(self, clock: VirtualClock, end_us: int) -> None:
        """Parent: let the workers go, by this clock."""
        self.clock[:] = [clock.origin_wall_ns, clock.origin_event_us, end_us]
        self.go.set()

    def abort(self) -> None:
        """Parent: let nobody wait any longer."""
        self.end.set()
        self.turns.abort()

    def wait(self, speed: float) -> tuple[VirtualClock, int]:
        """Worker: ready; returns the clock and the end, once they are set."""
        self.ready.release()
        self.go.wait(_MEETING_S)
        wall_ns, event_us, end_us = self.clock[:]
        return VirtualClock(wall_ns, event_us, speed), end_us

    def meet(self) -> None:
        """Worker: wait for the others.

        Raises:
            threading.BrokenBarrierError: one of them, or the parent, is gone.
        """
        self.turns.wait(_MEETING_S)


class Worker:
    """One boot of a simulated worker: engine events in, emitted events out.

    Args:
        fleet: what everybody knows.
        number: position of this worker in it.
        origin_us: event time at the start of the trace, microseconds since 1970 UTC.
        end_us: when the last request of the fleet ends, since the start of the trace.
        connect: makes the emitter.
    """

    def __init__(
        self,
        fleet: Fleet,
        number: int,
        origin_us: int,
        end_us: int,
        connect: Callable[[WorkerPlan, EventClock], Emitter],
    ) -> None:
        self.plan = fleet.workers[number]
        self.report = Report(number)
        self._fleet = fleet
        self._origin_us = origin_us
        self._end_us = end_us
        self._connect = connect
        self._clock = EventClock(origin_us)
        self._engine: Engine = fleet.engine(self.plan)
        self._describer = Describer(fleet.traffic, f"{origin_us // 1_000_000:x}", fleet.price)
        self._emit: Emitter | None = None
        self._closed = False
        self._next_device_us = self.plan.boot_us + DEVICE_US
        self._computed = [0.0, 0]  # sum of the utilisation of engine steps, and their number
        self._due: list[tuple[int, int, str, dict[str, Any]]] = []
        if number == 0:
            self._announce(0, share=1.0, stage="full")
        elif fleet.canary_from_us is not None and self.plan.arm.variant == "canary":
            self._announce(fleet.canary_from_us, share=fleet.canary_share, stage="canary")

    def advance(self, until_us: int) -> None:
        """Emit everything up to and including `until_us` since the start of the trace."""
        self.report.reached_us = until_us
        if self._closed or until_us < self.plan.boot_us:
            return
        if self.plan.hangs_us is not None:
            until_us = min(until_us, self.plan.hangs_us)
        if self._emit is None:
            self._boot()
        for ts_us, request, fields in self._engine.advance(until_us):
            self._catch_up(ts_us)
            if request is None:
                self._computed[0] += fields["gpu_utilization"]
                self._computed[1] += 1
                if fields["step"] % self._fleet.step_every == 0:
                    self._tell(ts_us, "step", fields)
            else:
                self._request(ts_us, int(self.plan.requests[request]), fields)
        self._catch_up(min(until_us, self._stays_until_us()))
        self._clock.now_us = self._origin_us + until_us
        if self.plan.leaves and self._engine.finished and not self._due:
            self.settle()
            self.close()

    def _stays_until_us(self) -> int:
        """A worker that leaves does so with its last event, however long its turns are."""
        if not (self.plan.leaves and self._engine.finished):
            return self._end_us
        last_us = self._clock.now_us - self._origin_us
        return max([last_us, *(due_us for due_us, *_ in self._due)])

    def flush(self) -> None:
        """Wait until the server has what was emitted, or for a minute."""
        if self._emit is not None and not self._closed:
            self._emit.flush(DELIVERY_S)

    def settle(self) -> None:
        """Everything is emitted: deliver it, and let the clock go on a little without events."""
        if self._emit is not None and not self._closed:
            self.flush()
            delivered = self._emit.snapshot()["delivery"]["delivered_events"]
            self.report.undelivered = self.report.emitted.total() - delivered
            if self.plan.hangs_us is not None:
                return
            now_us = time.time_ns() // 1000
            self._clock.now_us = max(
                self._clock.now_us, min(self._clock.now_us + SETTLE_US, now_us)
            )

    def close(self) -> None:
        """End this boot."""
        if self._emit is not None and not self._closed:
            self._emit.close()
        self._closed = True

    def _boot(self) -> None:
        self._clock.now_us = self._origin_us + self.plan.boot_us
        self._emit = self._connect(self.plan, self._clock)
        self._device(self.plan.boot_us, {"model_load_s": 28.4})
        self.flush()  # the server knows this boot before its traffic begins

    def _announce(self, ts_us: int, *, share: float, stage: str) -> None:
        arm = self.plan.arm
        fields = {
            "release": arm.release,
            "model": MODEL,
            "model_version": arm.model_version,
            "variant": arm.variant,
            "variant_share": share,
            "stage": stage,
        }
        heapq.heappush(self._due, (ts_us, -1, "release", fields))

    def _request(self, ts_us: int, index: int, fields: dict[str, Any]) -> None:
        self._tell(ts_us, "request", self._describer.complete(index, fields))
        feedback = self._describer.feedback(index)
        if feedback is not None and fields["status"] == "ok":
            after_us, said = feedback
            if ts_us + after_us <= self._end_us:
                heapq.heappush(self._due, (ts_us + after_us, index, "feedback", said))

    def _catch_up(self, ts_us: int) -> None:
        """Emit what is due before the next event: feedback, release markers, device readings."""
        while True:
            due_us = self._due[0][0] if self._due else ts_us + 1
            if min(due_us, self._next_device_us) > ts_us:
                return
            if self._next_device_us <= due_us:
                self._device(self._next_device_us, {})
                self._next_device_us += DEVICE_US
            else:
                due_us, _, kind, fields = heapq.heappop(self._due)
                self._tell(due_us, kind, fields)

    def _device(self, ts_us: int, fields: dict[str, Any]) -> None:
        """A reading of the device; its temperature follows the load since the last one."""
        load, steps = self._computed
        self._computed = [0.0, 0]
        config = self._fleet.config
        reading = {
            "kind": "device",
            "gpu_temperature_c": 41.0 + round(30 * load / steps if steps else 0.0, 1),
            "gpu_memory_allocated_bytes": config.weights_bytes
            + config.kv_tokens * config.kv_bytes_per_token,
            "gpu_memory_total_bytes": config.memory_bytes,
            "expected_replicas": 1,
            "healthy_replicas": int(self._fleet.is_healthy(ts_us)),
        }
        self._tell(ts_us, "step", reading | fields)

    def _tell(self, ts_us: int, kind: str, fields: dict[str, Any]) -> None:
        assert self._emit is not None
        self._clock.now_us = self._origin_us + ts_us
        getattr(self._emit, kind)(**fields)
        self.report.emitted[kind] += 1


def work(
    fleet: Fleet,
    number: int,
    together: Together,
    *,
    speed: float,
    turn_us: int,
    url: str,
    settings: EmitterSettings,
) -> None:
    """Run one worker process from start to end.

    Args:
        fleet: what everybody knows.
        number: position of this worker in it.
        together: what the processes share.
        speed: of the clock, infinite for turns taken together.
        turn_us: event time of such a turn.
        url: of the server.
        settings: of the emitters.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us

    def connect(plan: WorkerPlan, clock: EventClock) -> Emitter:
        arm = plan.arm
        return Emitter(
            url,
            worker_id=plan.worker_id,
            settings=settings,
            clock=clock,
            model=MODEL,
            model_version=arm.model_version,
            release=arm.release,
            variant=arm.variant,
        )

    clock, end_us = together.wait(speed)
    worker = Worker(fleet, number, clock.origin_event_us, end_us, connect)
    worker.advance(0)
    together.meet()  # the server knows all boots before the first of them goes on
    reported = 0.0
    for until_us in _turns(clock, end_us, turn_us):
        worker.advance(until_us)
        if math.isinf(speed):
            worker.flush()
            together.meet()
        if time.monotonic() - reported > REPORT_S:
            reported = time.monotonic()
            together.told.put(worker.report.copy())
    worker.settle()
    together.told.put(replace(worker.report.copy(), last=True))
    together.end.wait(_MEETING_S)
    worker.close()


def _turns(clock: VirtualClock, end_us: int, turn_us: int) -> Iterator[int]:
    """Event times to go to, microseconds since the start of the trace; the last one is the end."""
    parent = multiprocessing.parent_process()
    until_us = 0
    while until_us < end_us:
        if math.isinf(clock.speed):
            until_us = min(until_us + turn_us, end_us)
        else:
            time.sleep(PAUSE_S)
            until_us = min(clock.event_us() - clock.origin_event_us, end_us)
        if parent is not None and not parent.is_alive():
            return
        yield until_us
