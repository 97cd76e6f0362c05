"""`penstock demo --fault`: the hour with faults in it, its alerts, and whether they are right.

The rules are those of the catalogue, with the numbers of this service where it has its own. Everything
that fires is compared with what the faults must fire: too many alerts are as wrong as too few, and so
are alerts whose explanation does not name what went wrong.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..producers.faults import FaultName
from ..producers.fleet import Rehearsal, rehearse
from ..producers.replay import ReplayOptions, ReplaySummary, run_replay
from .expected import expected
from .faults_view import FaultView, FiredAlert
from .run import DemoOptions, browse, demo_folder
from .server import Api, DemoFailed, Server, each_second, parse_us, running_server

REFERENCE = "usual-routes"
STEP_EVERY = 10
TURN_S = 50.0  # every insert costs the same, so longer turns are cheaper; a minute would be too far apart
_SETTLE_S = 180.0
_EXPLAINED_S = 60.0
_MINUTE_US = 60_000_000


def fault_config(healthy: Rehearsal) -> str:
    """The penstock.yaml of the hour: the catalogue, with what this service is used to."""
    p95_ms = math.ceil(1.4 * healthy.quantile("control", "latency_ms", 0.95) / 100) * 100
    return f"""\
# Written by `penstock demo --fault`. Rules of the catalogue, with numbers of this service: answers take
# {p95_ms / 1400:.0f} s (p95), half a percent of them fails, few prompts find a prefix in the cache.
slos:
  - {{id: availability, sli: {{kind: availability}}, target: 98 %, window: 30d}}
alerts:
  catalogue:
    products: [llm]
    overrides:
      llm-latency-p95-high: {{value: {p95_ms}}}
      llm-latency-p50-high: {{disabled: true}}    # follows the mix of prompts
      error-rate-high: {{value: 0.02}}
      errors-spike: {{value: 8, min_baseline: 3}}
      errors-oom: {{value: 8}}
      errors-tokenizer-mismatch: {{value: 6}}
      safety-violations: {{value: 0.005}}
      cache-hit-rate-low: {{value: 0.02}}
      preemptions-high: {{value: 100}}
      gpu-utilization-high: {{value: 0.96}}
      error-budget-low: {{min_requests: 1000}}
      slo-breached: {{min_requests: 1000}}
      data-drift: {{for_s: 300}}
drift:
  monitors:
    - id: inputs
      features: []
      categories: [route]
      reference: {{kind: uploaded, name: {REFERENCE}}}
      window_s: 600
      every_s: 60
time:
  boot_timeout_s: 600    # the replay may be faster or slower than the clock
