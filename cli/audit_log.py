"""`penstock audit-log`: whether the log of what was changed is as it was written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from .options import STORE_HELP
from .sources import opened_store

if TYPE_CHECKING:
    from ..streams.core.alerts.audit import Entry
    from ..streams.storage.store import Store

_PAGE = 5000
_REASONS = {
    "index": "one is missing, added or out of place",
    "previous": "it does not follow the one before",
    "hash": "it was changed",
    "head": "the hash that was given is not in it: its end was cut off",
}


@click.group("audit-log")
def audit_log() -> None:
    """The log of alerts, silences, acknowledgements and configurations."""


def _heads(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    if any(not (chain and head) for chain, _, head in pairs):
        raise click.BadParameter("write CHAIN=HASH, as `verify` prints them")
    return {chain: head for chain, _, head in pairs}


@audit_log.command()
@click.option("--store", "url", envvar="PENSTOCK_STORE", required=True, help=STORE_HELP)
@click.option(
    "--head",
    "heads",
    multiple=True,
    callback=_heads,
    metavar="CHAIN=HASH",
    help="Hash of the last entry of an earlier run, kept elsewhere: entries cut off at the end show.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@click.pass_context
def verify(ctx: click.Context, url: str, heads: dict[str, str], as_json: bool) -> None:
    """See that no entry was changed, removed, added or moved; exit code 1 with the first that was.

    Each entry holds the hash of the one before. The chains are `shard-N` of evaluators, `api` (what people
    do) and `configuration` (its versions). Keep the heads that this prints somewhere else: without them, a log that was cut off at its end looks whole.

    \b
    Example:
      penstock audit-log verify --store chdb:///var/lib/penstock/store
      penstock audit-log verify --head shard-0=8f14e45f... --json
    """
    with opened_store(url) as store:
        chains = {*chains_of(store), *heads}
        results = [verified(store, chain, heads.get(chain)) for chain in sorted(chains)]
    broken = any(result["broken"] for result in results)
    if as_json:
        click.echo(json.dumps({"holds": not broken, "chains": results}))
    for result in () if as_json else results:
        if result["broken"]:
            click.echo(
                f"{result['chain']}: entry {result['broken']['index']}: {result['broken']['what']}"
            )
        else:
            click.echo(
                f"{result['chain']}: {result['entries']} entries hold, head {result['head']}"
            )
    if not results and not as_json:
        click.echo("the log is empty")
    ctx.exit(1 if broken else 0)


def chains_of(store: Store) -> list[str]:
    """Names of the chains."""
    return [row["chain"] for row in store.query("SELECT DISTINCT chain FROM penstock.audit_log")]


def verified(store: Store, chain: str, head: str | None) -> dict[str, Any]:
    """What became of a chain: how many entries, the hash of the last, and the first broken one.

    Args:
        store: that holds it.
        chain: which.
        head: hash that must be in it; None for any.
    """
    from ..streams.core.alerts.audit import GENESIS, Broken, verify

    last, seen, met = GENESIS, 0, head is None

    def watched() -> Iterator[Entry]:
        nonlocal last, seen, met
        for entry in _entries(store, chain):
            # The head may be of an earlier run: then the log has grown since.
            last, seen, met = entry.hash, seen + 1, met or entry.hash == head
            yield entry

    broken = verify(watched())
    if broken is None and not met:
        broken = Broken(seen, "head")
    return {
        "chain": chain,
        "entries": seen,
        "head": last,
        "broken": broken and asdict(broken) | {"what": _REASONS[broken.reason]},
    }


def _entries(store: Store, chain: str) -> Iterator[Entry]:
    """Every entry of a chain, page by page, in order."""
    after = -1
    while True:
        rows = store.query(
            "SELECT seq, toUnixTimestamp(at) AS at_s, kind, who, body, previous, hash "
            "FROM penstock.audit_log WHERE chain = {chain:String} "
            f"AND toInt64(seq) > {{after:Int64}} ORDER BY seq LIMIT {_PAGE}",
            {"chain": chain, "after": after},
        )
        for row in rows:
            yield _entry(row)
        if len(rows) < _PAGE:
            return
        after = rows[-1]["seq"]


def _entry(row: Mapping[str, Any]) -> Entry:
    from ..streams.core.alerts.audit import Entry

    try:
        body = json.loads(row["body"])
    except ValueError:
        body = {"damaged": row["body"]}  # cannot have the hash of what was written
    return Entry(
        row["seq"], row["at_s"], row["kind"], row["who"], body, row["previous"], row["hash"]
    )
