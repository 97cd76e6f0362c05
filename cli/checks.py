"""`penstock audit` and `penstock doctor`: whether what is stored holds, and what everything stands on."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import KAFKA_HELP, STORE_HELP

if TYPE_CHECKING:
    from ..streams.doctor.examine import Line

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_COULD_NOT_LOOK = 2
_CONFIG = click.option(
    "--config",
    envvar="PENSTOCK_CONFIG",
    type=click.Path(path_type=Path),
    help="penstock.yaml, the one that the workers have.",
)
_JSON = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document and nothing else."
)


def since_us(text: str) -> int:
    """Integer microseconds UTC of so long ago, or of a time in ISO 8601.

    Raises:
        BadParameter: it is neither.
    """
    if ago := _AGO.match(text):
        return time.time_ns() // 1000 - int(float(ago[1]) * _SECONDS[ago[2]] * 1_000_000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(
            "give 90s, 30m, 6h, 2d, or a time such as 2026-01-31T12:00Z"
        ) from (error)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1_000_000)


def _since(ctx: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    return None if text is None else since_us(text)


@click.command()
@click.option("--store", "url", envvar="PENSTOCK_STORE", required=True, help=STORE_HELP)
@_CONFIG
@click.option(
    "--since",
    "since_us",
    callback=_since,
    help="Look at what came since then only: 1h, or ISO 8601 (UTC).  [default: all that is kept]",
)
@click.option(
    "--windows",
    default=20,
    show_default=True,
    type=click.IntRange(0, 10_000),
    help="Older windows compared, beside the newest of each length.",
)
@_JSON
@click.pass_context
def audit(
    ctx: click.Context,
    url: str,
    config: Path | None,
    since_us: int | None,
    windows: int,
    as_json: bool,
) -> None:
    """Compare everything that is published with the raw rows and the ledger.

    Exit code 0 when everything holds, 1 with the list of what does not, 2 when it could not look.
    `clickhouse://` may be in use meanwhile; a folder may not (`chdb:///`): stop its server first.

    \b
    Example:
      penstock audit --store chdb:///var/lib/penstock/store
      penstock audit --store clickhouse://writer:pw@localhost:8123/penstock --since 6h --json
    """
    from ..schemas.config import load
    from ..schemas.errors import PenstockError
    from ..streams.audit.examine import examine
    from ..streams.config_feed import ConfigurationFeed
    from ..streams.storage.migrate import check_migrated
    from ..streams.storage.store import Store

    try:
        base, store = load(config), Store(url)
        if store.folder is not None and not store.folder.exists():
            raise click.UsageError(f"there is no folder {store.folder}")
        try:
            check_migrated(store)
            feed = ConfigurationFeed(store, base)
            feed.look()
            report = examine(store, feed.configuration(), since_us, windows, say=_progress)
        finally:
            store.close()
    except PenstockError as error:
        click.echo(f"Error: could not look: {error}", err=True)
        ctx.exit(_COULD_NOT_LOOK)
    if as_json:
        _print_json(report)
    else:
        _print_report(report)
    ctx.exit(1 if report.findings else 0)


def _progress(text: str) -> None:
    click.echo(text, err=True)


def _print_json(report: Any) -> None:
    import json
    from dataclasses import asdict

    document = {
        "holds": not report.findings,
        "findings": [asdict(finding) for finding in report.findings],
        "more": dict(report.more),
        "notes": report.notes,
        "checked": dict(report.checked),
    }
    click.echo(json.dumps(document))


def _print_report(report: Any) -> None:
    for finding in report.findings:
        click.echo(str(finding))
    for check, count in report.more.items():
        click.echo(f"{check}: {count} more")
    for note in report.notes:
        click.echo(f"note: {note}")
    looked = ", ".join(f"{count} {name}" for name, count in report.checked.items() if count)
    click.echo(f"looked at {looked or 'an empty store'}")
    click.echo(f"{len(report.findings)} findings" if report.findings else "everything holds")


@click.command()
@click.option("--kafka", envvar="PENSTOCK_KAFKA", help=KAFKA_HELP)
@click.option("--store", envvar="PENSTOCK_STORE", help=STORE_HELP)
@click.option(
    "--data", type=click.Path(path_type=Path), help="Folder of `penstock up`, with its keys."
)
@_CONFIG
@click.option("--url", help="Of an API or a worker: http://host:port")
@click.option(
    "--sealing-key",
    envvar="PENSTOCK_SEALING_KEY_FILE",
    type=click.Path(path_type=Path),
    help="File of the key that dead letters are sealed with.",
)
@_JSON
@click.pass_context
def doctor(ctx: click.Context, /, as_json: bool, **asked: Any) -> None:
    """Look at brokers, topics, workers, store, disk, clocks and keys, and say what to do.

    Looks at what is given only. Exit code 1 where something fails.

    \b
    Example:
      penstock doctor --data ./penstock-data --url http://127.0.0.1:8080
      penstock doctor --kafka localhost:9092 --store clickhouse://writer:pw@localhost:8123/penstock
    """
    import json
    from dataclasses import asdict

    if not any(asked.values()):
        raise click.UsageError("give what is to be looked at: see penstock doctor --help")
    lines = _looked(**asked)
    failed = any(line.state == "fail" for line in lines)
    if as_json:
        click.echo(json.dumps({"ok": not failed, "lines": [asdict(line) for line in lines]}))
        ctx.exit(int(failed))
    for line in lines:
        click.echo(f"{line.state:4}  {line.what}: {line.found}")
        if line.todo and line.state != "ok":
            click.echo(f"      -> {line.todo}")
    ctx.exit(int(failed))


def _looked(
    kafka: str | None,
    store: str | None,
    data: Path | None,
    config: Path | None,
    url: str | None,
    sealing_key: Path | None,
) -> list[Line]:
    """Everything that was given, and what was not."""
    from ..schemas.config import Configuration, load
    from ..schemas.kafka import parse_address
    from ..streams.doctor import examine as look
    from ..streams.doctor.kafka import check_kafka
    from ..streams.storage.store import Store

    lines: list[Line] = []
    configuration = Configuration()
    if config is not None:
        try_it = look.tried("configuration", "mend the file", lambda: _configured(config))
        lines += try_it
        configuration = load(config) if try_it[0].state == "ok" else configuration
    opened = None if store is None else Store(store)
    try:
        if opened is not None:
            lines += look.check_store(opened, configuration.retention)
        if kafka is not None:
            lines += check_kafka(parse_address(kafka), opened)
    finally:
        if opened is not None:
            opened.close()
    if data is not None:
        lines += look.check_data(data, sealing_key)
        lines += look.tried("API keys", "restore the file", lambda: _keys(data / "keys.json"))
    elif sealing_key is not None:
        lines += look.check_sealing_key(sealing_key)
    if url is not None:
        lines += look.check_url(url)
    given = {"kafka": kafka, "store": store, "data": data, "config": config, "url": url}
    missing = ", ".join(f"--{name}" for name, value in given.items() if value is None)
    if missing:
        lines.append(look.Line("skip", "not looked at", missing, "give them too"))
    return lines


def _configured(config: Path) -> list[Line]:
    from ..schemas.config import load
    from ..streams.doctor.examine import Line

    gates = len(load(config).gates)
    return [Line("ok", "configuration", f"{config} is valid: {gates} gates")]


def _keys(path: Path) -> list[Line]:
    from ..api.keys import list_keys
    from ..streams.doctor.examine import Line

    keys = list_keys(path)
    if not keys:
        todo = f"penstock keys create --data {path.parent} --name me --scope read"
        return [Line("warn", "API keys", "none: only loopback may ask without one", todo)]
    return [Line("ok", "API keys", f"{len(keys)} in {path}")]
