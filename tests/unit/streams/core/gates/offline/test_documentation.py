"""Examples of the modules run, and the guide names only what there is."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest
from penstock.schemas.gates.offline import Statistic
from penstock.streams.core.gates.offline import (
    compare,
    conclude,
    means,
    parity,
    ranks,
    series,
    shadow,
    stability,
)
from penstock.streams.core.gates.reasons import REASONS
from penstock.streams.gate_files.histograms import FIELDS

GUIDE = Path(__file__).parents[6] / "docs" / "gates-in-ci.md"


@pytest.mark.parametrize(
    "module", [compare, conclude, means, parity, ranks, series, shadow, stability]
)
def test_examples(module: ModuleType) -> None:
    told = doctest.testmod(module)
    assert (told.failed, told.attempted > 0) == (0, True)


def test_the_guide_names_reasons_and_fields_that_there_are() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    table = text.split("## Kinds")[1].split("- **Parity.**")[0]
    rows = [line.split("|")[3] for line in table.splitlines() if line.startswith("| ")][1:]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert len(named) > 10
    assert named <= set(REASONS)
    assert "per_s" in get_args(Statistic)


def test_the_guide_names_fields_as_the_reader_does() -> None:
    text = GUIDE.read_text(encoding="utf-8").split("- **Fields.**")[1].split("- **Series**")[0]
    pairs = re.findall(r"`(\w+_seconds)` is\s+`(\w+_ms)`", text)
    assert len(pairs) == 4
    assert all(FIELDS[name] == field for name, field in pairs)
    assert "`bucket_too_wide`" in GUIDE.read_text(encoding="utf-8")
