"""Gates of every kind before anybody has evaluated them."""

from __future__ import annotations

from typing import Any

import pytest
from penstock.api.gates_verdicts import life_of, not_evaluated
from penstock.api.models import VerdictAnswer
from penstock.schemas.gates import Gate
from penstock.streams.core.gating import Epoch, Marker, marked_by
from pydantic import TypeAdapter

SECOND = 1_000_000
ARM = {"model": "m", "variant": "canary"}
SPECS: list[dict[str, Any]] = [
    {
        "kind": "absolute",
        "filter": ARM,
        "metrics": [{"metric": "error_rate", "max_ratio": 0.01}],
    },
    {
        "kind": "canary",
        "control": {"model": "m", "variant": "control"},
        "treatment": ARM,
        "metrics": [{"metric": "error_rate", "margin_ratio": 1.5}],
    },
    {
        "kind": "rollback",
        "treatment": ARM,
        "limits": [{"metric": "error_rate", "max_ratio": 0.01}],
    },
]
BUDGET = {"id": "g", "kind": "budget", "slo": "up", "min_left_ratio": 0.1}


def gate(spec: dict[str, Any]) -> Any:
    return TypeAdapter(Gate).validate_python(spec | {"id": "g"})


@pytest.mark.parametrize("spec", [*SPECS, BUDGET], ids=lambda spec: str(spec["kind"]))
def test_no_data_with_every_key_of_an_answer(spec: dict[str, Any]) -> None:
    told = not_evaluated(gate(spec), 100 * SECOND, Epoch(3, 90 * SECOND))
    shown = told | {"release": None, "epoch_started": None, "override": None}
    VerdictAnswer.model_validate(shown)
    assert set(shown) == set(VerdictAnswer.model_fields)
    assert (told["verdict"], told["action"], told["epoch"]) == ("NO_DATA", "wait", 3)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: str(spec["kind"]))
def test_markers_of_its_arm_begin_its_epochs(spec: dict[str, Any]) -> None:
    asked = gate(spec)
    assert marked_by(asked) == ARM
    markers = [
        Marker(10 * SECOND, ARM | {"release": "r1"}),
        Marker(20 * SECOND, {"model": "m", "variant": "control", "release": "r0"}),
        Marker(30 * SECOND, ARM | {"release": "r2"}),
        Marker(40 * SECOND, {}, "g"),
    ]
    assert life_of(asked, markers[:2]) == (Epoch(10, 10 * SECOND), "r1")
    assert life_of(asked, markers) == (Epoch(40, 40 * SECOND), "r2")
    assert life_of(asked, []) == (Epoch(), None)
    assert life_of(asked, [], stored=40) == (Epoch(40, 40 * SECOND), None)


def test_a_budget_goes_on_over_releases() -> None:
    assert life_of(gate(BUDGET), [Marker(10 * SECOND, ARM | {"release": "r1"})]) == (Epoch(), None)
