"""The examples of docs/slos.md are configurations, its states and factors the code's."""

import doctest
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from penstock.schemas.slo.burn import WORKBOOK, rule_of
from penstock.schemas.slo.presets import PRESETS
from penstock.schemas.slo.section import SloSection, objectives_of
from penstock.streams.core.slo.status import STATES
from pydantic import TypeAdapter

GUIDE = (Path(__file__).parents[5] / "docs" / "slos.md").read_text(encoding="utf-8")
SECTION: TypeAdapter[Any] = TypeAdapter(SloSection)
MODULES = [
    *(f"schemas.slo.{name}" for name in ("base", "burn")),
    *(
        f"streams.core.slo.{name}"
        for name in ("burn", "detector", "ledger", "period", "readings", "report")
    ),
]


def test_examples_are_accepted() -> None:
    short, openslo = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    found = [
        item.id
        for text in (short, openslo)
        for item in objectives_of(SECTION.validate_python(yaml.safe_load(text)["slos"]))
    ]
    assert found == [
        "chat-availability",
        "chat-ttft",
        "chat-finished",
        "chat",
        "agents-latency-p95",
        "agents-latency-p99",
        "agents-success",
        "agents-overall",
        "chat-errors",
    ]


def test_states_presets_and_factors_are_in_the_guide() -> None:
    for state, meaning in STATES.items():
        assert f"| `{state}` | {meaning} |" in GUIDE
    assert [name for name in PRESETS if f"| `{name}` |" not in GUIDE] == []
    for rate in WORKBOOK:
        factors = [float(rule_of(rate, w).factor) for w in ("30d", "28d", "7d", "quarter")]
        assert " | ".join(f"{round(factor, 3):g}" for factor in factors) in GUIDE


@pytest.mark.parametrize("module", MODULES)
def test_docstrings(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"penstock.{module}"))
    assert result.failed == 0
    assert result.attempted > 0
