"""`penstock up`, `migrate`: the embedded server and its store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from .options import STORE_HELP


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("penstock-data"),
    show_default=True,
    help="Folder of the store and keys.",
)
@click.option(
    "--store",
    "url",
    envvar="PENSTOCK_STORE",
    help=f"{STORE_HELP}. Default: chdb in the data folder.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8080, show_default=True, help="Port to listen on; 0 picks a free one."
)
@click.option(
    "--config", type=click.Path(path_type=Path), help="penstock.yaml: gates, limits, retention."
)
@click.option(
    "--keys/--no-keys",
    "keys",
    default=None,
    help="Ask for API keys. Default: only beyond loopback.",
)
def up(
    data: Path, url: str | None, host: str, port: int, config: Path | None, keys: bool | None
) -> None:
    """Run API, pipeline and store in this process.

    \b
    Example:
      penstock up --data ./penstock-data --port 8080
      penstock up --config penstock.yaml --host 0.0.0.0
    """
    from ..serve.embedded import serve

    serve(data, url, host, port, config, keys)


@click.command()
@click.option("--store", "url", envvar="PENSTOCK_STORE", help=STORE_HELP)
@click.option("--config", type=click.Path(path_type=Path), help="penstock.yaml, for the retention.")
@click.option(
    "--cluster", help="ClickHouse cluster to spread the tables over; the store remembers."
)
@click.option("--dry-run", is_flag=True, help="Print the SQL; without --store, all of it.")
@click.option("--print-users", is_flag=True, help="Print the SQL of users with the least rights.")
def migrate(
    url: str | None, config: Path | None, cluster: str | None, dry_run: bool, print_users: bool
) -> None:
    """Bring a store to this version's schema; repeating it changes nothing.

    \b
    Example:
      penstock migrate --store chdb:///var/lib/penstock/store
      penstock migrate --store clickhouse://migrator:password@host:8123 --cluster main --dry-run
      penstock migrate --print-users --cluster main
    """
    from ..schemas.cluster import users
    from ..schemas.config import load
    from ..streams.storage.migrate import State, plan_of, planned
    from ..streams.storage.migrate import migrate as run
    from ..streams.storage.store import Store

    if print_users:
        _print_sql(users(cluster))
        return
    retention = load(config).retention
    if url is None:
        if not dry_run:
            raise click.UsageError("Missing option '--store' (env var: 'PENSTOCK_STORE').")
        _print_sql(plan_of(State(), retention, cluster).statements)
        return
    store = Store(url)
    try:
        if dry_run:
            _print_sql(planned(store, retention, cluster).statements)
            return
        applied = run(store, retention, cluster)
    finally:
        store.close()
    for migration in applied:
        click.echo(f"applied {migration.version:04d} {migration.name}")
    click.echo("the schema is current" if not applied else f"{len(applied)} applied")


def _print_sql(statements: Sequence[str]) -> None:
    for statement in statements:
        click.echo(f"{statement};\n")
