"""`penstock gate run`: gates in CI, on files or on a server."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..schemas.errors import PenstockError
from .gate_asking import EXIT_CODES, gate_of, path_of
from .gate_output import (
    Told,
    as_check_run,
    as_github,
    as_json,
    as_junit,
    as_markdown,
    as_text,
    worst_of,
)
from .sources import HttpSource

if TYPE_CHECKING:
    from ..schemas.gates.files import GatesFile

FAULT = 4
"""Exit code where no verdict could be asked for at all: it is none of the verdicts' codes."""
_FORMATS = {"text": as_text, "json": as_json, "junit": as_junit, "github": as_github}
_LONGEST_WAIT_S = 25
_PAUSE_S = 2.0
# what only a gate that runs on has
_OF_STREAMS = ("watermark", "as_of", "eta_s", "next_poll_ms", "epoch")


@dataclass(frozen=True, slots=True)
class _Given:
    """What options say of files; it goes before what the configuration says."""

    run: Path | None
    baseline: Path | None
    before: Path | None
    baseline_before: Path | None
    match: dict[str, str]
    histograms: dict[str, str]


class _Run(click.Command):
    """Faults of usage, configuration and network exit with `FAULT`, never with a verdict's code."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)
        except click.ClickException as error:
            error.exit_code = FAULT
            raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            error.exit_code = FAULT
            raise
        except PenstockError as error:
            fault = click.ClickException(str(error))
            fault.exit_code = FAULT
            raise fault from error


@click.command(cls=_Run)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default="gates.yaml",
    show_default=True,
    help="File with `gates`; a penstock.yaml will do.",
)
@click.option(
    "--gate", "gates", multiple=True, metavar="ID", help="Only this one; may be repeated."
)
@click.option("--run", "run_file", type=click.Path(path_type=Path), help="File of the new build.")
@click.option("--baseline", type=click.Path(path_type=Path), help="File it is compared with.")
@click.option(
    "--before",
    type=click.Path(path_type=Path),
    help="With a saved /metrics as --run: the same, saved at the start of the test.",
)
@click.option(
    "--baseline-before",
    type=click.Path(path_type=Path),
    help="The same as --before, of --baseline.",
)
@click.option(
    "--match",
    "matches",
    multiple=True,
    metavar="LABEL=VALUE",
    help="Only series of /metrics with this label; may be repeated.",
)
@click.option(
    "--histogram",
    "histograms",
    multiple=True,
    metavar="FIELD=NAME",
    help="Histogram of /metrics that a field is read from; may be repeated.",
)
@click.option("--format", "form", type=click.Choice([*_FORMATS]), default="text", show_default=True)
@click.option("--json", "is_json", is_flag=True, help="The same as --format json.")
@click.option("--output", type=click.Path(path_type=Path), help="File to write; default: stdout.")
@click.option(
    "--summary",
    type=click.Path(path_type=Path),
    envvar="GITHUB_STEP_SUMMARY",
    help="With --format github: file that Markdown is appended to.  [env: GITHUB_STEP_SUMMARY]",
)
@click.option(
    "--check-run", type=click.Path(path_type=Path), help="Write the body of a GitHub check run."
)
@click.option("--head-sha", envvar="GITHUB_SHA", default="", help="Commit of the check run.")
@click.option("--server", metavar="URL", help="Ask a running server for its gates instead.")
@click.option("--api-key", envvar="PENSTOCK_API_KEY", help="Key for --server.")
@click.option(
    "--wait", "wait_s", type=click.FloatRange(0, 86_400), default=0.0, metavar="SECONDS",
    help="With --server: ask until every gate is decided, at most so long.",
)  # fmt: skip
@click.pass_context
def run(
    ctx: click.Context,
    config: Path,
    gates: tuple[str, ...],
    run_file: Path | None,
    baseline: Path | None,
    before: Path | None,
    baseline_before: Path | None,
    matches: tuple[str, ...],
    histograms: tuple[str, ...],
    form: str,
    is_json: bool,
    output: Path | None,
    summary: Path | None,
    check_run: Path | None,
    head_sha: str,
    server: str | None,
    api_key: str | None,
    wait_s: float,
) -> None:
    """Decide gates on files, or ask a server: one line of decision each, then the evidence.

    Exit code 0 PASS, 1 FAIL, 2 UNDECIDED, 3 NO_DATA or INVALID; of several gates the worst:
    FAIL, then 3, then 2. 4 is a fault: the gates could not be asked at all.

    Of a saved /metrics (or an answer of Prometheus' /api/v1/query) absolute and perf gates read
    histograms: ttft_ms, latency_ms, tpot_ms, itl_ms and more by the names that vLLM and SGLang use,
    any other X_seconds_bucket or X_ms_bucket as X_ms. What their buckets leave open is UNDECIDED.

    \b
    Example:
      penstock gate run --config gates.yaml --run run.json --baseline baseline.json
      penstock gate run --config gates.yaml --run after.prom --before before.prom
      penstock gate run --config gates.yaml --gate parity --format junit --output gates.xml
      penstock gate run --server http://127.0.0.1:8080 --gate chat-canary --wait 600
    """
    if server is not None:
        told = list(_on_server(HttpSource(server, api_key), gates, wait_s))
    else:
        given = _Given(
            run_file, baseline, before, baseline_before, _pairs(matches), _pairs(histograms)
        )
        told = list(_on_files(config, gates, given))
    text = _FORMATS["json" if is_json else form](told)
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")
        click.echo("\n".join(f"{one.gate}: {one.text}" for one in told))
    if form == "github" and summary is not None:
        with summary.open("a", encoding="utf-8") as file:
            file.write(as_markdown(told))
    if check_run is not None:
        check_run.write_text(as_check_run(told, head_sha), encoding="utf-8")
    ctx.exit(EXIT_CODES[worst_of(told)])


def _pairs(given: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` of an option that may be repeated."""
    pairs = [text.partition("=") for text in given]
    for name, sign, value in pairs:
        if not (name and sign and value):
            raise click.UsageError(f"{name or '='} should be NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _on_files(config: Path, gates: Sequence[str], given: _Given) -> Iterator[Told]:
    from ..schemas.gates import OfflineGate
    from ..schemas.gates.absolute import AbsoluteGate
    from ..streams.gate_files.histograms import Choice
    from ..streams.gate_files.judging import PAIRED, Files, judge

    found = _configured(config)
    _known(gates, [gate.id for gate in found.gates], str(config))
    for gate in found.gates:
        if gates and gate.id not in gates:
            continue
        if not isinstance(gate, OfflineGate | AbsoluteGate):
            if gates:
                raise click.UsageError(f"{gate.id} is a {gate.kind} gate: ask for it with --server")
            click.echo(f"{gate.id} is a {gate.kind} gate: left out without --server", err=True)
            continue
        ours = given.run or _beside(config, getattr(gate, "run", None))
        theirs = given.baseline or _beside(config, getattr(gate, "baseline", None))
        if ours is None:
            raise click.UsageError(f"{gate.id} names no run: give --run, or `run:` in {config}")
        if theirs is None and isinstance(gate, PAIRED):
            raise click.UsageError(
                f"{gate.id} compares: give --baseline, or `baseline:` in {config}"
            )
        choice = Choice(given.match, given.histograms)
        files = Files(ours, theirs, given.before, given.baseline_before, choice)
        body = judge(gate, files).to_dict()
        kept = {name: value for name, value in body.items() if name not in _OF_STREAMS}
        yield Told(gate.id, gate.kind, kept)


def _configured(config: Path) -> GatesFile:
    from ..schemas.config import read_as
    from ..schemas.errors import InvalidConfiguration
    from ..schemas.gates.files import GatesFile

    try:
        text = config.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidConfiguration(
            f"cannot read {config}: {error.strerror}; `penstock gate init` writes one"
        ) from error
    return read_as(GatesFile, text, str(config))[0]


def _known(asked: Sequence[str], there: Sequence[str], where: str) -> None:
    for name in asked:
        if name not in there:
            raise click.UsageError(f"{where} has no gate {name!r}; it has {', '.join(there)}")


def _beside(config: Path, name: str | None) -> Path | None:
    return None if name is None else config.parent / name


def _on_server(source: HttpSource, gates: Sequence[str], wait_s: float) -> Iterator[Told]:
    if not gates:
        raise click.UsageError("which gate? Give --gate ID beside --server")
    until = time.monotonic() + wait_s
    for name in gates:
        kind = str(gate_of(source, name)["kind"])
        yield Told(name, kind, _settled(source, name, until))


def _settled(source: HttpSource, name: str, until: float) -> dict[str, Any]:
    """The newest verdict; asked again until it is decided or the time is over."""
    while True:
        left_s = max(until - time.monotonic(), 0.0)
        body = source.ask(path_of(name, "verdict"), wait=f"{min(left_s, _LONGEST_WAIT_S):.0f}s")
        if body["verdict"] in ("PASS", "FAIL") or time.monotonic() >= until:
            return body
        time.sleep(min(_PAUSE_S, left_s))
