"""`penstock alerts`: what is wrong and why, silences, and who has taken what."""

from __future__ import annotations

import getpass
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

import click

from .sources import opened, source_options

_JSON = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document and nothing else."
)
_MATCHER = re.compile(r"([A-Za-z_]\w*)(=~|!~|!=|=)(.*)", re.S)


@click.group()
def alerts() -> None:
    """Alerts: list them, keep them quiet, take them."""


def _since(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    from .checks import since_us

    return None if text is None else since_us(text)


@alerts.command("list")
@source_options
@click.option(
    "--state",
    type=click.Choice(["open", "pending", "firing", "resolved", "cancelled", "all"]),
    default="open",
    show_default=True,
    help="open: pending and firing.",
)
@click.option("--severity", type=click.Choice(["info", "warning", "critical", "emergency"]))
@click.option("--rule", help="Id of a rule.")
@click.option("--since", callback=_since, help="Changed since then: 2h, 7d, or ISO 8601 (UTC).")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1000))
@_JSON
def list_alerts(
    state: str,
    severity: str | None,
    rule: str | None,
    since: int | None,
    limit: int,
    as_json: bool,
    **where: Any,
) -> None:
    """Alerts, the newest change first.

    \b
    Example:
      penstock alerts list --url http://127.0.0.1:8080
      penstock alerts list --url http://127.0.0.1:8080 --state all --since 24h --json
    """
    with opened(**where) as source:
        asked = {"state": state, "severity": severity, "rule": rule, "since": since}
        found = source.ask("/v1/alerts", limit=limit, **asked)
    if as_json:
        click.echo(json.dumps(found))
        return
    rows = [
        [one["id"], one["severity"], one["state"], one["at"], one["rule"], one["text"], _notes(one)]
        for one in found["alerts"]
    ]
    _table(("id", "severity", "state", "since", "rule", "what", "notes"), rows)
    firing = ", ".join(f"{n} {name}" for name, n in found["counts"].items() if n)
    click.echo(f"{len(rows)} listed; firing: {firing or 'none'}")


@alerts.command()
@source_options
@click.argument("alert_id", metavar="ID")
@_JSON
def show(alert_id: str, as_json: bool, **where: Any) -> None:
    """An alert: what changed when it fired, and its history.

    \b
    Example:
      penstock alerts show 6d1f0b7c9a52e4d8b3f10c7a59e2d6b4 --url http://127.0.0.1:8080
    """
    from ..streams.core.preview import escape

    with opened(**where) as source:
        found = source.ask(f"/v1/alerts/{quote(alert_id, safe='')}")
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, text in _facts(found):
        for line in text.split("\n"):
            click.echo(f"{name:<12}  {escape(line)}".rstrip())
            name = ""
    rows = [[one["at"], one["kind"], one["reason"], one["text"]] for one in found["transitions"]]
    click.echo()
    _table(("when", "change", "reason", "what"), rows)


