"""The command line: the composition root. Each command imports what it needs when it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

try:
    import click
except ImportError:  # the light worker SDK is installed without the server's libraries
    sys.exit("the penstock command needs the server's libraries: pip install 'penstock[server]'")

from .schemas.errors import PenstockError

CONTEXT = {
    "help_option_names": ["-h", "--help"],
    "auto_envvar_prefix": "PENSTOCK",
    "max_content_width": 100,
}
STORE_HELP = "chdb:///folder or clickhouse://user:password@host:8123/penstock"


class _Group(click.Group):
    """Says what went wrong in a sentence, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PenstockError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings=CONTEXT)
@click.version_option(package_name="penstock")
def main() -> None:
    """Event-streaming observability and release gates for LLM and ML workers."""


@main.command()
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
    from .serve import serve

    serve(data, url, host, port, config, keys)


@main.command()
@click.option("--store", "url", envvar="PENSTOCK_STORE", required=True, help=STORE_HELP)
@click.option("--config", type=click.Path(path_type=Path), help="penstock.yaml, for the retention.")
def migrate(url: str, config: Path | None) -> None:
    """Bring a store to this version's schema; repeating it changes nothing.

    \b
    Example:
      penstock migrate --store chdb:///var/lib/penstock/store
    """
    from .schemas.config import load
    from .streams.migrate import migrate as run
    from .streams.store import Store

    store = Store(url)
    applied = run(store, load(config).retention)
    for migration in applied:
        click.echo(f"applied {migration.version:04d} {migration.name}")
    click.echo("the schema is current" if not applied else f"{len(applied)} applied")
    store.close()


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
def check(config: Path) -> None:
    """Validate a penstock.yaml; exit code 1 with every mistake and its line.

    \b
    Example:
      penstock check penstock.yaml
    """
    from .schemas.config import load

    found = load(config)
    click.echo(f"{config} is valid: {len(found.gates)} gates")


@main.group()
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
    from .api.keys import create_key

    data.mkdir(parents=True, exist_ok=True)
    click.echo(create_key(data / "keys.json", name, scopes, rate_per_s))


@keys.command("list")
@_KEYS_DATA
def keys_list(data: Path) -> None:
    """List keys, without their secrets."""
    from .api.keys import list_keys

    for key in list_keys(data / "keys.json"):
        rate = "no limit" if key.rate_per_s is None else f"{key.rate_per_s:g}/s"
        click.echo(f"{key.id}  {key.name}  {','.join(key.scopes)}  {rate}  {key.created_at}")


@keys.command("revoke")
@_KEYS_DATA
@click.argument("key_id")
def keys_revoke(data: Path, key_id: str) -> None:
    """Revoke a key; a running server sees it at once."""
    from .api.keys import revoke_key

    revoke_key(data / "keys.json", key_id)
    click.echo(f"revoked {key_id}")


_SPEED_HELP = "Seconds of events per second, or max."
_SEED = click.option("--seed", default=0, show_default=True, help="Of everything that is drawn.")


def _speed(_: click.Context, __: click.Parameter, value: str) -> float:
    from .producers.replay import parse_speed

    try:
        return parse_speed(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@main.command()
@click.option(
    "--canary",
    type=click.Choice(["good", "slow", "errors"]),
    default="slow",
    show_default=True,
    help="What becomes of the canary.",
)
@click.option("--speed", default="40", show_default=True, callback=_speed, help=_SPEED_HELP)
@_SEED
@click.option("--port", type=int, help="Port of the server. Default: 8080, or a free one.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder to keep everything in. Default: a temporary one.",
)
@click.option("--head", "head_s", type=float, help="Replay only the first seconds of the hour.")
@click.option(
    "--open", "leave_open", is_flag=True, help="Leave the server running and open the dashboard."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@click.option(
    "--exit-code", is_flag=True, help="Exit 0 on PASS, 1 FAIL, 2 UNDECIDED, 3 NO_DATA or INVALID."
)
def demo(exit_code: bool, **options: Any) -> None:
    """Replay a real hour of LLM traffic with a canary, and get the verdict.

    \b
    Example:
      penstock demo
      penstock demo --canary good --open
      penstock demo --speed max --json
    """
    from .demo import DemoOptions, run_demo

    result = run_demo(DemoOptions(**options))
    if not result.complete:
        click.echo("not everything that was emitted is stored", err=True)
        sys.exit(4)
    if exit_code:
        sys.exit(result.exit_code)


@main.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--format",
    "form",
    type=click.Choice(["azure", "mooncake"]),
    required=True,
    help="Format of the trace.",
)
@click.option(
    "--url", default="http://127.0.0.1:8080", show_default=True, help="Server to send to."
)
@click.option("--speed", default="1", show_default=True, callback=_speed, help=_SPEED_HELP)
@click.option(
    "--canary",
    type=click.Choice(["good", "slow", "errors"]),
    help="Add a canary from the middle on.",
)
@click.option("--workers", default=5, show_default=True, help="Worker processes.")
@_SEED
@click.option("--head", "head_s", type=float, help="Replay only the first seconds.")
@click.option("--api-key", envvar="PENSTOCK_API_KEY", help="Key with the scope ingest.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def replay(file: Path, as_json: bool, **options: Any) -> None:
    """Replay a trace of LLM traffic against a server, through simulated workers.

    \b
    Example:
      penstock replay azure_llm_2023_conv.csv --format azure --url http://127.0.0.1:8080
      penstock replay conversation.jsonl --format mooncake --speed 10
    """
    import json

    from .producers.replay import ReplayOptions, run_replay

    def show(progress: Any) -> None:
        if not as_json:
            click.echo(
                f"\r{progress.done * 100:5.1f} %  {progress.emitted.total():,} events",
                nl=False,
                err=True,
            )

    summary = run_replay(ReplayOptions(path=file, **options), show)
    document = {
        "emitted": dict(summary.emitted),
        "undelivered": summary.undelivered,
        "wall_s": round(summary.wall_s, 2),
    }
    if as_json:
        click.echo(json.dumps(document))
    else:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in summary.emitted.items())
        click.echo(
            f"\nsent {kinds} in {summary.wall_s:.0f} s; {summary.undelivered:,} still undelivered"
        )
