"""What an event means where it leaves a field out: documented defaults, not repairs."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from .columns import booleans, dictionary


def with_status(table: pa.Table) -> pa.Table:
    """Requests that state no status are ok, or errors where they state an error type.

    Only the announcement of an overdue request has none: it has not ended.
    """
    codes, values = dictionary(table, "status")
    open_ended = booleans(table, "overdue")[0]
    silent = (np.array([value == "" for value in values], bool)[codes]) & ~open_ended
    if not silent.any():
        return table
    failed, kinds = dictionary(table, "error_type")
    implied = np.where(np.array([kind != "" for kind in kinds], bool)[failed], "error", "ok")
    told = np.where(silent, implied, np.array(values, object)[codes])
    column = pa.array([value or None for value in told.tolist()], pa.string()).dictionary_encode()
    if "status" in table.column_names:
        return table.set_column(table.column_names.index("status"), "status", column)
    return table.append_column("status", column)
