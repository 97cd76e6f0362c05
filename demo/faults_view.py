"""What `penstock demo --fault` shows on the terminal: alerts as they fire, and whether they are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..producers.faults import DEARER, ERROR_RATIO, SLOWDOWN, UNSAFE_RATIO, FaultName
from ..producers.fleet import Fleet
from ..producers.replay import ReplaySummary
from ..producers.traffic import BASE_ERROR_RATIO, SAFETY_RATIO
from .view import View, narrow_table

WORDS: Mapping[FaultName, str] = {
    "slow": f"decoding takes {SLOWDOWN:g} times as long",
    "errors": f"{ERROR_RATIO:.0%} of the requests fail instead of {BASE_ERROR_RATIO:.1%}",
    "safety": f"{UNSAFE_RATIO:.0%} of the answers are unsafe instead of {SAFETY_RATIO:.2%}",
    "cost": f"requests cost {DEARER:g} times as much",
    "drift": "requests take other routes",
    "outage": "engines take no requests; their workers say so",
    "silent-worker": "worker-1 hangs and says nothing",
}
_COLOURS = {"info": "cyan", "warning": "yellow", "critical": "red", "emergency": "bold red"}
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class FiredAlert:
    """An alert that fired, as the API tells it; times in ISO 8601.

    Attributes:
        id: of the episode.
        rule: id of its rule.
        severity: of the rule.
        state: firing, or resolved since.
        fired: when it fired.
        text: what a message about it says.
        labels: of the alert.
        explanation: what changed, in one line; empty until it is found out.
        sentences: the same at length, where it was asked for.
    """

    id: str
    rule: str
    severity: str
    state: str
    fired: str
    text: str
    labels: Mapping[str, str]
    explanation: str = ""
    sentences: tuple[str, ...] = ()

    @property
    def said(self) -> str:
        """Everything that explains it."""
        return "\n".join(filter(None, (self.explanation, *self.sentences)))

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> FiredAlert:
        """From an answer of GET /v1/alerts."""
        text = row["annotations"].get("summary") or row["text"]
        return cls(
            row["id"],
            row["rule"],
            row["severity"],
            row["state"],
            row["fired"],
            text,
            row["labels"],
            row["explanation"] or "",
        )


class FaultView(View):
    """The terminal of a demo with faults.

    Args:
        faults: which.
        quiet: as in `View`.
        console: as in `View`.

    Attributes:
        fired: set by whoever reads the API, shown with the next progress.
    """

    def __init__(
        self, faults: Sequence[FaultName], *, quiet: bool, console: Console | None = None
    ) -> None:
        super().__init__(quiet=quiet, console=console)
        self._faults = faults
        self._named = " ".join(f"--fault {name}" for name in faults or ("none",))
        self.fired: Sequence[FiredAlert] = ()

    def begin(self, fleet: Fleet, speed: float, config: str, url: str) -> None:
        """What is about to happen."""
        self.introduce(fleet, speed)
        for name in self._faults:
            when = fleet.faults.from_us / 60e6
            self.say(f"From minute {when:.0f} on: [bold]{name}[/], {WORDS[name]}.")
        if not self._faults:
            self.say("Nothing goes wrong.")
        self.say(Text(f"\n{config}", "dim"))
        self.say(f"Dashboard: [bold]{url}[/]\n")

    def told(
        self,
        fired: Sequence[FiredAlert],
        expected: Mapping[str, str],
        missing: Sequence[str],
        unexpected: Sequence[str],
        unexplained: Sequence[str],
    ) -> None:
        """The alerts in the order in which they fired, what explains them, and what was expected."""
        if fired:
            self.say(fired_table(fired, "alerts that fired, in this order", explained=True))
        if expected:
            self.say(expected_table(expected, missing, f"expected of {self._named}"))
        wrong = [f"did not fire: {rule}" for rule in missing]
        wrong += [f"should not have fired: {rule}" for rule in unexpected]
        wrong += [f"explanation of {text}" for text in unexplained]
        if wrong:
            self.say(Text("\n" + "\n".join(wrong), "bold red"))
        else:
            right = "exactly the matching alerts fired, each once, with the right explanation"
            right = right if expected else "no alert fired"
            self.say(Text(f"\n{right}", "bold green"))

    def closed(self, summary: ReplaySummary, stored: int, url: str, pid: int | None) -> None:
        """The counts, and where to look."""
        self.counted(summary, stored, "")
        self.parted(url, pid, f"penstock demo {self._named} --open")

    def state(self) -> str:
        """In a few words, beside the progress."""
        firing = sum(alert.state == "firing" for alert in self.fired)
        return f"{firing} alerts firing" if firing else "no alert"

    def render(self) -> RenderableType:
        """Progress, and the newest alerts."""
        return Group(self.bar, fired_table(self.fired[-_SHOWN:], "alerts"))


def expected_table(expected: Mapping[str, str], missing: Sequence[str], title: str) -> Table:
    """One line per rule that must fire: why, and whether it did."""
    table = narrow_table(title)
    table.add_column("rule", no_wrap=True)
    table.add_column("because")
    table.add_column("seen", no_wrap=True)
    for rule, why in expected.items():
        table.add_row(
            rule, why, Text("no", "bold red") if rule in missing else Text("yes", "green")
        )
    return table


def fired_table(fired: Sequence[FiredAlert], title: str, *, explained: bool = False) -> Table:
    """Event time, severity, rule and text of each alert; if asked for, what changed below the text."""
    table = narrow_table(title)
    for name in ("fired", "severity", "rule"):
        table.add_column(name, no_wrap=True)
    table.add_column("text")
    for alert in fired:
        text = alert.text if alert.state == "firing" else f"{alert.text} ({alert.state})"
        why = Text(f"\n{alert.explanation}" if explained and alert.explanation else "", "dim")
        table.add_row(
            alert.fired[11:19],
            Text(alert.severity, _COLOURS[alert.severity]),
            alert.rule,
            Text(text) + why,
        )
    return table
