"""`penstock demo`: a real hour of traffic from worker processes to a verdict, on one machine.

It starts `penstock up` as a process of its own with a gate on the canary, replays the bundled trace
against it through worker processes, and then asks the API, like any client, what became of it.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import tempfile
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..producers.fleet import MODEL, CanaryFate, Rehearsal, rehearse
from ..producers.replay import ReplayOptions, ReplaySummary, run_replay
from .server import (
    GATE,
    TWO_ARMS,
    DemoFailed,
    Server,
    each_second,
    iso,
    parse_us,
    running_server,
)
from .view import FINAL_METRICS, View, WindowRow

DEFAULT_SPEED = 40.0
WINDOWS = ("1m", "5m", "1h")
_SETTLE_S = 120.0
_EXIT_CODES = {"PASS": 0, "FAIL": 1, "UNDECIDED": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """How to run the demo.

    Attributes:
        canary: what becomes of the canary.
        speed: seconds of events per second; infinite for as fast as it goes.
        seed: of everything that is drawn.
        port: of the server; None for 8080, or a free one when that is taken.
        data: folder for everything, empty or not there; None for a temporary one that is removed.
        leave_open: leave the server running and open the dashboard in a browser.
        as_json: print one JSON document and nothing else on standard output.
        head_s: replay only the first seconds of the trace.
        workers: worker processes of the control arm.
    """

    canary: CanaryFate = "slow"
    speed: float = DEFAULT_SPEED
    seed: int = 0
    port: int | None = None
    data: Path | None = None
    leave_open: bool = False
    as_json: bool = False
    head_s: float | None = None
    workers: int = 5


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What came out of it.

    Attributes:
        emitted: events that the workers say they emitted, of all kinds.
        stored: events in the store, as the API counts them.
        duplicate: repeated deliveries that were dropped.
        rejected: events in quarantine.
        coverage: share of the events sent that arrived.
        windows: the last windows of each variant.
        verdict: the answer of the gate that decides, limits on the canary.
        two_arms: the answer of the gate that compares it with control.
        url: of the dashboard.
        pid: of the server that is left running, else None.
    """

    emitted: int
    stored: int
    duplicate: int
    rejected: int
    coverage: float | None
    windows: list[WindowRow]
    verdict: dict[str, Any]
    two_arms: dict[str, Any]
    url: str
    pid: int | None

    @property
    def complete(self) -> bool:
        """Whether everything emitted was stored, once."""
        return self.emitted == self.stored and self.rejected == 0

    @property
    def exit_code(self) -> int:
        """For --exit-code: 0 PASS, 1 FAIL, 2 UNDECIDED, 3 NO_DATA or INVALID."""
        return _EXIT_CODES.get(self.verdict["verdict"], 3)

    def document(self) -> dict[str, Any]:
        """What --json prints."""
        counts = ("emitted", "stored", "duplicate", "rejected", "coverage")
        names = (*counts, "windows", "verdict", "two_arms")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class GateLimits:
    """Limits of the demo's gate, from the simulated control.

    Attributes:
        ttft_ms: p95 limit, twice control's p95, for it follows the bursts of the traffic.
        tpot_ms: p95 limit, 30 % above control's.
        latency_ms: p95 limit, 20 % above control's.
        cost_per_1k_usd: a quarter above control's.
        error_ratio: twice the share of requests that fail on control.
        safety_ratio: far above the share of violations.
    """

    ttft_ms: float
    tpot_ms: float
    latency_ms: float
    cost_per_1k_usd: float
    error_ratio: float = 0.01
    safety_ratio: float = 0.005

    @classmethod
    def of(cls, control: Rehearsal) -> GateLimits:
        """Limits for a release that should be no worse than a rehearsed control."""
        cost = control.column("control", "cost_usd").sum() * 1000
        return cls(
            ttft_ms=_round_up(2 * control.quantile("control", "ttft_ms", 0.95), 10),
            tpot_ms=_round_up(1.3 * control.quantile("control", "tpot_ms", 0.95), 1),
            latency_ms=_round_up(1.2 * control.quantile("control", "latency_ms", 0.95), 100),
            cost_per_1k_usd=_round_up(
                1.25 * cost / control.column("control", "tokens").sum(), 0.00001
            ),
        )

    def yaml(self) -> str:
        """The demo's penstock.yaml."""
        return f"""\
# Written by `penstock demo`. Above the p95 of the simulated control: time per token 30 %, end to end
# 20 %, first token 100 % (it follows the bursts of the traffic). Cost: 25 % above control.
gates:
  - id: {GATE}
    kind: absolute
    filter: {{model: {MODEL}, variant: canary}}
    metrics:
      - {{metric: latency, field: tpot_ms, quantile: 0.95, max_ms: {self.tpot_ms:g}}}
      - {{metric: latency, field: latency_ms, quantile: 0.95, max_ms: {self.latency_ms:g}}}
      - {{metric: latency, field: ttft_ms, quantile: 0.95, max_ms: {self.ttft_ms:g}}}
      - {{metric: error_rate, max_ratio: {self.error_ratio:g}}}
      - {{metric: safety_rate, max_ratio: {self.safety_ratio:g}}}
      - {{metric: cost_per_1k_tokens_usd, max_usd: {self.cost_per_1k_usd:.5f}, cap_usd: 0.001}}
    min_units: 300
    min_bake_s: 300
  # The same release against control, which serves the other requests meanwhile.
  - id: {TWO_ARMS}
    kind: canary
    control: {{model: {MODEL}, variant: control}}
    treatment: {{model: {MODEL}, variant: canary}}
    metrics:
      - {{metric: latency, field: tpot_ms, quantile: 0.95, margin_ratio: 1.3}}
      - {{metric: error_rate, margin_ratio: 2, floor_ratio: {self.error_ratio:g}}}
    min_units: 300
    min_bake_s: 300
"""


