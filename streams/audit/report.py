"""What an audit looks at, and what it finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ..core.boots import Losses
from ..core.delta import Source
from ..core.tiles import PANE_S

MOST = 50  # findings listed of each check; the others are counted


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not hold.

    Attributes:
        check: which, as listed in docs/audit.md.
        subject: of what.
        expected: what it should be.
        found: what it is.
        detail: what that may mean.
    """

    check: str
    subject: str
    expected: str
    found: str
    detail: str = ""

    def __str__(self) -> str:
        text = f"{self.check}: {self.subject}: expected {self.expected}, found {self.found}"
        return f"{text} ({self.detail})" if self.detail else text


@dataclass(slots=True)
class Report:
    """Everything that an audit found.

    Attributes:
        findings: what does not hold, at most `MOST` of each check.
        more: check -> findings that are not listed.
        notes: what was not compared, or is worth knowing.
        checked: what was looked at -> how many.
        say: told of the progress.
    """

    findings: list[Finding] = field(default_factory=list)
    more: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    say: Callable[[str], None] = lambda _: None
    _sizes: Counter[str] = field(default_factory=Counter)

    def add(self, check: str, subject: str, expected: object, found: object, why: str = "") -> None:
        """Take a finding in."""
        self._sizes[check] += 1
        if self._sizes[check] <= MOST:
            self.findings.append(Finding(check, subject, str(expected), str(found), why))
        else:
            self.more[check] += 1

    def note(self, text: str) -> None:
        """Take a note in, once."""
        if text not in self.notes:
            self.notes.append(text)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a shard says that it has come."""

    shard: int
    closed_s: int
    cuts: Mapping[Source, int]
    stale_s: tuple[int, int] | None
    losses: Mapping[str, Losses]
    version: int
    at_us: int

    @property
    def pane_s(self) -> int:
        """Panes that end at or before it are closed."""
        return self.closed_s // PANE_S * PANE_S


@dataclass(frozen=True, slots=True)
class Scope:
    """What is looked at.

    Attributes:
        now_us: the clock, integer microseconds.
        edge_us: rows and ledger from here on cannot have expired.
        low_us: what arrived or happened before is not looked at.
        cuts: of the ledger, read before anything but the checkpoints.
        checkpoints: read before the cuts, by shard.
        shards: how many there are.
        topics: incarnations that are lives of the Kafka topic; offsets of others are our own.
        since: whether a beginning was asked for.
    """

    now_us: int
    edge_us: int
    low_us: int
    cuts: Mapping[Source, int]
    checkpoints: Mapping[int, Checkpoint]
    shards: int
    topics: frozenset[int]
    since: bool

    def applied_sql(self) -> str:
        """SQL condition on incarnation, partition and offset: the row was committed."""
        keys = [incarnation << 16 | partition for incarnation, partition in self.cuts]
        if not keys:
            return "0"
        return (
            f"toInt64(offset) <= transform(toUInt64(incarnation) * 65536 + partition, {keys},"
            f" {list(self.cuts.values())}, toInt64(-1))"
        )

    def low_sql(self, column: str = "append_ts") -> str:
        """SQL condition on a time: it is looked at."""
        return f"{column} >= fromUnixTimestamp64Micro({self.low_us})"


def at(time_s: int) -> str:
    """A time for people."""
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
