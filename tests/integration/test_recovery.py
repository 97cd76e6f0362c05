"""Recovery on the real store: crashes between inserts, then windows against brute force."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from penstock.schemas.config import Configuration
from penstock.streams.core import pipeline as pipeline_module
from penstock.streams.storage.migrate import migrate
from penstock.streams.storage.store import Store
from penstock.tests.unit.streams.core.bruteforce import Row
from penstock.tests.unit.streams.core.memory import Crash
from penstock.tests.unit.streams.core.scenarios import (
    CRASHES,
    PUBLISH_CRASHES,
    SECOND,
    START_S,
    Scenario,
    Shape,
)
from penstock.tests.unit.streams.core.world import GATED, Sent, World

HORIZON_S = 60
START_US = START_S * SECOND


class CrashingStore(Store):
    """The store, dying before a named insert; what tests read of it as dictionaries."""

    crash_before: str | None = None

    def insert(self, name: str, rows: pa.Table, token: str) -> None:
        if name == self.crash_before:
            self.crash_before = None
            raise Crash(name)
        super().insert(name, rows, token)

    def expire(self, now_us: int) -> None:
        """Panes of 10 s are kept for two days: by the test's clock, for this store knows another."""
        limit = now_us // SECOND - 48 * 3600
        if limit > 0:
            old = f"pane_s = 10 AND toUnixTimestamp(pane_start) < {limit}"
            if self.query(f"SELECT 1 FROM penstock.panes_rows WHERE {old} LIMIT 1"):
                self.command(f"DELETE FROM penstock.panes_rows WHERE {old}")

    @property
    def raw(self) -> dict[str, list[Row]]:
        """Published rows of events."""
        columns = "boot_id, seq, overflow"
        return {
            f"{name}_rows": self.query(f"SELECT {columns} FROM penstock.{name}_rows FINAL")
            for name in ("requests", "steps")
        }

    @property
    def keyed(self) -> dict[str, dict[int, Row]]:
        """Rows that replace each other, as they are shown."""
        found: dict[str, dict[int, Row]] = {}
        for name, time in (
            ("windows", "end"),
            ("panes", "pane_start"),
            ("coverage", None),
            ("verdicts", "as_of"),
        ):
            rows = self.query(f"SELECT * FROM penstock.{name}_rows FINAL")
            if time is not None:
                rows = [row | {time: _utc(row[time])} for row in rows]
            found[f"{name}_rows"] = dict(enumerate(rows))
        return found


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CrashingStore]:
    monkeypatch.setattr(pipeline_module, "AMEND_S", HORIZON_S)
    monkeypatch.setattr(pipeline_module, "CATCH_UP_TICKS", 3)
    opened = CrashingStore(f"chdb://{tmp_path / 'db'}")
    try:
        migrate(opened)
        for table in opened.query(
            "SELECT name FROM system.tables WHERE database = 'penstock'"
            " AND name LIKE '%\\_rows' AND create_table_query LIKE '% TTL %'"
        ):
            opened.command(f"ALTER TABLE penstock.{table['name']} REMOVE TTL")
        yield opened
    finally:
        opened.close()


def request(at_s: float, **fields: Any) -> Row:
    return {
        "ts": START_US + int(at_s * SECOND), "model": "m1", "status": "ok", "request_id": f"r{at_s}",
        "latency_ms": 100 + at_s, "route": "/chat", "tenant": "t", "cost_usd": 0.001,
    } | fields  # fmt: skip


def step(at_s: float) -> Row:
    return {"ts": START_US + int(at_s * SECOND), "model": "m", "step_ms": 3.0 + at_s}


def sent(kind: str, seq0: int, rows: list[Row], clock_s: float, **fields: Any) -> Sent:
    boot = fields.pop("boot", "a")
    return Sent(kind, f"w-{boot}", boot, seq0, rows, START_US + int(clock_s * SECOND), **fields)


def tell_a_story(world: World, crash: str) -> None:
    """Two boots; a hole that is filled, late rows, feedback to a closed pane, and one crash."""

    def at(second: float) -> int:
        return START_US + int(second * SECOND)

    in_flush = crash if crash in CRASHES else None
    in_publish = crash if crash in PUBLISH_CRASHES else None
    world.deliver([sent("request", 0, [request(s) for s in range(5)], 5)], at(5))
    heartbeat = sent("control", 0, [], 25, boot="b", next_seq=4)
    world.deliver([sent("step", 5, [step(s) for s in (6, 12, 24)], 25), heartbeat], at(25.5))
    world.tick(at(26))
    # seq 8 and 9 are late and fill the hole that 10.. shows; boot b's tail comes after its heartbeat.
    world.deliver([sent("request", 10, [request(s) for s in (31, 45, 58)], 60)], at(60))
    world.deliver([sent("step", 0, [step(s) for s in (57, 58, 59)], 60, boot="b")], at(60))
    world.tick(at(61))
    judged = [{"ts": START_US, "request_id": f"r{s}", "accepted": s > 1} for s in (0, 2, 45)]
    late = [
        sent("request", 8, [request(7.5, status="error"), request(28.5)], 61),
        sent("feedback", 3, judged, 61, boot="b"),
    ]
    world.deliver(late, at(62), in_flush)
    if in_flush == "ledger":
        world.deliver(late, at(63))
    world.tick(at(63), in_publish)
    world.deliver(late, at(64))
    world.deliver([sent("request", 13, [request(s) for s in (66, 71)], 75)], at(75))
    world.deliver([sent("step", 6, [step(70)], 75, boot="b", closing=True)], at(75))
    world.tick(at(76), in_publish)


@pytest.mark.parametrize("crash", [*CRASHES, *PUBLISH_CRASHES, "none"])
def test_a_crash_between_inserts_loses_and_doubles_nothing(
    store: CrashingStore, crash: str
) -> None:
    world = World(store, Configuration.model_validate(GATED))
    tell_a_story(world, crash)
    world.settle()
    assert world.check(HORIZON_S) > 0
    world.restart()
    world.settle()
    world.check(HORIZON_S)
    counts = store.query(
        "SELECT (SELECT count() FROM penstock.requests) AS requests,"
        " (SELECT count() FROM penstock.steps) AS steps,"
        " (SELECT count() FROM penstock.feedback) AS feedback"
    )
    assert counts == [{"requests": 12, "steps": 7, "feedback": 3}]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 2, 3])
def test_random_traffic_and_crashes(store: CrashingStore, seed: int) -> None:
    shape = Shape(seed=seed, bursts=3, rows=15, disorder=0.4, restarts=0.3, crashes=0.4)
    world = World(store, Configuration.model_validate({"limits": {"max_slices": 3}} | GATED))
    for what, now_us, frames, crash in Scenario(shape).actions():
        if what == "deliver":
            world.deliver(frames, now_us, crash)
        elif what == "tick":
            world.tick(now_us, crash)
        else:
            world.restart()
    world.settle()
    world.check(HORIZON_S)
    world.restart()
    world.settle()
    world.check(HORIZON_S)
