"""`penstock drift`: what monitors say, the requests behind a shift, and what it is compared with."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from .alerts import _table
from .sources import opened, source_options

_JSON = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document and nothing else."
)


@click.group()
def drift() -> None:
    """Drift: scores, examples, references."""


def _moment(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    from .checks import since_us

    return None if text is None else since_us(text)


@drift.command()
@source_options
@click.option("--monitor", help="Id of a monitor.")
@click.option("--model", help="Monitors of this model, and those of any.")
@click.option("--series", help="One feature or category.")
@click.option("--end", callback=_moment, help="As of then: 2h (ago), 7d, or ISO 8601 (UTC).")
@_JSON
def show(
    monitor: str | None,
    model: str | None,
    series: str | None,
    end: int | None,
    as_json: bool,
    **where: Any,
) -> None:
    """The newest look of every series, the most changed first; --json has them over time.

    \b
    Example:
      penstock drift show --url http://127.0.0.1:8080
      penstock drift show --url http://127.0.0.1:8080 --monitor chat --json
    """
    with opened(**where) as source:
        asked = {"monitor": monitor, "model": model, "series": series, "end": end}
        found = source.ask("/v1/drift", **asked)
    if as_json:
        click.echo(json.dumps(found))
        return
    rows = [
        (one["id"], item["series"], item["latest"])
        for one in found["monitors"]
        for item in one["series"]
    ]
    rows.sort(key=lambda row: (row[2]["confirmed"] is None, -(row[2]["psi"] or -1), row[:2]))
    _table(
        ("monitor", "series", "state", "confirmed", "psi", "distance", "e", "missing", "window to"),
        [[name, series, *_figures(look)] for name, series, look in rows],
    )
    confirmed = sum(look["confirmed"] is not None for _, _, look in rows)
    click.echo(f"{len(rows)} series of {len(found['monitors'])} monitors; {confirmed} confirmed")


def _figures(look: dict[str, Any]) -> list[str]:
    distance = look["ks"] if look["ks"] is not None else look["cramers_v"]
    missing = look["missing_share"]
    return [
        look["state"],
        look["confirmed"] or "",
        *(_number(value) for value in (look["psi"], distance, look["e_value"])),
        "" if missing is None else f"{missing:.1%}",
        look["end"],
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


@drift.command()
@source_options
@click.argument("monitor")
@click.argument("series")
@click.argument("bin_number", metavar="BIN", type=click.IntRange(0))
@click.option("--end", callback=_moment, help="End of the look; without it, the newest.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500))
@_JSON
def examples(
    monitor: str,
    series: str,
    bin_number: int,
    end: int | None,
    limit: int,
    as_json: bool,
    **where: Any,
) -> None:
    """The requests behind one bin of a distribution (`bars` of `drift show --json`).

    \b
    Example:
      penstock drift examples chat input_tokens 9 --url http://127.0.0.1:8080
    """
    with opened(**where) as source:
        found = source.ask(
            f"/v1/drift/{quote(monitor, safe='')}/examples",
            series=series,
            bin=bin_number,
            end=end,
            limit=limit,
        )
    if as_json:
        click.echo(json.dumps(found))
        return
    columns = ("ts", "request_id", "model", "route", "tenant", "status", "input_tokens")
    rows = [["" if one[c] is None else str(one[c]) for c in columns] for one in found["requests"]]
    _table(columns, rows)


@drift.group()
def reference() -> None:
    """What traffic is compared with: upload a training distribution, pin one, list them."""


@reference.command()
@source_options
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--feature", "features", multiple=True, help="A column; repeat. Default: all numbers."
)
@click.option(
    "--category", "categories", multiple=True, help="A column; repeat. Default: all texts."
)
@click.option("--label", default="", help="Column of labels; with --predicted, for concept drift.")
@click.option("--predicted", default="", help="Column of what was predicted.")
@click.option("--score", default="", help="Column of confidences, 0 to 1.")
@_JSON
def upload(
    name: str,
    file: Path,
    features: tuple[str, ...],
    categories: tuple[str, ...],
    label: str,
    predicted: str,
    score: str,
    as_json: bool,
    **where: Any,
) -> None:
    """Upload a training distribution from CSV, JSONL or Parquet; only counts leave this machine.

    Columns carry the names that monitors use. Equal content keeps its revision.

    \b
    Example:
      penstock drift reference upload training train.parquet --url http://127.0.0.1:8080
      penstock drift reference upload training train.csv --feature input_tokens --category language \\
        --url http://127.0.0.1:8080
    """
    from .drift_file import Wanted, counted

    if bool(label) != bool(predicted) or (score and not label):
        raise click.UsageError("--label and --predicted go together, --score with both")
    series = counted(file, Wanted(features, categories, label, predicted, score))
    _keep({"name": name, "series": series}, as_json, where)


@reference.command()
@source_options
@click.argument("name")
@click.option("--monitor", required=True, help="Whose counts.")
@click.option("--start", callback=_moment, help="Of a period: 7d (ago), or ISO 8601 (UTC).")
@click.option("--end", callback=_moment, help="Of a period.")
@_JSON
def pin(
    name: str, monitor: str, start: int | None, end: int | None, as_json: bool, **where: Any
) -> None:
    """Keep what a monitor saw as a reference of its own: a period, or (without one) what it is
    compared with now, such as the last seven stable days.

    \b
    Example:
      penstock drift reference pin march --monitor chat --start 2026-03-01T00:00:00Z \\
        --end 2026-03-15T00:00:00Z --url http://127.0.0.1:8080
      penstock drift reference pin good-week --monitor chat --url http://127.0.0.1:8080
    """
    if (start is None) != (end is None):
        raise click.UsageError("--start and --end go together")
    body = {"name": name, "monitor": monitor}
    if start is not None and end is not None:
        body |= {"start": _utc(start), "end": _utc(end)}
    _keep(body, as_json, where)


def _utc(time_us: int) -> str:
    return datetime.fromtimestamp(time_us // 1_000_000, UTC).isoformat()


def _keep(body: dict[str, Any], as_json: bool, where: dict[str, Any]) -> None:
    with opened(**where) as source:
        found = source.tell("POST", "/v1/drift/references", body)
    if as_json:
        click.echo(json.dumps(found))
        return
    series = ", ".join(f"{name} ({n:,})" for name, n in found["series"].items())
    click.echo(f"{found['name']}, version {found['revision']}: {series}")


@reference.command("list")
@source_options
@click.option("--name", help="Of a reference, or id of a monitor.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1000))
@_JSON
def list_references(name: str | None, limit: int, as_json: bool, **where: Any) -> None:
    """Uploaded and pinned references, and what each monitor chose.

    \b
    Example:
      penstock drift reference list --url http://127.0.0.1:8080
    """
    with opened(**where) as source:
        found = source.ask("/v1/drift/references", name=name, limit=limit)
    if as_json:
        click.echo(json.dumps(found))
        return
    rows = [
        [
            one["scope"], one["name"], str(one["revision"]), one["created"],
            str(len(one["series"])), str(sum(one["series"].values())),
        ]
        for one in found["references"]
    ]  # fmt: skip
    _table(("scope", "name", "version", "stored", "series", "values"), rows)
