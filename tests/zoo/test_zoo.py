"""Every release of the zoo gets its right answer: live ones in the pure core, the others by command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from penstock.cli import main
from penstock.tests.zoo.case import CASES, Case, load, wrong
from penstock.tests.zoo.core import verdict_of
from penstock.tests.zoo.files import write

EXIT_CODES = {"PASS": 0, "FAIL": 1, "UNDECIDED": 2, "NO_DATA": 3, "INVALID": 3}
ALL = load()


def test_the_zoo_is_what_it_says() -> None:
    assert len(ALL) >= 40
    assert len([case for case in ALL if case.recorded]) >= 15
    assert {case.verdict for case in ALL} == {"PASS", "FAIL", "UNDECIDED", "NO_DATA", "INVALID"}
    assert len(list(CASES.iterdir())) == len(ALL)
    assert [case.id for case in ALL if case.core_only] == ["clock-skew"]


@pytest.mark.parametrize("case", [c for c in ALL if c.live], ids=lambda case: case.id)
def test_in_the_core(case: Case) -> None:
    told = verdict_of(case)
    assert not wrong(case, told.verdict, told.reasons, told.action), told.text


@pytest.mark.parametrize("case", [c for c in ALL if not c.live], ids=lambda case: case.id)
def test_on_files(case: Case, tmp_path: Path) -> None:
    config = tmp_path / "gates.yaml"
    config.write_text(yaml.safe_dump({"gates": [case.specification()]}))
    arguments = ["gate", "run", "--config", str(config), "--json"]
    for at, (name, recipe) in enumerate(case.files.items()):
        path = write(recipe, tmp_path, name, case.seed + at)
        arguments += [f"--{name}", str(path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code in EXIT_CODES.values(), result.output
    (told,) = json.loads(result.stdout)["gates"]
    assert not wrong(case, told["verdict"], told["reasons"], told["action"]), told["text"]
    assert result.exit_code == EXIT_CODES[case.verdict]
