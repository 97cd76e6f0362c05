"""`penstock gate replay`: are stored verdicts what their evidence gives?"""

from __future__ import annotations

import json
from collections.abc import Iterator

import click

from .gate_asking import path_of, server_options
from .sources import Body, HttpSource

_SHOWN = 3


def lines_of(answer: Body) -> Iterator[str]:
    """One line of result, and what differs.

    Args:
        answer: as /v1/gates/{id}/replay gives it.
    """
    differing = answer["verdicts"] - answer["same"]
    result = "the same to the last byte" if not differing else f"{differing:,} differ"
    yield (
        f"{answer['gate']}: epoch {answer['epoch']}, {answer['verdicts']:,} stored verdicts "
        f"computed again: {result}"
    )
    for pair in answer["differing"][:_SHOWN]:
        stored, again = pair["stored"], pair["again"]
        yield f"  {stored['as_of']}: {stored['verdict']} was stored"
        if again is None:
            yield "    what the gate counted for it is not stored"
            continue
        for name in sorted({*stored, *again}):
            if stored.get(name) != again.get(name):
                yield f"    {name}: {_short(stored.get(name))} stored, {_short(again.get(name))} now"
    if differing > _SHOWN:
        yield f"  {min(differing, len(answer['differing']))} of them are in --json"


def _short(value: object, length: int = 60) -> str:
    text = json.dumps(value)
    return text if len(text) <= length else f"{text[: length - 3]}..."


@click.command()
@server_options
@click.argument("gate_id", metavar="GATE")
@click.option("--epoch", type=click.IntRange(0), help="Which life of the gate; the newest without.")
@click.option("--json", "as_json", is_flag=True, help="The server's answer as JSON.")
@click.pass_context
def replay(
    ctx: click.Context,
    /,
    gate_id: str,
    epoch: int | None,
    as_json: bool,
    url: str,
    api_key: str | None,
) -> None:
    """Compute the stored verdicts of GATE again, and compare them to the last byte.

    Exit code: 0 all the same, 1 some differ.

    \b
    Example:
      penstock gate replay chat-canary --url http://127.0.0.1:8080
      penstock gate replay chat-canary --url http://127.0.0.1:8080 --epoch 3 --json
    """
    answer = HttpSource(url, api_key).ask(path_of(gate_id, "replay"), epoch=epoch)
    if as_json:
        click.echo(json.dumps(answer))
    else:
        for line in lines_of(answer):
            click.echo(line)
    ctx.exit(0 if answer["same"] == answer["verdicts"] else 1)
