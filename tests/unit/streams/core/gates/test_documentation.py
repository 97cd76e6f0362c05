"""The example of docs/gates.md is a configuration, and its reasons are the code's."""

import doctest
import re
from pathlib import Path
from types import ModuleType

import pytest
from penstock.schemas.config import parse
from penstock.schemas.errors import InvalidConfiguration
from penstock.streams.core.gates import boundaries, canonical, eprocess, verdict

GUIDE = Path(__file__).parents[5] / "docs" / "gates.md"


def test_example_parses() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    configuration = parse(example, str(GUIDE))
    assert [metric.name for metric in configuration.gates[0].metrics] == [
        "ttft_ms_p95",
        "latency_ms_p99",
        "error_rate",
        "safety_rate",
        "cost_per_1k_tokens_usd",
    ]


def test_every_reason_is_in_the_guide() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    assert [reason for reason in verdict.REASONS if f"`{reason}`" not in text] == []


@pytest.mark.parametrize("module", [boundaries, canonical, eprocess, verdict])
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
