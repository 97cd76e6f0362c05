"""`penstock gate watch`: a gate as it is decided, its confidence sequence drawn in the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from .gate_asking import EXIT_CODES, amount, gate_of, path_of, server_options
from .sources import Body, HttpSource

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDTH, HEIGHT = 60, 9
WAIT_S = 10
_COLOURS = {"PASS": "green", "FAIL": "red", "UNDECIDED": "yellow", "INVALID": "magenta"}


@dataclass(frozen=True, slots=True)
class Point:
    """A metric at one moment: its estimate within its confidence sequence, in one unit."""

    estimate: float
    low: float
    high: float


def points_of(answers: Iterable[Body], metric: str) -> list[Point]:
    """A metric over stored answers; those without an estimate or with an open interval are left out."""
    items = (item for told in answers for item in told["evidence"] if item["metric"] == metric)
    return [
        Point(item["estimate"], item["low"], item["high"])
        for item in items
        if None not in (item["estimate"], item["low"], item["high"])
    ]


def drawn(
    points: Sequence[Point], limit: float, width: int = WIDTH, height: int = HEIGHT
) -> list[str]:
    """A confidence sequence over time as lines of text, the largest value on top.

    The range shown follows the newest half of the intervals and the limit, so that the wide first ones
    do not flatten the rest; what lies beyond is drawn at the edge.

    Args:
        points: oldest first; the newest `width` are drawn.
        limit: drawn as a dashed line.
        width, height: of the drawing, in characters.

    >>> print("\\n".join(drawn([Point(4, 0, 8), Point(3, 1, 5), Point(2, 1, 3)], 5, 3, 5)))
    ┼┼╌
    ●│
    │●│
    ││●
    │││
    """
    shown = list(points[-width:])
    recent = shown[len(shown) // 2 :]
    bottom = min([limit, *(point.low for point in recent)])
    top = max([limit, *(point.high for point in recent)])
    span = (top - bottom) or 1.0

    def row_of(value: float) -> int:
        share = (min(max(value, bottom), top) - bottom) / span
        return round((1.0 - share) * (height - 1))

    columns = []
    for point in shown:
        column = [" "] * height
        column[row_of(limit)] = "╌"
        for row in range(row_of(point.high), row_of(point.low) + 1):
            column[row] = "┼" if column[row] == "╌" else "│"
        column[row_of(point.estimate)] = "●"
        columns.append(column)
    return ["".join(column[row] for column in columns).rstrip() for row in range(height)]


def picture(gate_id: str, told: Body, answers: Sequence[Body]) -> RenderableType:
    """The verdict, and a drawing of each metric."""
    from rich.console import Group
    from rich.text import Text

    from ..streams.core.preview import escape

    colour = _COLOURS.get(told["verdict"], "default")
    head = f"{gate_id}  {told['verdict']} -> {told['action']}"
    release = f"  release {told['release']}" if told["release"] else ""
    lines = [Text(escape(head), style=f"bold {colour}"), Text(escape(told["text"] + release))]
    if told["override"]:
        order = told["override"]
        lines.append(Text(escape(f"overridden by {order['who']}: {order['reason']}"), "magenta"))
    for item in told["evidence"]:
        unit = item["unit"]
        bounds = f"{amount(item['low'], unit)} to {amount(item['high'], unit)}"
        text = f"{item['metric']} {item['declared']}: {amount(item['estimate'], unit)} ({bounds})"
        lines += [Text(""), Text(escape(text), _COLOURS.get(item["decision"], "default"))]
        lines += [Text(line) for line in drawn(points_of(answers, item["metric"]), item["limit"])]
    lines.append(Text("● estimate  │ confidence sequence  ╌ limit", "dim"))
    return Group(*lines)


def followed(source: HttpSource, gate_id: str) -> Iterator[tuple[Body, list[Body]]]:
    """The newest answer and those of its epoch before it, each time there is news; ends once decided."""
    past: list[Body] = []
    epoch: int | None = None
    wait_s = 0
    while True:
        told = source.ask(path_of(gate_id, "verdict"), wait=f"{wait_s}s")
        if told["epoch"] != epoch:
            epoch = told["epoch"]
            stored = source.ask(path_of(gate_id, "verdicts"), epoch=epoch, limit=WIDTH)
            past = [one["told"] for one in stored["verdicts"]]
        if not past or past[-1]["as_of"] != told["as_of"]:
            past = [*past, told][-WIDTH:]
        yield told, past
        if told["verdict"] in ("PASS", "FAIL"):
            return
        wait_s = WAIT_S


@click.command()
@server_options
@click.argument("gate_id", metavar="GATE")
@click.option("--once", is_flag=True, help="Show the present picture and end.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON per answer instead.")
@click.pass_context
def watch(
    ctx: click.Context, /, gate_id: str, once: bool, as_json: bool, url: str, api_key: str | None
) -> None:
    """Follow GATE until it is decided, with the confidence sequence of each metric.

    The band holds the true value at all times at once: a gate is decided when it leaves the limit
    behind. Exit code: 0 PASS, 1 FAIL, 2 UNDECIDED, 3 NO_DATA or INVALID.

    \b
    Example:
      penstock gate watch chat-canary --url http://127.0.0.1:8080
      penstock gate watch chat-canary --url http://127.0.0.1:8080 --once
    """
    from rich.console import Console
    from rich.live import Live

    source = HttpSource(url, api_key)
    gate_of(source, gate_id)
    answers = followed(source, gate_id)
    console = Console(highlight=False)
    verdict = ""
    if as_json or once or not console.is_terminal:
        for told, past in answers:
            verdict = told["verdict"]
            if as_json:
                click.echo(json.dumps(told))
            else:
                console.print(picture(gate_id, told, past))
            if once:
                break
    else:
        with Live(console=console, auto_refresh=False) as live:
            for told, past in answers:
                verdict = told["verdict"]
                live.update(picture(gate_id, told, past), refresh=True)
    ctx.exit(EXIT_CODES[verdict])
