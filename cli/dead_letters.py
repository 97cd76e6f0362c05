"""`penstock dead-letters`: what was rejected: listed, shown, sent again."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import STORE_HELP

if TYPE_CHECKING:
    from ..schemas.ports import Receipt
    from ..streams.dead_letters.letters import DeadLetter, DeadLetters, Filters
    from ..streams.dead_letters.redrive import Form, Sender
    from ..streams.dead_letters.seal import Sealer
    from ..streams.storage.store import Store

_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

Command = Callable[..., Any]


@click.group("dead-letters")
def dead_letters() -> None:
    """What was rejected, or could not be read: list it, look at it, send it again."""


def _since(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    """Integer microseconds of `2h`, or of a time."""
    from ..api.parameters import parse_time

    if value is None:
        return None
    age = re.fullmatch(r"(\d{1,6})([smhd])", value.strip())
    if age:
        return time.time_ns() // 1000 - int(age[1]) * _UNITS_S[age[2]] * 1_000_000
    try:
        return parse_time(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}; or an age such as 15m, 2h, 7d") from error


def _together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_STORE = click.option("--store", "url", envvar="PENSTOCK_STORE", required=True, help=STORE_HELP)
_KEY = _together(
    click.option(
        "--sealing-key",
        "key_file",
        envvar="PENSTOCK_SEALING_KEY_FILE",
        type=click.Path(path_type=Path),
        help="File of the key; default: the one beside a chdb store. Or PENSTOCK_SEALING_KEY: the key itself"
        " as base64.",
    ),
    click.option("--sealing-key-text", "key_text", envvar="PENSTOCK_SEALING_KEY", hidden=True),
)
_FILTERS = _together(
    click.option("--reason", help="Exactly this one, such as bad_value."),
    click.option("--since", "since_us", callback=_since, help="2h, 7d, or a time in ISO 8601."),
    click.option("--topic", help="That it came by; '' is HTTP to an embedded server."),
    click.option("--partition", type=int, help="Of the topic."),
)


@contextmanager
def _opened(url: str) -> Iterator[tuple[Store, DeadLetters]]:
    from ..streams.dead_letters.letters import DeadLetters
    from ..streams.storage.store import Store

    store = Store(url)
    try:
        yield store, DeadLetters(store)
    finally:
        store.close()


def _sealer(url: str, key_file: Path | None, key_text: str | None) -> Sealer | None:
    """With the key that was given, else with the one that lies beside an embedded server's store."""
    from ..streams.dead_letters.seal import Sealer, key_from_text, load_key

    if key_file is not None:
        return Sealer(load_key(key_file))
    if key_text:
        return Sealer(key_from_text(key_text))
    beside = Path(url.removeprefix("chdb://")).parent / "sealing.key"
    return Sealer(load_key(beside)) if url.startswith("chdb://") and beside.exists() else None


def _filters(options: Mapping[str, Any], waiting: bool) -> Filters:
    from ..streams.dead_letters.letters import Filters

    names = ("reason", "since_us", "topic", "partition")
    return Filters(**{name: options[name] for name in names}, waiting=waiting)


