"""The training gate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from penstock.schemas.gates.training import TrainingGate
from penstock.streams.core.gates.offline import training
from penstock.streams.core.gates.offline.changes import find_change
from penstock.streams.core.gates.offline.series import Run
from pydantic import ValidationError

from .build import training as learns

METRICS = [
    {"metric": "loss", "margin_ratio": 1.1},
    {"metric": "grad_norm", "margin_ratio": 1.5},
    {"metric": "step_ms", "margin_ratio": 1.1},
    {"metric": "mfu", "margin_ratio": 1.1},
]


def gate(**more: Any) -> TrainingGate:
    return TrainingGate.model_validate({"id": "training", "metrics": METRICS, **more})


def test_a_run_that_learns_passes() -> None:
    told = training.evaluate(gate(), Run(learns()))
    assert (told.verdict, told.reasons) == ("PASS", ("within_margins",))


def test_a_run_that_never_trained_never_passes() -> None:
    constant = learns() | {"loss": np.full(1000, 10.4)}
    told = training.evaluate(gate(), Run(constant))
    assert (told.verdict, told.reasons) == ("FAIL", ("never_trained",))
    for seed in range(5):
        noise = np.random.default_rng(seed).normal(10.4, 0.3, 1000)
        assert training.evaluate(gate(), Run(learns() | {"loss": noise})).verdict != "PASS"


def test_a_loss_that_jumps_up_again_is_found_where_it_did() -> None:
    run = learns(2, noise=0.03)
    run["loss"][600:] *= 1.6
    told = training.evaluate(gate(), Run(run))
    assert (told.verdict, told.reasons) == ("FAIL", ("training_changed",))
    assert 570 <= told.evidence[1]["detail"]["changed_at"] <= 630


@pytest.mark.parametrize(("name", "factor"), [("step_ms", 1.4), ("mfu", 0.7), ("grad_norm", 3.0)])
def test_a_change_for_the_worse_fails_and_for_the_better_does_not(name: str, factor: float) -> None:
    run = learns(3)
    run[name][500:] *= factor
    assert training.evaluate(gate(), Run(run)).reasons == ("training_changed",)
    run[name][500:] /= factor**2
    assert training.evaluate(gate(), Run(run)).verdict == "PASS"


def test_a_slow_slide_is_found() -> None:
    run = learns(4)
    run["step_ms"] *= np.linspace(1.0, 1.5, 1000)
    assert training.evaluate(gate(), Run(run)).reasons == ("training_changed",)


def test_a_loss_that_is_no_number_is_a_run_that_diverged() -> None:
    run = learns()
    run["loss"][700:] = np.inf
    told = training.evaluate(gate(), Run(run))
    assert (told.verdict, told.reasons[0]) == ("FAIL", "diverged")
    assert "loss of the run is no finite number at 701" in told.text


def test_what_was_never_measured_never_passes() -> None:
    run = learns()
    del run["mfu"]
    assert training.evaluate(gate(), Run(run)).reasons == ("metric_missing",)
    assert training.evaluate(gate(), Run({})).verdict == "NO_DATA"
    assert training.evaluate(gate(), Run(learns(n=390))).reasons == ("few_units",)


def test_steps_that_never_came_are_no_data() -> None:
    told = training.evaluate(gate(), Run(learns(), expected=1100))
    assert (told.verdict, told.reasons) == ("NO_DATA", ("low_coverage",))
    assert training.evaluate(gate(), Run(learns(), expected=1010)).verdict == "PASS"


def test_a_negative_loss_may_fall_too() -> None:
    run = learns() | {"loss": -3 - learns()["loss"][::-1]}
    assert training.evaluate(gate(), Run(run)).verdict == "PASS"
    run["loss"] = run["loss"][::-1].copy()
    assert training.evaluate(gate(), Run(run)).verdict == "FAIL"


def test_a_change_within_the_margin_is_none() -> None:
    g = np.random.default_rng(6)
    blocks = np.concatenate([g.normal(100, 0.5, 50), g.normal(104, 0.5, 50)])
    assert find_change(blocks, "lower", 1.01).log_e > 5
    assert find_change(blocks, "lower", 1.1).log_e < 0
    assert find_change(blocks, "higher", 1.01).log_e < 0
    assert find_change(blocks[:6], "lower", 1.01).log_e < 0


@pytest.mark.slow
def test_false_alarms() -> None:
    """200 steady series of 100 blocks, alpha .05."""
    g = np.random.default_rng(9)
    alarms = sum(
        find_change(np.exp(g.normal(0, 0.2, 100)), "lower", 1.0).log_e >= np.log(20)
        for _ in range(200)
    )
    assert alarms / 200 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_specifications() -> None:
    own = {"metric": "reward", "margin_ratio": 1.1}
    with pytest.raises(ValidationError, match="direction of reward"):
        gate(metrics=[own])
    assert gate(metrics=[own | {"direction": "higher"}]).metrics[0].better == "higher"
    with pytest.raises(ValidationError, match="margin_ratio"):
        gate(metrics=[{"metric": "loss"}])
