"""Partitions, processors and shards under every kind of trouble, against brute force."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from penstock.schemas.config import Configuration
from penstock.schemas.frames import FrameHeader, encode_frame
from penstock.streams.core import pipeline as pipeline_module
from penstock.streams.core.tiles import SECOND_US
from penstock.streams.kafka.messages import StartAgain
from penstock.tests.unit.streams.core.kafka_world import PARTITIONS, KafkaWorld, run
from penstock.tests.unit.streams.core.memory import MemoryStore
from penstock.tests.unit.streams.core.scenarios import Scenario, Shape
from penstock.tests.unit.streams.core.world import GATED

EXAMPLES = int(os.environ.get("PENSTOCK_EXAMPLES", "8"))
HORIZON_S = 60
NOW_US = 1_780_000_000 * SECOND_US

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


@pytest.mark.slow
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
    configuration = Configuration.model_validate(GATED)
    run(MemoryStore(), actions, configuration, shape.seed, trouble, HORIZON_S)


def test_a_frame_at_home_in_a_partition_that_was_added_is_not_taken_elsewhere() -> None:
    """Its boot would be followed in two places, and what is repeated would count twice."""
    header = FrameHeader(
        kind="step", worker_id="w", boot_id="b", seq0=0, count=1, next_seq=1,
        clock_us=NOW_US, home=PARTITIONS,
    )  # fmt: skip
    store = MemoryStore()
    with store.installed():
        world = KafkaWorld(store, Configuration(), 1, 0.0)
        world.now_us = NOW_US
        world._append(2, encode_frame(header, [{"ts": world.now_us, "step": 1}]), {})
        processor = world.owner[2]
        assert processor is not None
        world.grown_to = PARTITIONS + 1
        with pytest.raises(StartAgain, match="more than 4 partitions"):
            world._pump(processor)
        assert store._ledger() == []
        world.grown_to = PARTITIONS  # then the sender is wrong, and its boot lives where all agree
        world._pump(processor)
        assert [entry.kind for entry, _ in store._ledger()] == ["forwarded"]
        assert [len(log) for log in world.logs] == [1, 0, 1, 0]
