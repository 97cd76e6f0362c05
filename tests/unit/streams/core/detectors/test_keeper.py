"""Detectors of windows: which slices, which values, what is told, and what survives a restart."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from penstock.schemas.config import parse
from penstock.schemas.drift.detectors import SeriesDetector
from penstock.schemas.errors import InvalidConfiguration
from penstock.streams.core.alerts.machine import key_of
from penstock.streams.core.detectors import keeper as module
from penstock.streams.core.detectors.keeper import RESET, DetectorKeeper, check_detectors
from penstock.streams.core.pipeline import WindowRows
from penstock.streams.core.slices import Slice, SliceRegistry
from penstock.streams.core.windows import Ints

MODELS = ("a", "b", "c")


def registry() -> SliceRegistry:
    made = SliceRegistry(10, 10)
    for name in MODELS:
        made.number(Slice("model", (name,)))
    return made


def spec(**more: Any) -> SeriesDetector:
    given: dict[str, Any] = {
        "id": "d", "metric": "error_rate", "by": "model", "detector": "zscore",
        "options": {"warm_up": 3, "window": 1}, "hold_s": 60,
    }  # fmt: skip
    return SeriesDetector.model_validate(given | more)


def keeper(*specs: SeriesDetector, saved: Any = None, **more: Any) -> DetectorKeeper:
    return DetectorKeeper(specs or (spec(),), registry(), more.get("owns", lambda _: True), saved)


def told(
    made: DetectorKeeper, at_s: int, values: dict[str, float], requests: int = 10
) -> dict[str, tuple[bool | None, float | None]]:
    """Readings by model, of windows in which models have these values."""

    def windows(length_s: int, end_s: int, slices: Ints) -> WindowRows:
        known = {made._members.key(number): number for number in slices.tolist()}
        rows = sorted((known[key_of({"model": name})], value) for name, value in values.items())
        columns = {
            "error_rate": np.array([value for _, value in rows]),
            "requests": np.full(len(rows), requests),
        }
        return WindowRows(
            length_s, end_s, np.array([number for number, _ in rows], np.int64), columns
        )

    found = made.evaluate(at_s, windows)
    assert all((one.kind, one.id, one.at_s) == ("detector", "d", at_s) for one in found)
    return {one.labels["model"]: (one.breach, one.value) for one in found}


def test_an_alarm_holds_for_a_while() -> None:
    made = keeper()
    for at in range(1, 6):
        assert told(made, at * 60, {"a": 0.01, "b": 0.02})["a"] == (False, 0.01)
    assert told(made, 360, {"a": 0.5, "b": 0.02}) == {"a": (True, 0.5), "b": (False, 0.02)}
    assert told(made, 420, {"a": 0.5, "b": 0.02})["a"] == (True, 0.5)
    assert told(made, 480, {"a": 0.5, "b": 0.02})["a"] == (False, 0.5)


def test_windows_with_little_or_no_value_are_left_out() -> None:
    made = keeper(spec(min_requests=10))
    assert told(made, 60, {"a": float("nan"), "b": 0.1}) == {"b": (False, 0.1)}
    assert told(made, 120, {"a": 0.1}, requests=9) == {}
    assert [*made.state["d"]["series"]] == ['{"model":"b"}']


def test_moments_are_ends_of_windows() -> None:
    both = keeper(spec(), spec(id="e", window="5m"))
    assert both.moments(60, 300) == [120, 180, 240, 300]
    assert keeper(spec(window="5m")).moments(0, 900) == [300, 600, 900]
    assert both.moments(60, 60) == []


def test_a_restart_changes_nothing_and_a_new_configuration_says_so() -> None:
    whole, again = keeper(), keeper()
    for at in range(1, 9):
        values = {"a": 0.5 if at == 7 else 0.01}
        again = keeper(saved=json.loads(json.dumps(again.state)))
        assert told(again, at * 60, values) == told(whole, at * 60, values)
        assert again.state == whole.state
    held = keeper(spec(hold_s=5), saved=whole.state)
    assert held.state["d"]["series"] == whole.state["d"]["series"]
    changed = keeper(spec(options={"warm_up": 4, "window": 1}), saved=whole.state)
    assert changed.state["d"]["series"] == {}
    windows = WindowRows(
        60, 600, changed._members.of(changed._watches["d"])[:1],
        {"error_rate": np.array([0.1]), "requests": np.array([10])},
    )  # fmt: skip
    (first,) = changed.evaluate(600, lambda *_: windows)
    (second,) = changed.evaluate(660, lambda *_: windows)
    assert RESET in first.note
    assert RESET not in second.note
    # What is no longer configured is forgotten.
    assert keeper(spec(id="other"), saved=whole.state).state["other"]["series"] == {}


def test_slices_are_those_of_the_filter_that_are_owned(monkeypatch: pytest.MonkeyPatch) -> None:
    owned = keeper(owns=lambda item: item.values == ("b",))
    assert len(owned._members.of(owned._watches["d"])) == 1
    one = keeper(spec(filter={"model": "c"}, by=None))
    assert told(one, 60, {"c": 0.1}) == {"c": (False, 0.1)}
    monkeypatch.setattr(module, "MOST_SLICES", 2)
    assert told(keeper(), 60, {"a": 0.1, "b": 0.1, "c": 0.1}).keys() == {"a", "b"}


@pytest.mark.parametrize("saved", [{"d": {}}, {"d": 1}])
def test_what_is_no_state_is_refused(saved: Any) -> None:
    with pytest.raises(ValueError, match="not the state of detectors"):
        keeper(saved=saved)


@pytest.mark.parametrize(
    ("options", "message"),
    [("{window: 0}", "window >= 1"), ("{windows: 3}", "windows"), ("{window: many}", "d: ")],
)
def test_options_are_checked_before_anything_runs(options: str, message: str) -> None:
    text = f"drift: {{detectors: [{{id: d, metric: error_rate, detector: zscore, options: {options}}}]}}"
    with pytest.raises(InvalidConfiguration, match=message):
        check_detectors(parse(text))


def test_metrics_and_slices_that_do_not_go_together_are_refused() -> None:
    text = "drift: {detectors: [{id: d, metric: steps, filter: {route: /a}}]}"
    with pytest.raises(InvalidConfiguration, match="steps have no route"):
        parse(text)
