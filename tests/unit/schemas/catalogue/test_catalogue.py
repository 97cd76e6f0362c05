"""The catalogue loads, its table is up to date, and what its pages say to configure is valid."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest
import yaml
from penstock.schemas.alerts.section import Alerts
from penstock.schemas.catalogue import GROUPS, catalogue_rules
from penstock.schemas.catalogue.table import markdown
from penstock.schemas.config import parse
from penstock.schemas.errors import InvalidConfiguration

DOCS = Path(__file__).parents[4] / "docs"


def test_every_group_has_rules_and_all_fit_into_one_configuration() -> None:
    rules = catalogue_rules()
    assert Alerts(rules=rules).rules == rules
    assert len(rules) >= 40
    assert tuple(dict.fromkeys(rule.group for rule in rules)) == GROUPS
    assert {rule.severity for rule in rules} == {"info", "warning", "critical"}
    assert all(rule.annotations["summary"] and rule.runbook for rule in rules)


def test_some_are_chosen_by_name_and_by_group() -> None:
    hardware = catalogue_rules(groups=["hardware"])
    assert [rule.id for rule in hardware if "cpu" in rule.id] == ["host-cpu-high"]
    both = catalogue_rules(["error-rate-high"], ["hardware"])
    assert [rule.id for rule in both][:1] == ["error-rate-high"]
    assert both[1:] == hardware
    with pytest.raises(InvalidConfiguration, match="has no nothing, nowhere"):
        catalogue_rules(["nowhere"], ["nothing"])


def test_the_table_is_made_from_the_rules() -> None:
    assert (DOCS / "alert-catalogue.md").read_text(encoding="utf-8") == markdown()


def test_entries_can_be_pasted_beside_what_their_signals_need() -> None:
    switch, text = re.findall(r"```yaml\n(.*?)```", markdown(), re.S)
    taken = parse(switch).rules
    assert {rule.group for rule in taken} == {"latency", "errors", "availability", "penstock"}
    assert not [rule for rule in taken if rule.id.startswith(("agent-", "online-"))]
    folder = resources.files("penstock.schemas.catalogue")
    entries = [
        entry
        for group in GROUPS
        for entry in yaml.safe_load((folder / f"{group}.yaml").read_text(encoding="utf-8"))
    ]
    known = parse(text + yaml.safe_dump({"alerts": {"rules": entries}}))
    pasted = {rule.id: rule.condition for rule in known.alerts.rules}
    assert pasted == {rule.id: rule.condition for rule in catalogue_rules()}
    # With these no objective and no budget brings a rule of its own along.
    assert {rule.group for rule in known.rules[len(pasted) :]} <= {"drift"}
