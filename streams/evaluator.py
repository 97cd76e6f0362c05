"""Evaluation: deltas become panes, windows, verdicts and signals in the store, for any number of shards."""

from __future__ import annotations

import itertools
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from ..schemas.config import Configuration
from ..schemas.errors import InvalidFrame, StoreError
from .core.configured import Counter as Counted
from .core.configured import configured_counters, counting_of
from .core.counting import counted
from .core.delta import Delta, Source
from .core.gating import Marker
from .core.ingest import DAY_US
from .core.pipeline import Closing
from .core.shard import Shard, above
from .core.shards import gate_shard, owner
from .core.tally import measure_feedback
from .core.tiles import SECOND_US, Span, Tile
from .gates.judge import Judge, stored_markers
from .kafka.wire import decode_delta
from .signals.signals import Signals, signals_of
from .storage.counter import KINDS, coverage_of
from .storage.publish import checkpoint_rows, tile_rows, verdict_rows, version_of, window_rows
from .storage.readback import joined_feedback, ledger_above, ledger_cuts, rows_above, stored_boots
from .storage.recount import recounted
from .storage.recovery import presence_of, recover_shard
from .storage.store import Store

CHECKPOINT_US = 1_000_000


@dataclass(slots=True)
class _Held:
    """A shard with its gates and signals."""

    shard: Shard
    judge: Judge
    signals: Signals | None = None
    published: tuple[int, tuple[int, int]] = (-1, (0, 0))
    published_us: int = 0


