"""The rule file that `penstock export prometheus-rules` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Literal

import yaml

from .prometheus_rules import Jobs, Rule, events, recorded, service
from .prometheus_workers import kafka, recorded_of_workers, workers

Form = Literal["embedded", "distributed"]


def rule_groups(form: Form, jobs: Jobs) -> dict[str, list[Rule]]:
    """Every rule, by the name of its group."""
    groups = {
        "penstock-recording": recorded(jobs),
        "penstock-service": service(jobs),
        "penstock-events": events(jobs),
    }
    if form == "distributed":
        groups["penstock-recording"] += recorded_of_workers(jobs)
        groups["penstock-workers"] = workers(jobs)
        groups["penstock-kafka"] = kafka(jobs)
    return groups


def rule_file(groups: Mapping[str, Sequence[Rule]], as_json: bool = False) -> str:
    """The text of a rule file; YAML, of which JSON is a part."""
    document = {
        "groups": [
            {"name": name, "rules": [rule.to_dict() for rule in rules]}
            for name, rules in groups.items()
        ]
    }
    if as_json:
        return json.dumps(document, indent=1) + "\n"
    return yaml.safe_dump(document, sort_keys=False, width=1000, allow_unicode=True)
