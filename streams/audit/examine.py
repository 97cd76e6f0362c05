"""`penstock audit`: whether everything that is published follows from the raw rows and the ledger."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from ...schemas.config import Configuration
from ...schemas.topics import EVENTS
from ..core.boots import Losses
from ..core.configured import configured_counters
from ..core.ingest import DAY_US
from ..core.slices import Combos, SliceRegistry
from ..core.tiles import SECOND_US
from ..storage.migrate import check_migrated
from ..storage.readback import ledger_cuts, stored_boots
from ..storage.store import Store
from .alerts import check_alerts
from .boots import check_boots
from .gates import check_gates
from .ledger import check_ledger
from .recount import Recount
from .report import Checkpoint, Finding, Report, Scope
from .tiles import TileAudit
from .windows import Windows

__all__ = ["Finding", "Report", "audit", "examine"]

DEFAULT_WINDOWS = 20
_HOUR_US = 3600 * SECOND_US
_NO_CAP = 1 << 40


def audit(
    store: Store,
    configuration: Configuration,
    since_us: int | None = None,
    windows: int = DEFAULT_WINDOWS,
    now_us: int | None = None,
) -> list[Finding]:
    """What does not hold; see `examine`."""
    return examine(store, configuration, since_us, windows, now_us).findings


def examine(
    store: Store,
    configuration: Configuration,
    since_us: int | None = None,
    windows: int = DEFAULT_WINDOWS,
    now_us: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Look at everything, while processors may run; memory is bounded by an hour of event time.

    Args:
        store: migrated.
        configuration: that the processors have: its gates decide what is counted.
        since_us: what arrived or happened before is not looked at, integer microseconds UTC.
        windows: older windows compared beside the newest of each length.
        now_us: the clock, integer microseconds UTC; by default the present.
        say: told of the progress.

    Raises:
        StoreError: the store is away, refuses, or is not migrated.
    """
    now_us = time.time_ns() // 1000 if now_us is None else now_us
    report = Report(say=say)
    scope = _scope(store, configuration, since_us, now_us)
    if not scope.cuts:
        report.note("the ledger is empty")
    check_ledger(store, scope, report)
    check_boots(store, scope, report)
    check_checkpoints(store, scope, report)
    check_alerts(store, scope, report)
    check_gates(store, configuration, scope, report)
    counters = configured_counters(configuration)
    recount = Recount(store, Combos(SliceRegistry(_NO_CAP, _NO_CAP)), counters)
    chosen = Windows(store, scope, report, recount, windows)
    tiles = TileAudit(store, counters, scope, report, chosen, recount)
    tiles.run()
    chosen.check(tiles.oldest_s, tiles.touched())
    return report


def _scope(store: Store, configuration: Configuration, since_us: int | None, now_us: int) -> Scope:
    check_migrated(store)
    checkpoints = _checkpoints(store)
    cuts = ledger_cuts(store)
    topics = store.query(
        "SELECT incarnation FROM penstock.incarnations WHERE topic = {topic:String}",
        {"topic": EVENTS},
    )
    shards = store.query("SELECT value FROM penstock.settings FINAL WHERE name = 'shards'")
    edge_us = now_us - configuration.retention.warm_days * DAY_US + _HOUR_US
    return Scope(
        now_us=now_us,
        edge_us=edge_us,
        low_us=max(since_us or 0, edge_us),
        cuts=cuts,
        checkpoints=checkpoints,
        shards=int(shards[0]["value"]) if shards else max(checkpoints, default=0) + 1,
        topics=frozenset(int(row["incarnation"]) for row in topics),
        since=since_us is not None,
    )


def _checkpoints(store: Store) -> dict[int, Checkpoint]:
    rows = store.query(
        "SELECT *, toUnixTimestamp(closed_ts) AS closed_s, toUnixTimestamp64Micro(at) AS at_us"
        " FROM penstock.checkpoints ORDER BY partition"
    )
    found = {}
    for row in rows:
        losses: dict[str, Losses] = {}
        for boot_id, pane, metric, count in row["losses"]:
            losses.setdefault(boot_id, Counter())[int(pane), int(metric)] = int(count)
        # The first version knew one source only.
        cuts = row["cuts"] or [(row["incarnation"], 0, row["cut"])]
        stale = [int(edge) for edge in row["stale_s"]]
        shard = int(row["partition"])
        found[shard] = Checkpoint(
            shard=shard,
            closed_s=int(row["closed_s"]),
            cuts={(int(i), int(p)): int(cut) for i, p, cut in cuts},
            stale_s=(stale[0], stale[1]) if stale else None,
            losses=losses,
            version=int(row["version"]),
            at_us=int(row["at_us"]),
        )
    return found


def check_checkpoints(store: Store, scope: Scope, report: Report) -> None:
    """Checkpoints and coverage do not know more than the ledger, and checkpoints as much as coverage.

    Raises:
        StoreError: the store is away or refuses.
    """
    newest = max((incarnation for incarnation, _ in scope.cuts), default=0)
    for checkpoint in scope.checkpoints.values():
        report.checked["checkpoints"] += 1
        for (incarnation, partition), cut in checkpoint.cuts.items():
            committed = scope.cuts.get((incarnation, partition), -1)
            expired = committed < 0 and (incarnation < newest or checkpoint.at_us < scope.edge_us)
            if cut > committed and not expired:
                report.add(
                    "checkpoints",
                    f"shard {checkpoint.shard}: incarnation {incarnation}, partition {partition}",
                    f"a cut of at most {committed}, as the ledger", cut,
                    "the ledger lost entries, or is of an earlier backup",
                )  # fmt: skip
        if dict(checkpoint.cuts) == dict(scope.cuts):
            _check_losses(store, scope, checkpoint, report)
    for row in store.query(
        "SELECT partition, bitShiftRight(max(version), 40) AS incarnation,"
        " bitAnd(max(version), 1099511627775) AS cut FROM penstock.coverage"
        f" WHERE {scope.low_sql('last_append_ts')} GROUP BY partition"
    ):
        source = int(row["incarnation"]), int(row["partition"])
        committed = max(scope.cuts.get(source, -1), max(ledger_cuts(store).get(source, -1), 0))
        if int(row["cut"]) > committed:
            report.add(
                "coverage", f"incarnation {source[0]}, partition {source[1]}",
                f"told up to at most {committed}, as the ledger", row["cut"],
            )  # fmt: skip


def _check_losses(store: Store, scope: Scope, checkpoint: Checkpoint, report: Report) -> None:
    """What windows tell of losses is what coverage tells."""
    for boot, _ in stored_boots(store, scope.edge_us):
        told = {key: n for key, n in boot.losses().items() if n}
        known = {key: n for key, n in checkpoint.losses.get(boot.boot_id, {}).items() if n}
        if told != known:
            report.add(
                "losses", f"shard {checkpoint.shard}: boot {boot.boot_id}",
                f"{sum(told.values())} events, as coverage tells", sum(known.values()),
                "by (pane, metric), so that the same number may lie elsewhere",
            )  # fmt: skip
