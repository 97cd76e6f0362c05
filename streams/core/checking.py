"""What can be said of a batch without any state: its defaults, and which rows break a rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .decode import Batch
from .defaults import with_status
from .validate import validate

Faults = Mapping[int, tuple[str, str]]
"""Row of a batch -> why it is rejected: a reason of validate.REASONS, and the detail."""


def checked(batch: Batch) -> tuple[Batch, Faults]:
    """A batch with its defaults, and what is wrong with its rows: all that needs no state."""
    kind, table = batch.header.kind, batch.table
    if kind == "control" or table.num_rows == 0:
        return batch, {}
    if kind == "request":
        table = with_status(table)
        batch = replace(batch, table=table)
    return batch, {row: (why, detail) for row, why, detail in validate(kind, table, bad=batch.bad)}
