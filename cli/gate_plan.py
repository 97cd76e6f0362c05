"""`penstock gate plan`: how long each verdict will take, before the release starts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .gate_asking import gate_of
from .gate_file import gate_in
from .gate_traffic import Seen, latency_of, seen
from .sources import HttpSource

if TYPE_CHECKING:
    from ..schemas.gates import LiveGate
    from ..schemas.gates.absolute import AbsoluteGate
    from ..schemas.gates.canary import CanaryGate
    from ..streams.core.gates.plan import Plan, Traffic

_NEEDLESS = {
    "rollback": "it watches for as long as the release runs, and never passes",
    "budget": "its budget is a count, known at once",
}


@dataclass(frozen=True, slots=True)
class Given:
    """What the caller says of the traffic; it goes before what the server has seen."""

    rps: float | None
    share: float | None
    rates: Mapping[str, float]
    means: Mapping[str, float]
    log_sd: float | None
    workers: tuple[int, int] | None
    worse: float


def traffic_for(spec: CanaryGate, given: Given, control: Seen, treatment: Seen) -> Traffic:
    """The traffic that a plan of a canary gate assumes.

    Args:
        spec: the gate.
        given: by the caller.
        control, treatment: seen by a server; the treatment may have none yet.

    Raises:
        UsageError: it does not tell how much traffic there is, or how it is split.
    """
    from ..streams.core.gates.plan import Traffic

    total = control.requests + treatment.requests
    observed = treatment.requests / total if treatment.requests and control.requests else None
    share = given.share or spec.share or observed
    if share is None:
        raise click.UsageError("which share of the traffic will the treatment get? --share 0.1")
    rps = given.rps or control.requests_per_s + treatment.requests_per_s
    if not rps:
        raise click.UsageError(
            "no traffic was seen: say how much there will be, with --rps, or --url of another server"
        )
    workers = given.workers or (control.workers or 4, treatment.workers or 2)
    return Traffic(
        rps,
        share,
        rates={**control.rates, **given.rates},
        log_sd=given.log_sd or control.log_sd or 0.5,
        mean={**_in_caps(spec, control.means), **given.means},
        workers=workers,
        worse=given.worse,
    )


def _in_caps(spec: CanaryGate, means: Mapping[str, float]) -> dict[str, float]:
    """Means of the traffic as shares of the caps of a gate's metrics."""
    found = {}
    for metric in spec.metrics:
        cap = getattr(metric, "cap", None)
        mean = means.get("quality" if metric.name == "quality" else "cost")
        if cap is not None and mean is not None:
            found[metric.name] = min(max(mean / cap, 1e-6), 1.0)
    return found


def planned(
    spec: LiveGate, given: Given, source: HttpSource | None, window: str
) -> tuple[Plan, Any]:
    """The plan of a gate, and the traffic that it assumes.

    Raises:
        UsageError: the gate needs none, or the traffic is not known.
        PenstockError: the server cannot tell.
    """
    from ..schemas.gates.absolute import AbsoluteGate
    from ..schemas.gates.canary import CanaryGate
    from ..streams.core.gates.plan import plan

    if isinstance(spec, CanaryGate):
        arms = [spec.control.given(), spec.treatment.given()]
        both = [_seen(source, arm, spec, window) for arm in arms]
        traffic = traffic_for(spec, given, *both)
        return plan(spec, traffic), asdict(traffic)
    if isinstance(spec, AbsoluteGate):
        return _of_limits(spec, given, _seen(source, spec.filter.given(), spec, window))
    raise _needless(spec.id, spec.kind)


def _of_limits(spec: AbsoluteGate, given: Given, found: Seen) -> tuple[Plan, Any]:
    from ..streams.core.gates.plan_limits import plan_limits

    rps = given.rps or found.requests_per_s
    if not rps:
        raise click.UsageError("no traffic was seen: say how much there will be, with --rps")
    if given.worse <= 1:
        raise click.UsageError("--worse is how many times its limit a bad release has: above 1")
    rates = {**found.rates, **given.rates}
    return plan_limits(spec, rps, rates, given.worse), {"requests_per_s": rps, "rates": rates}


def _seen(
    source: HttpSource | None, arm: Mapping[str, str], spec: CanaryGate | AbsoluteGate, window: str
) -> Seen:
    return Seen() if source is None else seen(source, arm, latency_of(spec), window)