def _iso(time_us: int | None) -> str | None:
    if time_us is None:
        return None
    moment = datetime.fromtimestamp(time_us // 1_000_000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _document(letter: DeadLetter) -> dict[str, Any]:
    found = asdict(letter) | {"id": str(letter.id)}
    found["rejected_as"] = None if letter.rejected_as is None else str(letter.rejected_as)
    found["taken"], found["redriven"] = _iso(found.pop("taken_us")), _iso(found.pop("redriven_us"))
    place = {"incarnation": letter.id.incarnation, "partition": letter.id.partition}
    return found | place | {"offset": letter.id.offset, "row_index": letter.id.row_index}


@dead_letters.command("list")
@_STORE
@_FILTERS
@click.option("--waiting", is_flag=True, help="Only those that were not sent again yet.")
@click.option("--limit", default=50, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def list_letters(url: str, waiting: bool, limit: int, as_json: bool, **options: Any) -> None:
    """List dead letters, newest first.

    \b
    Example:
      penstock dead-letters list --store clickhouse://reader:pw@127.0.0.1:8123/penstock
      penstock dead-letters list --reason bad_value --since 2h --json
    """
    filters = _filters(options, waiting)
    with _opened(url) as (_, letters):
        total, found = letters.count(filters), letters.find(filters, limit)
    if as_json:
        click.echo(json.dumps({"dead_letters": [_document(one) for one in found], "total": total}))
        return
    if found:
        _table(found)
    click.echo(f"{len(found)} of {total} dead letters")


def _table(letters: Sequence[DeadLetter]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ..streams.core.preview import escape

    table = Table(box=None, pad_edge=False)
    for name in ("id", "taken", "reason", "kind", "worker", "sent again"):
        table.add_column(name, no_wrap=True)
    table.add_column("detail", overflow="fold")
    for one in letters:
        sent = _iso(one.redriven_us) or "no"
        cells = (str(one.id), _iso(one.taken_us), one.reason, one.kind, one.worker_id, sent)
        table.add_row(*(Text(escape(cell or "")) for cell in (*cells, one.detail)))
    console = Console(highlight=False)
    # A file or a pipe has no width: nothing is to be cut off there.
    Console(highlight=False, width=console.width if console.is_terminal else 250).print(table)


@dead_letters.command("show")
@click.argument("letter_id", metavar="ID")
@_STORE
@_KEY
@click.option("--reveal", is_flag=True, help="Open the bytes and show them as they came.")
@click.option("--raw", is_flag=True, help="Write the opened bytes to stdout, and nothing else.")
def show(
    letter_id: str, url: str, key_file: Path | None, key_text: str | None, reveal: bool, raw: bool
) -> None:
    """Show one dead letter; its bytes only where they are asked for.

    \b
    Example:
      penstock dead-letters show 1-0-17-3
      penstock dead-letters show 1-0-17-3 --reveal --sealing-key sealing.key
      penstock dead-letters show 1-0-17-3 --raw > body
    """
    from ..streams.core.preview import escape
    from ..streams.dead_letters.letters import LetterId

    with _opened(url) as (_, letters):
        letter = letters.get(LetterId.parse(letter_id))
        sealer = _sealer(url, key_file, key_text) if reveal or raw else None
        body = letters.body(letter, sealer) if reveal or raw else b""
    if raw:
        click.get_binary_stream("stdout").write(body)
        return
    told = _document(letter)
    told["sent_again"] = told.pop("redriven") or "no"
    told["sealed"] = "yes" if letter.sealed else "no"
    if reveal:
        told["body"] = body.decode("utf-8", "backslashreplace")
    for name, value in told.items():
        if value not in ("", None):
            click.echo(f"{name:12}{escape(str(value))}")


@dead_letters.command("redrive")
@click.argument("letter_id", metavar="[ID]", required=False)
@_STORE
@_KEY
@_FILTERS
@click.option("--limit", default=1000, show_default=True, help="The newest so many.")
@click.option("--again", is_flag=True, help="Those that were sent again before, too.")
@click.option(
    "--set", "changes", multiple=True, metavar="FIELD=VALUE", help="Mend rows; null removes."
)
@click.option("--url", "server", help="Send to the API of this server.")
@click.option("--api-key", envvar="PENSTOCK_API_KEY", help="Key with the scope ingest.")
@click.option("--kafka", envvar="PENSTOCK_KAFKA", help="Send to Kafka: HOST:PORT or kafka://...")
@click.option(
    "--config",
    envvar="PENSTOCK_CONFIG",
    type=click.Path(path_type=Path),
    help="penstock.yaml of the server that is stopped, for a store of chdb.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def redrive(
    letter_id: str | None, url: str, key_file: Path | None,
    key_text: str | None, limit: int, again: bool, changes: tuple[str, ...], server: str | None,
    api_key: str | None, kafka: str | None, config: Path | None, dry_run: bool, yes: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Send dead letters again: one, or all that match. An event is stored once, however often.

    Over HTTP (--url) or to Kafka (--kafka). With neither, and the server stopped, a store of chdb takes
    them in itself.

    \b
    Example:
      penstock dead-letters redrive 1-0-17-3 --set latency_ms=812 --url http://127.0.0.1:8080
      penstock dead-letters redrive --reason unknown_value --set status=ok --dry-run
      penstock dead-letters redrive --since 2h --kafka 127.0.0.1:9092 --yes
    """
    from ..streams.dead_letters.letters import LetterId
    from ..streams.dead_letters.redrive import Redriver, parse_changes

    sealer, wanted = _sealer(url, key_file, key_text), parse_changes(changes)
    with _opened(url) as (store, letters):
        if letter_id is not None:
            found = [letters.get(LetterId.parse(letter_id))]
        else:
            found = letters.find(_filters(options, not again), limit)
        if letter_id is None and found and not (yes or dry_run):
            target = server or kafka or "the store, in this process"
            click.confirm(f"Send {len(found)} dead letters to {target}?", abort=True, err=True)
        job = Redriver(letters, sealer, wanted, time.time_ns() // 1000, _tell)
        if dry_run:
            job.rehearse(found)
        elif found:
            with _sender(store, server, api_key, kafka, config) as sender, _bar(len(found)) as bar:
                job.send(found, sender, bar.update)
    click.echo(", ".join(f"{count} {name}" for name, count in job.outcomes.items()) or "none")
    if job.failed:
        sys.exit(1)


def _tell(letter: DeadLetter, outcome: str) -> None:
    click.echo(f"{letter.id}  {outcome}", err=True)


def _bar(length: int) -> Any:
    return click.progressbar(length=length, label="sending", file=click.get_text_stream("stderr"))


@contextmanager
def _sender(
    store: Store, server: str | None, api_key: str | None, kafka: str | None, config: Path | None
) -> Iterator[Sender]:
    from ..schemas.kafka import parse_address
    from ..streams.dead_letters.senders import HttpSender, KafkaSender
    from ..streams.kafka.topics import home_partitions

    if server:
        yield HttpSender(server, api_key)
    elif kafka:
        yield KafkaSender(parse_address(kafka), home_partitions(store))
    elif store.folder is not None:
        yield from _local(store, config)
    else:
        raise click.UsageError("where to: --url of a server, or --kafka")


def _local(store: Store, config: Path | None) -> Iterator[Sender]:
    """An embedded server without its API: nobody else has the folder open."""
    from ..schemas.config import load
    from ..streams.dead_letters.seal import Sealer, load_or_make_key
    from ..streams.embedded import EmbeddedRunner

    assert store.folder is not None
    sealer = Sealer(load_or_make_key(store.folder.parent / "sealing.key"))
    runner = EmbeddedRunner(store, load(config), sealer)

    class Local:
        def send(self, body: bytes, form: Form, key: str | None) -> Receipt:
            return asyncio.run(runner.post(body, form, None))

    runner.start()
    try:
        yield Local()
    finally:
        runner.stop()
