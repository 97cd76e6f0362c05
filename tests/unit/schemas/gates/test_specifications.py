"""What a specification of a gate may say, and what is refused with which advice."""

from typing import Any

import pytest
from penstock.schemas.gates import Gate
from penstock.schemas.gates.absolute import AbsoluteGate
from penstock.schemas.gates.base import Arm
from penstock.schemas.gates.budget import BudgetGate
from penstock.schemas.gates.canary import CanaryGate
from penstock.schemas.gates.rollback import RollbackGate
from penstock.streams.core.gates.canonical import spec_hash
from pydantic import TypeAdapter, ValidationError

GATE: TypeAdapter[Any] = TypeAdapter(Gate)
ARMS = {"control": {"variant": "control"}, "treatment": {"variant": "canary"}}
RATE = {"metric": "error_rate", "margin_ratio": 1.5}


def canary(*metrics: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": "c", "kind": "canary", **ARMS, "metrics": list(metrics) or [RATE], **fields}


def rollback(*limits: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "id": "r",
        "kind": "rollback",
        "treatment": {"release": "r2"},
        "limits": list(limits) or [{"metric": "error_rate", "max_ratio": 0.01}],
        **fields,
    }


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (canary(), CanaryGate),
        (rollback(), RollbackGate),
        ({"id": "b", "kind": "budget", "slo": "chat", "min_left_ratio": 0.1}, BudgetGate),
        (
            {
                "id": "a",
                "kind": "absolute",
                "metrics": [{"metric": "error_rate", "max_ratio": 0.01}],
            },
            AbsoluteGate,
        ),
    ],
)
def test_kind_tells_them_apart(data: dict[str, Any], kind: type) -> None:
    found = GATE.validate_python(data)
    assert type(found).__name__ == kind.__name__
    again = GATE.validate_json(found.model_dump_json())
    assert spec_hash(again) == spec_hash(found)


@pytest.mark.parametrize(
    ("data", "advice"),
    [
        (canary({"metric": "error_rate"}), "give either margin_ratio"),
        (canary({**RATE, "margin_absolute": 0.1}), "give either margin_ratio"),
        (canary({"metric": "error_rate", "margin_absolute": 2}), "share below 1"),
        (
            canary({"metric": "error_rate", "margin_absolute": 0.1, "floor_ratio": 0.1}),
            "floor_ratio goes with margin_ratio",
        ),
        (canary({"metric": "latency", "margin_absolute": 5}), "compared by ratio"),
        (canary({"metric": "latency", "margin_ratio": 1.005}), "at least 1.0101"),
        (canary({"metric": "cost_per_1k_tokens_usd", "margin_ratio": 1.1, "cap": 1}), "cap_tokens"),
        (
            canary({
                "metric": "cost_per_1k_tokens_usd", "margin_absolute": 0.1, "cap": 1, "cap_tokens": 9,
            }),
            "compared by margin_ratio",
        ),
        (canary({"metric": "quality", "margin_absolute": 2, "cap": 1}), "below cap"),
        (canary({"metric": "cost_usd", "margin_absolute": 0.1, "cap": 1}), "cap_margin_ratio"),
        (canary(RATE, RATE), "one entry per metric: error_rate"),
        (canary({**RATE, "critical": False}), "must be critical"),
        (canary(treatment={"variant": "control"}), "overlap"),
        (canary(treatment={"release": "r2"}), "overlap"),
        (canary(control={}), "at least one dimension"),
        (canary(block_s=15), "multiple of 10"),
        (rollback({"metric": "acceptance_drop"}), "needs a baseline arm"),
        (rollback({"metric": "error_rate", "max_ratio": 0.1, "critical": False}), "is critical"),
        (
            rollback(*[{"metric": "error_rate", "max_ratio": 0.1}] * 2),
            "one limit per metric: error_rate",
        ),
        ({"id": "x", "kind": "nonsense"}, "kind"),
    ],
)  # fmt: skip
def test_refused(data: dict[str, Any], advice: str) -> None:
    with pytest.raises(ValidationError, match=advice):
        GATE.validate_python(data)


def test_arms_may_span_models() -> None:
    found = GATE.validate_python(
        canary(control={"model": "a", "variant": "x"}, treatment={"model": "b", "variant": "x"})
    )
    assert found.control.given() == {"model": "a", "variant": "x"}
    assert Arm(model="a").overlaps(Arm(variant="x"))
    assert not Arm(model="a", variant="x").overlaps(Arm(model="b"))


def test_block_length_follows_what_is_counted() -> None:
    latency = {"metric": "latency", "margin_ratio": 1.1}
    assert GATE.validate_python(canary()).blocks_s == 10
    assert GATE.validate_python(canary(latency)).blocks_s == 30
    assert GATE.validate_python(canary({**latency, "unit": "request"})).blocks_s == 10
    assert GATE.validate_python(canary(latency, block_s=120)).blocks_s == 120
