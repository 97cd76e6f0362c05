"""`penstock gate audit`: gates that tell nobody anything, found in their own history."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Literal

import click

from .gate_asking import gate_of, path_of, server_options
from .sources import Body, HttpSource

MANY_EPOCHS = 10  # releases from which on "never" says something
FEW_EPOCHS = 3
FLAPS = 4  # no data, undecided, decided, and back once: more than that is flapping
Kind = Literal[
    "never_failed", "never_measured", "always_undecided", "flapping", "limit_inside_noise"
]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a gate that makes its verdicts worth less.

    Attributes:
        gate, kind: of which gate, what.
        text: with the numbers, and what to do.
    """

    gate: str
    kind: Kind
    text: str


def findings(gate_id: str, epochs: Sequence[Body]) -> Iterator[Finding]:
    """What the history of a gate says about the gate.

    Args:
        gate_id: the gate.
        epochs: as /v1/gates/{id}/epochs answers them.
    """
    measured = [one for one in epochs if set(one["seen"]) - {"NO_DATA", "INVALID"}]
    decided = [one for one in measured if one["verdict"] in ("PASS", "FAIL")]
    if epochs and not measured:
        yield Finding(
            gate_id,
            "never_measured",
            f"in {len(epochs)} epochs nothing was measured: does its filter match any traffic, do "
            "the events carry its metrics?",
        )
    if len(measured) >= FEW_EPOCHS and not decided:
        yield Finding(
            gate_id,
            "always_undecided",
            f"none of {len(measured)} epochs was decided: the traffic is too little for its limits; "
            "widen a margin, raise the share, or give it more time",
        )
    if len(decided) >= MANY_EPOCHS and all(one["verdict"] == "PASS" for one in decided):
        yield Finding(
            gate_id,
            "never_failed",
            f"all of {len(decided)} decided epochs passed (a FAIL share above "
            f"{3 / len(decided):.0%} is unlikely): are its limits tight enough to find anything?",
        )
    yield from _flapping(gate_id, epochs)
    yield from _noise(gate_id, measured)


def _flapping(gate_id: str, epochs: Sequence[Body]) -> Iterator[Finding]:
    restless = [one for one in epochs if one["changes"] > FLAPS]
    if restless:
        worst = max(restless, key=lambda one: int(one["changes"]))
        yield Finding(
            gate_id,
            "flapping",
            f"the verdict changed {worst['changes']} times in epoch {worst['epoch']} "
            f"({len(restless)} such epochs): traffic or coverage comes and goes; raise min_units",
        )


def _noise(gate_id: str, measured: Sequence[Body]) -> Iterator[Finding]:
    """Limits that the metric's own ups and downs cross."""
    by_metric: dict[str, list[Body]] = {}
    for one in measured:
        for item in one["told"]["evidence"]:
            if item["critical"] and item["estimate"] is not None:
                by_metric.setdefault(item["metric"], []).append(item)
    for metric, items in by_metric.items():
        limit = items[0]["limit"]
        values = [float(item["estimate"]) for item in items if item["limit"] == limit]
        if len(values) < FEW_EPOCHS:
            continue
        mean, sd = statistics.fmean(values), statistics.stdev(values)
        near = sum(_is_near(item) for item in items)
        if abs(limit - mean) <= sd or 2 * near > len(items):
            yield Finding(
                gate_id,
                "limit_inside_noise",
                f"{metric}: over {len(values)} epochs {mean:.4g} with a spread of {sd:.4g}, and the "
                f"limit is {limit:.4g}: chance decides; move the limit out of the spread",
            )


def _is_near(item: Body) -> bool:
    """Whether a share is within a standard error of its limit."""
    if item["unit"] != "ratio" or not item["n"]:
        return False
    limit = float(item["limit"])
    error = sqrt(limit * (1 - limit) / item["n"]) if 0 < limit < 1 else 0.0
    return bool(abs(item["estimate"] - limit) <= error)


@click.command()
@server_options
@click.argument("gates", metavar="[GATE]...", nargs=-1)
@click.option("--epochs", default=50, show_default=True, type=click.IntRange(1, 200))
@click.option("--fail-on-finding", is_flag=True, help="Exit code 1 where something was found.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document and nothing else.")
@click.pass_context
def audit(
    ctx: click.Context,
    /,
    gates: tuple[str, ...],
    epochs: int,
    fail_on_finding: bool,
    as_json: bool,
    url: str,
    api_key: str | None,
) -> None:
    """Gates that never failed, never measured, never decided, flap, or have a limit inside the noise.

    Looks at the newest --epochs releases of each gate; without GATE, at all of them.

    \b
    Example:
      penstock gate audit --url http://127.0.0.1:8080
      penstock gate audit chat-canary --url http://127.0.0.1:8080 --json --fail-on-finding
    """
    source = HttpSource(url, api_key)
    names = [gate_of(source, name)["id"] for name in gates] or [
        gate["id"] for gate in source.ask("/v1/gates")["gates"]
    ]
    found: list[Finding] = []
    looked = {}
    for name in names:
        history = source.ask(path_of(name, "epochs"), limit=epochs)["epochs"]
        looked[name] = len(history)
        found += findings(name, history)
    if as_json:
        click.echo(json.dumps({"epochs": looked, "findings": [asdict(one) for one in found]}))
    else:
        for one in found:
            click.echo(f"{one.gate}: {one.kind}: {one.text}")
        click.echo(f"{len(names)} gates, {sum(looked.values())} epochs, {len(found)} findings")
    ctx.exit(1 if fail_on_finding and found else 0)
