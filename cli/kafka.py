"""`penstock topics` and `penstock api`: Kafka's topics, and the API beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import KAFKA_HELP, STORE_HELP

_KAFKA = click.option("--kafka", envvar="PENSTOCK_KAFKA", required=True, help=KAFKA_HELP)
_STORE = click.option("--store", envvar="PENSTOCK_STORE", required=True, help=STORE_HELP)


@click.command()
@_KAFKA
@_STORE
@click.option(
    "--partitions",
    type=click.IntRange(1, 10_000),
    help="Of penstock.events; more than there are adds some. Default: 8, or as it is.",
)
@click.option(
    "--shards",
    type=click.IntRange(1, 1_000),
    help="Partitions of penstock.panes: evaluators at most, for ever. Default: 4, or as it is.",
)
@click.option(
    "--replication",
    type=click.IntRange(1, 100),
    help="Copies of each partition. Default: 1; 3 where there are three brokers.",
)
@click.option(
    "--retention-hours",
    type=click.FloatRange(0, min_open=True),
    help="How long events stay in Kafka. Default: 168, or as it is.",
)
@click.option("--alter", is_flag=True, help="Mend settings that differ; else they are only told.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def topics(kafka: str, store: str, as_json: bool, **wanted: Any) -> None:
    """Make the topics, and remember in the store what depends on them; repeatable.

    \b
    Example:
      penstock topics --kafka localhost:9092 --store clickhouse://writer:pw@localhost:8123/penstock
      penstock topics --partitions 24 --replication 3 --retention-hours 72 --alter
    """
    import json
    from dataclasses import asdict

    from ..schemas.kafka import parse_address
    from ..streams.kafka.topics import Topics, ensure_topics, home_partitions, shards
    from ..streams.storage.store import Store

    asked = Topics(**wanted)
    opened = Store(store)
    try:
        changes = ensure_topics(parse_address(kafka), opened, asked)
        kept = {"home_partitions": home_partitions(opened), "shards": shards(opened)}
    finally:
        opened.close()
    if as_json:
        click.echo(json.dumps({"changes": [asdict(change) for change in changes], **kept}))
        return
    for change in changes:
        click.echo(str(change))
    if not changes:
        click.echo("the topics are as they should be")
    click.echo(
        f"boots are at home in {kept['home_partitions']} partitions, {kept['shards']} shards"
    )


@click.command()
@_KAFKA
@_STORE
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8080, show_default=True, help="Port to listen on; 0 picks a free one."
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="PENSTOCK_CONFIG",
    help="penstock.yaml, the one that the workers have.",
)
@click.option(
    "--keys/--no-keys",
    "keys",
    default=None,
    help="Ask for API keys. Default: only beyond loopback.",
)
@click.option(
    "--keys-file",
    type=click.Path(path_type=Path),
    default=Path("penstock-data/keys.json"),
    show_default=True,
    help="File that `penstock keys --data FOLDER` keeps in its folder.",
)
def api(**options: Any) -> None:
    """Run the API beside Kafka and a store: POSTs go to penstock.events, answers come from the store.

    \b
    Example:
      penstock api --kafka localhost:9092 --store clickhouse://api:pw@localhost:8123/penstock
    """
    from ..serve.api import ApiOptions, serve_api

    serve_api(ApiOptions(**options))
