"""All boots of a processor, and how far event time has come.

A boot lives in one partition, so that a tracker can let go of a partition, and another can take it over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from .boots import Boot, LedgerEntry, Losses, Presence, anonymous_boot
from .intervals import Range
from .tiles import SECOND_US

NOTES = ("forwarded", "duplicate")  # kinds of ledger entries that only account for an offset
KEYED_US = 86_400 * SECOND_US  # how long an Idempotency-Key is known
STRAGGLER_US = 60 * SECOND_US  # a boot this far behind the foremost no longer holds it back


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
