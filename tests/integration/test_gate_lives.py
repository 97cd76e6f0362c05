"""Canary gates over a real store: blocks are read once, verdicts are audited, epochs outlive markers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
import pyarrow as pa
import pytest
from penstock.schemas.config import Configuration
from penstock.schemas.gates.canary import CanaryGate
from penstock.streams.audit.gates import check_gates
from penstock.streams.audit.report import Report, Scope
from penstock.streams.core.gates.canonical import spec_hash
from penstock.streams.core.gates.replay import replayed
from penstock.streams.core.gating import Marker
from penstock.streams.core.pipeline import Closing
from penstock.streams.core.shard import Shard
from penstock.streams.gates.inputs import stored_blocks
from penstock.streams.gates.live import LiveKeeper
from penstock.streams.storage.store import Store
from penstock.tests.support.rows import T0
from penstock.tests.support.store import insert, opened_store

SECOND = 1_000_000
START_S = int(T0.timestamp())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with opened_store(tmp_path_factory.mktemp("gates")) as found:
        yield found


@dataclass
class Clocked:
    """What a keeper asks of its shard."""

    watermark_us: int = 0
    applied: dict[tuple[int, int], int] = field(default_factory=lambda: {(1, 0): 1 << 40})
    version: tuple[int, int] = (1, 1)


class World:
    """One gate, whose arms are its own, and its traffic."""

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self.shard = Clocked()
        self.dimensions = {"variant": f"canary-{name}"}
        self.spec = CanaryGate.model_validate({
            "id": name, "kind": "canary", "block_s": 60, "mature_s": 10, "min_units": 1,
            "control": {"variant": f"control-{name}"}, "treatment": self.dimensions,
            "metrics": [{"metric": "error_rate", "margin_ratio": 1.5}],
        })  # fmt: skip
        self._serial = itertools.count()

    def keeper(self, markers: Sequence[Marker] = ()) -> LiveKeeper:
        """As a process begins."""
        shard = cast(Shard, self.shard)
        return LiveKeeper(self.store, self.spec, shard, markers, lambda _: 1.0, self._write)

    def marker(self, second: int, release: str = "r") -> Marker:
        """Of a release of the treatment."""
        return Marker((START_S + second) * SECOND, self.dimensions | {"release": release})

    def traffic(self, start_s: int, end_s: int, ahead_s: int = 0) -> None:
        """A request of each arm every second."""
        rows = [
            {
                "ts": float(START_S + second), "boot_id": f"{self.spec.id}-{arm}", "seq": second,
                "variant": f"{arm}-{self.spec.id}", "worker_id": f"w-{arm}", "status": "ok",
                "request_id": f"{self.spec.id}-{arm}-{second}", "latency_us": 1000,
                "clock_ahead_us": ahead_s * SECOND, "incarnation": 1, "offset": second,
            }
            for second in range(start_s + 1, end_s)
            for arm in ("control", "canary")
        ]  # fmt: skip
        insert(self.store, "requests_rows", rows)

    def judge(self, keeper: LiveKeeper, second: int) -> Any:
        """The answer once event time is so far; it is stored, as the judge of a shard does."""
        self.shard.watermark_us = (START_S + second) * SECOND
        self.shard.version = (1, second)
        verdict = keeper.judge(Closing())
        assert verdict is not None
        row = {
            "gate_id": self.spec.id, "epoch": verdict.epoch, "as_of": float(START_S + second),
            "version": second, "verdict": verdict.verdict, "spec_hash": verdict.spec_hash,
            "state": keeper.state_to_store(), "engine": verdict.engine,
            "evidence": orjson.dumps(verdict.to_dict()).decode(),
        }  # fmt: skip
        insert(self.store, "verdicts_rows", [row])
        return verdict

    def _write(self, name: str, rows: pa.Table) -> None:
        self.store.insert(name, rows, f"{self.spec.id}-{next(self._serial)}")


def test_blocks_that_are_not_counted_are_read_once_too(store: Store) -> None:
    """Else every evaluation would read all of them again, and write over what the last one knew."""
    world = World(store, "skewed")
    world.traffic(0, 120, ahead_s=300)
    world.traffic(120, 240)
    markers = [world.marker(0)]
    keeper = world.keeper(markers)
    told = [world.judge(keeper, second) for second in (75, 135, 195)]
    # Later evaluations do not look back at the blocks whose clocks were wrong.
    assert [verdict.verdict for verdict in told][:2] == ["INVALID", "INVALID"]
    assert told[0].reasons == told[1].reasons == ("clock_skew",)
    assert (told[2].verdict, "clock_skew" in told[2].reasons) == ("UNDECIDED", False)
    again = world.keeper(markers)
    assert again.verdict == told[2]
    told.append(world.judge(again, 255))
    epoch = START_S
    blocks = stored_blocks(store, world.spec.id, epoch, spec_hash(world.spec))
    assert len(blocks) == 4
    found = [verdict for _, verdict in replayed(world.spec, epoch, blocks, START_S * SECOND)]
    assert [verdict.to_dict() for verdict in found] == [verdict.to_dict() for verdict in told]


def audited(store: Store, spec: CanaryGate, now_s: int, **changes: Any) -> Report:
    report = Report()
    scope = Scope(now_s * SECOND, 0, 0, {}, {}, 1, frozenset(), since=False)
    gates = (spec.model_copy(update=changes),)
    check_gates(store, Configuration(gates=gates), scope, report)
    return report


def test_an_audit_computes_verdicts_again(store: Store) -> None:
    world = World(store, "audited")
    world.traffic(0, 240)
    keeper = world.keeper([world.marker(0)])
    for second in (75, 195, 255):
        world.judge(keeper, second)
    spec, now_s = world.spec, START_S + 300
    held = audited(store, spec, now_s)
    assert (held.findings, held.checked["verdicts"]) == ([], 3)
    # One that cannot be computed again is no finding.
    for report in (
        audited(store, spec, now_s, min_units=2),
        audited(store, spec, now_s + 400 * 86_400),
    ):
        assert (report.findings, report.checked["verdicts"]) == ([], 0)
        assert any("audited" in note for note in report.notes)
    # A block of an evaluation is lost: the first verdict still holds, the others do not.
    lost = f"gate_id = '{spec.id}' AND end = fromUnixTimestamp({START_S + 180})"
    store.command(f"DELETE FROM penstock.gate_inputs_rows WHERE {lost}")
    found = audited(store, spec, now_s).findings
    assert [one.check for one in found] == ["verdicts"] * 2
    assert all(f"gate {spec.id}, epoch {START_S}" in one.subject for one in found)


def test_an_epoch_outlives_its_marker(store: Store) -> None:
    world = World(store, "outliving")
    # Of a version that counted epochs from 1.
    counted = {"gate_id": world.spec.id, "epoch": 3, "as_of": float(START_S), "version": 1}
    insert(store, "verdicts_rows", [counted | {"spec_hash": spec_hash(world.spec)}])
    world.traffic(0, 360)
    keeper = world.keeper([world.marker(-600, "old"), world.marker(30)])
    first = world.judge(keeper, 195)
    assert first.epoch == START_S + 30
    # Older markers expire, then all of them do: for who goes on, and for who begins.
    n = first.n
    for markers, second in (([world.marker(30)], 255), ([], 315)):
        keeper.enter_epoch(markers)
        assert keeper.verdict == first
        told = world.judge(world.keeper(markers), second)
        assert (told.epoch, told.n > n) == (first.epoch, True)
        n = told.n
    assert world.judge(world.keeper([world.marker(240, "new")]), 375).epoch == START_S + 240
