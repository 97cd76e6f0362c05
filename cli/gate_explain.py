"""`penstock gate explain`: what a verdict rests on, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click

from .gate_asking import amount, gate_of, path_of, server_options
from .gate_evidence import behind, statements
from .sources import Body, HttpSource

_ACTIONS = {
    "promote": "the release may go on",
    "rollback": "the release is to be taken back",
    "wait": "ask again: nothing is to be done yet",
    "hold": "leave it as it is until a person decides",
}
_POLICIES = {"block": "take it back", "allow": "let it go on", "hold": "leave it to a person"}


def explained(gate: Body, shown: Body) -> Iterator[str]:
    """The lines of an explanation.

    Args:
        gate: as /v1/gates answers it: specification and newest verdict.
        shown: as /v1/gates/{id}/evidence answers it: the rows behind the newest stored verdict.
    """
    told = gate["latest"]
    release = told["release"] or "no release marker seen"
    yield f"{gate['id']}: {told['verdict']} -> {told['action']}, {_ACTIONS[told['action']]}"
    yield f"  release {release}, epoch {told['epoch']}, {told['n']:,} requests up to {told['as_of']}"
    order = told["override"]
    if order is not None:
        yield f"  overridden by {order['who']} until {order['until']}: {order['reason']}"
    yield from _why(told)
    yield from _known(told)
    if shown["epoch"] == told["epoch"]:
        yield from behind(shown)
    yield from _next(gate["spec"], told)


def _why(told: Body) -> Iterator[str]:
    from ..streams.core.gates.verdict import REASONS

    yield "Why"
    for reason in told["reasons"]:
        meaning = {str(name): text for name, text in REASONS.items()}.get(reason, "")
        yield f"  {reason}: {meaning}"
    for check in told.get("checks", []):
        yield f"  check {check['check']}: {'holds' if check['ok'] else 'does not hold'}"


def _known(told: Body) -> Iterator[str]:
    if told["evidence"]:
        yield "What is known"
    for item in told["evidence"]:
        unit = item["unit"]
        advisory = "" if item["critical"] else ", advisory: it does not decide"
        yield f"  {item['metric']} {item['declared']}: {item['decision']}{advisory}"
        low, high = amount(item["low"], unit), amount(item["high"], unit)
        yield (
            f"    {amount(item['estimate'], unit)} over {item['n']:,} units; "
            f"{low} to {high} at {item['confidence'] * 100:.4g} %, however often it is asked"
        )
        fail = _strength(item["log10_e_fail"], item["threshold_fail"])
        passing = _strength(item["log10_e_pass"], item["threshold_pass"])
        yield f"    evidence for FAIL {fail}, for PASS {passing}"
        if item["n_needed"] is not None and item["decision"] == "UNDECIDED":
            yield f"    about {item['n_needed']:,} more units until one of them is shown"


def _strength(log10_e: float, threshold: float) -> str:
    """How much of the evidence that it takes is there.

    >>> _strength(1.0, 2.0), _strength(2.5, 2.0)
    ('1:10 of 1:100 needed', '1:316 of 1:100 needed')
    """
    return f"1:{10 ** min(log10_e, 300.0):.3g} of 1:{10**threshold:.3g} needed"


def _next(spec: Body, told: Body) -> Iterator[str]:
    yield "What happens next"
    if told["verdict"] in ("PASS", "FAIL"):
        yield "  it stays so until a new release or a reset begins the next epoch"
        return
    if told["eta_s"] is not None:
        yield f"  a decision in about {told['eta_s']:,.0f} s at the current traffic"
    deadline_s = spec.get("deadline_s")
    if deadline_s is None:
        yield "  no deadline: it waits for as long as it is asked"
        return
    undecided = _POLICIES[spec["on_undecided_at_deadline"]]
    missing = _POLICIES[spec["on_no_data"]]
    yield f"  {deadline_s:,} s after the epoch began: undecided, {undecided}; no data, {missing}"


@click.command()
@server_options
@click.argument("gate_id", metavar="GATE")
@click.option("--sql", "as_sql", is_flag=True, help="Only the SQL that shows the numbers.")
@click.option(
    "--json", "as_json", is_flag=True, help="Gate, verdict and the rows behind it as JSON."
)
def explain(gate_id: str, as_sql: bool, as_json: bool, url: str, api_key: str | None) -> None:
    """What the newest verdict of GATE rests on: reasons, evidence, rows, what happens next.

    \b
    Example:
      penstock gate explain chat-canary --url http://127.0.0.1:8080
      penstock gate explain chat-canary --url http://127.0.0.1:8080 --sql | clickhouse-client -n
    """
    source = HttpSource(url, api_key)
    gate = gate_of(source, gate_id)
    shown = source.ask(path_of(gate_id, "evidence"))
    if as_json:
        click.echo(json.dumps(gate | {"shown": shown}))
        return
    for line in statements(shown) if as_sql else explained(gate, shown):
        click.echo(line)
