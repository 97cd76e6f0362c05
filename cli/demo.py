"""`penstock demo` and `penstock replay`: real traffic on demand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from ..demo.run import DemoOptions

_SPEED_HELP = "Seconds of events per second, or max."
# As in producers/faults.py, which is imported when it is needed; a test compares them.
FAULTS = ("none", "slow", "errors", "safety", "cost", "drift", "outage", "silent-worker")
_SEED = click.option("--seed", default=0, show_default=True, help="Of everything that is drawn.")


def _speed(_: click.Context, __: click.Parameter, value: str) -> float:
    from ..producers.replay import parse_speed

    try:
        return parse_speed(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.option(
    "--canary",
    type=click.Choice(["good", "slow", "errors"]),
    default="slow",
    show_default=True,
    help="What becomes of the canary.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    type=click.Choice(FAULTS),
    help="Instead of a canary, something that goes wrong, and the alerts that it raises; repeatable.",
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
@click.pass_context
def demo(ctx: click.Context, /, faults: tuple[str, ...], exit_code: bool, **options: Any) -> None:
    """Replay a real hour of LLM traffic with a canary, and get the verdict.

    With --fault something goes wrong instead, and the exit code is 1 unless exactly the matching alerts
    fired and are explained rightly. Where not everything that was emitted is stored, it is 4.

    \b
    Example:
      penstock demo
      penstock demo --canary good --open
      penstock demo --fault slow --speed max
      penstock demo --speed max --json
    """
    from ..demo.run import DemoOptions, run_demo

    if faults:
        for name in ("canary", "head_s", "exit_code"):
            if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                option = name.removesuffix("_s").replace("_", "-")
                raise click.UsageError(
                    f"--fault replays the whole hour alone: leave out --{option}"
                )
        if "none" in faults and len(faults) > 1:
            raise click.UsageError("--fault none goes with no other fault")
        _demo_of_faults(faults, DemoOptions(**options))
        return
    result = run_demo(DemoOptions(**options))
    if not result.complete:
        click.echo("not everything that was emitted is stored", err=True)
        sys.exit(4)
    if exit_code:
        sys.exit(result.exit_code)


def _demo_of_faults(faults: tuple[str, ...], options: DemoOptions) -> None:
    from ..demo.faults import run_fault_demo
    from ..producers.faults import FAULTS as KNOWN

    result = run_fault_demo(tuple(name for name in KNOWN if name in faults), options)
    if not result.complete:
        click.echo("not everything that was emitted is stored", err=True)
    sys.exit(result.exit_code)


@click.command()
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

    from ..producers.replay import ReplayOptions, run_replay

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