class Evaluator:
    """Windows, gates, signals and their rows in the store. Not for several threads at once.

    Args:
        store: migrated.
        configuration: gates, signals and limits.
        shards: how many there are in all.
        totals: counters of the process, added to.
        clock: integer microseconds UTC.
        newest: the configuration in force; another one is gone over to between two publications.
    """

    def __init__(
        self,
        store: Store,
        configuration: Configuration,
        shards: int,
        totals: Counter[str],
        clock: Callable[[], int],
        newest: Callable[[], Configuration] | None = None,
    ) -> None:
        self._store = store
        self._configuration = configuration
        self._shards = shards
        self._totals = totals
        self._clock = clock
        self._newest = newest or (lambda: configuration)
        self._counters = configured_counters(configuration)
        self._counting = counting_of(configuration)
        self._life = uuid.uuid4().hex
        self._serial = itertools.count()
        self._held: dict[int, _Held] = {}
        self._markers: list[Marker] = []

    @property
    def shards(self) -> list[Shard]:
        """The shards held."""
        return [held.shard for held in self._held.values()]

    def assign(self, shard: int) -> None:
        """Take a shard over, rebuilding it from the store.

        Raises:
            StoreError: the store is away; nothing was taken over.
        """
        self._take(shard)

    def _take(self, shard: int, added: Sequence[Counted] = ()) -> None:
        """Rebuild a shard; `added` are counters that its closed cells lack."""
        self._markers = stored_markers(self._store)
        rebuilt = recover_shard(
            self._store, self._configuration, self._counters, shard, self._shards, self._clock()
        )
        self._insert_cells(rebuilt, recounted(self._store, rebuilt, added))
        gates = [g for g in self._configuration.live_gates if gate_shard(g, self._shards) == shard]
        judge = Judge(self._store, gates, rebuilt, self._markers, self._insert)
        signals = signals_of(self._store, self._configuration, rebuilt, self._shards, self._insert)
        self._held[shard] = _Held(rebuilt, judge, signals)

    def release(self, shard: int) -> None:
        """Let go of a shard."""
        self._held.pop(shard, None)

    def reset(self) -> None:
        """Let go of all shards."""
        self._held.clear()

    def apply(self, shard: int, message: bytes) -> None:
        """Take in one message of the panes topic; bytes that are no delta are passed over.

        Raises:
            StoreError: rows had to be read and were not; assign the shard again.
        """
        try:
            delta = decode_delta(message)
        except InvalidFrame:
            self._totals["deltas_invalid"] += 1
            return
        self.add(shard, delta)

    def add(self, number: int, delta: Delta) -> None:
        """Take in a delta; what it does not continue is read from the store.

        Raises:
            StoreError: as `apply`.
        """
        held = self._held.get(number)
        if held is None:
            return
        shard = held.shard
        if delta.counting != self._counting:
            delta = delta.emptied()  # its sender follows another version of the configuration
        if delta.serial == 0 and shard.is_ahead_of(delta):
            self._check_store(shard)
        lacking = shard.lacks(delta)
        if lacking or not shard.follows(delta):
            self._fill(shard, lacking or {})
            self._meet(shard, {partition for _, partition in delta.ranges})
        if lacking is None:
            shard.apply(delta)
        else:
            shard.hear(delta)
        if delta.releases or lacking:
            self._markers = stored_markers(self._store)
            held.judge.enter_epochs(self._markers)

    def _check_store(self, shard: Shard) -> None:
        """A new sender that begins below what was applied: was the store put back to an earlier state?"""
        cuts = ledger_cuts(self._store)
        if any(cuts.get(source, -1) < cut for source, cut in shard.applied.items()):
            raise StoreError("the store went back to an earlier state: evaluating again from there")

    def _fill(self, shard: Shard, lacking: dict[Source, tuple[int, int]]) -> None:
        """Count what lost, repeated or overlapping deltas leave open, from the rows themselves."""
        combos = shard.pipeline.combos
        for source, (after, cut) in lacking.items():
            self._totals["deltas_refilled"] += 1
            low, high = {source: after}, {source: cut}
            tables = {kind: rows_above(self._store, kind, low, high) for kind in KINDS}
            entries = ledger_above(self._store, low, high)
            for kind, table in tables.items():
                if table.num_rows:
                    shard.pipeline.count(counted(combos, kind, table, self._counters))
            shard.fill(source, cut, {}, coverage_of(entries))
            shard.feedback |= any(entry.kind == "feedback" for entry in entries)

    def _meet(self, shard: Shard, partitions: set[int]) -> None:
        """Learn the boots of some partitions as they were written before the delta was sent."""
        now_us = self._clock()
        since_us = now_us - self._configuration.retention.warm_days * DAY_US
        timeout_us = int(self._configuration.time.boot_timeout_s * SECOND_US)
        boots = stored_boots(self._store, since_us, partitions)
        change = shard.fleet.tell(presence_of(boot, now_us, timeout_us) for boot, _ in boots)
        shard.pipeline.cover(change)

    def publish(self, now_us: int, final: bool = False) -> None:
        """Close what the watermarks passed and store the results, the checkpoints last.

        Then go over to the configuration in force, if it is another one: shards are rebuilt from what
        is stored, which no change of the configuration can take away.

        Args:
            now_us: the clock, integer microseconds.
            final: no later call comes, so nothing is put off.

        Raises:
            StoreError: not everything was stored; assign the shards again.
        """
        self._publish(now_us, final)
        newest = self._newest()
        if newest is not self._configuration and not final:
            known = {*self._counters}
            self._configuration = newest
            self._counters, self._counting = configured_counters(newest), counting_of(newest)
            added = [counter for counter in self._counters if counter not in known]
            for shard in [*self._held]:
                self._take(shard, added)

    def _publish(self, now_us: int, final: bool) -> None:
        closings: list[tuple[_Held, Closing]] = []
        for held in self._held.values():
            self._join(held.shard)
            closing = held.shard.close(now_us, final)
            closed_s = held.shard.pipeline.closed_s
            if closed_s is None:
                continue
            news = closed_s, held.shard.version
            # That time passed, or rows came, is no result yet; it is stored so that a restart reads less.
            stale = news != held.published and now_us - held.published_us >= CHECKPOINT_US
            lags = held.signals is not None and held.signals.lags
            if closing.anything or final or stale or lags:
                closings.append((held, closing))
                held.published, held.published_us = news, now_us
        if not closings:
            return
        self._store_tiles(closings)
        signals = [
            "" if held.signals is None else held.signals.evaluate(closing, now_us)
            for held, closing in closings
        ]
        shards = [held.shard for held, _ in closings]
        self._insert("checkpoints_rows", checkpoint_rows(shards, now_us, signals))
        for held, _ in closings:
            if held.signals is not None:
                self._totals["alert_transitions"] += held.signals.commit()
        # Last: a verdict that was lost is told again from the stored cells.
        verdicts = [row for held, closing in closings for row in held.judge.judge(closing, final)]
        if verdicts:
            self._insert("verdicts_rows", verdict_rows(verdicts))
        kept_us = self._configuration.retention.warm_days * DAY_US
        for held, _ in closings:
            held.shard.pipeline.stored()
            held.shard.fleet.forget(now_us - kept_us)

    def _join(self, shard: Shard) -> None:
        """Feedback amends its request's panes, whichever of the two came first."""
        if shard.feedback and above(shard.joined, shard.applied):
            joined = joined_feedback(self._store, shard.joined, shard.applied)
            if joined.num_rows:
                measured = measure_feedback(joined)
                shard.pipeline.count(
                    counted(shard.pipeline.combos, "request", joined, (), measured)
                )
        shard.joined = dict(shard.applied)

    def _store_tiles(self, closings: Sequence[tuple[_Held, Closing]]) -> None:
        tiles, windows = [], []
        for held, closing in closings:
            shard = held.shard
            slices = shard.pipeline.combos.registry.slices
            version = version_of(*shard.version)
            mine = None if self._shards == 1 else owner(shard.number, self._shards)
            found = [*closing.cells, *closing.tiles.items()]
            state = "partial" if shard.stalled else "complete"
            tiles.append(tile_rows(found, slices, shard.number, version, state, mine))
            windows.append(window_rows(closing.windows, slices, version, mine))
        for name, total, parts in (
            ("panes_rows", "panes_published", tiles),
            ("windows_rows", "windows_written", windows),
        ):
            some = [part for part in parts if part is not None]
            if some:
                rows = pa.concat_tables(some)
                self._insert(name, rows)
                self._totals[total] += rows.num_rows

    def _insert_cells(self, shard: Shard, cells: Sequence[tuple[Span, Tile]]) -> None:
        mine = None if self._shards == 1 else owner(shard.number, self._shards)
        slices = shard.pipeline.combos.registry.slices
        version = version_of(*shard.version)
        rows = tile_rows(cells, slices, shard.number, version, mine=mine)
        if rows is not None:
            self._insert("panes_rows", rows)

    def _insert(self, name: str, rows: pa.Table) -> None:
        # Derived rows replace themselves: the token only has to differ from every other insert's.
        self._store.insert(name, rows, f"{name}-{self._life}-{next(self._serial)}")
