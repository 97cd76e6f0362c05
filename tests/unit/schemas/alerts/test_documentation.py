from __future__ import annotations

import re
from pathlib import Path

import penstock
import yaml
from penstock.schemas.alerts.section import Alerts

GUIDE = Path(penstock.__file__).parent / "docs" / "alerts.md"


def test_the_examples_of_the_guide_are_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    sections = [Alerts.model_validate(yaml.safe_load(block)["alerts"]) for block in blocks]
    assert len(sections) == 2
    assert len(sections[0].rules) == 5
    assert len(sections[1].receivers) == 8
