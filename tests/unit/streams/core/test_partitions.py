"""Partitions, processors and shards under every kind of trouble, against brute force."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from penstock.schemas.config import Configuration
from penstock.streams.core import pipeline as pipeline_module
from penstock.tests.unit.streams.core.kafka_world import run
from penstock.tests.unit.streams.core.memory import MemoryStore
from penstock.tests.unit.streams.core.scenarios import Scenario, Shape

EXAMPLES = int(os.environ.get("PENSTOCK_EXAMPLES", "16"))
HORIZON_S = 60

shapes = st.builds(
    Shape,
    seed=st.integers(0, 2**32),
    bursts=st.integers(1, 5),
    rows=st.integers(1, 30),
    days=st.sampled_from((1, 3)),
    disorder=st.sampled_from((0.0, 0.3)),
    repeats=st.sampled_from((0.0, 0.3)),
    losses=st.sampled_from((0.0, 0.1)),
    restarts=st.sampled_from((0.0, 0.3)),
    crashes=st.sampled_from((0.0, 0.3)),
    feedback=st.sampled_from((0.0, 0.2)),
)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(shape=shapes, trouble=st.sampled_from((0.0, 0.3)))
def test_every_window_equals_brute_force_over_partitions(
    shape: Shape, trouble: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_module, "AMEND_S", HORIZON_S)
    monkeypatch.setattr(pipeline_module, "CATCH_UP_TICKS", 3)
    actions = Scenario(shape).actions()
    run(MemoryStore(), actions, Configuration(), shape.seed, trouble, HORIZON_S)
