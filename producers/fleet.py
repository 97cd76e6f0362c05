"""Who serves a replayed trace: the workers, the canary among them, and the clock they share."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from .engine import Engine, EngineConfig
from .faults import Faults
from .traces import Trace
from .traffic import BASE_ERROR_RATIO, PRICES, Price, Traffic

CanaryFate = Literal["good", "slow", "errors"]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MODEL = "chat-70b"
NO_FAULTS = Faults(frozenset(), 0)
MAX_SPEED = math.inf
MINUTE_US = 60_000_000
SETTLE_US = 10_000_000
CANARY_BOOT_US = 30_000_000
"""How long before its first traffic a canary's process is up and known to the server."""


@dataclass(frozen=True, slots=True)
class VirtualClock:
    """Event time as a function of wall time: `speed` seconds of events per second.

    Attributes:
        origin_wall_ns: wall time (nanoseconds since 1970) at which the replay begins.
        origin_event_us: event time of that moment, microseconds since 1970 UTC.
        speed: how much faster events pass; `MAX_SPEED` for a replay that never waits.
    """

    origin_wall_ns: int
    origin_event_us: int
    speed: float

    @classmethod
    def ending_now(cls, wall_ns: int, duration_us: int, speed: float) -> VirtualClock:
        """A clock on which `duration_us` of events, begun at `wall_ns`, ends at the present.

        As speed is at least 1, no event is ever in the future of the wall clock. Faster than real,
        the end lies a second before a full minute, so that windows end with the events, and
        `SETTLE_US` before the present, so that watermarks can pass it.
        """
        lasts_us = 0 if math.isinf(speed) else int(duration_us / speed)
        end_us = wall_ns // 1000 + lasts_us
        if speed > 1:
            end_us = (end_us - SETTLE_US) // MINUTE_US * MINUTE_US - 1_000_000
        return cls(wall_ns, end_us - duration_us, speed)

    def event_us(self, wall_ns: int | None = None) -> int:
        """Event time at a wall time, by default now. Only of a clock with a finite speed."""
        wall_ns = time.time_ns() if wall_ns is None else wall_ns
        passed_us = (wall_ns - self.origin_wall_ns) // 1000
        return self.origin_event_us + int(passed_us * self.speed)

    def seconds_until(self, event_us: int, wall_ns: int | None = None) -> float:
        """Wall seconds from a wall time (by default now) until an event time; negative after it."""
        return (event_us - self.event_us(wall_ns)) / 1e6 / self.speed


@dataclass(frozen=True, slots=True)
class Arm:
    """What one variant runs, and how well it does.

    Attributes:
        slowdown: factor on the time of decoding.
        error_ratio: share of requests that fail.
    """

    variant: str
    release: str
    model_version: str
    slowdown: float = 1.0
    error_ratio: float = BASE_ERROR_RATIO


