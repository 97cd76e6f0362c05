"""Detectors on a running stream: the same alarms whatever crashes, each told once."""

from __future__ import annotations

import json

import pytest
from penstock.schemas.config import parse
from penstock.tests.unit.streams.core.memory import MemoryStore
from penstock.tests.unit.streams.signals.test_signals import (
    START_S,
    Story,
    Trouble,
    changes,
    run,
    traffic_of,
)

# Model b answers slowly from the thirteenth minute on.
CONFIGURATION = parse("""
drift:
  detectors:
    - id: slow
      metric: latency_ms_p50
      by: model
      detector: zscore
      options: {warm_up: 5, window: 1}
      hold_s: 60
""")


@pytest.fixture(scope="module")
def calm() -> MemoryStore:
    return run(configuration=CONFIGURATION, flush_s=20)


def test_an_alarm_fires_the_rule_that_the_detector_brings_along(calm: MemoryStore) -> None:
    (fired,) = changes(calm).values()
    assert (fired["rule_id"], fired["kind"]) == ("slow.alarm", "firing")
    assert dict(fired["labels"])["model"] == "b"
    assert int(fired["at"].timestamp()) == START_S + 13 * 60
    assert fired["value"] == pytest.approx(900, rel=0.01)
    assert fired["n"] == 60
    assert "zscore, warning" in fired["text"]


@pytest.mark.slow
@pytest.mark.parametrize("trouble", [Trouble(6, 0.3, 0.3), Trouble(7, 0.0, 1.0)], ids=str)
def test_crashes_and_restarts_change_nothing(calm: MemoryStore, trouble: Trouble) -> None:
    assert changes(run(trouble, CONFIGURATION, flush_s=20)) == changes(calm)


def test_the_checkpoint_names_a_state_and_does_not_hold_it(calm: MemoryStore) -> None:
    (row,) = calm.keyed["checkpoints_rows"].values()
    saved = json.loads(row["signals"])
    states = calm.keyed["drift_states_rows"]
    assert ("detectors/0", saved["detectors"]) in {
        (name, int(end.timestamp())) for name, end in states
    }
    assert "mean" not in row["signals"]


def test_a_detector_that_is_configured_anew_begins_anew() -> None:
    store = MemoryStore()
    with store.installed():
        story = Story(store, CONFIGURATION)
        for part in traffic_of(11, 20):
            story.flush(part)
        longer = CONFIGURATION.model_dump(mode="json")
        longer["drift"]["detectors"][0]["options"] = {"warm_up": 100, "window": 1}
        story.configuration = type(CONFIGURATION).model_validate(longer)
        story.restart()
        for part in traffic_of(14, 20):
            if part[0]["ts"] >= (START_S + 660) * 1_000_000:
                story.flush(part)
        story.end()
    assert changes(store) == {}