def lines_of(spec: LiveGate, plan: Plan, traffic: Mapping[str, Any]) -> Iterator[str]:
    """A plan for people.

    Args:
        spec: the gate.
        plan: of it.
        traffic: assumed.
    """
    limit = "no deadline" if spec.deadline_s is None else f"deadline {spec.deadline_s:,} s"
    result = "decidable" if plan.decidable else "REFUSED, undecided at its deadline"
    share = f", {traffic['share']:.3g} of it the treatment's" if "share" in traffic else ""
    yield f"{spec.id}: {result} ({limit}; {traffic['requests_per_s']:,.3g} requests/s{share})"
    unit = getattr(spec, "unit", "request")
    if unit != "request":
        yield f"  units are {unit}s: --rps is how many of them begin per second"
    of = "its limit" if spec.kind == "absolute" else "control"
    yield f"  {'metric':<30}{'verdict':<9}{f'times {of}':>16}{'units':>14}{'seconds':>11}"
    for line in plan.lines:
        units = "never" if line.units is None else f"{line.units:,}"
        seconds = "" if line.seconds is None else f"{line.seconds:,.0f}"
        late = "" if line.reachable else "  after the deadline"
        yield f"  {line.metric:<30}{line.verdict:<9}{line.ratio:>16.3g}{units:>14}{seconds:>11}{late}"
    for problem in plan.problems:
        yield f"  {problem}"


def _pairs(
    ctx: click.Context, option: click.Parameter, values: tuple[str, ...]
) -> dict[str, float]:
    """`name=number`, several times."""
    found = {}
    for value in values:
        name, _, number = value.partition("=")
        try:
            found[name] = float(number)
        except ValueError as error:
            raise click.BadParameter(
                f"{value!r} is not name=number, such as error_rate=0.005"
            ) from error
    return found


@click.command()
@click.argument("gate_id", metavar="GATE")
@click.option("--url", help="Of a server whose recent traffic is assumed: http://host:port")
@click.option("--api-key", envvar="PENSTOCK_API_KEY", help="Key for --url with the scope read.")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file that has GATE; without it, the server's.",
)
@click.option(
    "--window", default="1h", show_default=True, help="How much of recent traffic, of --url."
)
@click.option(
    "--rps", type=click.FloatRange(0, min_open=True), help="Requests per second, of both arms."
)
@click.option(
    "--share", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Of the treatment."
)
@click.option("--rate", "rates", multiple=True, callback=_pairs, help="Bad share: error_rate=0.005")
@click.option("--mean", "means", multiple=True, callback=_pairs, help="Mean in caps: cost_usd=0.1")
@click.option(
    "--log-sd", type=click.FloatRange(0, min_open=True), help="Spread of the log of latencies."
)
@click.option("--workers", type=(int, int), help="Of control and of treatment.")
@click.option(
    "--worse",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Times as bad that FAIL must find.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document and nothing else.")
@click.pass_context
def plan(
    ctx: click.Context,
    /,
    gate_id: str,
    url: str | None,
    api_key: str | None,
    config: Path | None,
    window: str,
    as_json: bool,
    **given: Any,
) -> None:
    """How many units and seconds each verdict of GATE needs at this traffic.

    Exit code: 0 every critical verdict comes before the deadline, 1 refused, with the reasons.

    \b
    Example:
      penstock gate plan chat-canary --url http://127.0.0.1:8080
      penstock gate plan chat-canary --config penstock.yaml --rps 100 --share 0.1 \\
          --rate error_rate=0.005
    """
    if url is None and config is None:
        raise click.UsageError("where is the gate? --url of a server, or --config of a file")
    source = None if url is None else HttpSource(url, api_key)
    if config is not None:
        spec = gate_in(config, gate_id)
    else:
        assert source is not None
        spec = _of_server(source, gate_id)
    found, traffic = planned(spec, Given(**given), source, window)
    known = {line.metric for line in found.lines}
    unknown = {*given["rates"], *given["means"]} - known
    if unknown:
        raise click.UsageError(
            f"{gate_id} has no metric {', '.join(sorted(unknown))}; it has: {', '.join(sorted(known))}"
        )
    if as_json:
        told = {"gate": gate_id, "decidable": found.decidable, "traffic": traffic}
        click.echo(json.dumps(told | asdict(found)))
    else:
        for line in lines_of(spec, found, traffic):
            click.echo(line)
    ctx.exit(0 if found.decidable else 1)


def _needless(gate_id: str, kind: str) -> click.UsageError:
    return click.UsageError(f"{gate_id} is a {kind} gate and needs no plan: {_NEEDLESS[kind]}")


def _of_server(source: HttpSource, gate_id: str) -> LiveGate:
    from ..schemas.config import parse

    gate = gate_of(source, gate_id)
    if gate["kind"] in _NEEDLESS:
        raise _needless(gate_id, gate["kind"])
    return parse(json.dumps({"gates": [gate["spec"]]})).live_gates[0]