CONTROL = Arm("control", "r41", "1.4.0")
_CANARY = Arm("canary", "r42", "1.5.0")
CANARIES: dict[CanaryFate, Arm] = {
    "good": _CANARY,
    "slow": replace(_CANARY, slowdown=1.4),
    "errors": replace(_CANARY, error_ratio=0.03),
}


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """What one worker process does.

    Attributes:
        worker_id: its name.
        arm: what it runs.
        requests: positions in the trace of the requests that it serves, in order.
        boot_us: when its process comes up, microseconds after the start of the trace.
        seed: of the noise of its engine.
        leaves: whether it stops when it has answered what it has; others stay until the end.
        hangs_us: when it stops answering, saying anything and following the clock; None for never.
    """

    worker_id: str
    arm: Arm
    requests: Ints
    boot_us: int
    seed: int
    leaves: bool = False
    hangs_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Everything that a seed and the options decide before the first event.

    Attributes:
        step_every: one of so many engine steps is told.
    """

    traffic: Traffic
    workers: tuple[WorkerPlan, ...]
    config: EngineConfig
    price: Price
    canary_from_us: int | None
    canary_share: float
    faults: Faults = NO_FAULTS
    step_every: int = 1

    def is_healthy(self, at_us: int) -> bool:
        """Whether engines take requests, so long after the start of the trace."""
        return self.faults.answers or at_us < self.faults.from_us

    def engine(self, plan: WorkerPlan) -> Engine:
        """A fresh engine with the requests of one worker."""
        config = replace(self.config, slowdown=plan.arm.slowdown)
        if self.faults.slowdown != 1:
            config = replace(
                config, slowdown=self.faults.slowdown, slow_from_us=self.faults.from_us
            )
        return Engine(config, self.traffic.work(plan.requests, plan.arm.error_ratio), plan.seed)


def plan_fleet(
    traffic: Traffic,
    *,
    workers: int = 5,
    canary: CanaryFate | None = None,
    canary_share: float = 0.2,
    seed: int = 0,
    faults: Faults = NO_FAULTS,
    step_every: int = 1,
) -> Fleet:
    """Divide a trace among workers. In its middle a canary takes the place of one of them.

    With five workers and a share of a fifth every engine has the same load all the time, so that a
    good canary has the latencies of its control. The worker that makes room answers what it has
    and stops; with fewer than three workers the canary comes on top. Requests that reach nobody
    because of a fault are left out.
    """
    traffic = faults.changed(traffic)
    from_us = traffic.trace.duration_us // 2
    to_canary = traffic.canary(from_us, canary_share if canary else 0.0)
    retired = round(workers * canary_share) if canary else 0
    later = traffic.trace.arrival_us >= from_us
    served_by = np.where(later, traffic.worker(workers - retired), traffic.worker(workers))
    served_by[to_canary] = -1
    served_by[faults.lost(served_by, traffic.trace.arrival_us)] = -1
    plans = [
        WorkerPlan(
            worker_id=f"worker-{k + 1}",
            arm=CONTROL,
            requests=np.flatnonzero(served_by == k),
            boot_us=0,
            seed=seed * 1000 + k,
            leaves=k >= workers - retired,
            hangs_us=faults.from_us if faults.silences(k) else None,
        )
        for k in range(workers)
    ]
    if canary:
        mine = np.flatnonzero(to_canary)
        boot_us = max(0, from_us - CANARY_BOOT_US)
        plans.append(WorkerPlan("canary-1", CANARIES[canary], mine, boot_us, seed * 1000 + 999))
    return Fleet(
        traffic=traffic,
        workers=tuple(plans),
        config=fitted(EngineConfig(), traffic.trace),
        price=PRICES[MODEL],
        canary_from_us=from_us if canary else None,
        canary_share=canary_share,
        faults=faults,
        step_every=step_every,
    )


def fitted(config: EngineConfig, trace: Trace) -> EngineConfig:
    """The same engine with as much device memory as the longest requests of a trace need."""
    longest = int((trace.input_tokens + trace.output_tokens).max())
    if longest * 2 <= config.kv_tokens:
        return config
    more = longest * 4 - config.kv_tokens
    memory = config.memory_bytes + more * config.kv_bytes_per_token
    return replace(config, kv_tokens=longest * 4, memory_bytes=memory)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What will happen, from running the simulation once without emitting anything.

    Attributes:
        end_us: when the last request ends, microseconds after the start of the trace.
        steps: engine steps in all.
        requests: by variant, one row per request; columns as in `MEASURED`, nan where a request
            has no such value; shape (n, len(MEASURED)).
        cpu_s: processor seconds that it took.
    """

    end_us: int
    steps: int
    requests: dict[str, Floats]
    cpu_s: float

    def column(self, variant: str, name: str, from_us: int = 0) -> Floats:
        """A measurement of a variant's requests that arrived from `from_us` on; without nans."""
        rows = self.requests[variant]
        later = rows[:, MEASURED.index("arrival_us")] >= from_us
        values: Floats = rows[later, MEASURED.index(name)]
        return values[~np.isnan(values)]

    def quantile(self, variant: str, name: str, q: float, from_us: int = 0) -> float:
        """Quantile of `column`."""
        return float(np.quantile(self.column(variant, name, from_us), q))


MEASURED = ("arrival_us", "cost_usd", "tokens", "queue_ms", "ttft_ms", "tpot_ms", "latency_ms")


def rehearse(fleet: Fleet) -> Rehearsal:
    """Run the simulation of a whole fleet as fast as it goes; half a second per worker and hour."""
    began = time.process_time()
    end_us = fleet.traffic.trace.duration_us
    steps = 0
    rows: dict[str, list[list[float]]] = {}
    for plan in fleet.workers:
        engine = fleet.engine(plan)
        into = rows.setdefault(plan.arm.variant, [])
        arrival_us = fleet.traffic.trace.arrival_us[plan.requests].tolist()
        until_us = 0
        while not engine.finished:
            until_us += 600_000_000  # in pieces, to keep few events in memory
            for ts_us, request, fields in engine.advance(until_us):
                end_us = max(end_us, ts_us)
                if request is None:
                    steps += 1
                else:
                    into.append([arrival_us[request], *_measure(fields, fleet.price)])
    arrays = {variant: np.array(row, float) for variant, row in rows.items()}
    return Rehearsal(end_us, steps, arrays, time.process_time() - began)


def _measure(fields: dict[str, float], price: Price) -> list[float]:
    tokens, generated = int(fields["input_tokens"]), int(fields["output_tokens"])
    cost = price.cost_usd(tokens, int(fields.get("cached_tokens", 0)), generated)
    return [cost, tokens + generated, *(fields.get(name, math.nan) for name in MEASURED[3:])]
