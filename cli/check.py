"""`penstock check`: whether a penstock.yaml is right, and what it defines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..schemas.config import Configuration


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@click.option("--quiet", "-q", is_flag=True, help="Say only whether it is valid.")
@click.pass_context
def check(ctx: click.Context, config: Path, as_json: bool, quiet: bool) -> None:
    """Validate a penstock.yaml as a whole and list what it defines.

    Exit code 1 with every mistake, each with its line.

    \b
    Example:
      penstock check penstock.yaml
      penstock check penstock.yaml --json | jq -r '.defines.slos[].id'
    """
    import json

    from ..schemas.config import load
    from ..schemas.errors import InvalidConfiguration

    try:
        found = load(config)
        defined = defines(found)
    except InvalidConfiguration as error:
        if not as_json:
            raise
        click.echo(json.dumps({"valid": False, "errors": str(error).splitlines()}))
        ctx.exit(1)
    if as_json:
        document = {"valid": True, "errors": [], "defines": defined, "notes": [*_notes(found)]}
        click.echo(json.dumps(document))
        return
    counts = ", ".join(f"{len(items)} {_words(name)}" for name, items in defined.items() if items)
    click.echo(f"{config} is valid: {counts or 'the defaults'}")
    for line in () if quiet else _lines(defined):
        click.echo(line)
    for note in () if quiet else _notes(found):
        click.echo(f"note: {note}")


Item = Mapping[str, Any]


def _alerting(found: Configuration) -> dict[str, list[Item]]:
    """Alert rules, who is told, and what keeps them quiet."""
    from ..schemas.alerts.routing import secrets_of
    from ..schemas.catalogue.table import sentence

    written = {rule.id for rule in found.alerts.rules}
    shipped = {rule.id for rule in found.catalogue_rules}
    return {
        "alert_rules": [
            _item(rule.id, f"{rule.severity}, {rule.condition.kind}")
            for rule in found.rules
            if rule.id in written
        ],
        "catalogue_alert_rules": [
            _item(rule.id, f"{rule.severity}, {sentence(rule)}") for rule in found.catalogue_rules
        ],
        "implied_alert_rules": [
            _item(rule.id, f"{rule.severity}, {rule.condition.kind}")
            for rule in found.rules
            if rule.id not in written | shipped
        ],
        "receivers": [_item(one.name, one.kind) for one in found.alerts.receivers],
        "secrets": [
            _item(name, f"of {one.name}")
            for one in found.alerts.receivers
            for name in secrets_of(one)
        ],
        "silences": [
            _item(one.id, f"until {one.ends_at:%Y-%m-%dT%H:%M:%SZ}, {one.reason}")
            for one in found.alerts.silences
        ],
        "maintenance_windows": [_item(one.id, one.reason) for one in found.alerts.maintenance],
    }


def defines(found: Configuration) -> dict[str, list[Item]]:
    """What a configuration defines, by kind: an id each, and `what` for people.

    Raises:
        InvalidConfiguration: two limits would be counted under the same number.
    """
    from ..schemas.gates.budget import BudgetGate
    from ..schemas.gates.rollback import RollbackGate
    from ..schemas.slo.objective import Objective
    from ..streams.core.configured import configured_counters

    configured_counters(found)
    return {
        "gates": [
            _item(gate.id, gate.kind)
            if isinstance(gate, BudgetGate | RollbackGate)
            else _item(gate.id, ", ".join(metric.name for metric in gate.metrics))
            for gate in found.gates
        ],
        "slos": [
            _item(slo.id, f"{slo.declared}, {slo.window}")
            if isinstance(slo, Objective)
            else _item(slo.id, f"all of {', '.join(slo.of)}")
            for slo in found.objectives
        ],
        **_alerting(found),
        "drift_monitors": [_item(one.id, "") for one in found.drift.monitors],
        "detectors": [_item(one.id, "") for one in found.drift.detectors],
        "prices": [
            _item(price.model, f"from {price.valid_from:%Y-%m-%d}") for price in found.costs.prices
        ],
        "budgets": [
            _item(one.id, f"{one.usd} USD per {one.period}") for one in found.costs.budgets
        ],
        "spend_limits": [
            _item(one.id, f"{one.usd} USD per {one.by} in {one.window_s} s")
            for one in found.costs.spend_limits
        ],
        "forecasts": [_item(one.id, one.load) for one in found.costs.forecasts],
    }


def _item(name: str, what: str) -> Item:
    return {"id": name, "what": what}


def _words(kind: str) -> str:
    return kind.replace("_", " ").replace("implied alert rules", "alert rules of SLOs and budgets")


def _lines(defined: Mapping[str, Sequence[Item]]) -> Iterator[str]:
    for kind, items in defined.items():
        if items:
            yield f"{_words(kind)}:"
        for item in items:
            yield f"  {item['id']:28} {item['what']}".rstrip()


def _notes(found: Configuration) -> Iterator[str]:
    """What is no mistake, and worth knowing."""
    from ..schemas.slo.objective import Objective

    for slo in found.objectives:
        if isinstance(slo, Objective):
            for reason in slo.left_out:
                yield f"{slo.id}: {reason}"
    if found.left_out:
        names = ", ".join(rule.id for rule in found.left_out)
        yield f"rules of the catalogue left out, because nothing computes their signal: {names}"
    if found.rules and not found.alerts.receivers:
        yield "alerts are stored and shown, but nobody is told: there are no receivers"
