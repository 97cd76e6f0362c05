"""Memory rebuilt from the store: at start, when a partition or shard moves, after a failed insert.

The ledger is the commit record: what is up to its cut was applied. Closed tiles were published up to
the checkpoint; panes that hold rows above the checkpoint's cuts, and open ones, are counted again from
the raw rows. Nothing is added to what is stored, so doing it twice, or crashing in the middle, changes
nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from ...schemas.cluster import rendered
from ...schemas.config import Configuration
from ..core.boots import Boot, Losses, Presence, anonymous_boot
from ..core.configured import cell_groupings
from ..core.delta import Cuts, Source
from ..core.fleet import Fleet
from ..core.ingest import DAY_US, TABLES
from ..core.pipeline import Pipeline
from ..core.shard import Shard
from ..core.shards import SHARD_SQL, taker
from ..core.slices import DIMENSIONS, Combos, SliceRegistry, stored_slice
from ..core.tiles import PANE_S, SECOND_US, Span
from ..core.tracker import BootTracker
from ..core.windows import MINUTE
from .counter import Configured, RowCounter
from .migrate import cluster_of
from .publish import OFFSET_BITS, OFFSET_MASK
from .readback import (
    ledger_above,
    ledger_cuts,
    panes_touched,
    stored_boots,
    tile_loader,
)
from .store import Store

PANES_KEPT_S = 47 * 3600  # an hour less than panes of 10 s are kept


def new_tracker(configuration: Configuration) -> BootTracker:
    """A tracker that knows nothing yet."""
    time = configuration.time
    return BootTracker(int(time.lateness_s * SECOND_US), int(time.boot_timeout_s * SECOND_US))


def known_slices(store: Store, configuration: Configuration) -> SliceRegistry:
    """Numbers the slices that have panes already, so that caps admit the same ones again."""
    registry = SliceRegistry(configuration.limits.max_slices, configuration.limits.max_tenants)
    rows = store.query(
        f"SELECT grouping, {', '.join(DIMENSIONS)}, min(pane_start) AS first"
        " FROM penstock.panes_rows WHERE pane_s >= 10 GROUP BY ALL ORDER BY first"
    )
    for row in rows:
        registry.number(stored_slice(row["grouping"], row))
    return registry


def recover_boots(
    store: Store, tracker: BootTracker, partition: int, cuts: Cuts, since_us: int
) -> None:
    """Rebuild the boots of a partition as of the cuts of its sources.

    Each publication writes the boots that changed, so that what is above the newest version of them
    all is what the ledger has to add.

    Raises:
        StoreError: the store is away.
    """
    versions: dict[str, Source] = {}
    for boot, version in stored_boots(store, since_us, [partition]):
        boot.incarnation = version >> OFFSET_BITS
        tracker.adopt(boot)
        versions[boot.boot_id] = boot.incarnation, version & OFFSET_MASK
    # A later incarnation began only when the one before was applied and written to its end.
    newest, cut = max(versions.values(), default=(0, -1))
    upto = {s: cuts[s] for s in cuts if s[1] == partition and s[0] >= newest}
    for entry in ledger_above(store, {(newest, partition): cut}, upto):
        boot_id = entry.boot_id if entry.identified else anonymous_boot(partition)
        if (entry.incarnation, entry.offset) > versions.get(boot_id, (0, -1)):
            tracker.apply(entry)


@dataclass(slots=True)
class _Checkpoint:
    """What a shard published last."""

    closed_s: int = 0
    cuts: dict[Source, int] = field(default_factory=dict)
    stale_s: tuple[int, int] | None = None
    losses: dict[str, Losses] = field(default_factory=dict)
    version: int = 0


def recover_shard(
    store: Store,
    configuration: Configuration,
    configured: Configured,
    number: int,
    shards: int,
    now_us: int,
) -> Shard:
    """Rebuild a shard as of everything that the ledger holds.

    Args:
        store: migrated.
        configuration: limits, times and gates.
        configured: counters that the gates need.
        number: of the shard.
        shards: how many there are.
        now_us: the clock, integer microseconds.

    Raises:
        StoreError: the store is away; nothing was changed that repeating would not repair.
    """
    checkpoint = _checkpoint(store, number)
    # Before the boots: what processors tell later is newer than these cuts, and is believed.
    applied = ledger_cuts(store)
    if checkpoint is not None:
        _remove_unfinished(store, number, shards, checkpoint.closed_s)
    registry = known_slices(store, configuration)
    takes = taker(number, shards, configuration.live_gates) if shards > 1 else None
    loader = tile_loader(store, registry, number)
    fleet = Fleet()
    since_us = now_us - configuration.retention.warm_days * DAY_US
    losses = _restore_fleet(store, fleet, checkpoint, since_us, now_us, configuration)
    pipeline = Pipeline(Combos(registry, takes), fleet, loader, cell_groupings(configuration.rules))
    shard = Shard(number, pipeline, applied, dict(applied), dict(applied))
    shard.feedback = bool(
        store.query(
            "SELECT 1 FROM penstock.feedback_rows WHERE ts >= now() - toIntervalDay({days:UInt32})"
            " LIMIT 1",
            {"days": configuration.time.feedback_days},
        )
    )
    counter = RowCounter(store, configured, applied)
    if checkpoint is None:
        counter.count(pipeline, 0, None)
        return shard
    shard.complete = checkpoint.cuts
    shard.watermark_us = checkpoint.closed_s * SECOND_US
    pipeline.resume(checkpoint.closed_s, _oldest_s(store, number), checkpoint.stale_s)
    open_from_s = checkpoint.closed_s // PANE_S * PANE_S
    touched = losses | panes_touched(store, checkpoint.cuts, applied, open_from_s)
    for start_s in _minutes(touched, open_from_s, now_us):
        end_s = min(start_s + MINUTE, open_from_s)
        scratch = Pipeline(pipeline.combos, fleet, loader)
        counter.count(scratch, start_s, end_s)
        _replace_panes(pipeline, scratch, range(start_s, end_s, PANE_S), touched)
    counter.count_late(pipeline, checkpoint.cuts)
    counter.count(pipeline, open_from_s, None)
    return shard


def _minutes(touched: Collection[int], open_from_s: int, now_us: int) -> list[int]:
    """Starts of the closed minutes to count again, ascending.

    Whole minutes, because panes of 10 s are not kept for as long as rows may come late; the last one
    too, where the process was away so long that its panes may be gone.
    """
    minutes = {start // MINUTE * MINUTE for start in touched if start < open_from_s}
    if now_us // SECOND_US - open_from_s > PANES_KEPT_S and open_from_s % MINUTE:
        minutes.add(open_from_s // MINUTE * MINUTE)
    return sorted(minutes)


def _replace_panes(
    pipeline: Pipeline, recount: Pipeline, starts_s: Iterable[int], touched: Collection[int]
) -> None:
    """Replace closed panes by what was counted; by an empty one only where something touched it."""
    for pane in (Span(PANE_S, at) for at in starts_s):
        tile = recount.drain(pane)
        if len(tile) or pane.start_s in touched:
            pipeline.replace(pane, tile)


def _checkpoint(store: Store, number: int) -> _Checkpoint | None:
    found = store.query(
        "SELECT incarnation, cut, toUnixTimestamp(closed_ts) AS closed_s, stale_s, cuts, losses,"
        " version FROM penstock.checkpoints_rows FINAL WHERE partition = {shard:UInt32}",
        {"shard": number},
    )
    if not found:
        return None
    row = found[0]
    stale = [int(at) for at in row["stale_s"]]
    # The first version knew one source only.
    cuts = row["cuts"] or [(row["incarnation"], 0, row["cut"])]
    losses: dict[str, Losses] = {}
    for boot_id, pane, metric, count in row["losses"]:
        losses.setdefault(boot_id, Counter())[int(pane), int(metric)] = int(count)
    return _Checkpoint(
        closed_s=int(row["closed_s"]),
        cuts={(int(i), int(p)): int(cut) for i, p, cut in cuts},
        stale_s=(stale[0], stale[1]) if stale else None,
        losses=losses,
        version=int(row["version"]),
    )


def _restore_fleet(
    store: Store,
    fleet: Fleet,
    checkpoint: _Checkpoint | None,
    since_us: int,
    now_us: int,
    configuration: Configuration,
) -> set[int]:
    """Boots as processors wrote them last; returns the panes whose losses changed since the checkpoint."""
    timeout_us = int(configuration.time.boot_timeout_s * SECOND_US)
    presences = [presence_of(boot, now_us, timeout_us) for boot, _ in stored_boots(store, since_us)]
    before = {} if checkpoint is None else checkpoint.losses
    known = {presence.boot_id for presence in presences}
    for boot_id, losses in before.items():
        if boot_id not in known:  # forgotten, but not by the panes that it is in
            clock_us = max(pane for pane, _ in losses) * SECOND_US
            presences.append(Presence("", boot_id, 0, clock_us, clock_us, False, losses))
    fleet.tell(presences)
    changed: Losses = Counter()
    for presence in presences:
        changed.update(presence.losses)
        changed.subtract(before.get(presence.boot_id, Counter()))
    return {pane for (pane, _), count in changed.items() if count}


def presence_of(boot: Boot, now_us: int, timeout_us: int) -> Presence:
    """What evaluation needs to know of a boot as it was written last."""
    silent = now_us - boot.append_us >= timeout_us
    return Presence(
        boot.worker_id, boot.boot_id, boot.partition, boot.first_clock_us, boot.clock_us,
        boot.identified and not boot.closed and silent,
        Counter({key: n for key, n in boot.losses().items() if n}),
    )  # fmt: skip


def _oldest_s(store: Store, number: int) -> int | None:
    """Start of the earliest stored pane."""
    found = store.query(
        "SELECT count() AS n, toUnixTimestamp(min(pane_start)) AS oldest_s"
        " FROM penstock.panes_rows WHERE pane_s >= 10 AND partition = {shard:UInt32}",
        {"shard": number},
    )
    return int(found[0]["oldest_s"]) if int(found[0]["n"]) else None


def _remove_unfinished(store: Store, number: int, shards: int, closed_s: int) -> None:
    """Remove what was published after the checkpoint: it closes again, perhaps with other rows."""
    mine = SHARD_SQL.replace("{shards:UInt32}", str(shards))
    for name, start, end, whose in (
        ("panes", "pane_start", "toUnixTimestamp(pane_start) + pane_s", "partition"),
        ("windows", "end", "toUnixTimestamp(end)", mine),
    ):
        above = store.query(
            f"SELECT count() AS n FROM penstock.{name}_rows"
            f" WHERE {start} >= toDateTime({{since:UInt32}}) AND {end} > {{closed:UInt32}}"
            f" AND {whose} = {{shard:UInt32}}",
            {"since": max(closed_s - 86_400, 0), "closed": closed_s, "shard": number},
        )
        if int(above[0]["n"]):
            _delete(
                store,
                f"DELETE FROM penstock.{name}_rows WHERE {end} > {closed_s} AND {whose} = {number}",
            )


def _delete(store: Store, statement: str) -> None:
    """Delete rows; on a cluster, from the tables behind the distributed ones."""
    for rendering in rendered(statement, cluster_of(store)):
        store.command(rendering)


def remove_unacknowledged(store: Store, partition: int) -> int:
    """Remove rows above the ledger's cut, where offsets are given out by us and will be again.

    Returns:
        The next offset to give out.
    """
    found = store.query("SELECT count() AS n, max(offset) AS cut FROM penstock.frames_rows")
    next_offset = int(found[0]["cut"]) + 1 if int(found[0]["n"]) else 0
    for name in (*TABLES.values(), "quarantine"):
        above = store.query(
            f"SELECT count() AS n FROM penstock.{name}_rows WHERE offset >= {{next:UInt64}}",
            {"next": next_offset},
        )
        if int(above[0]["n"]):
            _delete(store, f"DELETE FROM penstock.{name}_rows WHERE offset >= {next_offset}")
    # Derived rows are versioned by offset: never give out one below theirs.
    rows = store.query(
        "SELECT max(version) AS version FROM penstock.checkpoints_rows WHERE partition = {p:UInt32}",
        {"p": partition},
    )
    version = int(rows[0]["version"] or 0) if rows else 0
    return max(next_offset, version & OFFSET_MASK)
