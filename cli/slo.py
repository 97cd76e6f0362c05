"""`penstock slo`: the compliance report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import click

from .sources import opened, source_options


@click.group()
def slo() -> None:
    """Objectives and their error budgets."""


def _window_s(_: click.Context, __: click.Parameter, text: str) -> int:
    from ..schemas.slo.base import seconds_of

    try:
        length_s = seconds_of(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if not 60 <= length_s <= 366 * 86_400:
        raise click.BadParameter("between 1m and 366d")
    return length_s


@slo.command()
@source_options
@click.option(
    "--window",
    "window_s",
    default="7d",
    show_default=True,
    callback=_window_s,
    help="How far back states, curves and alerts go: 24h, 7d, 30d.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["md", "html", "json"]),
    default="md",
    show_default=True,
    help="Markdown, one HTML file without anything from elsewhere, or JSON.",
)
@click.option("--output", type=click.Path(path_type=Path), help="File to write; default: stdout.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--title", default="SLO compliance", show_default=True, help="Of the report.")
@click.option("--fail-on-breach", is_flag=True, help="Exit code 1 where an objective is breached.")
@click.pass_context
def report(
    ctx: click.Context,
    /,
    window_s: int,
    form: Literal["md", "html", "json"],
    output: Path | None,
    as_json: bool,
    title: str,
    fail_on_breach: bool,
    **where: Any,
) -> None:
    """What was promised and what was kept: states, budgets, burn rates, alerts and cost.

    Attainment and budget are those of each objective's own window; --window is how far back the
    report looks at how they went.

    \b
    Example:
      penstock slo report --url http://127.0.0.1:8080
      penstock slo report --url http://127.0.0.1:8080 --window 30d --format html --output slo.html
      penstock slo report --store chdb:///var/lib/penstock/store --config penstock.yaml --json
    """
    from .slo_html import html
    from .slo_report import gather, markdown

    with opened(**where) as source:
        found = gather(source, window_s, title)
    if as_json or form == "json":
        text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    else:
        text = html(found) if form == "html" else markdown(found)
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")
        click.echo(f"wrote {output}", err=True)
    breached = found["counts"]["breached"]
    ctx.exit(1 if fail_on_breach and breached else 0)
