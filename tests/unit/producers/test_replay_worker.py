from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from penstock.producers.emitter import Emitter
from penstock.producers.fleet import (
    CANARY_BOOT_US,
    SETTLE_US,
    Fleet,
    WorkerPlan,
    plan_fleet,
    rehearse,
)
from penstock.producers.replay_worker import DEVICE_US, EventClock, Worker
from penstock.producers.settings import EmitterSettings
from penstock.producers.traces import bundled_trace
from penstock.producers.traffic import make_traffic
from penstock.schemas.frames import FrameHeader
from penstock.streams.core.decode import decode_frame

ORIGIN_US = 1_700_000_000_000_000
Row = dict[str, Any]


class Collected:
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        self.headers: list[FrameHeader] = []
        self.rows: dict[str, list[Row]] = {}

    def send(self, frames: list[bytes]) -> None:
        for frame in frames:
            batch = decode_frame(frame)
            self.headers.append(batch.header)
            self.rows.setdefault(batch.header.kind, []).extend(batch.table.to_pylist())

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        pass


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    trace = bundled_trace().head(240)
    return plan_fleet(make_traffic(trace, 2), workers=5, canary="slow", seed=2)


@pytest.fixture(scope="module")
def end_us(fleet: Fleet) -> int:
    return rehearse(fleet).end_us


def serve(
    fleet: Fleet, number: int, end_us: int, folder: Path, turn_us: int = 7_000_000
) -> tuple[Worker, Collected]:
    """Run one worker to the end and close it."""
    collected = Collected()

    def connect(plan: WorkerPlan, clock: EventClock) -> Emitter:
        settings = EmitterSettings(spool_dir=folder, flush_interval_s=60)
        return Emitter(
            transport=collected,
            worker_id=plan.worker_id,
            clock=clock,
            settings=settings,
            variant=plan.arm.variant,
            release=plan.arm.release,
        )

    worker = Worker(fleet, number, ORIGIN_US, end_us, connect)
    until_us = 0
    while until_us < end_us:
        until_us = min(until_us + turn_us, end_us)
        worker.advance(until_us)
        worker.flush()
        assert all(
            row["ts"] <= ORIGIN_US + until_us for rows in collected.rows.values() for row in rows
        )
    worker.settle()
    worker.close()
    return worker, collected


def test_a_worker_emits_its_share_in_order(fleet: Fleet, end_us: int, tmp_path: Path) -> None:
    worker, collected = serve(fleet, 0, end_us, tmp_path)
    requests = collected.rows["request"]
    assert len(requests) == len(worker.plan.requests)
    assert worker.report.emitted == {
        kind: len(rows) for kind, rows in collected.rows.items() if rows
    }
    assert worker.report.undelivered == 0
    for kind in ("request", "step"):
        times = [row["ts"] for row in collected.rows[kind]]
        assert times == sorted(times)
    for row in requests:
        assert row["ts"] >= ORIGIN_US
        assert row["variant"] == "control"
        assert row["latency_us"] == row["queue_us"] + row["prefill_us"] + (row["decode_us"] or 0)
    clocks = [header.clock_us for header in collected.headers]
    assert clocks == sorted(clocks)
    assert collected.headers[-1].closing


@pytest.mark.parametrize("number", [1, 4, 5])
def test_what_is_emitted_does_not_depend_on_turns(
    fleet: Fleet, end_us: int, tmp_path: Path, number: int
) -> None:
    def shown(collected: Collected) -> list[list[Row]]:
        hidden = ("seq", "boot_id")
        return [
            [{key: row[key] for key in row if key not in hidden} for row in rows]
            for kind, rows in sorted(collected.rows.items())
            if kind in ("request", "step", "feedback")
        ]

    _, coarse = serve(fleet, number, end_us, tmp_path, turn_us=60_000_000)
    _, fine = serve(fleet, number, end_us, tmp_path, turn_us=2_000_000)
    names = [{key for row in rows for key in row} for rows in shown(coarse)]
    for left, right, keys in zip(shown(coarse), shown(fine), names, strict=True):
        assert [[row.get(key) for key in keys] for row in left] == [
            [row.get(key) for key in keys] for row in right
        ]


@pytest.mark.parametrize(("number", "stage"), [(0, "full"), (5, "canary")])
def test_releases_are_announced(
    fleet: Fleet, end_us: int, tmp_path: Path, number: int, stage: str
) -> None:
    worker, collected = serve(fleet, number, end_us, tmp_path)
    [marker] = collected.rows["release"]
    at_us = fleet.canary_from_us if stage == "canary" else 0
    assert marker["ts"] == ORIGIN_US + (at_us or 0)
    assert marker["stage"] == stage
    assert marker["release"] == worker.plan.arm.release
    assert marker["variant_share"] == (0.2 if stage == "canary" else 1.0)


def test_a_canary_is_known_before_its_traffic(fleet: Fleet, end_us: int, tmp_path: Path) -> None:
    assert fleet.canary_from_us is not None
    _, collected = serve(fleet, 5, end_us, tmp_path)
    first = collected.rows["step"][0]
    assert first["kind"] == "device"
    assert first["ts"] == ORIGIN_US + fleet.canary_from_us - CANARY_BOOT_US
    assert min(row["ts"] for row in collected.rows["request"]) > ORIGIN_US + fleet.canary_from_us


def test_the_worker_that_makes_room_ends_early(fleet: Fleet, end_us: int, tmp_path: Path) -> None:
    worker, collected = serve(fleet, 4, end_us, tmp_path)
    assert worker.plan.leaves
    assert collected.headers[-1].closing
    assert collected.headers[-1].clock_us < ORIGIN_US + end_us - 30_000_000


def test_devices_are_read_at_fixed_times(fleet: Fleet, end_us: int, tmp_path: Path) -> None:
    _, collected = serve(fleet, 2, end_us, tmp_path)
    readings = [row for row in collected.rows["step"] if row["kind"] == "device"]
    assert [row["ts"] - ORIGIN_US for row in readings] == list(range(0, end_us, DEVICE_US))
    assert all(41 <= row["gpu_temperature_c"] <= 71 for row in readings)


def test_feedback_follows_its_request(fleet: Fleet, end_us: int, tmp_path: Path) -> None:
    answered: dict[str, int] = {}
    said: list[Row] = []
    for number in range(len(fleet.workers)):
        _, collected = serve(fleet, number, end_us, tmp_path, turn_us=60_000_000)
        answered |= {row["request_id"]: row["ts"] for row in collected.rows["request"]}
        said += collected.rows.get("feedback", [])
    assert len(answered) == len(fleet.traffic.trace)
    assert said
    for row in said:
        assert answered[row["request_id"]] + 2_000_000 <= row["ts"] <= ORIGIN_US + end_us


def test_the_clock_goes_on_after_the_end(fleet: Fleet, end_us: int, tmp_path: Path) -> None:
    _, collected = serve(fleet, 0, end_us, tmp_path)
    assert collected.headers[-1].clock_us == ORIGIN_US + end_us + SETTLE_US
