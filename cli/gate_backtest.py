"""`penstock gate backtest`: what would a gate say of stored history, before it is switched on?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from .gate_asking import path_of, server_options
from .gate_file import gate_in
from .sources import Body, HttpSource

WIDTH, HEIGHT = 60, 8
_CHANGES = ("latency_times", "cost_times", "error_ratio", "safety_ratio")


def lines_of(answer: Body) -> Iterator[str]:
    """What a backtest found, for people.

    Args:
        answer: as POST /v1/gates/{id}/backtest gives it.
    """
    yield (
        f"{answer['gate']} ({answer['kind']}), {answer['mode']}: {answer['start']} to {answer['end']}, "
        f"{answer['units']:,} units in {answer['blocks']:,} blocks of {answer['block_s']} s"
    )
    if answer["runs"] is None:
        yield from _past(answer["past"])
    else:
        yield from _runs(answer, answer["runs"])


def _past(epochs: Sequence[Body]) -> Iterator[str]:
    for epoch in epochs:
        told = epoch["told"]
        after = "" if epoch["delay_s"] is None else f" after {epoch['delay_s']:,.0f} s"
        yield f"  {epoch['start']} {epoch['release'] or 'no marker'}: {told['verdict']}{after}"
        yield f"    {told['text']}"


def _runs(answer: Body, runs: Body) -> Iterator[str]:
    share = "" if runs["share"] is None else f", {percent(runs['share'], 0)} as the treatment"
    yield (
        f"  {runs['made']:,} runs of {runs['life_s']:,} s over {runs['lives']:,} stretches{share}, "
        f"seed {runs['seed']}"
    )
    if runs["made"] < runs["asked"]:
        yield f"  {runs['asked']:,} were asked for: the time was over, see --max-s"
    yield f"  {'verdict':<10}{'runs':>6}{'share':>10}   {'95 % interval':<20}half of all runs within"
    for line in runs["table"]:
        if line["runs"] or line["verdict"] in ("PASS", "FAIL"):
            yield _row(line)
    yield f"  {conclusion(answer)}"
    if runs["open_reasons"]:
        told = ", ".join(f"{reason} {count}" for reason, count in runs["open_reasons"].items())
        yield f"  without a decision: {told}"
    for verdict in ("PASS", "FAIL"):
        delays = next(line["delays_s"] for line in runs["table"] if line["verdict"] == verdict)
        if len(delays) * (HEIGHT - 1) >= runs["made"]:  # else it is a line along the bottom
            yield ""
            yield f"  share of runs that told {verdict}, over time"
            yield from curve(delays, runs["made"], float(runs["life_s"]))


def _row(line: Body) -> str:
    interval = f"{percent(line['low'])} to {percent(line['high'])}"
    within = ""
    if line["median_s"] is not None:
        low, high = line["median_low_s"], line["median_high_s"]
        within = f"{line['median_s']:,.0f} s"
        if low is not None:
            within += f" ({low:,.0f} to {'never' if high is None else f'{high:,.0f}'})"
    return f"  {line['verdict']:<10}{line['runs']:>6,}{percent(line['share']):>10}   {interval:<20}{within}".rstrip()


def percent(share: float, digits: int = 2) -> str:
    """A share for people.

    >>> percent(0.0123), percent(0.1, 0)
    ('1.23 %', '10 %')
    """
    return f"{share * 100:.{digits}f} %"


def conclusion(answer: Body) -> str:
    """What the share of FAIL means."""
    runs = answer["runs"]
    fail = next(line for line in runs["table"] if line["verdict"] == "FAIL")
    low, high = percent(fail["low"]), percent(fail["high"])
    interval = f"{percent(fail['share'])} ({low} to {high})"
    if answer["mode"] == "aa":
        alpha = answer["alpha_fail"]
        fits = "above" if fail["low"] > alpha else "which agrees with"
        return f"false alarms: {interval}, {fits} alpha_fail {percent(alpha)}"
    before = f"; {runs['early']:,} runs failed before the change" if runs["early"] else ""
    return f"power: {interval}{before}"


def curve(delays_s: Sequence[float], total: int, life_s: float) -> list[str]:
    """Share of runs that had told a verdict by a time, as lines of text.

    Args:
        delays_s: ascending.
        total: of all runs.
        life_s: where the time axis ends, or at the last delay if that is later.

    >>> print("\\n".join(curve([30.0, 60.0], 2, 60.0)[:2]))
      100 % ┤                                                           ●
            ┤
    """
    end_s = max([life_s, *delays_s])
    shares = [
        sum(delay <= end_s * (column + 1) / WIDTH for delay in delays_s) / total
        for column in range(WIDTH)
    ]
    rows = [round((1.0 - share) * (HEIGHT - 1)) for share in shares]
    lines = []
    for row in range(HEIGHT):
        label = {0: "100 %", HEIGHT - 1: "0 %"}.get(row, "")
        points = "".join("●" if at == row else " " for at in rows)
        lines.append(f"{label:>7} ┤{points}".rstrip())
    return [*lines, f"{'':>8}0 s{f'{end_s:,.0f} s':>{WIDTH - 2}}"]


def _body(mode: str, start: str, end: str, change: dict[str, float], **more: Any) -> Body:
    if (mode == "inject") != bool(change):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in _CHANGES)
        raise click.UsageError(f"--mode inject, and no other, takes a change: one of {names}")
    given = {name: value for name, value in more.items() if value is not None}
    return {"mode": mode, "start": start, "end": end, "change": change or None} | given


@click.command()
@server_options
@click.argument("gate_id", metavar="GATE")
@click.option("--from", "start", required=True, help="Start of the history: 2026-01-01T00:00:00Z")
@click.option("--to", "end", required=True, help="Its end.")
@click.option("--mode", type=click.Choice(["aa", "inject", "past"]), required=True)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file that has GATE, where the server does not have it yet.",
)
@click.option("--latency-times", type=click.FloatRange(0, 1000, min_open=True), help="Of inject.")
@click.option("--cost-times", type=click.FloatRange(0, 1000, min_open=True), help="Of inject.")
@click.option("--error-ratio", type=click.FloatRange(0, 1), help="Share that become errors.")
@click.option("--safety-ratio", type=click.FloatRange(0, 1), help="Share that get a safety flag.")
@click.option("--runs", default=200, show_default=True, type=click.IntRange(1, 5000))
@click.option(
    "--share", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Of the treatment."
)
@click.option(
    "--life-s", type=click.IntRange(1), help="Length of a run; the gate's deadline without."
)
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0))
@click.option("--max-s", default=60.0, show_default=True, type=click.FloatRange(1, 900))
@click.option("--json", "as_json", is_flag=True, help="The server's answer as JSON.")
def backtest(
    gate_id: str, url: str, api_key: str | None, config: Path | None, as_json: bool, **asked: Any
) -> None:
    """Run GATE over stored history.

    aa parts the traffic of one arm by a hash: every FAIL is a false alarm. inject makes one part
    worse: the share of FAIL is the power. past goes over the releases that there were.

    \b
    Example:
      penstock gate backtest chat-canary --url http://127.0.0.1:8080 \\
          --from 2026-01-01T00:00:00Z --to 2026-01-01T06:00:00Z --mode aa
      penstock gate backtest chat-canary --url http://127.0.0.1:8080 --config penstock.yaml \\
          --from 2026-01-01T00:00:00Z --to 2026-01-01T06:00:00Z --mode inject --error-ratio 0.01
    """
    change = {name: asked.pop(name) for name in _CHANGES}
    changes = {name: value for name, value in change.items() if value is not None}
    spec = None if config is None else gate_in(config, gate_id).model_dump(mode="json")
    body = _body(change=changes, spec=spec, **asked)
    source = HttpSource(url, api_key, timeout_s=asked["max_s"] + 600)
    answer = source.tell("POST", path_of(gate_id, "backtest"), body)
    if as_json:
        click.echo(json.dumps(answer))
        return
    for line in lines_of(answer):
        click.echo(line)
