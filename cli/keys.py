"""`penstock keys`: API keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.group()
def keys() -> None:
    """Make, list and revoke API keys."""


_KEYS_DATA = click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("penstock-data"),
    show_default=True,
    help="Folder given to `penstock up`.",
)


@keys.command("create")
@_KEYS_DATA
@click.option("--name", required=True, help="Who uses it.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(["ingest", "read", "gate", "admin"]),
    help="May be repeated.",
)
@click.option("--rate", "rate_per_s", type=float, help="Requests per second. Default: no limit.")
def keys_create(data: Path, name: str, scopes: tuple[Any, ...], rate_per_s: float | None) -> None:
    """Make a key; it is shown once and stored hashed.

    \b
    Example:
      penstock keys create --name workers --scope ingest
    """
    from ..api.keys import create_key

    data.mkdir(parents=True, exist_ok=True)
    click.echo(create_key(data / "keys.json", name, scopes, rate_per_s))


@keys.command("list")
@_KEYS_DATA
def keys_list(data: Path) -> None:
    """List keys, without their secrets."""
    from ..api.keys import list_keys

    for key in list_keys(data / "keys.json"):
        rate = "no limit" if key.rate_per_s is None else f"{key.rate_per_s:g}/s"
        click.echo(f"{key.id}  {key.name}  {','.join(key.scopes)}  {rate}  {key.created_at}")


@keys.command("revoke")
@_KEYS_DATA
@click.argument("key_id")
def keys_revoke(data: Path, key_id: str) -> None:
    """Revoke a key; a running server sees it at once."""
    from ..api.keys import revoke_key

    revoke_key(data / "keys.json", key_id)
    click.echo(f"revoked {key_id}")
