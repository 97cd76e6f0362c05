"""The example of docs/gates.md is a configuration, and its reasons are the code's."""

import doctest
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from penstock.schemas.config import parse
from penstock.schemas.errors import InvalidConfiguration
from penstock.schemas.gates import Gate
from penstock.schemas.gates import metrics as schema_metrics
from penstock.schemas.gates.absolute import AbsoluteGate
from penstock.streams.core.gates import (
    boundaries,
    bounded,
    canonical,
    dependence,
    eprocess,
    interface,
    packing,
    paired,
    quantiles,
    sample_ratio,
    two_arm,
    verdict,
    watch_state,
)
from pydantic import TypeAdapter

GUIDE = Path(__file__).parents[5] / "docs" / "gates.md"


def examples() -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


def test_example_parses() -> None:
    configuration = parse(examples()[0], str(GUIDE))
    (spec,) = configuration.gates
    assert isinstance(spec, AbsoluteGate)
    assert [metric.name for metric in spec.metrics] == [
        "ttft_ms_p95",
        "latency_ms_p99",
        "error_rate",
        "safety_rate",
        "cost_per_1k_tokens_usd",
    ]


def test_every_example_is_a_gate() -> None:
    gate: TypeAdapter[Any] = TypeAdapter(Gate)
    found = [
        gate.validate_python(spec) for text in examples() for spec in yaml.safe_load(text)["gates"]
    ]
    assert [spec.kind for spec in found] == ["absolute", "canary", "rollback"]
    inline = re.findall(r"`(\{id: .*?\})`", GUIDE.read_text(encoding="utf-8"))
    assert [gate.validate_python(yaml.safe_load(text)).kind for text in inline] == ["budget"]


def test_every_reason_is_in_the_guide() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    assert [reason for reason in verdict.REASONS if f"`{reason}`" not in text] == []


@pytest.mark.parametrize(
    "module",
    [
        bounded, boundaries, canonical, dependence, eprocess, interface, packing, paired, quantiles,
        sample_ratio, schema_metrics, two_arm, verdict, watch_state,
    ],
)  # fmt: skip
def test_docstrings(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ("[{metric: error_rate, max_ratio: 0.1, critical: false}]", "must be critical"),
        (
            "[{metric: error_rate, max_ratio: 0.1}, {metric: error_rate, max_ratio: 0.2}]",
            "one limit per metric: error_rate",
        ),
        ("[{metric: latency, max_ms: 5, quantile: 1}]", "less than or equal to"),
    ],
)
def test_gates_that_could_not_decide_are_refused(metrics: str, message: str) -> None:
    with pytest.raises(InvalidConfiguration, match=message):
        parse(f"gates: [{{id: a, metrics: {metrics}}}]")