"""


@dataclass(frozen=True, slots=True)
class FaultResult:
    """What came out of it.

    Attributes:
        faults: which.
        emitted: events that the workers say they emitted, of all kinds.
        stored: events in the store, as the API counts them.
        fired: alerts that fired, in order of event time.
        url: of the dashboard.
        pid: of the server that is left running, else None.
    """

    faults: tuple[FaultName, ...]
    emitted: int
    stored: int
    fired: list[FiredAlert] = field(default_factory=list)
    url: str = ""
    pid: int | None = None

    @property
    def complete(self) -> bool:
        """Whether everything emitted was stored, once."""
        return self.emitted == self.stored

    @property
    def missing(self) -> list[str]:
        """Rules that should have fired and did not."""
        return sorted(expected(self.faults).keys() - {alert.rule for alert in self.fired})

    @property
    def unexpected(self) -> list[str]:
        """Rules that should not have fired, and those that fired more than once."""
        wanted = Counter(expected(self.faults).keys())
        return sorted((Counter(alert.rule for alert in self.fired) - wanted).elements())

    @property
    def unexplained(self) -> list[str]:
        """Alerts that should have fired and did, whose explanation is not there or says something else."""
        wanted = expected(self.faults)
        found = []
        for alert in self.fired:
            lacking = wanted[alert.rule].lacks(alert.said) if alert.rule in wanted else []
            if lacking:
                said = f"does not say {', '.join(map(repr, lacking))}"
                found.append(f"{alert.rule}: {said if alert.said else 'there is none'}")
        return sorted(found)

    @property
    def exit_code(self) -> int:
        """0 where exactly the matching alerts fired, rightly explained; 4 where events were lost; else 1."""
        if not self.complete:
            return 4
        return 1 if self.missing or self.unexpected or self.unexplained else 0

    def document(self) -> dict[str, Any]:
        """What --json prints."""
        return {
            "faults": list(self.faults),
            "emitted": self.emitted,
            "stored": self.stored,
            "alerts": [asdict(alert) for alert in self.fired],
            "expected": {rule: item.names for rule, item in sorted(expected(self.faults).items())},
            "missing": self.missing,
            "unexpected": self.unexpected,
            "unexplained": self.unexplained,
        }


def replay_of(faults: tuple[FaultName, ...], options: DemoOptions) -> ReplayOptions:
    """The replay of the hour with faults."""
    return ReplayOptions(
        speed=options.speed,
        workers=options.workers,
        faults=faults,
        seed=options.seed,
        step_every=STEP_EVERY,
        turn_s=TURN_S,
    )


def healthy_hour(replay: ReplayOptions) -> Rehearsal:
    """What one worker does without faults."""
    fleet = replace(replay, faults=()).fleet()
    return rehearse(replace(fleet, workers=fleet.workers[:1]))


def run_fault_demo(faults: tuple[FaultName, ...], options: DemoOptions) -> FaultResult:
    """Run the hour with faults from start to end, showing its alerts on the terminal.

    Raises:
        DemoFailed: the folder is not empty, the server does not start or does not finish.
        ReplayFailed: a worker process died.
    """
    view = FaultView(faults, quiet=options.as_json)
    with demo_folder(options) as folder:
        replay = replace(replay_of(faults, options), spool_dir=folder / "spool")
        config = fault_config(healthy_hour(replay))
        (folder / "penstock.yaml").write_text(config, encoding="utf-8")
        with running_server(folder, options.port, leave_open=options.leave_open) as server:
            upload_reference(server, replay)
            view.begin(replay.fleet(), options.speed, config, server.url)
            if options.leave_open:
                browse(server.url)
            summary, fired = _replay(replace(replay, url=server.url), server, view)
            result = FaultResult(
                faults,
                summary.emitted.total(),
                server.get("/v1/coverage")["totals"]["stored"],
                fired,
                server.url,
                server.process.pid if options.leave_open else None,
            )
        if options.as_json:
            sys.stdout.write(json.dumps(result.document()) + "\n")
        reasons = {rule: item.why for rule, item in expected(faults).items()}
        view.told(result.fired, reasons, result.missing, result.unexpected, result.unexplained)
        view.closed(summary, result.stored, result.url, result.pid)
        return result


def _replay(
    replay: ReplayOptions, server: Server, view: FaultView
) -> tuple[ReplaySummary, list[FiredAlert]]:
    """Replay while a thread keeps the alerts on the terminal current; then all that fired."""
    fired: list[FiredAlert] = []

    def look() -> None:
        view.fired = fired_alerts(server)

    def settle(summary: ReplaySummary) -> None:
        # While the workers are still there: without them everything falls silent, rightly.
        wait_evaluated(server, summary)
        fired.extend(explained_alerts(server))

    with view.live(), each_second(look):
        summary = run_replay(replay, view.progress, settle=settle)
    return summary, fired


def upload_reference(api: Api, replay: ReplayOptions) -> None:
    """Tell the server which routes requests take without faults, as `penstock drift reference` does.

    Raises:
        DemoFailed: it does not take it.
    """
    counts = replace(replay, faults=()).fleet().traffic.routes()
    route = {"kind": "category", "rows": counts.total(), "counts": dict(counts)}
    api.post("/v1/drift/references", {"name": REFERENCE, "series": {"route": route}})


def wait_evaluated(api: Api, summary: ReplaySummary) -> None:
    """Wait until every rule was evaluated up to the end of the replay.

    Raises:
        DemoFailed: evaluation does not go on, or the server does not answer.
    """
    end_us = -(-summary.end_us // _MINUTE_US) * _MINUTE_US
    before, deadline = None, 0.0
    while True:
        as_of = api.get("/v1/slos")["as_of"]  # objectives are stored after the alerts
        if as_of is not None and parse_us(as_of) >= end_us:
            return
        if as_of != before or not deadline:
            before, deadline = as_of, time.monotonic() + _SETTLE_S
        if time.monotonic() > deadline:
            raise DemoFailed(f"alerts are evaluated up to {as_of} only:\n{api.tail()}")
        time.sleep(0.25)


def fired_alerts(api: Api) -> list[FiredAlert]:
    """Alerts that fired so far, also those that have ended, in order of event time."""
    rows = api.get("/v1/alerts", state="all", limit=1000)["alerts"]
    found = [FiredAlert.of(row) for row in rows if row["fired"] is not None]
    return sorted(found, key=lambda alert: (alert.fired, alert.rule))


def explained_alerts(api: Api, patience_s: float = _EXPLAINED_S) -> list[FiredAlert]:
    """The same, once what changed was found out for each of them, which a thread of the server does.

    Args:
        api: of the server.
        patience_s: after it, alerts are told as they are.
    """
    deadline = time.monotonic() + patience_s
    while True:
        fired = fired_alerts(api)
        if all(alert.explanation for alert in fired) or time.monotonic() > deadline:
            break
        time.sleep(0.25)
    return [
        replace(alert, sentences=tuple(told["sentences"]))
        if (told := api.get(f"/v1/alerts/{alert.id}")["explained"])
        else alert
        for alert in fired
    ]
