"""`penstock config`: the configuration of a running server: look at it, change it, go back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

import click
import yaml

from .sources import HttpSource

Body = dict[str, Any]
_JSON = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document and nothing else."
)
_WHY = click.option("--why", required=True, help="The reason, for the audit log.")
_EXPECT = click.option(
    "--expect",
    type=click.IntRange(0),
    help="Version that this replaces; refused if another is in force. Default: the one in force now.",
)
_SERVER = (
    click.option("--url", required=True, envvar="PENSTOCK_URL", help="Server: http://host:port"),
    click.option("--api-key", envvar="PENSTOCK_API_KEY", help="Key of scope admin."),
)


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which server."""
    for option in reversed(_SERVER):
        command = option(command)
    return command


@click.group()
def config() -> None:
    """The configuration of a running server, its versions, and changes without a restart.

    Version 0 is penstock.yaml as each process has it. A version made here replaces its gates, slos,
    alerts, costs and drift; everything else is changed in the file, and takes a restart.
    """


@config.command()
@server_options
@_JSON
def show(url: str, api_key: str | None, as_json: bool) -> None:
    """The configuration in force, as it was given; without a stored version, what it means.

    \b
    Example:
      penstock config show --url http://127.0.0.1:8080 > penstock.yaml
    """
    found = HttpSource(url, api_key).ask("/v1/config")
    if as_json:
        click.echo(json.dumps(found))
        return
    text = found["text"]
    if text is None:
        text = yaml.safe_dump(found["configuration"], sort_keys=False, allow_unicode=True)
    click.echo(f"# version {found['version']}{_by(found)}")
    click.echo(text.rstrip("\n"))


def _by(version: Mapping[str, Any]) -> str:
    if version["who"] is None:
        return ": penstock.yaml"
    back = "" if version["rolled_back_to"] is None else f" (back to {version['rolled_back_to']})"
    return f"{back}, {version['at']}, {version['who']}: {version['why']}"


@config.command()
@server_options
@click.argument("file", type=click.Path(allow_dash=True))
@_WHY
@_EXPECT
@_JSON
def apply(
    url: str, api_key: str | None, file: str, why: str, expect: int | None, as_json: bool
) -> None:
    """Put FILE in force (- reads from a pipe): the whole of it, what it leaves out is removed.

    Evaluators take it up within seconds and lose no count. A file with mistakes changes nothing.

    \b
    Example:
      penstock config apply penstock.yaml --why "p95 limit for the new GPUs" --url http://127.0.0.1:8080
    """
    source = HttpSource(url, api_key)
    expected = _in_force(source) if expect is None else expect
    _told(_post(source, _read(file), why=why, expected_version=expected), as_json)


@config.command()
@server_options
@click.argument("file", type=click.Path(allow_dash=True))
@_JSON
@click.pass_context
def diff(ctx: click.Context, url: str, api_key: str | None, file: str, as_json: bool) -> None:
    """What FILE would change, and what would begin anew; exit code 1 where it changes something.

    \b
    Example:
      penstock config diff penstock.yaml --url http://127.0.0.1:8080
    """
    found = _post(HttpSource(url, api_key), _read(file), why="diff", dry_run="true")
    _told(found, as_json)
    ctx.exit(1 if found["changes"]["parts"] else 0)


@config.command()
@server_options
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 200))
@_JSON
def history(url: str, api_key: str | None, limit: int, as_json: bool) -> None:
    """Versions, the newest first: when, who, why, and what changed.

    \b
    Example:
      penstock config history --url http://127.0.0.1:8080
    """
    found = HttpSource(url, api_key).ask("/v1/config/versions", limit=limit)
    if as_json:
        click.echo(json.dumps(found))
        return
    for version in found["versions"]:
        click.echo(f"version {version['version']}{_by(version)}")
        for line in _lines(version["changes"]):
            click.echo(f"  {line}")
    if not found["versions"]:
        click.echo("no version was made: penstock.yaml is in force")


@config.command()
@server_options
@click.argument("version", type=click.IntRange(0))
@_WHY
@_EXPECT
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@_JSON
def rollback(
    url: str,
    api_key: str | None,
    version: int,
    why: str,
    expect: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Put VERSION in force again, as a new version; 0 is penstock.yaml.

    \b
    Example:
      penstock config rollback 2 --why "too many pages" --url http://127.0.0.1:8080
    """
    source = HttpSource(url, api_key)
    expected = _in_force(source) if expect is None else expect
    body = {"version": version, "why": why, "dry_run": dry_run, "expected_version": expected}
    _told(source.tell("POST", "/v1/config/rollback", body), as_json)


def _read(file: str) -> bytes:
    try:
        with click.open_file(file, "rb") as opened:
            found: bytes = opened.read()
            return found
    except OSError as error:
        raise click.BadParameter(f"cannot read {file}: {error.strerror}") from error


def _in_force(source: HttpSource) -> int:
    number: int = source.ask("/v1/config")["version"]
    return number


def _post(source: HttpSource, text: bytes, **query: Any) -> Body:
    headers = {"Content-Type": "application/yaml"}
    return source.send("POST", f"/v1/config?{urlencode(query)}", text, headers)


def _told(found: Body, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found))
        return
    for line in _lines(found["changes"]):
        click.echo(line)
    if not found["changes"]["parts"]:
        click.echo(f"nothing changes: version {found['version']} is in force")
    elif found["dry_run"]:
        click.echo(f"nothing was changed: version {found['version']} is in force")
    else:
        click.echo(f"version {found['version']} is in force, it replaces {found['replaced']}")


def _lines(changes: Mapping[str, Any]) -> Iterator[str]:
    for part, change in changes["parts"].items():
        for how, sign in (("added", "+"), ("changed", "~"), ("removed", "-")):
            for name in change[how]:
                yield f"{sign} {part} {name}"
    for text in changes["resets"]:
        yield f"! {text}"
