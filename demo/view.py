"""What `penstock demo` shows on the terminal: progress, live figures, the table and the verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from ..producers.fleet import CANARIES, Fleet
from ..producers.replay import Progress, ReplaySummary
from ..producers.traffic import BASE_ERROR_RATIO

WindowRow: TypeAlias = dict[str, Any]
"""A window of a variant: window, variant, release, end, coverage, and its metrics by name."""

LIVE_METRICS = ("request_rate", "ttft_ms_p95", "tpot_ms_p95", "error_rate", "tokens_per_s")
FINAL_METRICS = (
    "requests",
    "request_rate",
    "error_rate",
    "ttft_ms_p50",
    "ttft_ms_p95",
    "ttft_ms_p99",
    "tpot_ms_p50",
    "tpot_ms_p95",
    "latency_ms_p50",
    "latency_ms_p95",
    "tokens_per_s",
    "cost_per_1k_tokens_usd",
    "cache_hit_rate",
    "safety_rate",
    "acceptance_rate",
)
_COLOURS = {"PASS": "green", "FAIL": "red", "UNDECIDED": "yellow"}


@dataclass(frozen=True, slots=True)
class Figures:
    """What the API says while the replay runs: the last minute by variant, and the verdict."""

    windows: list[WindowRow] = field(default_factory=list)
    verdict: Mapping[str, Any] = field(default_factory=dict)


class View:
    """The terminal of a demo.

    Args:
        quiet: show nothing on standard output; progress goes to standard error if that is a
            terminal.
        console: where to write, by default the terminal.

    Attributes:
        figures: set by whoever reads the API, shown with the next progress.
    """

    def __init__(self, *, quiet: bool, console: Console | None = None) -> None:
        self._console = console or Console(stderr=quiet, highlight=False)
        self._silent = quiet and not self._console.is_terminal
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=40),
            TextColumn("{task.percentage:3.0f} %"),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._task = self.bar.add_task("starting workers", total=1.0)
        self._live: Live | None = None
        self._plain = not self._console.is_terminal
        self._told = 0
        self.figures = Figures()

    def begin(self, fleet: Fleet, speed: float, config: str, url: str) -> None:
        """What is about to happen."""
        self.introduce(fleet, speed)
        for plan in fleet.workers:
            if plan.arm.variant == "canary" and fleet.canary_from_us is not None:
                self.say(_canary(fleet, plan.arm.slowdown, plan.arm.error_ratio))
        self.say(Text(f"\n{config}", "dim"))
        self.say(f"Dashboard: [bold]{url}[/]\n")

    def introduce(self, fleet: Fleet, speed: float) -> None:
        """What is replayed, and how."""
        trace = fleet.traffic.trace
        hurry = "as fast as it goes" if math.isinf(speed) else f"{speed:g} times as fast"
        self.say(
            f"[bold]{len(trace):,} requests[/] of a real LLM service, {trace.duration_us / 60e6:.0f}"
            f" minutes of 16 November 2023 ({trace.name}, Azure Public Dataset, CC-BY-4.0),\n"
            f"replayed {hurry} through {len(fleet.workers)} worker processes, each with a "
            "simulated inference engine."
        )

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show progress while the block runs; where there is no terminal, a line now and then."""
        if self._silent or self._plain:
            yield
            return
        with Live(self.render(), console=self._console, refresh_per_second=4) as live:
            self._live = live
            try:
                yield
            finally:
                live.update(self.render())
                self._live = None

    def progress(self, progress: Progress) -> None:
        """Show how far the replay is."""
        clock = datetime.fromtimestamp(progress.event_us / 1e6, UTC).strftime("%H:%M:%S")
        words = f"{clock} UTC   {progress.emitted['request']:,} requests, "
        words += f"{progress.emitted['step']:,} engine steps"
        self.bar.update(self._task, completed=progress.done, description=words)
        if self._live is not None:
            self._live.update(self.render())
        elif self._plain and int(progress.done * 10) > self._told:
            self._told = int(progress.done * 10)
            self.say(f"{progress.done:4.0%}  {words}   {self.state()}")

    def end(
        self,
        summary: ReplaySummary,
        windows: list[WindowRow],
        verdicts: Mapping[str, Mapping[str, Any]],
        counts: Mapping[str, Any],
        url: str,
        pid: int | None,
    ) -> None:
        """The table, the verdicts, that of the gate that decides first, and where to look."""
        self.say(windows_table(windows))
        verdict = next(iter(verdicts.values()))
        self.say(evidence_table(verdict))
        self.say("")
        for gate, answer in verdicts.items():
            colour = _COLOURS.get(answer["verdict"], "magenta")
            self.say(Text.assemble(f"{gate}: ", (_sentence(answer), f"bold {colour}")))
        if summary.canary_us is not None and verdict["verdict"] in ("PASS", "FAIL"):
            decided = datetime.fromisoformat(verdict["as_of"]).timestamp() - summary.canary_us / 1e6
            self.say(f"decided {decided / 60:.1f} minutes (of event time) after the canary began")
        more = f"duplicate {counts['duplicate']:,}, rejected {counts['rejected']:,}, "
        self.counted(summary, counts["stored"], f"{more}coverage {counts['coverage']}, ")
        self.parted(url, pid, "penstock demo --open")

    def counted(self, summary: ReplaySummary, stored: int, more: str) -> None:
        """What was emitted and what is stored, and more of that."""
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in sorted(summary.emitted.items()))
        emitted = summary.emitted.total()
        self.say(
            f"\nemitted {emitted:,} ({kinds}), stored {stored:,}, {more}in {summary.wall_s:.0f} s"
        )
        if emitted != stored:
            self.say("[bold red]stored is not what was emitted[/]")

    def parted(self, url: str, pid: int | None, command: str) -> None:
        """Whether the server still runs, and the command that leaves it running."""
        if pid is not None:
            self.say(f"The server is still running: [bold]{url}[/] (stop it with: kill {pid})")
        else:
            self.say(f"The server has stopped; [bold]{command}[/] leaves it running.")

    def state(self) -> str:
        """In a word, beside the progress."""
        return str(self.figures.verdict.get("verdict", ""))

    def render(self) -> RenderableType:
        """What is shown while the replay runs."""
        return Group(self.bar, live_table(self.figures))

    def say(self, what: RenderableType) -> None:
        """Print something, unless it is quiet."""
        if not self._silent:
            self._console.print(what)


