"""What monitors and detectors remember, in the table `drift_states`: one row per look.

Rows are stored before the checkpoint, which names the look that counts. So a crash in between leaves a row
that nobody asks for, and it is written again.
"""

from __future__ import annotations

import pyarrow as pa

from ...schemas.cluster import rendered
from ..storage.migrate import cluster_of
from ..storage.store import Store

DAY_S = 86_400
_SECONDS = pa.timestamp("s", "UTC")


def stored_state(store: Store, name: str, at_s: int) -> str:
    """The state after the look at `at_s`; empty where there is none.

    Raises:
        StoreError: the store is away.
    """
    rows = store.query(
        "SELECT state FROM penstock.drift_states WHERE monitor = {monitor:String}"
        " AND end = toDateTime({at:UInt32}, 'UTC')",
        {"monitor": name, "at": at_s},
    )
    return str(rows[0]["state"]) if rows else ""


def state_rows(name: str, at_s: int, state: str, version: int) -> pa.Table:
    """A state for `drift_states_rows`."""
    return pa.table(
        {
            "monitor": [name],
            "end": pa.array([at_s], pa.int64()).cast(_SECONDS),
            "state": [state],
            "version": pa.array([version], pa.uint64()),
        }
    )


def prune_states(store: Store, name: str, before_s: int, at_s: int) -> None:
    """Once a day of event time, remove states that no checkpoint can name any more.

    Args:
        store: has them.
        name: of a monitor.
        before_s, at_s: the look that the checkpoint names, and the one after it.

    Raises:
        StoreError: the store is away.
    """
    if at_s // DAY_S == before_s // DAY_S:
        return
    old = f"monitor = '{name}' AND end < toDateTime({max(before_s - DAY_S, 0)}, 'UTC')"
    if store.query(f"SELECT 1 FROM penstock.drift_states_rows WHERE {old} LIMIT 1"):
        delete = f"DELETE FROM penstock.drift_states_rows WHERE {old}"
        for statement in rendered(delete, cluster_of(store)):
            store.command(statement)
