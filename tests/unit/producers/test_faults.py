"""Faults change what they are about, from their begin on, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from penstock.producers.emitter import Emitter
from penstock.producers.faults import (
    DEARER,
    ERROR_RATIO,
    FAULTS,
    UNSAFE_RATIO,
    FaultName,
    Faults,
)
from penstock.producers.fleet import Fleet, WorkerPlan, plan_fleet, rehearse
from penstock.producers.replay_worker import EventClock, Worker
from penstock.producers.settings import EmitterSettings
from penstock.producers.traces import bundled_trace
from penstock.producers.traffic import SAFETY_RATIO, Traffic, make_traffic
from penstock.streams.core.decode import decode_frame

HEAD_S = 600
PLAIN = make_traffic(bundled_trace().head(HEAD_S), seed=3)
DURATION_US = PLAIN.trace.duration_us
ORIGIN_US = 1_700_000_000_000_000


def faults(*names: FaultName) -> Faults:
    return Faults.of(names, DURATION_US)


def later(traffic: Traffic) -> Any:
    return traffic.trace.arrival_us >= faults().from_us


@pytest.mark.parametrize("name", FAULTS)
def test_what_happens_before_is_the_same(name: FaultName) -> None:
    changed = faults(name).changed(PLAIN)
    before = ~later(PLAIN)
    for field in ("failure", "error", "fail_after", "cost_factor", "draws", "cached_tokens"):
        assert np.array_equal(getattr(changed, field)[before], getattr(PLAIN, field)[before])


def test_a_share_of_the_requests_fails_for_one_reason() -> None:
    changed = faults("errors").changed(PLAIN)
    here = later(PLAIN)
    fails = changed.work(np.flatnonzero(here), 0.005).fail_after >= 0
    assert fails.mean() == pytest.approx(ERROR_RATIO, abs=0.03)
    more = here & (changed.failure != PLAIN.failure)
    assert set(changed.error[more]) == {0}


def test_answers_are_unsafe_and_requests_dearer() -> None:
    changed = faults("safety", "cost").changed(PLAIN)
    here = later(PLAIN)
    assert (changed.draws[here, 2] < SAFETY_RATIO).mean() == pytest.approx(UNSAFE_RATIO, abs=0.015)
    assert set(changed.cost_factor[here]) == {DEARER}
    assert set(changed.cost_factor[~here]) == {1.0}


def test_routes_drift() -> None:
    routes, moved = PLAIN.routes(), faults("drift").changed(PLAIN).routes()
    assert routes.total() == moved.total() == len(PLAIN.trace)
    assert moved["agent"] > 2 * routes["agent"]
    assert moved["rag"] < routes["rag"]


def test_only_requests_that_reach_somebody_are_served() -> None:
    whole, without, silent = (
        plan_fleet(PLAIN, workers=3, faults=faults(*names))
        for names in ((), ("outage",), ("silent-worker",))
    )
    arrival_us, from_us = PLAIN.trace.arrival_us, faults().from_us
    for plan, cut, hung in zip(whole.workers, without.workers, silent.workers, strict=True):
        early = plan.requests[arrival_us[plan.requests] < from_us]
        assert np.array_equal(cut.requests, early)
        hangs = plan.worker_id == "worker-1"
        assert np.array_equal(hung.requests, early if hangs else plan.requests)
        assert hung.hangs_us == (from_us if hangs else None)
        assert cut.hangs_us is None
    assert without.is_healthy(from_us - 1)
    assert not without.is_healthy(from_us)
    assert whole.is_healthy(from_us)


@pytest.mark.slow
def test_decoding_gets_slow_in_the_middle() -> None:
    plain, slow = (
        rehearse(plan_fleet(PLAIN, workers=5, faults=faults(*names))) for names in ((), ("slow",))
    )
    from_us = faults().from_us
    early = [r.requests["control"][:, 0] + 60e6 < from_us for r in (plain, slow)]
    assert np.array_equal(
        plain.requests["control"][early[0]], slow.requests["control"][early[1]], equal_nan=True
    )
    ratio = slow.quantile("control", "tpot_ms", 0.5, from_us) / plain.quantile(
        "control", "tpot_ms", 0.5, from_us
    )
    assert 1.8 < ratio < 2.4


def emitted(fleet: Fleet, number: int, folder: Path) -> list[dict[str, Any]]:
    """Rows of one worker, the clock of its last frame added to each."""
    rows: list[dict[str, Any]] = []

    class Collected:
        def send(self, frames: list[bytes]) -> None:
            for frame in frames:
                batch = decode_frame(frame)
                rows.extend(
                    row | {"event": batch.header.kind, "clock_us": batch.header.clock_us}
                    for row in batch.table.to_pylist()
                )

        def close(self) -> None:
            pass

        def abandon(self) -> None:
            pass

    def connect(plan: WorkerPlan, clock: EventClock) -> Emitter:
        settings = EmitterSettings(spool_dir=folder, flush_interval_s=60)
        return Emitter(
            transport=Collected(), worker_id=plan.worker_id, clock=clock, settings=settings
        )

    worker = Worker(fleet, number, ORIGIN_US, DURATION_US, connect)
    for until_us in (DURATION_US // 2, DURATION_US):
        worker.advance(until_us)
        worker.flush()
    worker.settle()
    worker.close()
    return rows


def test_a_worker_that_hangs_says_nothing_and_its_clock_stands(tmp_path: Path) -> None:
    fleet = plan_fleet(PLAIN, workers=3, faults=faults("silent-worker"))
    from_us = ORIGIN_US + faults().from_us
    rows = emitted(fleet, 0, tmp_path)
    assert max(row["ts"] for row in rows) <= from_us
    assert max(row["clock_us"] for row in rows) <= from_us
    others = emitted(fleet, 1, tmp_path)
    assert max(row["ts"] for row in others) > from_us


def test_in_an_outage_devices_say_that_nothing_is_healthy(tmp_path: Path) -> None:
    fleet = plan_fleet(PLAIN, workers=3, faults=faults("outage"))
    rows = emitted(fleet, 0, tmp_path)
    from_us = ORIGIN_US + faults().from_us
    readings = [row for row in rows if row.get("kind") == "device"]
    assert all(row["healthy_replicas"] == (row["ts"] < from_us) for row in readings)
    assert readings[-1]["healthy_replicas"] == 0


def test_some_engine_steps_are_told_and_everything_else(tmp_path: Path) -> None:
    fleets = [plan_fleet(PLAIN, workers=3, step_every=number) for number in (10, 1)]
    some, every = (emitted(fleet, 0, tmp_path) for fleet in fleets)

    def steps(rows: list[dict[str, Any]]) -> list[int]:
        return [row["step"] for row in rows if row.get("kind") == "engine"]

    assert steps(some) == [step for step in steps(every) if step % 10 == 0]
    told = [sum(row["event"] == "request" for row in rows) for rows in (some, every)]
    assert told[0] == told[1] > 0.9 * len(fleets[0].workers[0].requests)
