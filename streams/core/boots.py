"""Boots: what each start of a worker has sent, and what is missing of it.

Everything here is a pure function of the ledger's rows, in any order: the set of sequence intervals
of each boot, the clock at which each interval began, and what was declared as dropped. A hole counts
as missing in the pane of the frame behind it, and stops counting when it is filled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from . import metrics as m
from .intervals import Intervals, Range
from .tiles import PANE_S, SECOND_US

Losses = Counter[tuple[int, int]]
"""(pane start in s, metric) -> events missing, or declared as dropped."""

ANONYMOUS = "(anonymous)"  # every POST without identity counts as part of this boot


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One applied batch, as the ledger keeps it; times in integer microseconds UTC.

    `part` is its position among what came in one message.
    """

    incarnation: int
    partition: int
    offset: int
    kind: str
    worker_id: str
    boot_id: str
    ranges: Sequence[Range]
    gaps: Sequence[Range]
    next_seq: int
    clock_us: int
    closing: bool
    identified: bool
    stored: int
    duplicate: int
    rejected: int
    late: int
    append_us: int
    body_hash: int = 0
    part: int = 0

    def coverage(self) -> Counter[tuple[int, int]]:
        """What the frame adds to the fleet's counters, losses apart: (pane start in s, metric) -> n."""
        pane = pane_of(self.clock_us)
        new = sum(high - low for low, high in self.ranges)
        return Counter(
            {
                (pane, m.RECEIVED): new,
                (pane, m.LATE): self.late,
                (pane, m.DUPLICATE): self.duplicate,
                (pane, m.REJECTED): self.rejected,
                (pane, m.UNIDENTIFIED): 0 if self.identified else new,
            }
        )


@dataclass(frozen=True, slots=True)
class Presence:
    """What evaluation needs to know of a boot; it replaces what was known before.

    Attributes:
        vanished: it fell silent without having closed, so that its tail is unknown.
        losses: what is missing of it.
    """

    worker_id: str
    boot_id: str
    partition: int
    first_clock_us: int
    clock_us: int
    vanished: bool
    losses: Losses


def anonymous_boot(partition: int) -> str:
    """The boot that stands for every sender without identity of a partition."""
    return f"{ANONYMOUS} {partition}" if partition else ANONYMOUS


@dataclass(slots=True)
class Boot:
    """What is known of one start of a worker."""

    worker_id: str
    boot_id: str
    partition: int = 0
    incarnation: int = 1
    seen: Intervals = field(default_factory=Intervals)
    dropped: Intervals = field(default_factory=Intervals)
    totals: Counter[str] = field(default_factory=Counter)
    next_seq: int = 0
    first_clock_us: int = 0
    clock_us: int = 0
    append_us: int = 0
    closed: bool = False
    identified: bool = True
    vanished: bool = False
    body_hash: int = 0

    @property
    def gap(self) -> int:
        """Events declared as dropped that never arrived."""
        return sum(
            high - low
            for drop_low, drop_high, _ in self.dropped.ranges()
            for low, high in self.seen.missing(drop_low, drop_high)
        )

    @property
    def expected(self) -> int:
        """Events sent, as far as is known."""
        return self.totals["received"] + self.missing + self.gap

    @property
    def missing(self) -> int:
        """Events sent, as far as is known, that have not arrived and were not declared."""
        return max(self.next_seq, self.seen.end) - len(self.seen) - self.gap

    @property
    def state(self) -> str:
        """ok, partial (something is missing), unknown (vanished or anonymous) or closed."""
        if self.missing or self.gap:
            return "partial"
        if self.vanished or not self.identified:
            return "unknown"
        return "closed" if self.closed else "ok"

    def losses(self) -> Losses:
        """What is missing or dropped, by the fleet's panes."""
        found: Losses = Counter()
        for low, high, clock_us in self._absent():
            declared = sum(
                min(high, drop_high) - max(low, drop_low)
                for drop_low, drop_high, _ in self.dropped.ranges()
                if drop_low < high and low < drop_high
            )
            pane = pane_of(clock_us)
            found[pane, m.GAP] += declared
            found[pane, m.MISSING] += high - low - declared
        return found

    def _absent(self) -> list[tuple[int, int, int]]:
        holes = self.seen.holes()
        if self.next_seq > self.seen.end:
            holes.append((self.seen.end, self.next_seq, self.clock_us))
        return holes


def pane_of(time_us: int) -> int:
    """Start in seconds of the pane that holds a time."""
    return time_us // SECOND_US // PANE_S * PANE_S
