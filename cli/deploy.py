"""`penstock init-secrets`: passwords and keys of a deployment."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("init-secrets")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("secrets"),
    show_default=True,
    help="Folder with one folder per consumer below it.",
)
@click.option(
    "--store-address",
    default="clickhouse:8123",
    show_default=True,
    help="ClickHouse's HTTP interface, as worker and API reach it.",
)
@click.option(
    "--renew",
    multiple=True,
    type=click.Choice(["migrator", "writer", "api", "reader"]),
    help="Give a user of ClickHouse a new password; restart who uses it. May be repeated.",
)
@click.option("--show", is_flag=True, help="Print what people need: two passwords and an API key.")
def init_secrets(folder: Path, store_address: str, renew: tuple[str, ...], show: bool) -> None:
    """Make random passwords and keys, once; running it again keeps them.

    Writes ClickHouse's users (hashes and grants), the store addresses of worker and API, the key that
    quarantined rows are sealed with, an API key and Grafana's passwords, each in its reader's folder.

    \b
    Example:
      penstock init-secrets --dir /run/penstock
      penstock init-secrets --dir /run/penstock --show
      penstock init-secrets --dir /run/penstock --renew writer
    """
    from ..secrets_init import init_secrets as run

    made = run(folder, store_address, renew)
    if show:
        click.echo(f"grafana admin: {made.grafana_password}")
        click.echo(f"clickhouse reader: {made.reader_password}")
        click.echo(f"api key: {made.operator_key}")
    else:
        click.echo(f"the secrets in {folder} are complete")
