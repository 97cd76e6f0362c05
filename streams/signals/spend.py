"""Spend limits of one shard: looks at every full minute that closed, and their rows in the store.

Rows are read once: those that were applied since the look before join what is in memory. After a restart,
or when the shard is taken over, the rows of the longest window are read again. Either way a look is a
function of the rows that were applied by then.

A look is stored before the checkpoint, which says which one was the last: as drift.py argues, the same
looks whatever crashes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

import pyarrow as pa

from ...schemas.costs.budgets import SpendLimit
from ..core.alerts.signals import SignalReading
from ..core.costs.limits import LimitLook, LimitWatch, SpendLedger
from ..core.costs.series import HOUR_S, MINUTE_S
from ..core.delta import Cuts
from ..core.signal_readings import of_limit
from ..core.tiles import SECOND_US
from ..storage.publish import version_of
from ..storage.readback import between_sql
from ..storage.store import Store
from .rows import limit_rows

By = Literal["user_hash", "tenant"]


class SpendLooks:
    """The spend limits that one shard evaluates. Not for several threads at once.

    Args:
        store: has raw rows and earlier looks.
        limits: those of this shard.
        insert: puts rows into a table.
        saved_s: the last look, as the checkpoint says; None to begin.

    Raises:
        StoreError: the store is away.
    """

    def __init__(
        self,
        store: Store,
        limits: Sequence[SpendLimit],
        insert: Callable[[str, pa.Table], None],
        saved_s: int | None,
    ) -> None:
        self.saved_s = saved_s
        self._insert = insert
        self._limits = limits
        told = {} if saved_s is None else stored_keys(store, limits, saved_s)
        self._watches = [LimitWatch(spec, told.get(spec.id, {})) for spec in limits]
        self._ledgers = {
            by: _Ledger(store, by, max(spec.window_s for spec in limits if spec.by == by))
            for by in sorted({spec.by for spec in limits})
        }

    def look(
        self, after_s: int, end_s: int, upto: Cuts, version: tuple[int, int]
    ) -> list[SignalReading]:
        """Look at every full minute within (after_s, end_s], and store what was found.

        Args:
            after_s, end_s: seconds of event time; rows before `end_s` are complete.
            upto: rows above these cuts are not there yet.
            version: of the shard.

        Raises:
            StoreError: not everything was stored.
        """
        moments = range(after_s // MINUTE_S * MINUTE_S + MINUTE_S, end_s + 1, MINUTE_S)
        if not moments:
            return []
        rows = {by: ledger.read(moments[0], upto) for by, ledger in self._ledgers.items()}
        looks: list[LimitLook] = [
            watch.look(rows[spec.by], at_s)
            for spec, watch in zip(self._limits, self._watches, strict=True)
            for at_s in moments
        ]
        self._insert("spend_status_rows", limit_rows(looks, version_of(*version)))
        self.saved_s = moments[-1]
        return [reading for look in looks for reading in of_limit(look)]


class _Ledger:
    """The rows of one kind of key, read once each."""

    def __init__(self, store: Store, by: By, window_s: int) -> None:
        self._store = store
        self._by: By = by
        self._window_s = window_s
        self._rows = SpendLedger()
        self._cuts: Cuts = {}
        self._trimmed_s = 0

    def read(self, first_s: int, upto: Cuts) -> SpendLedger:
        """Rows up to some cuts, for looks from `first_s` on."""
        since_s = first_s - self._window_s
        found = spent_by(self._store, self._by, since_s, self._cuts, upto)
        self._rows.add(
            [str(key) for key in found["key"].to_pylist()],
            found["minute"].to_numpy(),
            found["nanousd"].to_numpy(),
        )
        self._cuts = dict(upto)
        if first_s >= self._trimmed_s + HOUR_S:
            self._rows.forget_before(since_s)
            self._trimmed_s = first_s
        return self._rows


def spent_by(store: Store, by: By, since_s: int, after: Cuts, upto: Cuts) -> pa.Table:
    """What each key spent in each minute, of rows that were applied since the cuts before.

    Args:
        store: has the rows.
        by: column of the key; rows without one are left out.
        since_s: earlier rows are left out, seconds of event time.
        after, upto: cuts.

    Returns:
        key, minute (its start in seconds since 1970 UTC) and nanousd.

    Raises:
        StoreError: the store is away.
    """
    return store.arrow(
        f"SELECT toString(t.{by}) AS key, toInt64(intDiv(toUnixTimestamp(t.ts), 60) * 60) AS minute,"
        " toInt64(sum(t.cost_nanousd)) AS nanousd FROM penstock.requests_rows AS t FINAL"
        f" WHERE {between_sql(after, upto)} AND t.ts >= fromUnixTimestamp64Micro({{low:Int64}})"
        f" AND t.cost_nanousd > 0 AND t.{by} != '' GROUP BY key, minute",
        {"low": since_s * SECOND_US},
    )


def stored_keys(
    store: Store, limits: Sequence[SpendLimit], at_s: int
) -> dict[str, Mapping[str, int | None]]:
    """The keys that a look told of, by the id of its limit, each with the time it rose above it.

    Raises:
        StoreError: the store is away.
    """
    rows = store.query(
        "SELECT limit_id, by, keys, since FROM penstock.spend_status WHERE"
        " has({names:Array(String)}, limit_id) AND as_of = toDateTime({at:UInt32}, 'UTC')",
        {"names": [spec.id for spec in limits], "at": at_s},
    )
    kinds = {(spec.id, spec.by) for spec in limits}
    return {
        row["limit_id"]: dict(zip(row["keys"], [_seconds(at) for at in row["since"]], strict=True))
        for row in rows
        if (row["limit_id"], row["by"]) in kinds
    }


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.replace(tzinfo=UTC).timestamp())
