"""`penstock` that kills itself with SIGKILL before or after an insert into a table of the store.

PENSTOCK_TEST_FAILPOINT is `before:TABLE:N` or `after:TABLE:N`: at the N-th insert into it. Without it
this is `penstock`.
"""

from __future__ import annotations

import os
import signal

import pyarrow as pa
from penstock.cli import main
from penstock.streams.storage.store import Store

VARIABLE = "PENSTOCK_TEST_FAILPOINT"


def arm(failpoint: str) -> None:
    """Wrap Store.insert."""
    moment, table, number = failpoint.split(":")
    left = int(number)
    insert = Store.insert

    def failing(self: Store, name: str, rows: pa.Table, token: str) -> None:
        nonlocal left
        left -= name == table
        due = name == table and left == 0
        if due and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        insert(self, name, rows, token)
        if due:
            os.kill(os.getpid(), signal.SIGKILL)

    Store.insert = failing  # type: ignore[method-assign]


if __name__ == "__main__":
    if os.environ.get(VARIABLE):
        arm(os.environ[VARIABLE])
    main()
