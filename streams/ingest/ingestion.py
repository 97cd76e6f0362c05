"""Ingestion: messages become durable rows, the ledger tells that they are, and a delta what they add.

Order is everything. Raw rows first, then the ledger: a row of it says that a message was applied. What
is counted afterwards is only ever told to evaluation, which reads the rows from the store where it
missed a delta.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ...schemas.config import Configuration
from ...schemas.errors import StoreError
from ...schemas.events import EventName
from ...schemas.redaction import DEFAULT, Redaction
from ..core import metrics as m
from ..core.configured import configured_counters, counting_of
from ..core.costs.prices import Prices, with_costs
from ..core.counting import counted
from ..core.delta import Collector, Delta, Source
from ..core.ingest import DAY_US, TABLES, Flush
from ..core.intake import Intake
from ..core.slices import Combos
from ..storage.counter import coverage_of
from ..storage.publish import coverage_rows, event_rows, ledger_rows, quarantine_rows
from ..storage.readback import ledger_cuts
from ..storage.recovery import known_slices, new_tracker, recover_boots
from ..storage.store import Store

COUNTED: tuple[EventName, ...] = ("request", "step")
COVERAGE_US = 1_000_000  # boots are stored this often: the ledger tells what a row of theirs lacks


@dataclass(frozen=True, slots=True)
class Staged:
    """A flush on its way into the store.

    Attributes:
        flush: what was admitted.
        tables: its rows by kind of event.
        quarantine: its rejected rows.
        token: of its inserts.
        unpriced: requests that state tokens, and have neither a cost nor a price.
    """

    flush: Flush
    tables: Mapping[EventName, pa.Table]
    quarantine: Sequence[Mapping[str, Any]]
    token: str
    unpriced: int = 0


class Ingestion:
    """What one processor does with what arrives, for any number of partitions.

    Not for several threads at once.

    Args:
        store: migrated.
        configuration: limits, times, prices, and the gates whose counters are kept.
        incarnation: life of the topic.
        totals: counters of the process, added to.
        redaction: what is taken out before rows are stored.
    """

    def __init__(
        self,
        store: Store,
        configuration: Configuration,
        incarnation: int,
        totals: Counter[str],
        redaction: Redaction = DEFAULT,
    ) -> None:
        self._store = store
        self._configuration = configuration
        self.incarnation = incarnation
        self._totals = totals
        self._redaction = redaction
        self._counters: Sequence[m.Threshold | m.CostScore] = configured_counters(configuration)
        self._prices = Prices(configuration.costs.prices)
        self._retention_us = configuration.retention.warm_days * DAY_US
        self.life = uuid.uuid4().hex  # tokens of one life never repeat those of another
        self._serial = 0
        self.cuts: dict[Source, int] = {}  # of every incarnation of the partitions held
        self.tracker = new_tracker(configuration)
        self._combos = Combos(known_slices(store, configuration))
        self._intake = Intake(self.tracker, self._combos)
        self._collector = Collector(self._combos, self.life, counting_of(configuration))
        self._unstored: set[str] = set()  # boots that changed since they were stored
        self._stored_us = 0

    def reconfigure(self, configuration: Configuration) -> None:
        """Count and price what comes by another configuration; limits and times stay."""
        self._prices = Prices(configuration.costs.prices)
        self._counters = configured_counters(configuration)
        self._collector.recount(counting_of(configuration))

    def source(self, partition: int) -> Source:
        """The partition in its present life."""
        return self.incarnation, partition

    def assign(self, partition: int, now_us: int) -> int:
        """Take a partition over; returns its cut, -1 where nothing of it was applied yet.

        Raises:
            StoreError: the store is away; nothing was taken over.
        """
        cuts = {s: cut for s, cut in ledger_cuts(self._store).items() if s[1] == partition}
        cuts.setdefault(self.source(partition), -1)
        self.tracker.drop(partition)
        since_us = now_us - self._retention_us
        recover_boots(self._store, self.tracker, partition, cuts, since_us)
        self.cuts.update(cuts)
        cut = cuts[self.source(partition)]
        self._collector.begin(self.source(partition), cut)
        return cut

    def release(self, partition: int) -> None:
        """Let go of a partition."""
        self.tracker.drop(partition)
        source = self.source(partition)
        self._collector.end(source, self.cuts.get(source, -1))
        self.cuts = {source: cut for source, cut in self.cuts.items() if source[1] != partition}

    def begin(self) -> Flush:
        """A flush to admit messages to."""
        return Flush(self._intake, self._retention_us, self._redaction)

    def stage(self, flush: Flush, quarantine: Sequence[Mapping[str, Any]]) -> Staged:
        """What is to be written of a flush; what requests cost is decided here, once.

        Args:
            flush: everything of it was appended on one day.
            quarantine: its rejected rows, as they are to be kept.
        """
        self._serial += 1
        tables, unpriced = flush.tables(), 0
        if self._prices and "request" in tables:
            tables["request"], unpriced = with_costs(tables["request"], self._prices)
        return Staged(flush, tables, quarantine, f"{self.life}-{self._serial}", unpriced)

    def check_store(self, partitions: Collection[int]) -> None:
        """See that the store still holds what was applied last of some partitions.

        Raises:
            StoreError: it was put back to an earlier state, or is away: memory must be rebuilt.
        """
        known = {p: self.cuts.get(self.source(p), -1) for p in partitions}
        wanted = [(p, cut) for p, cut in known.items() if cut >= 0]
        if not wanted:
            return
        rows = self._store.query(
            "SELECT DISTINCT partition, offset FROM penstock.frames_rows"
            " WHERE incarnation = {i:UInt32} AND (partition, offset) IN"
            " {wanted:Array(Tuple(UInt32, UInt64))}",
            {"i": self.incarnation, "wanted": wanted},
        )
        if len(rows) < len(wanted):
            raise StoreError("the store went back to an earlier state: reading again from there")

    def write(self, staged: Staged) -> None:
        """Make a flush durable: returning means that it is. May run in a thread of its own.

        Raises:
            StoreError: the outcome is unknown; memory is ahead of the store and must be rebuilt.
        """
        for kind, table in staged.tables.items():
            self._store.insert(f"{TABLES[kind]}_rows", event_rows(table), staged.token)
        if staged.quarantine:
            self._store.insert("quarantine_rows", quarantine_rows(staged.quarantine), staged.token)
        if staged.flush.entries:
            self._store.insert("frames_rows", ledger_rows(staged.flush.entries, 0), staged.token)

    def written(self, staged: Staged) -> None:
        """Say that a flush is durable."""
        for entry in staged.flush.entries:
            self.cuts[entry.incarnation, entry.partition] = entry.offset

    def count(self, staged: Staged) -> None:
        """Add rows to what is told next; they must be durable by then."""
        flush, tables = staged.flush, staged.tables
        for kind in COUNTED:
            if kind in tables:
                self._collector.count(counted(self._combos, kind, tables[kind], self._counters))
        self._collector.cover(coverage_of(flush.entries))
        self._collector.feedback |= "feedback" in tables
        self._collector.releases |= "release" in tables
        self._totals["late"] += sum(entry.late for entry in flush.entries)
        self._totals["redacted"] += flush.redacted
        self._totals["unpriced"] += staged.unpriced
        self._totals["flushes"] += 1
        self._totals["frames"] += len(flush.entries)

    def take(
        self, now_us: int, behind: Mapping[int, int] | None = None, final: bool = False
    ) -> Delta:
        """Tell what was counted since the last call; now and then store the boots that changed.

        A boot is told when it changed, and again once it is stored: whoever missed the first telling
        has read the store before that, or reads it after.

        Args:
            now_us: the clock, integer microseconds.
            behind: partitions that are not read to their end -> append time of what was read last.
            final: no later call comes, so nothing is put off.

        Raises:
            StoreError: the boots were not stored; memory must be rebuilt.
        """
        self.tracker.advance(now_us, behind)
        told = {boot.boot_id for boot in self.tracker.changed()}
        self._unstored |= told
        if final or now_us - self._stored_us >= COVERAGE_US:
            told |= self._store_boots(now_us)
        presences = self.tracker.presences(told)
        if not self._unstored:
            self.tracker.forget(now_us, self._retention_us)
        cuts = {s: cut for s, cut in self.cuts.items() if s[0] == self.incarnation}
        return self._collector.take(cuts, self.tracker.watermark_us, presences)

    def _store_boots(self, now_us: int) -> set[str]:
        """Store all boots that changed since the last time; returns which."""
        stored = self._unstored & self.tracker.boots.keys()
        self._unstored, self._stored_us = set(), now_us
        if stored:
            self._serial += 1
            rows = coverage_rows([self.tracker.boots[one] for one in sorted(stored)], self.cuts)
            self._store.insert("coverage_rows", rows, f"{self.life}-{self._serial}")
        return stored
