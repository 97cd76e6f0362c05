"""Boots: what each start of a worker has sent, what is missing, and how far event time has come.

Everything here is a pure function of the ledger's rows, in any order: the set of sequence intervals
of each boot, the clock at which each interval began, and what was declared as dropped. A hole counts
as missing in the pane of the frame behind it, and stops counting when it is filled. A boot lives in one
partition, so that a tracker can let go of a partition, and another can take it over.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from . import metrics as m
from .tiles import PANE_S, SECOND_US

Range = tuple[int, int]
Losses = Counter[tuple[int, int]]
"""(pane start in s, metric) -> events missing, or declared as dropped."""

ANONYMOUS = "(anonymous)"  # every POST without identity counts as part of this boot
NOTES = ("forwarded", "duplicate")  # kinds of ledger entries that only account for an offset
KEYED_US = 86_400 * SECOND_US  # how long an Idempotency-Key is known
STRAGGLER_US = 60 * SECOND_US  # a boot this far behind the foremost no longer holds it back


class Intervals:
    """A set of integers as disjoint, ascending ranges [low, high), each with a mark.

    The mark of a range is that of its leftmost part: the clock at which it began.

    >>> seen = Intervals()
    >>> seen.add(0, 10, mark=1), seen.add(5, 20, mark=2), seen.add(30, 40, mark=3)
    ([(0, 10)], [(10, 20)], [(30, 40)])
    >>> seen.holes()
    [(20, 30, 3)]
    """

    def __init__(self) -> None:
        self._lows: list[int] = []
        self._highs: list[int] = []
        self._marks: list[int] = []

    def __len__(self) -> int:
        return sum(self._highs) - sum(self._lows)

    @property
    def end(self) -> int:
        """One past the highest member, 0 when empty."""
        return self._highs[-1] if self._highs else 0

    def ranges(self) -> list[tuple[int, int, int]]:
        """The ranges in ascending order, as (low, high, mark)."""
        return list(zip(self._lows, self._highs, self._marks, strict=True))

    def missing(self, low: int, high: int) -> list[Range]:
        """The parts of [low, high) that are not in the set."""
        found = []
        position = max(bisect_right(self._lows, low) - 1, 0)
        while low < high and position < len(self._lows) and self._lows[position] < high:
            if self._highs[position] > low:
                if self._lows[position] > low:
                    found.append((low, self._lows[position]))
                low = self._highs[position]
            position += 1
        if low < high:
            found.append((low, high))
        return found

    def add(self, low: int, high: int, mark: int) -> list[Range]:
        """Add [low, high); returns the parts that were new."""
        new = self.missing(low, high)
        for part_low, part_high in new:
            self._insert(part_low, part_high, mark)
        return new

    def _insert(self, low: int, high: int, mark: int) -> None:
        position = bisect_right(self._lows, low)
        joins_left = position > 0 and self._highs[position - 1] == low
        joins_right = position < len(self._lows) and self._lows[position] == high
        if joins_left and joins_right:
            self._highs[position - 1] = self._highs.pop(position)
            del self._lows[position], self._marks[position]
        elif joins_left:
            self._highs[position - 1] = high
        elif joins_right:
            self._lows[position], self._marks[position] = low, mark
        else:
            self._lows.insert(position, low)
            self._highs.insert(position, high)
            self._marks.insert(position, mark)

    def holes(self) -> list[tuple[int, int, int]]:
        """What is missing below the end, as (low, high, mark of the range behind it)."""
        lows, highs = [*self._lows], [0, *self._highs]
        return [
            (gap_low, low, mark)
            for gap_low, low, mark in zip(highs, lows, self._marks, strict=False)
            if gap_low < low
        ]


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


class BootTracker:
    """All boots of one processor: de-duplication, coverage and watermark.

    Args:
        lateness_us: how long the watermark stays behind the slowest boot.
        timeout_us: silence after which a boot no longer holds the watermark back.
    """

    def __init__(self, lateness_us: int, timeout_us: int) -> None:
        self._lateness_us = lateness_us
        self._timeout_us = timeout_us
        self.boots: dict[str, Boot] = {}
        self.watermark_us = 0
        self.newest_us = 0
        self._losses: dict[str, Losses] = {}
        self._changed: set[str] = set()
        self._adopted: set[str] = set()

    def changed(self) -> list[Boot]:
        """Boots that changed since the last call."""
        boots = [self.boots[boot_id] for boot_id in sorted(self._changed) if boot_id in self.boots]
        self._changed.clear()
        return boots

    def presences(self, wanted: Collection[str]) -> list[Presence]:
        """What evaluation has to know of boots: of those named, and of those just adopted."""
        ids = self._adopted.union(wanted)
        self._adopted.clear()
        return [self._presence(self.boots[boot_id]) for boot_id in sorted(ids & self.boots.keys())]

    def _presence(self, boot: Boot) -> Presence:
        # What has a hole at every heartbeat, because its frames are under way, is mostly empty.
        losses: Losses = Counter(
            {key: count for key, count in self._losses[boot.boot_id].items() if count}
        )
        return Presence(
            boot.worker_id,
            boot.boot_id,
            boot.partition,
            boot.first_clock_us,
            boot.clock_us,
            boot.vanished,
            losses,
        )

    def unseen(self, boot_id: str, low: int, high: int) -> list[Range]:
        """Sequence numbers of [low, high) that the boot has not delivered yet."""
        boot = self.boots.get(boot_id)
        return [(low, high)] if boot is None else boot.seen.missing(low, high)

    def adopt(self, boot: Boot) -> None:
        """Take over a boot as it was last written."""
        self.boots[boot.boot_id] = boot
        self._adopted.add(boot.boot_id)
        self._losses[boot.boot_id] = boot.losses()
        self.newest_us = max(self.newest_us, boot.clock_us)

    def drop(self, partition: int) -> None:
        """Let go of a partition: somebody else follows its boots."""
        for boot in [*self.boots.values()]:
            if boot.partition == partition:
                self._forget(boot.boot_id)

    def apply(self, entry: LedgerEntry) -> None:
        """Take one applied frame in."""
        if entry.kind in NOTES:
            return
        boot_id = entry.boot_id if entry.identified else anonymous_boot(entry.partition)
        self._changed.add(boot_id)
        boot = self.boots.get(boot_id)
        if boot is None:
            boot = Boot(entry.worker_id, boot_id, entry.partition, first_clock_us=entry.clock_us)
            boot.identified = entry.identified
            boot.body_hash = entry.body_hash
            self.boots[boot_id] = boot
        boot.incarnation = max(boot.incarnation, entry.incarnation)
        self._count(boot, entry)
        self._advance(boot, entry)
        self._losses[boot_id] = boot.losses()

    def _count(self, boot: Boot, entry: LedgerEntry) -> None:
        new = sum(high - low for low, high in entry.ranges)
        boot.totals.update(
            received=new,
            stored=entry.stored,
            duplicate=entry.duplicate,
            rejected=entry.rejected,
            late=entry.late,
        )
        if not entry.identified:
            return
        for low, high in entry.ranges:
            boot.seen.add(low, high, entry.clock_us)
        for low, high in entry.gaps:
            boot.dropped.add(low, high, entry.clock_us)

    def _advance(self, boot: Boot, entry: LedgerEntry) -> None:
        if entry.identified:
            declared = max((high for _, high in entry.gaps), default=0)
            boot.next_seq = max(boot.next_seq, entry.next_seq, declared)
        boot.first_clock_us = min(boot.first_clock_us, entry.clock_us)
        # A clock that runs ahead must not close its neighbours' panes.
        boot.clock_us = max(boot.clock_us, min(entry.clock_us, entry.append_us))
        boot.append_us = max(boot.append_us, entry.append_us)
        boot.closed |= entry.closing
        self.newest_us = max(self.newest_us, boot.clock_us)

    def active(self, now_us: int, behind: Mapping[int, int] | None = None) -> list[Boot]:
        """Boots that hold the watermark back: identified, not closed, not silent, and not so far
        behind the others that their clock, or a spool that they replay, would stop everyone.
        """
        behind = behind or {}
        alive = [
            boot
            for boot in self.boots.values()
            if boot.identified
            and not boot.closed
            and behind.get(boot.partition, now_us) - boot.append_us < self._timeout_us
        ]
        front_us = max((boot.clock_us for boot in alive), default=0)
        return [boot for boot in alive if front_us - boot.clock_us < STRAGGLER_US]

    def advance(self, now_us: int, behind: Mapping[int, int] | None = None) -> None:
        """Move the watermark to what is known at `now_us` on the processor's clock.

        Minimum over active boots of their clock, less the lateness; with none active it follows the
        clock. A boot that is silent without having closed has vanished: its tail is unknown.

        Args:
            now_us: integer microseconds UTC.
            behind: partitions that are not read to their end, with the append time of what was read
                last: nothing there is known to be silent, and the watermark cannot pass it.
        """
        behind = behind or {}
        clocks = [*(boot.clock_us for boot in self.active(now_us, behind)), *behind.values()]
        if self.boots or behind or self.watermark_us:
            frontier = min(clocks, default=now_us)
            self.watermark_us = max(self.watermark_us, frontier - self._lateness_us)
        for boot in self.boots.values():
            silent = behind.get(boot.partition, now_us) - boot.append_us >= self._timeout_us
            vanished = boot.identified and not boot.closed and silent
            if vanished != boot.vanished:
                boot.vanished = vanished
                self._changed.add(boot.boot_id)

    def forget(self, now_us: int, retention_us: int) -> None:
        """Drop boots whose frames can no longer come, or would be rejected as too late.

        Args:
            now_us: the processor's clock.
            retention_us: age over which rows are rejected.
        """
        for boot in [*self.boots.values()]:
            kept_us = KEYED_US if boot.body_hash else retention_us
            if boot.append_us < now_us - kept_us:
                self._forget(boot.boot_id)

    def _forget(self, boot_id: str) -> None:
        del self.boots[boot_id]
        self._losses.pop(boot_id, None)
        self._adopted.discard(boot_id)
