"""The whole path of an event against brute force, over weeks, disorder and crashes."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from penstock.schemas.config import Configuration
from penstock.streams.core import pipeline as pipeline_module
from penstock.tests.unit.streams.core.memory import MemoryStore
from penstock.tests.unit.streams.core.scenarios import START_S, Scenario, Shape
from penstock.tests.unit.streams.core.world import GATED, Sent, World

EXAMPLES = int(os.environ.get("PENSTOCK_EXAMPLES", "16"))  # more: PENSTOCK_EXAMPLES=500
HORIZON_S = 60
START_US = START_S * 1_000_000

shapes = st.builds(
    Shape,
    seed=st.integers(0, 2**32),
    bursts=st.integers(1, 6),
    rows=st.integers(1, 40),
    days=st.sampled_from((1, 3, 35)),
    disorder=st.sampled_from((0.0, 0.1, 0.5)),
    repeats=st.sampled_from((0.0, 0.2)),
    losses=st.sampled_from((0.0, 0.1)),
    restarts=st.sampled_from((0.0, 0.2)),
    crashes=st.sampled_from((0.0, 0.2)),
    feedback=st.sampled_from((0.0, 0.2)),
)
limits = st.sampled_from(({}, {"max_slices": 2, "max_tenants": 2}))


@pytest.fixture(autouse=True)
def _short_horizons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer windows are rewritten, so that more scenarios fit."""
    monkeypatch.setattr(pipeline_module, "AMEND_S", HORIZON_S)
    monkeypatch.setattr(pipeline_module, "CATCH_UP_TICKS", 3)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(shape=shapes, bounds=limits)
def test_every_window_equals_brute_force(shape: Shape, bounds: dict[str, int]) -> None:
    run(shape, Configuration.model_validate({"limits": bounds} | GATED))


def run(shape: Shape, configuration: Configuration) -> int:
    store = MemoryStore()
    with store.installed():
        world = World(store, configuration)
        for what, now_us, frames, crash in Scenario(shape).actions():
            if what == "deliver":
                world.deliver(frames, now_us, crash)
            elif what == "tick":
                world.tick(now_us, crash)
            else:
                world.restart()
        world.settle()
        compared = world.check(HORIZON_S)
        world.restart()
        world.settle()
        return compared + world.check(HORIZON_S)


REGRESSIONS = {
    "accuracy of feedback without labels": Shape(20, 6, 10, 3, 0.5, 0, 0.1, 0, 0, 0.2),
    "cells counted again after a restart": Shape(80, 3, 26, 7, 0.5, 0.2, 0.1, 0.3, 0.4, 0.2),
    "late rows of expired panes": Shape(2011, 5, 35, 35, 0.5, 0.2, 0, 0.3, 0.3, 0.3),
    "boots not stored before a long absence": Shape(7, 2, 7, 35, 0, 0, 0.1, 0, 0, 0),
    "a minute cut by a long absence": Shape(2015, 6, 5, 35, 0.5, 0, 0, 0.3, 0.3, 0.3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REGRESSIONS)
def test_scenarios_that_once_failed(name: str) -> None:
    run(REGRESSIONS[name], Configuration())


def seconds(at_s: float) -> int:
    return START_US + int(at_s * 1_000_000)


def test_a_pane_that_held_only_a_loss_is_emptied_in_the_store_too() -> None:
    """A heartbeat announces rows; its pane closes; the rows come; memory is rebuilt."""
    store = MemoryStore()
    rows = [{"ts": seconds(5), "status": "ok"}] * 4
    with store.installed():
        world = World(store)
        heartbeat = Sent("control", "w", "b", 0, (), seconds(15), next_seq=4)
        world.deliver([heartbeat], seconds(15))
        world.tick(seconds(50))  # the boot fell silent
        world.deliver([Sent("request", "w", "b", 0, rows, seconds(51), 4)], seconds(52))
        world.tick(seconds(53))
        world.restart()
        world.settle()
        world.check(HORIZON_S)


def test_late_rows_wait_for_a_cell_through_a_crash() -> None:
    """The watermark stands still while a late row is published, and the process dies."""
    store = MemoryStore()
    with store.installed():
        world = World(store)
        rows = [{"ts": seconds(at), "status": "ok"} for at in (1, 20)]
        world.deliver([Sent("request", "w", "b", 0, rows, seconds(25), 2)], seconds(25))
        world.tick(seconds(25))
        late = [{"ts": seconds(3), "status": "ok"}]
        world.deliver([Sent("request", "w", "b", 2, late, seconds(25), 3)], seconds(25.2))
        world.tick(seconds(25.5))
        assert world.pipeline.waiting
        world.restart()
        assert world.pipeline.waiting
        world.settle()
        world.check(HORIZON_S)


def test_offsets_never_go_below_the_checkpoint() -> None:
    store = MemoryStore()
    with store.installed():
        world = World(store)
        rows = [{"ts": seconds(1), "status": "ok"}]
        world.deliver([Sent("request", "w", "b", 0, rows, seconds(5), 1)], seconds(5))
        world.tick(seconds(8))
        before = world.next_offset
        del store.facts["frames_rows"]  # an older copy of the ledger
        world.restart()
        assert world.next_offset >= before


def test_nothing_closes_before_there_is_anything() -> None:
    store = MemoryStore()
    with store.installed():
        world = World(store)
        world.tick(seconds(1))
        assert world.pipeline.closed_s is None
        assert not world.ingestion.tracker.watermark_us
        assert store.inserts == 0