def run_demo(options: DemoOptions) -> DemoResult:
    """Run the demo from start to end, showing it on the terminal.

    Raises:
        DemoFailed: the folder is not empty, the server does not start or does not finish.
        ReplayFailed: a worker process died.
    """
    view = View(quiet=options.as_json)
    with demo_folder(options) as folder:
        replay = ReplayOptions(
            speed=options.speed,
            workers=options.workers,
            canary=options.canary,
            seed=options.seed,
            head_s=options.head_s,
            spool_dir=folder / "spool",
        )
        fleet = replay.fleet()
        limits = GateLimits.of(rehearse(replace(fleet, workers=fleet.workers[:1])))
        (folder / "penstock.yaml").write_text(limits.yaml(), encoding="utf-8")
        with running_server(folder, options.port, leave_open=options.leave_open) as server:
            view.begin(fleet, options.speed, limits.yaml(), server.url)
            if options.leave_open:
                browse(server.url)
            summary, result = _replay(replace(replay, url=server.url), server, view, options)
        if options.as_json:
            sys.stdout.write(json.dumps(result.document()) + "\n")
            if result.pid is not None:
                sys.stderr.write(f"{result.url} is served by process {result.pid}\n")
        verdicts = {GATE: result.verdict, TWO_ARMS: result.two_arms}
        view.end(summary, result.windows, verdicts, result.document(), server.url, result.pid)
        return result


def browse(url: str) -> None:
    """Open the dashboard, unless the browser would take over this terminal."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return
    if type(browser) is not webbrowser.GenericBrowser:
        browser.open(url)


def _replay(
    replay: ReplayOptions, server: Server, view: View, options: DemoOptions
) -> tuple[ReplaySummary, DemoResult]:
    """Replay while a thread keeps the figures on the terminal current; then collect the result."""
    results: list[DemoResult] = []

    def look() -> None:
        view.figures = server.figures()

    def settle(summary: ReplaySummary) -> None:
        # While the workers are still there: without them the gate soon has no data, rightly.
        results.append(_ask(server, summary, options))

    with view.live(), each_second(look):
        summary = run_replay(replay, view.progress, settle=settle)
    return summary, results[0]


def _ask(server: Server, summary: ReplaySummary, options: DemoOptions) -> DemoResult:
    """Wait until windows and gate have seen everything, and collect the answers."""
    end_us = math.ceil(summary.end_us / 60e6) * 60_000_000
    emitted = summary.emitted.total()
    deadline = time.monotonic() + _SETTLE_S
    while not _settled(server, emitted, end_us):
        if server.process.poll() is not None:
            raise DemoFailed(f"the server ended:\n{server.tail()}")
        if time.monotonic() > deadline:
            break  # the numbers will show what is missing
        time.sleep(0.25)
    totals = server.get("/v1/coverage")["totals"]
    return DemoResult(
        emitted=emitted,
        stored=totals["stored"],
        duplicate=totals["duplicate"],
        rejected=totals["rejected"],
        coverage=totals["coverage"],
        windows=[row for name in WINDOWS for row in server.windows(name, FINAL_METRICS, end_us)],
        verdict=server.verdict(),
        two_arms=server.verdict(TWO_ARMS),
        url=server.url,
        pid=server.process.pid if options.leave_open else None,
    )


def _settled(server: Server, emitted: int, end_us: int) -> bool:
    totals = server.get("/v1/coverage")["totals"]
    if totals["stored"] + totals["rejected"] < emitted:
        return False
    if parse_us(server.verdict()["watermark"]) < end_us:
        return False
    answer = server.get(
        "/v1/windows", window="1h", metric="requests", grouping="fleet", end=iso(end_us)
    )
    ends = [point["end"] for series in answer["series"] for point in series["points"]]
    return any(parse_us(end) == end_us for end in ends)


@contextmanager
def demo_folder(options: DemoOptions) -> Iterator[Path]:
    """Where everything is kept; a temporary one is removed unless the server is left running."""
    if options.data is None:
        folder = Path(tempfile.mkdtemp(prefix="penstock-demo-"))
        finished = False
        try:
            yield folder
            finished = True
        finally:
            if not (options.leave_open and finished):
                shutil.rmtree(folder, ignore_errors=True)
        return
    if options.data.exists() and any(options.data.iterdir()):
        raise DemoFailed(f"{options.data} is not empty; the demo counts from nothing")
    options.data.mkdir(parents=True, exist_ok=True)
    yield options.data


def _round_up(value: float, unit: float) -> float:
    return math.ceil(value / unit) * unit
