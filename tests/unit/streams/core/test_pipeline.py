"""The whole path of an event against brute force, over weeks, disorder and crashes."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from penstock.schemas.config import Configuration
from penstock.streams.core import pipeline as pipeline_module
from penstock.tests.unit.streams.core.memory import MemoryStore
from penstock.tests.unit.streams.core.scenarios import Scenario, Shape
from penstock.tests.unit.streams.core.world import World

EXAMPLES = int(os.environ.get("PENSTOCK_EXAMPLES", "25"))
HORIZON_S = 60

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
    run(shape, Configuration.model_validate({"limits": bounds}))


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