def live_table(figures: Figures) -> RenderableType:
    """The last minute of each variant, and the verdict so far."""
    table = Table(title="last minute of event time", title_justify="left", box=None)
    for name in ("variant", "req/s", "TTFT p95 ms", "TPOT p95 ms", "errors", "tokens/s"):
        table.add_column(name, justify="left" if name == "variant" else "right")
    for row in figures.windows:
        table.add_row(
            f"{row['variant']} {row['release']}",
            _number(row["request_rate"], ".1f"),
            _number(row["ttft_ms_p95"], ",.0f"),
            _number(row["tpot_ms_p95"], ",.1f"),
            _number(row["error_rate"], ".2%"),
            _number(row["tokens_per_s"], ",.0f"),
        )
    verdict = str(figures.verdict.get("verdict", ""))
    line = Text.assemble(
        ("verdict so far: ", "bold"),
        (verdict or "-", _COLOURS.get(verdict, "")),
        f"  {_sentence(figures.verdict)}",
    )
    return Group(table, line)


def windows_table(windows: list[WindowRow]) -> Table:
    """The last windows of each variant."""
    table = narrow_table("windows at the end")
    for name in ("", "variant"):
        table.add_column(name, no_wrap=True)
    heads = (
        "\nrequests",
        "\nerrors",
        "TTFT\np50 ms",
        "\np95",
        "\np99",
        "TPOT\np95 ms",
        "total\np95 s",
    )
    for name in (*heads, "tokens\nper s", "USD per\n1k tok."):
        table.add_column(name, justify="right", no_wrap=True)
    for row in windows:
        latency_ms = row["latency_ms_p95"]
        table.add_row(
            row["window"],
            row["variant"],
            _number(row["requests"], ",d"),
            _number(row["error_rate"], ".2%"),
            _number(row["ttft_ms_p50"], ".0f"),
            _number(row["ttft_ms_p95"], ".0f"),
            _number(row["ttft_ms_p99"], ".0f"),
            _number(row["tpot_ms_p95"], ".1f"),
            _number(latency_ms and latency_ms / 1000, ".1f"),
            _number(row["tokens_per_s"], ",.0f"),
            _number(row["cost_per_1k_tokens_usd"], ".5f"),
        )
    return table


def evidence_table(verdict: Mapping[str, Any]) -> Table:
    """One line per metric of the gate: the limit, what was found, how sure that is."""
    evidence = verdict.get("evidence", ())
    sure = f", intervals at {evidence[0]['confidence']:.4g}" if evidence else ""
    table = narrow_table(f"evidence of the gate: {verdict['n']:,} requests{sure}")
    table.add_column("metric", no_wrap=True)
    for name in ("limit", "beyond", "share", "interval, %"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for entry in evidence:
        share = entry["unit"] == "ratio"
        table.add_row(
            entry["metric"].removesuffix("_tokens_usd"),
            " ".join(entry["declared"].split()[:2]),
            _number(entry["bad"], ",d"),
            _number(entry["estimate"], ".2%") if share else "",
            f"{entry['low'] * 100:.2f} to {entry['high'] * 100:.2f}" if share else "",
            _decision(entry),
        )
    return table


def narrow_table(title: str) -> Table:
    """Narrow enough for a terminal of 80 columns."""
    return Table(
        title=f"\n{title}",
        title_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
        collapse_padding=True,
        header_style="dim",
    )


def _decision(entry: Mapping[str, Any]) -> Text:
    decision = str(entry["decision"])
    needed = entry["n_needed"]
    more = f", ~{needed:,} more" if decision == "UNDECIDED" and needed else ""
    return Text(decision + more, _COLOURS.get(decision, ""))


def _canary(fleet: Fleet, slowdown: float, error_ratio: float) -> str:
    assert fleet.canary_from_us is not None
    fate = next(
        name
        for name, arm in CANARIES.items()
        if (arm.slowdown, arm.error_ratio) == (slowdown, error_ratio)
    )
    how = {
        "good": "as good as control",
        "slow": f"decoding takes {slowdown - 1:.0%} longer",
        "errors": f"{BASE_ERROR_RATIO:.1%} of requests fail on control, {error_ratio:.1%} on it",
    }[fate]
    return (
        f"From minute {fleet.canary_from_us / 60e6:.0f} on a canary takes "
        f"{fleet.canary_share:.0%} of the traffic: [bold]{fate}[/], {how}."
    )


def _sentence(verdict: Mapping[str, Any]) -> str:
    """The gate's own sentence, or its reasons."""
    return str(verdict.get("text") or ", ".join(verdict.get("reasons", ())))


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
