"""The shipped catalogue of alert rules: one YAML file per group, as `alerts.rules` holds them.

docs/alert-catalogue.md lists them; docs/runbooks/ has a page for each.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import resources

import yaml

from ..alerts.rules import AlertRule
from ..errors import InvalidConfiguration

GROUPS = (
    "latency",
    "errors",
    "traffic",
    "engine",
    "hardware",
    "availability",
    "quality",
    "cost",
    "penstock",
)


@cache
def _all() -> dict[str, AlertRule]:
    """Every rule by its id, group by group."""
    folder = resources.files(__package__)
    found: dict[str, AlertRule] = {}
    for group in GROUPS:
        for entry in yaml.safe_load((folder / f"{group}.yaml").read_text(encoding="utf-8")):
            page = f"docs/runbooks/{entry['id']}.md"
            rule = AlertRule.model_validate({"group": group, "runbook": page, **entry})
            assert rule.id not in found, rule.id
            found[rule.id] = rule
    return found


def catalogue_rules(names: Iterable[str] = (), groups: Iterable[str] = ()) -> tuple[AlertRule, ...]:
    """Rules of the catalogue, in its order: those named and those of the groups; all without either.

    Raises:
        InvalidConfiguration: no rule, or no group, has such a name.

    >>> [rule.id for rule in catalogue_rules(["error-rate-high"])]
    ['error-rate-high']
    """
    rules, wanted, chosen = _all(), set(names), set(groups)
    unknown = sorted((wanted - rules.keys()) | (chosen - set(GROUPS)))
    if unknown:
        raise InvalidConfiguration(f"the catalogue of alert rules has no {', '.join(unknown)}")
    everything = not wanted and not chosen
    return tuple(
        rule for rule in rules.values() if everything or rule.id in wanted or rule.group in chosen
    )