def _facts(alert: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and text of what is told of an alert; what is empty is left out."""
    own = ("alertname", "group", "severity")
    labels = ", ".join(f"{k}={v}" for k, v in alert["labels"].items() if k not in own)
    explained = alert["explained"]
    facts = {
        "alert": f"{alert['rule']}: {alert['severity']}, {alert['state']}",
        "where": labels or "fleet",
        "since": alert["started"],
        "ended": alert["ended"] or "",
        "value": alert["text"],
        "amended": alert["amended_text"] or "",
        **alert["annotations"],
        "what changed": "\n".join(explained["sentences"]) if explained else "not found out yet",
        "notes": _notes(alert),
        "runbook": alert["runbook"] or "",
    }
    return [(name, text) for name, text in facts.items() if text]


def _notes(alert: dict[str, Any]) -> str:
    taken = alert["acknowledged"]
    return ", ".join(filter(None, (alert["quiet"], taken and f"taken by {taken['who']}")))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ..streams.core.preview import escape

    table = Table(box=None, pad_edge=False)
    for name in head:
        table.add_column(name, overflow="fold", no_wrap=name in ("id", "severity", "state"))
    for row in rows:
        table.add_row(*(Text(escape(cell)) for cell in row))
    if table.row_count:
        console = Console(highlight=False)
        # A file or a pipe has no width: nothing is to be cut off there.
        Console(highlight=False, width=console.width if console.is_terminal else 250).print(table)


def parse_matcher(text: str) -> dict[str, str]:
    """A matcher as Alertmanager writes it.

    Raises:
        BadParameter: it is none.

    >>> parse_matcher('severity=~"warning|info"')
    {'label': 'severity', 'op': '=~', 'value': 'warning|info'}
    """
    found = _MATCHER.fullmatch(text.strip())
    if found is None:
        raise click.BadParameter(f"{text!r} is no matcher; write model=chat-8b or severity=~'a|b'")
    label, op, value = found.groups()
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    return {"label": label, "op": op, "value": value}


@alerts.command()
@source_options
@click.argument("matchers", nargs=-1)
@click.option("--reason", help="Why.")
@click.option("--author", help="Who. Default: the name of your user here.")
@click.option("--for", "duration", default="2h", show_default=True, help="How long: 30m, 2h, 3d.")
@click.option("--id", "silence_id", help="One of your own; the same again replaces it.")
@click.option("--end", metavar="ID", help="End a silence now.")
@click.option("--list", "show", is_flag=True, help="List those that have not ended.")
@_JSON
def silence(
    matchers: tuple[str, ...],
    reason: str | None,
    author: str | None,
    duration: str,
    silence_id: str | None,
    end: str | None,
    show: bool,
    as_json: bool,
    **where: Any,
) -> None:
    """Tell nobody of the alerts that match all MATCHERS, for a while; end one; or list them.

    Alerts are evaluated and stored all the same; what still fires afterwards is told then.

    \b
    Example:
      penstock alerts silence model=chat-8b severity=~'info|warning' --reason migration --for 4h --url ...
      penstock alerts silence --list --url http://127.0.0.1:8080
      penstock alerts silence --end s-3f9a1c27 --url http://127.0.0.1:8080
    """
    if (bool(matchers), end is not None, show).count(True) != 1:
        raise click.UsageError("give MATCHERS, or --end, or --list")
    if matchers and not reason:
        raise click.UsageError("Missing option '--reason': whoever misses an alert will ask.")
    with opened(**where) as source:
        if show:
            found = source.ask("/v1/silences")
        elif end is not None:
            found = source.tell("DELETE", f"/v1/silences/{quote(end, safe='')}")
        else:
            body = _silence(matchers, reason, author, duration, silence_id)
            found = source.tell("POST", "/v1/silences", body)
    if as_json:
        click.echo(json.dumps(found))
        return
    listed = found["silences"] if show else [found]
    rows = [
        [one["id"], one["state"], one["ends_at"], _shown(one), one["author"], one["reason"]]
        for one in listed
    ]
    _table(("id", "state", "ends", "matchers", "author", "reason"), rows)
    if show:
        click.echo(f"{len(rows)} silences")


def _silence(
    matchers: Sequence[str],
    reason: str | None,
    author: str | None,
    duration: str,
    silence_id: str | None,
) -> dict[str, Any]:
    from ..schemas.slo.base import seconds_of

    try:
        duration_s = seconds_of(duration)
    except ValueError as error:
        raise click.BadParameter(f"--for: {error}") from error
    body = {
        "matchers": [parse_matcher(text) for text in matchers],
        "reason": reason,
        "author": author or getpass.getuser(),
        "duration_s": duration_s,
    }
    return body if silence_id is None else body | {"id": silence_id}


def _shown(silence: dict[str, Any]) -> str:
    return " ".join(f"{m['label']}{m['op']}{m['value']}" for m in silence["matchers"])


@alerts.command()
@source_options
@click.argument("alert_id", metavar="ID")
@click.option("--who", help="Default: the name of your user here.")
@click.option("--reason", default="", help="What is being done.")
@click.option("--until", help="When that ends, ISO 8601 with its zone. Default: with the alert.")
@_JSON
def ack(
    alert_id: str, who: str | None, reason: str, until: str | None, as_json: bool, **where: Any
) -> None:
    """Take an alert: it is neither repeated nor escalated. Its end is told all the same.

    \b
    Example:
      penstock alerts ack 6d1f0b7c9a52e4d8b3f10c7a59e2d6b4 --reason 'rolling back r42' --url ...
    """
    body = {"who": who or getpass.getuser(), "reason": reason}
    if until is not None:
        body["until"] = until
    with opened(**where) as source:
        path = f"/v1/alerts/{quote(alert_id, safe='')}/acknowledge"
        found = source.tell("POST", path, body)
    if as_json:
        click.echo(json.dumps(found))
        return
    ends = found["until"] or "it ends"
    click.echo(f"{found['who']} has taken {alert_id} until {ends}")
