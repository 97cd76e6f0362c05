from __future__ import annotations

import re
from pathlib import Path

import penstock
from penstock.schemas.config import parse

GUIDE = Path(penstock.__file__).parent / "docs" / "alerts.md"


def test_the_examples_of_the_guide_are_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    sections = [parse(block).alerts for block in blocks]
    assert len(sections) == 2
    assert len(sections[0].rules) == 4
    assert len(sections[1].receivers) == 8
